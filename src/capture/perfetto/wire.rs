//! Protobuf's wire format, read field by field from bytes that may be anything.

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A varint, or four or eight bytes.
    Number(u64),
    /// A text, a message, or numbers one after the other.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(super) fn number(self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Bytes(_) => None,
        }
    }

    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Number(_) => None,
            Self::Bytes(bytes) => Some(bytes),
        }
    }
}

/// Takes a number in groups of seven bits off the front; `None` where it does not end within ten bytes or the bytes that
/// are there.
#[inline]
pub(super) fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, &byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *rest = rest.get(index + 1..)?;
            return Some(value);
        }
    }
    None
}

/// The largest number of a field that protobuf allows.
const MAX_FIELD: u64 = (1 << 29) - 1;

/// A tag: the field's number and how its value is written.
pub(super) fn tag(rest: &mut &[u8]) -> Option<(u32, u8)> {
    let tag = varint(rest)?;
    let field = tag >> 3;
    (1..=MAX_FIELD).contains(&field).then_some((field as u32, (tag & 7) as u8))
}

/// The fields of a message. What does not make sense ends them.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    /// Whether the last field made no sense.
    pub(super) broken: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message, broken: false }
    }

    #[inline]
    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let (field, kind) = tag(&mut self.rest)?;
        let value = match kind {
            0 => Value::Number(varint(&mut self.rest)?),
            1 => Value::Number(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(varint(&mut self.rest)?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Number(u64::from(u32::from_le_bytes(self.array()?))),
            _ => return None,
        };
        Some((field, value))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.broken {
            return None;
        }
        let field = self.field();
        self.broken = field.is_none();
        field
    }
}

/// Numbers one after the other; they end where one makes no sense.
#[derive(Clone, Debug, Default)]
pub(super) struct Packed<'a>(pub(super) &'a [u8]);

impl Iterator for Packed<'_> {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        if self.0.is_empty() {
            return None;
        }
        let number = varint(&mut self.0);
        if number.is_none() {
            self.0 = &[];
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::export::perfetto::wire::Out;

    proptest! {
        #[test]
        fn what_was_written(values in proptest::collection::vec((1_u32..70_000, any::<u64>(), any::<bool>()), 0..20)) {
            let mut out = Out::default();
            for &(field, value, text) in &values {
                if text { out.bytes(field, &value.to_le_bytes()) } else { out.uint(field, value) }
            }
            let mut fields = Fields::new(out.written());
            for (field, value, text) in values {
                let bytes = value.to_le_bytes();
                let expected = if text { Value::Bytes(&bytes) } else { Value::Number(value) };
                prop_assert_eq!(fields.next(), Some((field, expected)));
            }
            prop_assert_eq!(fields.next(), None);
            prop_assert!(!fields.broken);
        }

        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut fields = Fields::new(&bytes);
            prop_assert!(fields.by_ref().count() <= bytes.len());
            prop_assert!(Packed(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn what_makes_no_sense_ends_a_message() {
        for (bytes, fields) in [
            (&b"\x08\x01\x0a\x05abc"[..], 1),
            (b"\x08\xff", 0),
            (b"\x0b", 0),
            (b"\x00\x01", 0),
            (b"\x09\x01\x02", 0),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 0),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x", 0),
        ] {
            let mut all = Fields::new(bytes);
            assert_eq!((all.by_ref().count(), all.broken), (fields, true), "{bytes:?}");
        }
    }
}
