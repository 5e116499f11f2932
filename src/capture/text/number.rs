//! Numbers in the texts of events.

use super::line::decimal;

/// A number as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// Decimal, not negative.
    Positive(u64),
    /// Decimal, negative.
    Negative(i64),
    /// Hexadecimal.
    Hex(u64),
}

impl Number {
    /// A whole text that is a number: decimal, `0x…`, or 16 hexadecimal digits as addresses are written; a unit in
    /// square brackets may follow (`1946217 [ns]`).
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = match text.strip_suffix(b"]").and_then(|inner| {
            let open = inner.iter().rposition(|&byte| byte == b'[')?;
            inner.get(..open)?.strip_suffix(b" ")
        }) {
            Some(number) => number,
            None => text,
        };
        if let Some(hex) = text.strip_prefix(b"0x") {
            return hexadecimal(hex).map(Self::Hex);
        }
        if let Some(negative) = text.strip_prefix(b"-") {
            let magnitude = decimal(negative).filter(|&magnitude| magnitude <= 1 << 63)?;
            return Some(Self::Negative((magnitude as i64).wrapping_neg()));
        }
        if text.len() == 16 && text.first().is_some_and(|byte| *byte == b'0' || byte.is_ascii_alphabetic()) {
            return hexadecimal(text).map(Self::Hex);
        }
        decimal(text).map(Self::Positive)
    }

    /// The value in 64 bits.
    pub(super) fn value(self) -> u64 {
        match self {
            Self::Positive(value) | Self::Hex(value) => value,
            Self::Negative(value) => value as u64,
        }
    }
}

/// 1 to 16 hexadecimal digits.
pub(super) fn hexadecimal(text: &[u8]) -> Option<u64> {
    if !(1..=16).contains(&text.len()) {
        return None;
    }
    text.iter().try_fold(0, |value, byte| Some(value << 4 | u64::from(char::from(*byte).to_digit(16)?)))
}
