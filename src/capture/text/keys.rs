//! `key=value` texts of events that have no pattern of their own.

use super::number::Number;

/// Most keys of a text.
pub(super) const MAX_KEYS: usize = 32;

/// A key and its value in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// Splits `key=value key=value …`, or `key: value, key: value` as system calls are written, into `list`. False, where
/// the text is not made of these.
///
/// A value reaches to the next key, so that it may hold spaces (`comm=CPU 0/KVM pid=204`). Words before the first key
/// belong to it (`work struct=…` is `work_struct`), which is left to who names the field.
pub(super) fn split<'a>(text: &'a [u8], list: &mut Vec<Pair<'a>>) -> bool {
    list.clear();
    let mark = if text.contains(&b'=') { b'=' } else { b':' };
    let mut from = 0;
    // Start of the key whose value comes next, its end, and the start of the value.
    let mut open: Option<(usize, usize, usize)> = None;
    loop {
        let next = next_key(text, from, mark, open.is_none());
        if let Some((start, end, value)) = open {
            let stop = next.map_or(text.len(), |(start, _)| start);
            let value = text.get(value..stop).unwrap_or(&[]).trim_ascii();
            let value = if next.is_some() { value.strip_suffix(b",").unwrap_or(value) } else { value };
            list.push(Pair { key: text.get(start..end).unwrap_or(&[]), value });
        }
        let Some((start, end)) = next else { break };
        if list.len() >= MAX_KEYS {
            return false;
        }
        open = Some((start, end, end + 1));
        from = end + 1;
    }
    !list.is_empty()
}

/// Start and end of the next key: a name right before `mark`, behind a space or bracket. The first one must begin the
/// text, except for up to two words in front.
fn next_key(text: &[u8], mut from: usize, mark: u8, first: bool) -> Option<(usize, usize)> {
    loop {
        let end = from + text.get(from..)?.iter().position(|&byte| byte == mark)?;
        let before = text.get(..end)?;
        let start = before.iter().rposition(|&byte| !is_key(byte)).map_or(0, |at| at + 1);
        let behind = text.get(end + 1).copied().unwrap_or(b' ');
        let proper = start < end
            && !text.get(start)?.is_ascii_digit()
            && (mark == b'=' && behind != b'=' || mark == b':' && behind == b' ');
        if proper && first {
            let words = before.get(..start)?;
            let plain = words.iter().all(|&byte| is_key(byte) || byte == b' ');
            return (plain && words.iter().filter(|&&byte| byte == b' ').count() <= 2).then_some((0, end));
        }
        if proper && start.checked_sub(1).and_then(|at| text.get(at)).is_some_and(|b| matches!(b, b' ' | b',')) {
            return Some((start, end));
        }
        from = end + 1;
    }
}

fn is_key(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// What the values of a key have been so far, over a whole file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    text: bool,
    negative: bool,
    hex: bool,
    /// A decimal number beyond the signed range.
    large: bool,
}

/// How a key's values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Unsigned,
    Signed,
    Hex,
    Text,
}

impl Seen {
    /// Of one value.
    pub(super) fn of(value: &[u8]) -> Self {
        let mut seen = Self::default();
        match Number::parse(value) {
            None => seen.text = true,
            Some(Number::Negative(_)) => seen.negative = true,
            Some(Number::Hex(_)) => seen.hex = true,
            Some(Number::Positive(value)) => seen.large = i64::try_from(value).is_err(),
        }
        seen
    }

    /// Of both.
    pub(super) fn join(self, other: Self) -> Self {
        Self {
            text: self.text || other.text,
            negative: self.negative || other.negative,
            hex: self.hex || other.hex,
            large: self.large || other.large,
        }
    }

    /// The narrowest type that holds all.
    pub(super) fn result(self) -> Type {
        match self {
            Self { text: true, .. } | Self { negative: true, large: true, .. } => Type::Text,
            Self { negative: true, .. } => Type::Signed,
            Self { hex: true, .. } => Type::Hex,
            _ => Type::Unsigned,
        }
    }
}
