//! Records made of lines.

use super::keys::{Pair, Type};
use super::line::Line;
use super::number::Number;
use super::pattern::{self, Captures, Kind};
use super::shape::{Shape, Variant};

/// Where and how a value is kept in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    store: Store,
    offset: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Pattern(Kind),
    Key(Type),
}

impl Slot {
    /// The text of a line.
    pub(super) const TEXT: Self = Self { store: Store::Key(Type::Text), offset: 0 };

    pub(super) fn of_pattern(kind: Kind) -> Self {
        Self { store: Store::Pattern(kind), offset: 0 }
    }

    pub(super) fn of_key(kind: Type) -> Self {
        Self { store: Store::Key(kind), offset: 0 }
    }

    pub(super) fn at(self, offset: u16) -> Self {
        Self { offset, ..self }
    }

    /// Size, and the C declaration before and behind the name.
    pub(super) fn declaration(self) -> (u16, &'static str, &'static str) {
        match self.store {
            Store::Pattern(kind) => kind.declaration(),
            Store::Key(Type::Signed) => (8, "s64 ", ""),
            Store::Key(Type::Unsigned | Type::Hex) => (8, "u64 ", ""),
            Store::Key(Type::Text) => (4, "__data_loc char[] ", ""),
        }
    }

    /// Whether it is signed, as a digit.
    pub(super) fn sign(self) -> u8 {
        u8::from(matches!(self.store, Store::Pattern(Kind::S32 | Kind::S64) | Store::Key(Type::Signed)))
    }

    /// The printf conversion for it.
    pub(super) fn conversion(self) -> &'static str {
        match self.store {
            Store::Pattern(kind) => kind.conversion(),
            Store::Key(Type::Signed) => "%lld",
            Store::Key(Type::Unsigned) => "%llu",
            Store::Key(Type::Hex) => "0x%llx",
            Store::Key(Type::Text) => "%s",
        }
    }

    /// The number that is stored for `text`, and its size; `None` for text and arguments.
    fn number(self, text: &[u8]) -> Option<(u64, usize)> {
        match self.store {
            Store::Pattern(Kind::Word | Kind::Text | Kind::More | Kind::Arguments) | Store::Key(Type::Text) => None,
            // The first pass saw that all values fit.
            Store::Pattern(kind) => Some((kind.number(text).unwrap_or(0), usize::from(kind.declaration().0))),
            Store::Key(_) => Some((Number::parse(text).map_or(0, Number::value), 8)),
        }
    }
}

/// Appends the record of a line to `out`.
pub(super) fn record(id: u16, shape: &Shape, line: &Line<'_>, text: &[u8], variant: &Variant<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + usize::from(shape.size), 0);
    put(out, start, &id.to_le_bytes());
    put(out, start + 2, &[line.flags, line.preempt]);
    put(out, start + 4, &line.pid.to_le_bytes());
    match variant {
        _ if shape.is_text() => value(shape.slots.first(), text, start, out),
        Variant::Pattern(_, captures) => by_captures(shape, text, captures, start, out),
        Variant::Keys(pairs) => by_keys(shape, pairs, start, out),
        Variant::Text => {}
    }
}

fn by_captures(shape: &Shape, text: &[u8], captures: &Captures, start: usize, out: &mut Vec<u8>) {
    for (slot, (from, to)) in shape.slots.iter().zip(captures) {
        value(Some(slot), text.get(*from as usize..*to as usize).unwrap_or(&[]), start, out);
    }
}

fn by_keys(shape: &Shape, pairs: &[Pair<'_>], start: usize, out: &mut Vec<u8>) {
    for (slot, pair) in shape.slots.iter().zip(pairs) {
        value(Some(slot), pair.value, start, out);
    }
}

fn value(slot: Option<&Slot>, text: &[u8], start: usize, out: &mut Vec<u8>) {
    let Some(slot) = slot else { return };
    let at = start + usize::from(slot.offset);
    if let Some((number, size)) = slot.number(text) {
        return put(out, at, number.to_le_bytes().get(..size).unwrap_or(&[]));
    }
    if slot.store == Store::Pattern(Kind::Arguments) {
        for (index, argument) in pattern::arguments(text).unwrap_or_default().into_iter().enumerate() {
            put(out, at + 8 * index, &argument.to_le_bytes());
        }
        return;
    }
    // Offset and length are 16 bits each. Lines are far shorter.
    let offset = out.len() - start;
    let text = text.get(..text.len().min(0xff00_usize.saturating_sub(offset))).unwrap_or(&[]);
    let location = ((text.len() as u32 + 1) << 16) | (offset as u32 & 0xffff);
    put(out, at, &location.to_le_bytes());
    out.extend_from_slice(text);
    out.push(0);
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
