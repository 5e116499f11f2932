//! JSON values, straight into a byte buffer.

use crate::export::text::push_hex;

/// The largest integer up to which a double holds all integers.
pub(super) const MAX_EXACT: u64 = 1 << 53;

/// An object that is being written.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// Writes a key; the value must follow.
    pub(super) fn key(&mut self, key: &[u8]) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        string(self.out, key);
        self.out.push(b':');
        self.out
    }

    pub(super) fn close(self) {
        self.out.push(b'}');
    }
}

/// A text in quotes.
#[inline]
pub(super) fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    escape(out, text);
    out.push(b'"');
}

/// A text without the quotes, with U+FFFD for what is not UTF-8.
#[inline]
pub(super) fn escape(out: &mut Vec<u8>, text: &[u8]) {
    // Nearly all texts are short and plain.
    if text.iter().all(|&byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        out.extend_from_slice(text);
    } else {
        escape_slowly(out, text);
    }
}

#[cold]
fn escape_slowly(out: &mut Vec<u8>, text: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for chunk in text.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                // DEL is allowed, but as invisible as the others.
                0..0x20 | 0x7f => {
                    out.extend_from_slice(b"\\u00");
                    out.push(DIGITS[usize::from(byte >> 4)]);
                    out.push(DIGITS[usize::from(byte & 0xf)]);
                }
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// A number; as decimal text where a double would round it, as hexadecimal text from 2^63 on.
#[inline]
pub(super) fn unsigned(out: &mut Vec<u8>, value: u64) {
    match i64::try_from(value) {
        Ok(value) => signed(out, value),
        Err(_) => hex(out, value),
    }
}

/// A number; as decimal text where a double would round it.
#[inline]
pub(super) fn signed(out: &mut Vec<u8>, value: i64) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value).as_bytes();
    if value.unsigned_abs() <= MAX_EXACT {
        out.extend_from_slice(text);
    } else {
        string(out, text);
    }
}

/// A number as text, `"0x…"`.
#[inline]
pub(super) fn hex(out: &mut Vec<u8>, value: u64) {
    out.push(b'"');
    push_hex(out, value);
    out.push(b'"');
}

pub(super) fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Nanoseconds as microseconds with three decimals.
#[inline]
pub(super) fn microseconds(out: &mut Vec<u8>, ns: i128) {
    if ns < 0 {
        out.push(b'-');
    }
    // A difference of two 64-bit numbers: its magnitude fits.
    let ns = ns.unsigned_abs() as u64;
    out.extend_from_slice(itoa::Buffer::new().format(ns / 1000).as_bytes());
    let rest = ns % 1000;
    out.extend_from_slice(&[b'.', b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8]);
}
