//! The kernel's printf: conversion specifications and numbers. Rules are those of the kernel's vsnprintf, which
//! differ from C's in small things (`%#x` of 0 is `0x0`).

/// What a conversion wants of its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conversion {
    /// `%d`, `%i`.
    Signed,
    /// `%u`.
    Unsigned,
    /// `%x`.
    Hex,
    /// `%X`.
    UpperHex,
    /// `%o`.
    Octal,
    /// `%c`.
    Char,
    /// `%s`.
    Text,
    /// `%p` with the letters and digits behind it.
    Pointer([u8; 4]),
}

/// A width or precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// Not given.
    None,
    /// A number in the format.
    Fixed(u16),
    /// `*`: the next argument.
    Argument,
}

/// Bytes of an integer argument, by its length modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// `hh`.
    Char,
    /// `h`.
    Short,
    /// None.
    Int,
    /// `l`, `z`, `t`.
    Long,
    /// `ll`, `L`, `j`, `q`.
    LongLong,
}

/// A conversion specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) conversion: Conversion,
    pub(super) length: Length,
    pub(super) width: Size,
    pub(super) precision: Size,
    pub(super) style: Style,
}

/// Flags of a specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) left: bool,
    pub(super) plus: bool,
    pub(super) space: bool,
    pub(super) prefix: bool,
    pub(super) zero: bool,
}

/// A part of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes of the format from the first offset up to the second.
    Literal(usize, usize),
    /// A conversion.
    Spec(Spec),
}

/// Widest padding that is carried out.
const MAX_WIDTH: u16 = 256;

/// Splits a format into pieces. What is no specification is literal.
pub(super) struct Pieces<'a> {
    format: &'a [u8],
    at: usize,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(format: &'a [u8]) -> Self {
        Self { format, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.format.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn size(&mut self) -> Size {
        if self.eat(b'*') {
            return Size::Argument;
        }
        let mut value: Option<u16> = None;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            self.at += 1;
            let next = value.unwrap_or(0).saturating_mul(10).saturating_add(u16::from(digit - b'0'));
            value = Some(next.min(MAX_WIDTH));
        }
        value.map_or(Size::None, Size::Fixed)
    }

    fn length(&mut self) -> Length {
        if self.eat(b'h') {
            return if self.eat(b'h') { Length::Char } else { Length::Short };
        }
        if self.eat(b'l') {
            return if self.eat(b'l') { Length::LongLong } else { Length::Long };
        }
        match self.peek() {
            Some(b'L' | b'j' | b'q') => {
                self.at += 1;
                Length::LongLong
            }
            Some(b'z' | b'Z' | b't') => {
                self.at += 1;
                Length::Long
            }
            _ => Length::Int,
        }
    }

    /// The specification behind a `%`.
    fn spec(&mut self) -> Option<Spec> {
        let mut style = Style::default();
        loop {
            match self.peek()? {
                b'-' => style.left = true,
                b'+' => style.plus = true,
                b' ' => style.space = true,
                b'#' => style.prefix = true,
                b'0' => style.zero = true,
                _ => break,
            }
            self.at += 1;
        }
        let width = self.size();
        let precision = if self.eat(b'.') {
            match self.size() {
                Size::None => Size::Fixed(0),
                size => size,
            }
        } else {
            Size::None
        };
        let length = self.length();
        let letter = self.peek()?;
        self.at += 1;
        let conversion = match letter {
            b'd' | b'i' => Conversion::Signed,
            b'u' => Conversion::Unsigned,
            b'x' => Conversion::Hex,
            b'X' => Conversion::UpperHex,
            b'o' => Conversion::Octal,
            b'c' => Conversion::Char,
            b's' => Conversion::Text,
            b'p' => {
                let mut letters = [0_u8; 4];
                let mut slots = letters.iter_mut();
                while let Some(byte) = self.peek().filter(u8::is_ascii_alphanumeric) {
                    if let Some(slot) = slots.next() {
                        *slot = byte;
                    }
                    self.at += 1;
                }
                Conversion::Pointer(letters)
            }
            _ => return None,
        };
        Some(Spec { conversion, length, width, precision, style })
    }
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let start = self.at;
        let rest = self.format.get(start..).filter(|rest| !rest.is_empty())?;
        if rest.first() != Some(&b'%') {
            self.at = start + rest.iter().position(|&byte| byte == b'%').unwrap_or(rest.len());
            return Some(Piece::Literal(start, self.at));
        }
        self.at = start + 1;
        if self.eat(b'%') {
            return Some(Piece::Literal(start, start + 1));
        }
        if let Some(spec) = self.spec() {
            return Some(Piece::Spec(spec));
        }
        self.at = start + 1;
        Some(Piece::Literal(start, self.at))
    }
}

