//! Patterns for the texts of known events: literal text with `{name:kind}` between.

use super::number::{self, Number};

/// How a field is written in the text, and kept in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `d`: a decimal number of 32 bits with sign.
    S32,
    /// `u`: a decimal number of 32 bits.
    U32,
    /// `q`: a decimal number of 64 bits with sign.
    S64,
    /// `U`: a decimal number of 64 bits.
    U64,
    /// `x`: a hexadecimal number, with or without `0x`.
    Hex,
    /// `X`: the same of 32 bits.
    Hex32,
    /// `a`: six hexadecimal numbers, the arguments of a system call.
    Arguments,
    /// `w`: text without spaces.
    Word,
    /// `t`: any text, up to where what follows fits.
    Text,
    /// `m`: the rest of the line.
    More,
}

/// Most fields of a pattern.
pub(super) const MAX_FIELDS: usize = 12;

/// Where the fields of a pattern stand in a text.
pub(super) type Captures = [(u32, u32); MAX_FIELDS];

#[derive(Clone, Copy, Debug)]
enum Piece {
    Literal(&'static str),
    Field(Kind),
}

/// A pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) system: &'static str,
    pub(super) fields: Vec<(&'static str, Kind)>,
    /// A print format that says more than the one made from the pattern.
    pub(super) print: Option<&'static str>,
    pieces: Vec<Piece>,
}

impl Pattern {
    /// Reads the notation. A brace without `name:kind}` behind it is literal text.
    pub(super) fn new(system: &'static str, text: &'static str) -> Self {
        let (mut fields, mut pieces) = (Vec::new(), Vec::new());
        let mut rest = text;
        let mut from = 0;
        while let Some(open) = rest.get(from..).and_then(|rest| rest.find('{')).map(|open| from + open) {
            let Some((name, kind, behind)) = rest.get(open + 1..).and_then(field) else {
                from = open + 1;
                continue;
            };
            if let Some(literal) = rest.get(..open).filter(|literal| !literal.is_empty()) {
                pieces.push(Piece::Literal(literal));
            }
            fields.push((name, kind));
            pieces.push(Piece::Field(kind));
            (rest, from) = (behind, 0);
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest));
        }
        Self { system, fields, print: None, pieces }
    }

    /// The fields in a text that fits as a whole.
    pub(super) fn find(&self, text: &[u8]) -> Option<Captures> {
        let mut captures = [(0, 0); MAX_FIELDS];
        let mut tries = 256;
        step(&self.pieces, text, 0, 0, &mut captures, &mut tries).then_some(captures)
    }

    /// A print format that writes the text again.
    pub(super) fn print_format(&self) -> String {
        let mut format = String::new();
        let mut arguments = String::new();
        let mut fields = self.fields.iter();
        for piece in &self.pieces {
            match (piece, fields.as_slice().first()) {
                (Piece::Literal(text), _) => format.push_str(&text.replace('%', "%%").replace('"', "\\\"")),
                (Piece::Field(kind), Some((name, _))) => {
                    fields.next();
                    format.push_str(kind.conversion());
                    if *kind == Kind::Arguments {
                        (0..6).for_each(|index| arguments.push_str(&format!(", REC->{name}[{index}]")));
                    } else {
                        arguments.push_str(&format!(", REC->{name}"));
                    }
                }
                (Piece::Field(_), None) => {}
            }
        }
        format!("\"{format}\"{arguments}")
    }
}

/// `name:kind}` and what follows it.
fn field(text: &'static str) -> Option<(&'static str, Kind, &'static str)> {
    let (field, behind) = text.split_once('}')?;
    let (name, kind) = field.split_once(':')?;
    if !name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
        return None;
    }
    let kind = match kind {
        "d" => Kind::S32,
        "u" => Kind::U32,
        "q" => Kind::S64,
        "U" => Kind::U64,
        "x" => Kind::Hex,
        "X" => Kind::Hex32,
        "a" => Kind::Arguments,
        "w" => Kind::Word,
        "t" => Kind::Text,
        "m" => Kind::More,
        _ => return None,
    };
    Some((name, kind, behind))
}

