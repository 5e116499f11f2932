//! Tokens of the C expressions behind a print format.

use super::ctype::Int;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// Identifier or keyword.
    Word(&'a str),
    /// Integer or character literal with the type that C gives it.
    Number(u64, Int),
    /// String literal, escapes resolved. Text of other encodings passes unchanged.
    Text(Vec<u8>),
    /// Operator or bracket.
    Mark(&'a str),
}

/// More tokens than any print format has: those of the memory events with all their flags have about 10,000.
const MAX_TOKENS: usize = 100_000;

/// Operators and brackets, longest first.
const MARKS: [&str; 35] = [
    "...", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "->", "(", ")", "{", "}", "[", "]", ",", "?", ":", "+", "-",
    "*", "/", "%", "&", "|", "^", "~", "!", "<", ">", "=", ".", ";", "#",
];

/// Splits `text` into tokens; `None` where it is no C.
pub(super) fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
    let bytes = text.as_bytes();
    let mut list = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        if list.len() >= MAX_TOKENS {
            return None;
        }
        let run = |from: usize| {
            let rest = bytes.get(from..).unwrap_or(&[]);
            from + rest.iter().position(|b| *b != b'_' && !b.is_ascii_alphanumeric()).unwrap_or(rest.len())
        };
        if byte == b'_' || byte.is_ascii_alphabetic() {
            let end = run(at);
            list.push(Token::Word(text.get(at..end)?));
            at = end;
        } else if byte.is_ascii_digit() {
            let end = run(at);
            let (value, int) = number(text.get(at..end)?)?;
            list.push(Token::Number(value, int));
            at = end;
        } else if byte == b'"' {
            let (value, end) = quoted(bytes, at + 1, b'"')?;
            list.push(Token::Text(value));
            at = end;
        } else if byte == b'\'' {
            let (value, end) = quoted(bytes, at + 1, b'\'')?;
            let [one] = value.as_slice() else { return None };
            list.push(Token::Number(i64::from(*one as i8) as u64, Int::I32));
            at = end;
        } else {
            let rest = text.get(at..)?;
            let mark = MARKS.iter().find(|mark| rest.starts_with(**mark))?;
            list.push(Token::Mark(mark));
            at += mark.len();
        }
    }
    Some(list)
}

/// An integer literal: decimal, hexadecimal, octal or binary, with any suffix of `u` and `l`.
fn number(word: &str) -> Option<(u64, Int)> {
    let digits = word.trim_end_matches(['u', 'U', 'l', 'L']);
    let suffix = word.get(digits.len()..)?;
    let unsigned = suffix.contains(['u', 'U']);
    let long = suffix.contains(['l', 'L']);
    let lower = digits.to_ascii_lowercase();
    let (value, decimal) = if let Some(hex) = lower.strip_prefix("0x") {
        (u64::from_str_radix(hex, 16).ok()?, false)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (u64::from_str_radix(binary, 2).ok()?, false)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (u64::from_str_radix(&lower, 8).ok()?, false)
    } else {
        (lower.parse().ok()?, true)
    };
    let fits = |int: &&Int| {
        let limit = if int.signed { (1_u64 << (int.bits - 1)) - 1 } else { u64::MAX >> (64 - int.bits) };
        value <= limit
            && !(unsigned && int.signed)
            && !(long && int.bits < 64)
            && !(decimal && !unsigned && !int.signed)
    };
    let int = [Int::I32, Int::U32, Int::I64, Int::U64].iter().find(fits).copied().unwrap_or(Int::U64);
    Some((value, int))
}

/// A literal from behind its opening quote on: the bytes it means, and the offset behind the closing quote.
fn quoted(bytes: &[u8], mut at: usize, quote: u8) -> Option<(Vec<u8>, usize)> {
    let mut value = Vec::new();
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        if byte == quote {
            return Some((value, at));
        }
        if byte != b'\\' {
            value.push(byte);
            continue;
        }
        let escape = *bytes.get(at)?;
        at += 1;
        value.push(match escape {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'v' => 11,
            b'e' => 27,
            b'0'..=b'7' => {
                let mut code = u32::from(escape - b'0');
                for _ in 0..2 {
                    let Some(digit @ b'0'..=b'7') = bytes.get(at) else { break };
                    code = code * 8 + u32::from(digit - b'0');
                    at += 1;
                }
                code as u8
            }
            b'x' => {
                let mut code = 0_u32;
                while let Some(digit) = bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16)) {
                    code = (code << 4 | digit) & 0xff;
                    at += 1;
                }
                code as u8
            }
            other => other,
        });
    }
}

/// The offset of the token behind the one that closes the bracket open before `at`, or the end.
pub(super) fn skip_to_close(tokens: &[Token<'_>], mut at: usize) -> usize {
    let mut depth = 1_u32;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            Token::Mark("(" | "[" | "{") => depth += 1,
            Token::Mark(")" | "]" | "}") => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            _ => {}
        }
    }
    at
}