/// Writes an integer, already converted to the width of the conversion and extended to 64 bits.
pub(super) fn number(
    value: u64,
    conversion: Conversion,
    style: Style,
    width: usize,
    precision: Option<usize>,
    out: &mut Vec<u8>,
) {
    let negative = conversion == Conversion::Signed && (value as i64) < 0;
    let magnitude = if negative { value.wrapping_neg() } else { value };
    let mut buffer = [0_u8; 24];
    let mut decimal = itoa::Buffer::new();
    let digits = match conversion {
        Conversion::Hex => hex_digits(magnitude, b'a', &mut buffer),
        Conversion::UpperHex => hex_digits(magnitude, b'A', &mut buffer),
        Conversion::Octal => octal_digits(magnitude, &mut buffer),
        _ => decimal.format(magnitude).as_bytes(),
    };
    if !negative && width == 0 && precision.is_none() && style == Style::default() {
        return out.extend_from_slice(digits);
    }
    let sign: &[u8] = match (conversion, negative) {
        (Conversion::Signed, true) => b"-",
        (Conversion::Signed, false) if style.plus => b"+",
        (Conversion::Signed, false) if style.space => b" ",
        (Conversion::Hex, _) if style.prefix => b"0x",
        (Conversion::UpperHex, _) if style.prefix => b"0X",
        (Conversion::Octal, _) if style.prefix && value != 0 => b"0",
        _ => b"",
    };
    let zeros = precision.unwrap_or(0).min(usize::from(MAX_WIDTH)).saturating_sub(digits.len());
    let gap = width.min(usize::from(MAX_WIDTH)).saturating_sub(sign.len() + zeros + digits.len());
    if !style.left && !style.zero {
        fill(b' ', gap, out);
    }
    out.extend_from_slice(sign);
    if !style.left && style.zero {
        fill(b'0', gap, out);
    }
    fill(b'0', zeros, out);
    out.extend_from_slice(digits);
    if style.left {
        fill(b' ', gap, out);
    }
}

/// Hexadecimal digits of `value`, written to `buffer`; `ten` is the digit for 10.
#[inline]
fn hex_digits(value: u64, ten: u8, buffer: &mut [u8; 24]) -> &[u8] {
    // Eight digits at a time: one per byte, then the letters moved to where they stand in ASCII.
    let eight = |half: u64| {
        let mut x = half & 0xffff_ffff;
        x = (x | x << 16) & 0x0000_ffff_0000_ffff;
        x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
        x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        let letters = (x + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        (x + 0x3030_3030_3030_3030 + letters * u64::from(ten - b'0' - 10)).to_be_bytes()
    };
    let digits = ((64 - value.leading_zeros()).div_ceil(4) as usize).max(1);
    if let Some((high, rest)) = buffer.split_first_chunk_mut::<8>()
        && let Some(low) = rest.first_chunk_mut::<8>()
    {
        *high = eight(value >> 32);
        *low = eight(value);
    }
    buffer.get(16 - digits..16).unwrap_or(&[])
}

/// Octal digits of `value`, written to `buffer`.
fn octal_digits(mut value: u64, buffer: &mut [u8; 24]) -> &[u8] {
    let mut start = buffer.len();
    for (at, slot) in buffer.iter_mut().enumerate().rev() {
        *slot = b'0' + (value & 7) as u8;
        value >>= 3;
        start = at;
        if value == 0 {
            break;
        }
    }
    buffer.get(start..).unwrap_or(&[])
}

/// Pads what stands in `out` from `start` on to `width` bytes.
pub(super) fn pad(start: usize, width: usize, left: bool, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let length = out.len().saturating_sub(start);
    let gap = width.min(usize::from(MAX_WIDTH)).saturating_sub(length);
    fill(b' ', gap, out);
    if !left
        && gap > 0
        && let Some(tail) = out.get_mut(start..)
    {
        tail.rotate_right(gap);
    }
}

/// `0x` and the number.
pub(super) fn hex(value: u64, out: &mut Vec<u8>) {
    let style = Style { prefix: true, ..Style::default() };
    number(value, Conversion::Hex, style, 0, None, out);
}

/// An unsigned decimal number.
pub(super) fn decimal(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[inline]
fn fill(byte: u8, count: usize, out: &mut Vec<u8>) {
    if count > 0 {
        out.resize(out.len() + count, byte);
    }
}