/// Matches `pieces` from `at` on. `tries` bounds the search for the ends of texts.
fn step(pieces: &[Piece], text: &[u8], at: usize, field: usize, captures: &mut Captures, tries: &mut u32) -> bool {
    let Some(rest) = text.get(at..) else { return false };
    let Some((piece, pieces)) = pieces.split_first() else { return rest.is_empty() };
    let kind = match piece {
        Piece::Literal(literal) => {
            return rest.starts_with(literal.as_bytes())
                && step(pieces, text, at + literal.len(), field, captures, tries);
        }
        Piece::Field(kind) => *kind,
    };
    let run = |accept: fn(u8) -> bool| rest.iter().position(|&byte| !accept(byte)).unwrap_or(rest.len());
    let mut take = |length: usize, tries: &mut u32| {
        let Some(slot) = captures.get_mut(field) else { return false };
        *slot = (at as u32, (at + length) as u32);
        step(pieces, text, at + length, field + 1, captures, tries)
    };
    match kind {
        Kind::S32 | Kind::S64 | Kind::U32 | Kind::U64 | Kind::Hex | Kind::Hex32 => {
            let length = match kind {
                Kind::Hex | Kind::Hex32 => run(|byte| byte.is_ascii_hexdigit() || byte == b'x'),
                _ => run(|byte| byte.is_ascii_digit() || byte == b'-'),
            };
            rest.get(..length).and_then(|text| kind.number(text)).is_some() && take(length, tries)
        }
        Kind::Arguments => {
            let length = run(|byte| byte.is_ascii_hexdigit() || matches!(byte, b',' | b' ' | b'x'));
            rest.get(..length).and_then(arguments).is_some() && take(length, tries)
        }
        Kind::Word => take(run(|byte| byte != b' '), tries),
        Kind::More => take(rest.len(), tries),
        Kind::Text => {
            let next = match pieces.first() {
                Some(Piece::Literal(literal)) => literal.as_bytes(),
                _ => return take(rest.len(), tries),
            };
            let mut from = 0;
            while let Some(found) = position(rest.get(from..).unwrap_or(&[]), next) {
                if *tries == 0 {
                    return false;
                }
                *tries -= 1;
                if take(from + found, tries) {
                    return true;
                }
                from += found + 1;
            }
            false
        }
    }
}

/// Where `needle` stands first.
pub(super) fn position(text: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.iter().position(|&byte| byte == first)?;
        if text.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
}

impl Kind {
    /// Size in the record and C declaration before and behind the name.
    pub(super) fn declaration(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::S32 => (4, "int ", ""),
            Self::U32 | Self::Hex32 => (4, "unsigned int ", ""),
            Self::S64 => (8, "s64 ", ""),
            Self::U64 | Self::Hex => (8, "u64 ", ""),
            Self::Arguments => (48, "unsigned long ", "[6]"),
            Self::Word | Self::Text | Self::More => (4, "__data_loc char[] ", ""),
        }
    }

    /// The conversion that writes it as the kernel does, mostly.
    pub(super) fn conversion(self) -> &'static str {
        match self {
            Self::S32 => "%d",
            Self::U32 => "%u",
            Self::S64 => "%lld",
            Self::U64 => "%llu",
            Self::Hex => "0x%llx",
            Self::Hex32 => "0x%x",
            Self::Arguments => "%lx, %lx, %lx, %lx, %lx, %lx",
            Self::Word | Self::Text | Self::More => "%s",
        }
    }

    /// The number that the text means, in 64 bits; `None` if it is none, or does not fit into the field.
    pub(super) fn number(self, text: &[u8]) -> Option<u64> {
        let decimal = || Number::parse(text).filter(|number| !matches!(number, Number::Hex(_)));
        let hex = || number::hexadecimal(text.strip_prefix(b"0x").unwrap_or(text));
        match self {
            Self::Hex => hex(),
            Self::Hex32 => hex().filter(|&value| u32::try_from(value).is_ok()),
            Self::U64 => decimal().filter(|number| matches!(number, Number::Positive(_))).map(Number::value),
            Self::U32 => decimal()?.value().try_into().ok().map(|value: u32| u64::from(value)),
            Self::S64 => decimal().map(Number::value),
            Self::S32 => decimal().map(Number::value).filter(|&value| i32::try_from(value as i64).is_ok()),
            _ => None,
        }
    }
}

/// Six hexadecimal numbers with commas between.
pub(super) fn arguments(text: &[u8]) -> Option<[u64; 6]> {
    let mut values = [0; 6];
    let mut words = text.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    for value in &mut values {
        let word = words.next()?;
        *value = number::hexadecimal(word.strip_prefix(b"0x").unwrap_or(word))?;
    }
    words.next().is_none().then_some(values)
}
