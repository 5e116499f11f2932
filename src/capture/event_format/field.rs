//! Fields of a record: where they lie and how their bytes are read.

use crate::capture::Endian;

/// A field of a record.
#[derive(Clone, Debug)]
pub struct Field {
    /// Name.
    pub name: Box<str>,
    /// The C type as the kernel wrote it, with the brackets of an array.
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

impl<'a> Value<'a> {
    /// The elements of an array in the capture's byte order; nothing for other values.
    pub fn elements(self, endian: Endian) -> impl Iterator<Item = i128> + 'a {
        let (bytes, element, signed) = match self {
            Self::Array { bytes, element, signed } => (bytes, usize::from(element.max(1)), signed),
            _ => (&[][..], 1, false),
        };
        let number = move |bits: u64| if signed { i128::from(bits.cast_signed()) } else { i128::from(bits) };
        let read = move |bytes: &[u8]| read_int(bytes, 0, element, signed, endian).map(number);
        bytes.chunks_exact(element).filter_map(read)
    }
}

impl Field {
    /// The value as 64 bits: zero- or sign-extended by `signed`. `None` where the record is too short or the field is
    /// no number.
    #[inline]
    pub fn number(&self, payload: &[u8], endian: Endian) -> Option<u64> {
        match self.kind {
            FieldKind::Number | FieldKind::Pointer | FieldKind::Bool => {
                read_int(payload, usize::from(self.offset), usize::from(self.size), self.signed, endian)
            }
            _ => None,
        }
    }

    /// The decoded value; `None` where it does not fit into the record.
    #[inline]
    pub fn value<'a>(&self, payload: &'a [u8], endian: Endian) -> Option<Value<'a>> {
        Some(match self.kind {
            FieldKind::Number if self.signed => Value::Int(self.number(payload, endian)? as i64),
            FieldKind::Number => Value::Uint(self.number(payload, endian)?),
            FieldKind::Pointer => Value::Pointer(self.number(payload, endian)?),
            FieldKind::Bool => Value::Bool(self.number(payload, endian)? != 0),
            FieldKind::Text | FieldKind::DynamicText | FieldKind::RelativeText => {
                Value::Text(until_nul(self.place().bytes(payload, endian)?))
            }
            FieldKind::Array { element }
            | FieldKind::DynamicArray { element }
            | FieldKind::RelativeArray { element } => {
                let bytes = self.place().bytes(payload, endian)?;
                let whole = bytes.len() - bytes.len() % usize::from(element.max(1));
                Value::Array { bytes: bytes.get(..whole)?, element, signed: self.signed }
            }
        })
    }

    /// Where its bytes lie.
    #[inline]
    pub(super) fn place(&self) -> Place {
        match self.kind {
            FieldKind::DynamicText | FieldKind::DynamicArray { .. } => Place::Dynamic { offset: self.offset },
            FieldKind::RelativeText | FieldKind::RelativeArray { .. } => Place::Relative { offset: self.offset },
            _ if self.size == 0 => Place::Rest { offset: self.offset },
            _ => Place::Fixed { offset: self.offset, size: self.size },
        }
    }
}

/// Where the bytes of a field lie in a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// `size` bytes at `offset`.
    Fixed { offset: u16, size: u16 },
    /// Everything from `offset` on.
    Rest { offset: u16 },
    /// Where the u32 at `offset` says, from the start of the record.
    Dynamic { offset: u16 },
    /// Where the u32 at `offset` says, from the end of that u32.
    Relative { offset: u16 },
}

impl Place {
    /// The bytes; `None` where they are not all inside the record.
    #[inline]
    pub(super) fn bytes(self, payload: &[u8], endian: Endian) -> Option<&[u8]> {
        let locate = |offset: u16, base: usize| {
            let word = read_int(payload, usize::from(offset), 4, false, endian)?;
            let (length, start) = ((word >> 16) as usize, base + (word & 0xffff) as usize);
            payload.get(start..start + length)
        };
        match self {
            Self::Fixed { offset, size } => payload.get(usize::from(offset)..)?.get(..usize::from(size)),
            Self::Rest { offset } => payload.get(usize::from(offset)..),
            Self::Dynamic { offset } => locate(offset, 0),
            Self::Relative { offset } => locate(offset, usize::from(offset) + 4),
        }
    }
}

/// Reads an integer of 1, 2, 4 or 8 bytes at `offset`, extended to 64 bits.
#[inline]
pub(super) fn read_int(payload: &[u8], offset: usize, size: usize, signed: bool, endian: Endian) -> Option<u64> {
    let tail = payload.get(offset..)?;
    let little = endian == Endian::Little;
    Some(match size {
        1 => {
            let byte = *tail.first()?;
            if signed { i64::from(byte as i8) as u64 } else { u64::from(byte) }
        }
        2 => {
            let bytes = *tail.first_chunk::<2>()?;
            let value = if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) };
            if signed { i64::from(value as i16) as u64 } else { u64::from(value) }
        }
        4 => {
            let bytes = *tail.first_chunk::<4>()?;
            let value = if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) };
            if signed { i64::from(value as i32) as u64 } else { u64::from(value) }
        }
        8 => {
            let bytes = *tail.first_chunk::<8>()?;
            if little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) }
        }
        _ => return None,
    })
}

/// The bytes before the first NUL, or all of them.
#[inline]
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    match bytes.iter().position(|&byte| byte == 0) {
        Some(end) => bytes.get(..end).unwrap_or(bytes),
        None => bytes,
    }
}
