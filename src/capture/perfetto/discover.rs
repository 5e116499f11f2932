//! Which events a trace holds and what is in them, found in the first pass.
//!
//! An event gets the fields that occur: a message has no place for what the kernel did not record. Events are collected
//! in the order of the file.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::bundle::Event;
use super::known::{self, FIRST_DESCRIBED, GENERIC, LAST_DESCRIBED, SWITCH, WAKING};
use super::layout::{Kind, Layout, Wanted, named_fields};
use super::wire::{Fields, Value};
use crate::capture::event_format::FormatTable;
use crate::capture::text::system_of;

/// Most events that name themselves, and most fields of one.
const MAX_NAMED: usize = 8192;
const MAX_FIELDS: usize = 64;
/// Longest name.
const MAX_NAME: usize = 128;

/// What an event that names itself has.
#[derive(Debug, Default)]
struct Named {
    fields: Vec<(Box<[u8]>, Kind)>,
}

/// What the file says of an event.
#[derive(Debug, PartialEq, Eq)]
struct Described {
    system: Option<String>,
    name: String,
    fields: Vec<(u32, String, Kind, bool)>,
}

/// The events seen so far.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    /// By index into the known events: which fields occurred, as bits; `None` where the event did not occur.
    known: Vec<Option<u64>>,
    named: Vec<(Box<[u8]>, Named)>,
    by_name: FxHashMap<Box<[u8]>, usize>,
    described: FxHashMap<u32, Described>,
    /// How many events there were of each described kind.
    of_described: BTreeMap<u32, u64>,
    /// How many events there were that are not read, by number.
    pub(super) unread: BTreeMap<u32, u64>,
    /// Descriptions of one number that differ.
    pub(super) contradictions: u64,
}

impl Discovery {
    /// Notes one event.
    #[inline]
    pub(super) fn add(&mut self, event: &Event<'_>) {
        if event.number == GENERIC {
            self.generic(event.message);
        } else if event.number >= FIRST_DESCRIBED {
            *self.of_described.entry(event.number).or_default() += 1;
        } else if let Some(index) = known::find(event.number) {
            let mut seen = 0;
            for (number, _) in Fields::new(event.message) {
                seen |= 1_u64.checked_shl(number).unwrap_or(0);
            }
            self.note(index, seen);
        } else {
            *self.unread.entry(event.number).or_default() += 1;
        }
    }

    /// Notes events in columns.
    pub(super) fn columns(&mut self, switches: bool, wakings: bool) {
        for (number, seen, there) in [(SWITCH, 0b1111_1110, switches), (WAKING, 0b10_1110, wakings)] {
            if let Some(index) = known::find(number).filter(|_| there) {
                self.note(index, seen);
            }
        }
    }

    fn note(&mut self, index: usize, seen: u64) {
        if self.known.len() <= index {
            self.known.resize(known::known().len(), None);
        }
        if let Some(known) = self.known.get_mut(index) {
            *known = Some(known.unwrap_or(0) | seen);
        }
    }

    fn generic(&mut self, message: &[u8]) {
        let Some(name) = event_name(message).filter(|name| (1..=MAX_NAME).contains(&name.len())) else {
            *self.unread.entry(GENERIC).or_default() += 1;
            return;
        };
        let index = match self.by_name.get(name) {
            Some(&index) => index,
            None if self.named.len() >= MAX_NAMED => {
                *self.unread.entry(GENERIC).or_default() += 1;
                return;
            }
            None => {
                self.by_name.insert(name.into(), self.named.len());
                self.named.push((name.into(), Named::default()));
                self.named.len() - 1
            }
        };
        let Some((_, named)) = self.named.get_mut(index) else { return };
        let kinds = Fields::new(message).filter(|(number, _)| *number == 2).filter_map(|(_, field)| {
            Fields::new(field.bytes()?).find_map(|(number, _)| match number {
                3 => Some(Kind::Text),
                4 => Some(Kind::S64),
                5 => Some(Kind::U64),
                _ => None,
            })
        });
        for (at, ((name, value), kind)) in named_fields(message).zip(kinds).enumerate() {
            if value.is_none() || name.len() > MAX_NAME {
                continue;
            }
            let known = match named.fields.get(at) {
                Some((known, _)) if **known == *name => Some(at),
                _ => named.fields.iter().position(|(known, _)| **known == *name),
            };
            let Some(known) = known else {
                if named.fields.len() < MAX_FIELDS {
                    named.fields.push((name.into(), kind));
                }
                continue;
            };
            // Numbers of both signs are signed; what was a text once can hold no number.
            if let Some((_, known)) =
                named.fields.get_mut(known).filter(|(_, known)| *known != kind && *known != Kind::Text)
            {
                *known = if kind == Kind::Text { kind } else { Kind::S64 };
            }
        }
    }

