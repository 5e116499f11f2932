//! Numbers for strings: what a sequence says once and refers to afterwards. Number 0 means "none".

use crate::timeline::drawing::StringId;

/// What to write for a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// It has this number.
    Known(u64),
    /// It has this number from now on, and the packet must say so.
    New(u64),
    /// It has no number; it is written as it is.
    Inline,
}

/// A number space for a batch's strings, which are unique already: a table, no hashing.
pub(super) struct Table {
    iids: Vec<u32>,
}

impl Table {
    /// For a batch with `strings` strings.
    pub(super) fn new(strings: usize) -> Self {
        Self { iids: vec![0; strings] }
    }

    /// The number of a string; `next` is the last number given out in the space. A string that the batch does not have
    /// gets none.
    #[inline]
    pub(super) fn get(&mut self, id: StringId, last: &mut u32) -> Lookup {
        match self.iids.get_mut(id.0 as usize) {
            None => Lookup::Inline,
            Some(iid) if *iid != 0 => Lookup::Known(u64::from(*iid)),
            Some(iid) => {
                *last += 1;
                *iid = *last;
                Lookup::New(u64::from(*last))
            }
        }
    }
}

/// The longest text that [`Recent`] remembers.
const MAX_TEXT: usize = 24;
/// How many texts [`Recent`] remembers; a power of two.
const SLOTS: usize = 1024;

/// Short texts that came by lately: task names, addresses, small renderings. A text is worth a number when it comes by
/// a second time. A fixed table in which a text has one place: another one at that place takes it.
pub(super) struct Recent {
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    key: Key,
    /// 0 after the first time.
    iid: u32,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Key {
    words: [u64; MAX_TEXT / 8],
    /// Length of a text plus one, or [`Key::HEX`]. 0 is no text.
    kind: u8,
}

impl Key {
    const HEX: u8 = u8::MAX;

    fn text(text: &[u8]) -> Option<Self> {
        let mut padded = [0; MAX_TEXT];
        padded.get_mut(..text.len())?.copy_from_slice(text);
        let mut words = [0; MAX_TEXT / 8];
        for (word, bytes) in words.iter_mut().zip(padded.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Some(Self { words, kind: text.len() as u8 + 1 })
    }

    fn slot(&self) -> usize {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = u64::from(self.kind);
        for word in self.words {
            mixed = (mixed.rotate_left(26) ^ word).wrapping_mul(FACTOR);
        }
        (mixed >> (64 - SLOTS.trailing_zeros())) as usize
    }
}

impl Recent {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// The number of a text.
    #[inline]
    pub(super) fn text(&mut self, text: &[u8], last: &mut u32) -> Lookup {
        // A reference takes three to four bytes.
        if text.len() < 3 {
            return Lookup::Inline;
        }
        Key::text(text).map_or(Lookup::Inline, |key| self.get(key, last))
    }

    /// The number of the text `0x…` for `value`.
    #[inline]
    pub(super) fn hex(&mut self, value: u64, last: &mut u32) -> Lookup {
        self.get(Key { words: [value, 0, 0], kind: Key::HEX }, last)
    }

    fn get(&mut self, key: Key, last: &mut u32) -> Lookup {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, Slot::default());
        }
        let Some(slot) = self.slots.get_mut(key.slot()) else { return Lookup::Inline };
        if slot.key != key {
            *slot = Slot { key, iid: 0 };
            return Lookup::Inline;
        }
        if slot.iid != 0 {
            return Lookup::Known(u64::from(slot.iid));
        }
        *last += 1;
        slot.iid = *last;
        Lookup::New(u64::from(*last))
    }
}

/// The most bytes of a record that [`Renderings`] compares.
const MAX_RECORD: usize = 96;

/// Records that came by lately: the same one again need not be rendered. Direct-mapped as [`Recent`].
pub(super) struct Renderings<'a> {
    slots: Vec<Option<Rendering<'a>>>,
}

#[derive(Clone, Copy)]
struct Rendering<'a> {
    source: u16,
    event: u16,
    record: &'a [u8],
    /// 0 after the first time.
    iid: u32,
}

