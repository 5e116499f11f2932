//! A cursor over bytes from a file: every read is checked, every error names the thing and its offset.

use super::Endian;
use crate::error::{Error, Result};

/// Reads numbers and strings of one byte order, front to back.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
    base: u64,
    endian: Endian,
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `bytes`, which stand at offset `base` of the file.
    pub fn new(bytes: &'a [u8], base: u64, endian: Endian) -> Self {
        Self { bytes, position: 0, base, endian }
    }

    /// The file offset of the next byte.
    pub fn offset(&self) -> u64 {
        self.base.saturating_add(self.position as u64)
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or(&[])
    }

    /// How many bytes have not been read.
    pub fn left(&self) -> usize {
        self.rest().len()
    }

    /// The next `count` bytes, which are `what`.
    pub fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8]> {
        let Some((taken, _)) = self.rest().split_at_checked(count) else {
            let message = format!("{what} needs {count} bytes, only {} are left", self.left());
            return Err(Error::format(message).at(self.offset()));
        };
        self.position += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    /// The next two bytes as a number.
    pub fn u16(&mut self, what: &str) -> Result<u16> {
        self.array(what).map(|bytes| u16_from(self.endian, bytes))
    }

    /// The next four bytes as a number.
    pub fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(|bytes| u32_from(self.endian, bytes))
    }

    /// The next eight bytes as a number.
    pub fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(|bytes| u64_from(self.endian, bytes))
    }

    /// The bytes up to the next NUL, which is read too.
    pub fn cstr(&mut self, what: &str) -> Result<&'a [u8]> {
        let Some(length) = self.rest().iter().position(|&byte| byte == 0) else {
            return Err(Error::format(format!("{what} has no end")).at(self.offset()));
        };
        let text = self.take(length, what)?;
        self.position += 1;
        Ok(text)
    }
}

/// A number from two bytes of this order.
#[inline]
pub fn u16_from(endian: Endian, bytes: [u8; 2]) -> u16 {
    match endian {
        Endian::Little => u16::from_le_bytes(bytes),
        Endian::Big => u16::from_be_bytes(bytes),
    }
}

/// A number from four bytes of this order.
#[inline]
pub fn u32_from(endian: Endian, bytes: [u8; 4]) -> u32 {
    match endian {
        Endian::Little => u32::from_le_bytes(bytes),
        Endian::Big => u32::from_be_bytes(bytes),
    }
}

/// A number from eight bytes of this order.
#[inline]
pub fn u64_from(endian: Endian, bytes: [u8; 8]) -> u64 {
    match endian {
        Endian::Little => u64::from_le_bytes(bytes),
        Endian::Big => u64::from_be_bytes(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_byte_orders() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
        let mut little = Cursor::new(&bytes, 0, Endian::Little);
        assert_eq!(little.u16("a").unwrap(), 0x0201);
        assert_eq!(little.u32("b").unwrap(), 0x0605_0403);
        assert_eq!(little.u64("c").unwrap(), 0x0e0d_0c0b_0a09_0807);
        let mut big = Cursor::new(&bytes, 0, Endian::Big);
        assert_eq!(big.u16("a").unwrap(), 0x0102);
        assert_eq!(big.u32("b").unwrap(), 0x0304_0506);
        assert_eq!(big.u64("c").unwrap(), 0x0708_090a_0b0c_0d0e);
    }

    #[test]
    fn errors_name_thing_and_offset() {
        let mut cursor = Cursor::new(b"ab\0cd", 0x100, Endian::Little);
        assert_eq!(cursor.cstr("name").unwrap(), b"ab");
        let error = cursor.u32("the number of CPUs").unwrap_err();
        assert_eq!(error.to_string(), "at byte 0x103: the number of CPUs needs 4 bytes, only 2 are left");
        let error = cursor.cstr("clock").unwrap_err();
        assert_eq!(error.to_string(), "at byte 0x103: clock has no end");
        assert_eq!(cursor.rest(), b"cd");
    }
}
