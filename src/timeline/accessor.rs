//! Small copies of a format's fields that read a payload without looking anything up.

use crate::capture::Endian;
use crate::capture::event_format::{EventFormat, Field, FieldKind};

/// A number in a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Num {
    offset: u16,
    size: u8,
    signed: bool,
    big: bool,
}

impl Num {
    /// An accessor for a field that holds one number.
    pub(super) fn of(field: &Field, endian: Endian) -> Option<Self> {
        let number = matches!(field.kind, FieldKind::Number | FieldKind::Pointer | FieldKind::Bool);
        let size = u8::try_from(field.size).ok().filter(|size| matches!(size, 1 | 2 | 4 | 8))?;
        number.then_some(Self { offset: field.offset, size, signed: field.signed, big: endian == Endian::Big })
    }

    /// An accessor for the field of this name.
    pub(super) fn named(format: &EventFormat, name: &str, endian: Endian) -> Option<Self> {
        Self::of(format.field(name)?, endian)
    }

    /// The value, zero- or sign-extended; `None` where the record is too short.
    #[inline]
    pub(super) fn get(self, payload: &[u8]) -> Option<u64> {
        let rest = payload.get(usize::from(self.offset)..)?;
        macro_rules! read {
            ($unsigned:ty, $signed:ty) => {{
                let bytes = *rest.first_chunk()?;
                let value =
                    if self.big { <$unsigned>::from_be_bytes(bytes) } else { <$unsigned>::from_le_bytes(bytes) };
                if self.signed { i64::from(value as $signed) as u64 } else { u64::from(value) }
            }};
        }
        Some(match self.size {
            1 => read!(u8, i8),
            2 => read!(u16, i16),
            4 => read!(u32, i32),
            _ => read!(u64, i64),
        })
    }

    /// The value as a thread id; 0 where the record is too short.
    #[inline]
    pub(super) fn pid(self, payload: &[u8]) -> i32 {
        self.get(payload).unwrap_or(0) as i32
    }
}

/// A text in a payload.
#[derive(Clone, Copy, Debug)]
pub(super) enum Text {
    /// A fixed array of characters.
    Fixed { offset: u16, size: u16 },
    /// Offset and length lie in the record; `base` is what the offset counts from.
    Dynamic { at: Num, base: u16 },
}

impl Text {
    /// An accessor for a text field.
    pub(super) fn of(field: &Field, endian: Endian) -> Option<Self> {
        let big = endian == Endian::Big;
        let at = Num { offset: field.offset, size: 4, signed: false, big };
        Some(match field.kind {
            FieldKind::Text => Self::Fixed { offset: field.offset, size: field.size },
            FieldKind::DynamicText => Self::Dynamic { at, base: 0 },
            FieldKind::RelativeText => Self::Dynamic { at, base: field.offset.checked_add(4)? },
            _ => return None,
        })
    }

    /// An accessor for the field of this name.
    pub(super) fn named(format: &EventFormat, name: &str, endian: Endian) -> Option<Self> {
        Self::of(format.field(name)?, endian)
    }

    /// The text up to its NUL; empty where it does not fit into the record.
    #[inline]
    pub(super) fn get(self, payload: &[u8]) -> &[u8] {
        let bytes = match self {
            Self::Fixed { offset, size: 0 } => payload.get(usize::from(offset)..),
            Self::Fixed { offset, size } => payload.get(usize::from(offset)..usize::from(offset) + usize::from(size)),
            Self::Dynamic { at, base } => at.get(payload).and_then(|at| {
                let start = usize::from(base) + (at & 0xffff) as usize;
                payload.get(start..start + (at >> 16 & 0xffff) as usize)
            }),
        };
        let bytes = bytes.unwrap_or(&[]);
        &bytes[..bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len())]
    }

    /// The text as a comm.
    #[inline]
    pub(super) fn comm(self, payload: &[u8]) -> [u8; 16] {
        super::names::comm(self.get(payload))
    }
}
