//! Values as text, alike in every format.

use crate::capture::Endian;

/// Elements of an array that are spelled out; the rest is an ellipsis.
const MAX_ELEMENTS: usize = 64;

/// Appends `0x…` in lower case.
#[inline]
pub(crate) fn push_hex(out: &mut Vec<u8>, value: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"0x");
    let digits = (64 - (value | 1).leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        out.push(DIGITS[(value >> (digit * 4) & 0xf) as usize]);
    }
}

/// Appends a numeric array as `[1, 2, 3]`. A tail shorter than an element is left out.
pub(crate) fn push_array(out: &mut Vec<u8>, bytes: &[u8], element: u8, signed: bool, endian: Endian) {
    let mut buffer = itoa::Buffer::new();
    let size = usize::from(element.clamp(1, 8));
    out.push(b'[');
    for (index, bytes) in bytes.chunks_exact(size).enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        if index == MAX_ELEMENTS {
            out.extend_from_slice("…".as_bytes());
            break;
        }
        let mut wide = [0; 8];
        let value = match endian {
            Endian::Little => {
                wide[..size].copy_from_slice(bytes);
                u64::from_le_bytes(wide)
            }
            Endian::Big => {
                wide[8 - size..].copy_from_slice(bytes);
                u64::from_be_bytes(wide)
            }
        };
        let unused = 64 - 8 * size as u32;
        let text = if signed { buffer.format((value << unused) as i64 >> unused) } else { buffer.format(value) };
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b']');
}

/// Appends `text` with U+FFFD for what is not UTF-8.
#[inline]
pub(crate) fn push_lossy(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex() {
        for value in [0, 9, 0xa, 0xf, 0x10, 0xec, 0xffff_ffff_81e0_0123, u64::MAX] {
            let mut out = Vec::new();
            push_hex(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{value:#x}"));
        }
    }

    #[test]
    fn arrays() {
        let text = |bytes: &[u8], element, signed, endian| {
            let mut out = Vec::new();
            push_array(&mut out, bytes, element, signed, endian);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(&[], 4, false, Endian::Little), "[]");
        assert_eq!(text(&[1, 0xff], 1, false, Endian::Little), "[1, 255]");
        assert_eq!(text(&[1, 0xff], 1, true, Endian::Little), "[1, -1]");
        assert_eq!(text(&[1, 0, 0, 0x80, 9], 2, true, Endian::Little), "[1, -32768]");
        assert_eq!(text(&[1, 0, 0, 2], 2, false, Endian::Big), "[256, 2]");
        assert_eq!(text(&[0xff; 8], 8, false, Endian::Big), "[18446744073709551615]");
        let long = text(&[7; 65], 1, false, Endian::Little);
        assert!(long.ends_with("7, 7, …]"), "{long}");
        assert_eq!(long.matches('7').count(), 64);
    }

    #[test]
    fn lossy() {
        let mut out = Vec::new();
        push_lossy(&mut out, b"a\xc3\xa4\xff\xfeb\xe2\x82");
        assert_eq!(String::from_utf8(out).unwrap(), String::from_utf8_lossy(b"a\xc3\xa4\xff\xfeb\xe2\x82"));
    }
}