/// What is known of a record's rendering.
pub(super) enum Seen {
    /// It has this number.
    Rendered(u64),
    /// It came by before: its rendering is worth a number, which goes here.
    Again(usize),
    /// It is new, or too long to compare.
    No,
}

impl<'a> Renderings<'a> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new() }
    }

    fn slot(source: u16, event: u16, record: &[u8]) -> usize {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = u64::from(source) << 16 | u64::from(event);
        let (words, rest) = record.as_chunks();
        for word in words {
            mixed = (mixed.rotate_left(26) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
        }
        for byte in rest {
            mixed = (mixed.rotate_left(26) ^ u64::from(*byte)).wrapping_mul(FACTOR);
        }
        (mixed >> (64 - SLOTS.trailing_zeros())) as usize
    }

    /// Looks a record up, and remembers it.
    #[inline]
    pub(super) fn see(&mut self, source: u16, event: u16, record: &'a [u8]) -> Seen {
        if record.len() > MAX_RECORD {
            return Seen::No;
        }
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, None);
        }
        let index = Self::slot(source, event, record);
        let Some(slot) = self.slots.get_mut(index) else { return Seen::No };
        match *slot {
            Some(known) if known.source == source && known.event == event && known.record == record => {
                match known.iid {
                    0 => Seen::Again(index),
                    iid => Seen::Rendered(u64::from(iid)),
                }
            }
            _ => {
                *slot = Some(Rendering { source, event, record, iid: 0 });
                Seen::No
            }
        }
    }

    /// Gives the rendering of a record that came by again its number.
    pub(super) fn number(&mut self, index: usize, iid: u64) {
        if let Some(Some(known)) = self.slots.get_mut(index) {
            known.iid = iid as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_numbers_strings_in_order_of_use() {
        let (mut table, mut last) = (Table::new(3), 7);
        assert_eq!(table.get(StringId(2), &mut last), Lookup::New(8));
        assert_eq!(table.get(StringId(0), &mut last), Lookup::New(9));
        assert_eq!(table.get(StringId(2), &mut last), Lookup::Known(8));
        assert_eq!(table.get(StringId(3), &mut last), Lookup::Inline);
        assert_eq!(last, 9);
    }

    #[test]
    fn a_text_gets_a_number_when_it_comes_again() {
        let (mut recent, mut last) = (Recent::new(), 0);
        assert_eq!(recent.text(b"kworker/0:1", &mut last), Lookup::Inline);
        assert_eq!(recent.text(b"kworker/0:1", &mut last), Lookup::New(1));
        assert_eq!(recent.text(b"kworker/0:1", &mut last), Lookup::Known(1));
        assert_eq!(recent.text(b"kworker/0:1\0", &mut last), Lookup::Inline, "longer by a NUL");
        assert_eq!(recent.hex(0x3000, &mut last), Lookup::Inline);
        assert_eq!(recent.hex(0x3000, &mut last), Lookup::New(2));
        assert_eq!(recent.text(&[b'x'; MAX_TEXT], &mut last), Lookup::Inline);
        assert_eq!(recent.text(&[b'x'; MAX_TEXT], &mut last), Lookup::New(3));
        for _ in 0..3 {
            assert_eq!(recent.text(&[b'x'; MAX_TEXT + 1], &mut last), Lookup::Inline, "too long");
            assert_eq!(recent.text(b"ab", &mut last), Lookup::Inline, "too short to gain");
        }
    }

    #[test]
    fn texts_that_share_a_place_never_share_a_number() {
        let (mut recent, mut last) = (Recent::new(), 0);
        let mut owner = std::collections::HashMap::new();
        // Each value comes twice in a row, and four values fight for each place.
        for value in (0..4).flat_map(|_| (0..4 * SLOTS as u64).flat_map(|value| [value, value])) {
            match recent.hex(value, &mut last) {
                Lookup::New(iid) => assert_eq!(owner.insert(iid, value), None),
                Lookup::Known(iid) => assert_eq!(owner.get(&iid), Some(&value)),
                Lookup::Inline => {}
            }
        }
        assert!(owner.len() > SLOTS, "places were taken over");
    }
}
