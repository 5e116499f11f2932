//! Text on its way to a person.
//!
//! Names in a capture are anybody's: tasks, VMs, events, fields, files, markers. A terminal obeys control characters, so
//! none reaches it: neither those of ASCII, nor those above it (U+009B alone begins an escape sequence), nor the marks that
//! turn the direction of what follows. What stands in one line stays in one line. What is shown instead can be read:
//! `\u{1b}`, and `\xff` for a byte that is no UTF-8.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Serialize, Serializer};

/// Whether a character acts instead of being shown.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !acts(c) || keep(c) { out.push(c) } else { out.extend(c.escape_default()) }
    }
    out
}

/// Text of several lines, which ours alone may end.
pub(crate) fn lines(text: &str) -> String {
    escaped(text, |c| c == '\n')
}

/// A name, or a sentence that holds names: one line, whatever they are.
pub(crate) fn line(text: &str) -> String {
    escaped(text, |_| false)
}

/// [`line()`] of what a string holds.
pub(crate) fn tidy(text: &mut String) {
    if text.chars().any(acts) {
        *text = line(text);
    }
}

/// A JSON document of ours: inside its strings, JSON's own escapes for what JSON would let through.
pub(crate) fn json(text: String) -> String {
    if !text.chars().any(|c| c != '\n' && acts(c)) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if c != '\n' && acts(c) {
            // All of them are in the basic plane.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// The same for what was written as bytes.
pub(crate) fn json_bytes(text: &mut Vec<u8>) {
    if text.iter().any(|byte| *byte >= 0x7f)
        && let Ok(owned) = String::from_utf8(std::mem::take(text)).map(json)
    {
        *text = owned.into_bytes();
    }
}

/// A path in a document: JSON has no bytes, and a name that is no UTF-8 must not cost the document.
pub(crate) fn lossy<S: Serializer>(path: impl AsRef<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().to_string_lossy().serialize(serializer)
}

/// The same where there may be none.
pub(crate) fn lossy_option<S: Serializer>(path: &Option<&Path>, serializer: S) -> Result<S::Ok, S::Error> {
    path.map(Path::to_string_lossy).serialize(serializer)
}

/// Makes one line of the bytes behind `start`.
pub(crate) fn tidy_bytes(out: &mut Vec<u8>, start: usize) {
    let Some(text) = out.get(start..) else { return };
    if text.iter().all(|b| matches!(b, b' '..=b'~')) {
        return;
    }
    let text = out.split_off(start);
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.extend_from_slice(b"\\n"),
                '\t' => out.push(b' '),
                '\0'..='\x1f' | '\x7f' => out.extend_from_slice(format!("\\x{:02x}", u32::from(c)).as_bytes()),
                c if acts(c) => out.extend(c.escape_default().flat_map(|c| u8::try_from(c).ok())),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_acts_is_shown() {
        assert_eq!(lines("a\n\x1b[31mb\u{9b}c\r\u{202e}d é"), "a\n\\u{1b}[31mb\\u{9b}c\\r\\u{202e}d é");
        assert_eq!(line("a\nb"), "a\\nb");
        assert_eq!(json("{\n \"\u{7f}\u{9b}\u{2066}é\"}".to_owned()), "{\n \"\\u007f\\u009b\\u2066é\"}");
        let mut out = b"kept\n".to_vec();
        let start = out.len();
        out.extend_from_slice(b"a\nb\x1b[31m\xc2\x9bc\xff\xc3\xa9");
        tidy_bytes(&mut out, start);
        assert_eq!(out, "kept\na\\nb\\x1b[31m\\u{9b}c\\xffé".as_bytes());
    }

    proptest! {
        #[test]
        fn nothing_acts(text in ".*", bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(!line(&text).chars().any(acts));
            prop_assert!(!lines(&text).chars().any(|c| c != '\n' && acts(c)));
            let mut out = bytes;
            tidy_bytes(&mut out, 0);
            let text = String::from_utf8(out);
            prop_assert!(text.is_ok_and(|text| !text.chars().any(acts)));
        }

        #[test]
        fn json_means_the_same(text in "\\PC*[\u{7f}-\u{a0}\u{2028}-\u{202f}]*\\PC*") {
            let written = serde_json::to_string(&text).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<String>(&json(written)).expect("JSON"), text);
        }
    }
}