    /// Notes a `GenericEventDescriptor`.
    pub(super) fn describe(&mut self, descriptor: &[u8]) {
        let (mut number, mut group, mut message) = (None, None, None);
        for (field, value) in Fields::new(descriptor) {
            match field {
                1 => number = value.number().and_then(|number| u32::try_from(number).ok()),
                2 => message = value.bytes(),
                3 => group = value.bytes(),
                _ => {}
            }
        }
        let Some(number) = number.filter(|number| (FIRST_DESCRIBED..=LAST_DESCRIBED).contains(number)) else { return };
        let Some(described) = message.and_then(|message| Described::parse(group, message)) else { return };
        match self.described.get(&number) {
            Some(known) if *known == described => {}
            Some(_) => self.contradictions += 1,
            None => drop(self.described.insert(number, described)),
        }
    }

    /// The formats, and how records are laid out.
    pub(super) fn finish(mut self) -> (FormatTable, Layouts) {
        let mut made = Made { table: FormatTable::new(), layouts: Layouts::default() };
        for (known, seen) in known::known().iter().zip(&self.known) {
            let Some(seen) = seen else { continue };
            let fields = (1..).zip(&known.fields).filter(|(number, _)| seen >> number & 1 != 0);
            let fields = fields
                .filter_map(|(number, field)| field.map(|(name, kind)| Wanted { number, name, kind, zigzag: false }));
            if let Some(index) = made.layout(known.system, known.name, &fields.collect::<Vec<_>>()) {
                Layouts::set(&mut made.layouts.known, known.number, index);
            }
        }
        for (name, named) in &self.named {
            let event = identifier(name);
            let names: Vec<String> = named.fields.iter().map(|(name, _)| identifier(name)).collect();
            let fields = named.fields.iter().zip(&names);
            let fields = fields.map(|((_, kind), name)| Wanted { number: 0, name, kind: *kind, zigzag: false });
            if let Some(index) = made.layout(system_of(&event), &event, &fields.collect::<Vec<_>>()) {
                made.layouts.named.insert(name.clone(), index);
            }
        }
        for (&number, &count) in &self.of_described {
            let Some(described) = self.described.get(&number) else {
                *self.unread.entry(number).or_default() += count;
                continue;
            };
            let system = described.system.as_deref().unwrap_or_else(|| system_of(&described.name));
            let fields = described.fields.iter().map(|(number, name, kind, zigzag)| Wanted {
                number: *number,
                name,
                kind: *kind,
                zigzag: *zigzag,
            });
            if let Some(index) = made.layout(system, &described.name, &fields.collect::<Vec<_>>()) {
                Layouts::set(&mut made.layouts.described, number - FIRST_DESCRIBED, index);
            }
        }
        made.layouts.unread = self.unread;
        (made.table, made.layouts)
    }
}

