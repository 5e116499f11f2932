//! The kernel's `format` text, turned into typed field accessors and a renderer of the print format.

mod compile;
mod ctype;
mod expr;
mod fallback;
mod field;
mod helpers;
mod parse;
mod pointer;
mod print;
mod printf;
mod special;
mod symbol;
mod table;
#[cfg(test)]
mod tests;
mod token;
mod types;

pub use field::{Field, FieldKind, Value};

use crate::capture::Endian;
use crate::capture::kallsyms::Kallsyms;
use crate::capture::limits::Limits;
use crate::error::Result;
use ctype::Int;
use expr::Input;

/// All event formats of a capture. A [`crate::capture::Record`]'s `event` is an index into it.
#[derive(Default)]
pub struct FormatTable {
    events: Vec<EventFormat>,
    by_id: Vec<u16>,
}

impl FormatTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a format. Of two with one id the first wins; the second is given back.
    pub fn add(&mut self, event: EventFormat) -> std::result::Result<u16, EventFormat> {
        let id = usize::from(event.id);
        if self.by_id.len() <= id {
            self.by_id.resize(id + 1, u16::MAX);
        }
        if self.by_id[id] != u16::MAX || self.events.len() >= usize::from(u16::MAX) {
            return Err(event);
        }
        let index = self.events.len() as u16;
        self.by_id[id] = index;
        self.events.push(event);
        Ok(index)
    }

    /// All formats, in the order in which they were added.
    pub fn events(&self) -> &[EventFormat] {
        &self.events
    }

    /// The format at `index`.
    #[inline]
    pub fn get(&self, index: u16) -> Option<&EventFormat> {
        self.events.get(usize::from(index))
    }

    /// The index of the format whose `ID:` is `id`.
    #[inline]
    pub fn index_of_id(&self, id: u16) -> Option<u16> {
        self.by_id.get(usize::from(id)).copied().filter(|&index| index != u16::MAX)
    }

    /// The index of an event by system and name.
    pub fn find(&self, system: &str, name: &str) -> Option<u16> {
        self.events.iter().position(|e| &*e.system == system && &*e.name == name).map(|index| index as u16)
    }
}

/// One event's format.
#[derive(Debug)]
pub struct EventFormat {
    /// The value of `common_type` in its records.
    pub id: u16,
    /// System (`sched`, `kvm`, …).
    pub system: Box<str>,
    /// Name within the system.
    pub name: Box<str>,
    /// The common fields (`common_type`, `common_pid`, …).
    pub common: Vec<Field>,
    /// The event's own fields.
    pub fields: Vec<Field>,
    program: Box<print::Program>,
    special: special::Special,
    /// Index of `common_pid`.
    pid: Option<u16>,
    printed_from: u16,
}

impl EventFormat {
    /// Parses the text of an `events/SYSTEM/EVENT/format` file.
    ///
    /// A print format that is not understood costs the names and the rendering, never the event. An error means that
    /// the name, the id or a field cannot be read, or that the text is larger than 1 MiB.
    pub fn parse(system: &str, text: &str) -> Result<Self> {
        parse::parse(system, text, &Limits::default())
    }

    /// As [`EventFormat::parse`], with other limits than usual.
    ///
    /// # Errors
    /// As there.
    pub fn parse_within(system: &str, text: &str, limits: &Limits) -> Result<Self> {
        parse::parse(system, text, limits)
    }

    /// A field by name, common or own.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.common.iter().chain(&self.fields).find(|f| &*f.name == name)
    }

    /// The thread that recorded the event (`common_pid`).
    #[inline]
    pub fn pid(&self, payload: &[u8], endian: Endian) -> Option<i32> {
        let field = self.common.get(usize::from(self.pid?))?;
        field.number(payload, endian).map(|pid| pid as i32)
    }

    /// From which byte on a record tells how it is rendered: two that are equal from there look alike.
    pub fn printed_from(&self) -> usize {
        usize::from(self.printed_from)
    }

    /// The symbolic name that the print format gives the value of `field` in this record (`__print_symbolic`), as for
    /// the exit reason of `kvm_exit`, choosing between alternatives by the record's own conditions.
    pub fn symbol<'a>(&'a self, field: &str, payload: &[u8], endian: Endian) -> Option<&'a str> {
        let input = Input { payload, endian };
        self.sources(field).find_map(|source| source.find(&self.program.nodes, input))
    }

    /// All values that the print format names for `field`, table after table: number (in the width of the table's
    /// expression) and name. With several tables, as for Intel and AMD exit reasons, a number may occur in each.
    pub fn symbols<'a>(&'a self, field: &'a str) -> impl Iterator<Item = (u64, &'a str)> {
        self.sources(field).filter_map(|source| source.table(&self.program.nodes)).flat_map(table::Table::entries)
    }

    fn sources(&self, field: &str) -> impl Iterator<Item = &symbol::SymbolSource> {
        let index = if self.program.symbols.is_empty() {
            None
        } else {
            self.fields.iter().position(|known| &*known.name == field)
        };
        self.program.symbols.iter().filter(move |source| Some(source.field) == index)
    }

    /// Whether records are rendered by the kernel's print format; if not, as a list of `name=value`.
    pub fn has_print_format(&self) -> bool {
        self.program.renders() || !matches!(self.special, special::Special::No)
    }

    /// Renders the record as the kernel's print format would, without the event's name and without a line end.
    ///
    /// What does not fit into the record, or cannot be computed from it, is shown as `?`.
    pub fn render(&self, payload: &[u8], endian: Endian, context: &PrintContext<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        let input = Input { payload, endian };
        if !self.special.render(input, self.program.long, context, out) && !self.program.render(input, context, out) {
            fallback::render(&self.fields, payload, endian, out);
        }
        while out.len() > start && out.last() == Some(&b'\n') {
            out.pop();
        }
    }
}

/// What a print format may refer to outside the record.
#[derive(Clone, Copy, Default)]
pub struct PrintContext<'a> {
    /// `printk_formats`: address and text, sorted by address.
    pub printk: &'a [(u64, Box<str>)],
    /// Kernel functions by address.
    pub symbols: Option<&'a Kallsyms>,
}

impl<'a> PrintContext<'a> {
    /// The text at exactly `address`.
    pub fn printk_text(&self, address: u64) -> Option<&'a str> {
        let at = self.printk.partition_point(|(known, _)| *known < address);
        self.printk.get(at).filter(|(known, _)| *known == address).map(|(_, text)| &**text)
    }

    /// The symbol at `address` or the nearest one before it: its address and name. `None` for addresses below all
    /// symbols and for 0.
    pub fn symbol_at(&self, address: u64) -> Option<(u64, &'a str)> {
        self.symbols?.find(address)
    }
}
