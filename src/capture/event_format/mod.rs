//! The kernel's `format` text, turned into typed field accessors and a renderer of the print format.

use crate::capture::Endian;
use crate::error::Result;

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
}

impl EventFormat {
    /// Parses the text of an `events/SYSTEM/EVENT/format` file.
    pub fn parse(system: &str, text: &str) -> Result<Self> {
        let _ = (system, text);
        Err(crate::error::Error::format("not yet"))
    }

    /// A field by name, common or own.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.common.iter().chain(&self.fields).find(|f| &*f.name == name)
    }

    /// The symbolic name that the print format gives the value of `field` in this record (`__print_symbolic`), as for
    /// the exit reason of `kvm_exit`, choosing between alternatives by the record's own conditions.
    pub fn symbol<'a>(&'a self, field: &str, payload: &[u8], endian: Endian) -> Option<&'a str> {
        let _ = (field, payload, endian);
        None
    }

    /// Renders the record as the kernel's print format would, without the event's name.
    pub fn render(&self, payload: &[u8], endian: Endian, context: &PrintContext<'_>, out: &mut Vec<u8>) {
        let _ = (payload, endian, context, out);
    }
}

/// What a print format may refer to outside the record.
#[derive(Clone, Copy, Default)]
pub struct PrintContext<'a> {
    /// `printk_formats`: address and text, sorted by address.
    pub printk: &'a [(u64, Box<str>)],
    /// Kernel symbols: address and name, sorted by address.
    pub symbols: &'a [(u64, Box<str>)],
}

/// A field of a record.
#[derive(Clone, Debug)]
pub struct Field {
    /// Name.
    pub name: Box<str>,
    /// The C type as the kernel wrote it.
    pub type_name: Box<str>,
    /// Byte offset from the start of the record.
    pub offset: u16,
    /// Size in bytes of what stands at `offset`; 0 for "the rest of the record".
    pub size: u16,
    /// Whether numbers are sign-extended.
    pub signed: bool,
    /// How its bytes are read.
    pub kind: FieldKind,
}

/// How a field's bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A number of 1, 2, 4 or 8 bytes.
    Number,
    /// A kernel address.
    Pointer,
    /// A `bool`.
    Bool,
    /// A fixed array of `char`: text up to the first NUL.
    Text,
    /// A fixed array of numbers of `element` bytes each.
    Array {
        /// Size of an element in bytes.
        element: u8,
    },
    /// `__data_loc` text: a u32 says where it lies in the record.
    DynamicText,
    /// `__data_loc` numbers.
    DynamicArray {
        /// Size of an element in bytes.
        element: u8,
    },
    /// `__rel_loc` text: counted from the end of the field.
    RelativeText,
    /// `__rel_loc` numbers.
    RelativeArray {
        /// Size of an element in bytes.
        element: u8,
    },
}

/// A decoded field value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// An unsigned number.
    Uint(u64),
    /// A signed number.
    Int(i64),
    /// A kernel address.
    Pointer(u64),
    /// A truth.
    Bool(bool),
    /// Text up to the first NUL, not always UTF-8.
    Text(&'a [u8]),
    /// Raw elements of a numeric array.
    Array {
        /// The bytes.
        bytes: &'a [u8],
        /// Size of an element.
        element: u8,
        /// Whether elements are signed.
        signed: bool,
    },
}

impl Field {
    /// The value as 64 bits: zero- or sign-extended by `signed`. `None` where the record is too short or the field is
    /// no number.
    #[inline]
    pub fn number(&self, payload: &[u8], endian: Endian) -> Option<u64> {
        let _ = (payload, endian);
        None
    }

    /// The decoded value; `None` where it does not fit into the record.
    #[inline]
    pub fn value<'a>(&self, payload: &'a [u8], endian: Endian) -> Option<Value<'a>> {
        let _ = (payload, endian);
        None
    }
}