impl Described {
    /// Reads a `DescriptorProto`: name 1, fields 2 with name 1, number 3 and type 5.
    fn parse(group: Option<&[u8]>, message: &[u8]) -> Option<Self> {
        let (mut name, mut fields) = (None, Vec::new());
        for (field, value) in Fields::new(message) {
            match (field, value) {
                (1, Value::Bytes(text)) => name = Some(identifier(text)),
                (2, Value::Bytes(message)) if fields.len() < MAX_FIELDS => fields.extend(described_field(message)),
                _ => {}
            }
        }
        let name = name.filter(|name| !name.is_empty())?;
        Some(Self { system: group.map(identifier).filter(|group| !group.is_empty()), name, fields })
    }
}

/// Number, name, kind and zigzag of a `FieldDescriptorProto`; `None` for types that have no place in a record.
fn described_field(message: &[u8]) -> Option<(u32, String, Kind, bool)> {
    let (mut name, mut number, mut kind) = (None, None, None);
    for (field, value) in Fields::new(message) {
        match field {
            1 => name = value.bytes().map(identifier).filter(|name| !name.is_empty()),
            3 => number = value.number().and_then(|number| u32::try_from(number).ok()),
            5 => kind = value.number(),
            _ => {}
        }
    }
    let (kind, zigzag) = match kind? {
        3 | 16 => (Kind::S64, false),
        4 | 6 => (Kind::U64, false),
        5 | 14 | 15 => (Kind::S32, false),
        7 | 13 => (Kind::U32, false),
        8 => (Kind::Bool, false),
        9 | 12 => (Kind::Text, false),
        17 => (Kind::S32, true),
        18 => (Kind::S64, true),
        _ => return None,
    };
    Some((number.filter(|number| (1..1000).contains(number))?, name?, kind, zigzag))
}

/// The name of a `GenericFtraceEvent`.
pub(super) fn event_name(message: &[u8]) -> Option<&[u8]> {
    Fields::new(message).find_map(|(number, value)| (number == 1).then(|| value.bytes())?)
}

/// A name as the kernel has them.
fn identifier(name: &[u8]) -> String {
    let letter = |&byte: &u8| if byte.is_ascii_alphanumeric() || byte == b'_' { byte as char } else { '_' };
    name.iter().take(MAX_NAME).map(letter).collect()
}

/// How the records of all events are laid out.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    list: Vec<Layout>,
    /// Index of the layout plus one, by number.
    known: Vec<u16>,
    /// The same, from [`FIRST_DESCRIBED`] on.
    described: Vec<u16>,
    named: FxHashMap<Box<[u8]>, u16>,
    /// How many events there are that are not read, by number.
    pub(super) unread: BTreeMap<u32, u64>,
}

impl Layouts {
    fn set(list: &mut Vec<u16>, number: u32, index: u16) {
        let number = number as usize;
        list.resize(list.len().max(number + 1), 0);
        if let Some(slot) = list.get_mut(number) {
            *slot = index + 1;
        }
    }

    /// The layout of events with this number.
    #[inline]
    pub(super) fn of(&self, number: u32) -> Option<&Layout> {
        let (list, at) = match number.checked_sub(FIRST_DESCRIBED) {
            Some(described) => (&self.described, described),
            None => (&self.known, number),
        };
        let index = list.get(at as usize)?.checked_sub(1)?;
        self.list.get(usize::from(index))
    }

    /// The layout of events with this name.
    #[inline]
    pub(super) fn named(&self, name: &[u8]) -> Option<&Layout> {
        self.list.get(usize::from(*self.named.get(name)?))
    }
}

/// What is made of what was discovered.
struct Made {
    table: FormatTable,
    layouts: Layouts,
}

impl Made {
    fn layout(&mut self, system: &str, name: &str, fields: &[Wanted<'_>]) -> Option<u16> {
        let index = u16::try_from(self.layouts.list.len()).ok()?;
        let (format, layout) = Layout::new(index, system, name, fields)?;
        let added = self.table.add(format).ok()?;
        debug_assert_eq!(added, index);
        self.layouts.list.push(layout);
        Some(index)
    }
}
