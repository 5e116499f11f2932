//! What programs write into the trace themselves (`trace_marker`, `trace_printk`): in the format of Android's atrace, or
//! as plain text.
//!
//! | text | is |
//! |---|---|
//! | `B\|pid\|name`, `E` or `E\|pid` | a slice of the thread that writes |
//! | `C\|pid\|name\|value` | a counter's new value |
//! | `S\|pid\|name\|cookie`, `F\|pid\|name\|cookie` | a slice that may overlap others, of any thread |
//! | `G\|pid\|track\|name\|cookie`, `H\|pid\|track\|cookie` | likewise, on a track with a name of its own |
//! | `I\|pid\|name`, `N\|pid\|track\|name` | a moment |
//!
//! Everything else is a text that names a moment.

/// What a text says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Marker<'a> {
    /// A slice of the writing thread begins.
    Begin(&'a [u8]),
    /// It ends.
    End,
    /// A counter of a process has a new value.
    Counter { pid: i32, name: &'a [u8], value: f64 },
    /// A slice of a process begins that may overlap others.
    Start { pid: i32, track: &'a [u8], name: &'a [u8], cookie: u64 },
    /// It ends.
    Finish { pid: i32, track: &'a [u8], cookie: u64 },
    /// A moment with a name.
    Instant(&'a [u8]),
}

impl<'a> Marker<'a> {
    /// Understands a text.
    pub(super) fn parse(text: &'a [u8]) -> Self {
        let text = text.trim_ascii_end();
        Self::atrace(text).unwrap_or(Self::Instant(text))
    }

    fn atrace(text: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = text.split_first()?;
        if kind == b'E' && (rest.is_empty() || rest.strip_prefix(b"|").is_some_and(|pid| number(pid).is_some())) {
            return Some(Self::End);
        }
        let (pid, rest) = cut(rest.strip_prefix(b"|")?)?;
        let pid = number(pid).and_then(|pid| i32::try_from(pid).ok())?;
        Some(match kind {
            b'B' => Self::Begin(some(rest)?),
            b'I' => Self::Instant(some(rest)?),
            b'N' => Self::Instant(some(cut(rest)?.1)?),
            b'C' => {
                let (name, value) = cut_last(rest)?;
                let value: f64 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
                Self::Counter { pid, name: some(name)?, value: Some(value).filter(|value| value.is_finite())? }
            }
            b'S' => {
                let (name, cookie) = cut_last(rest)?;
                Self::Start { pid, track: some(name)?, name, cookie: number(cookie)? as u64 }
            }
            b'F' => {
                let (name, cookie) = cut_last(rest)?;
                Self::Finish { pid, track: some(name)?, cookie: number(cookie)? as u64 }
            }
            b'G' => {
                let (track, rest) = cut(rest)?;
                let (name, cookie) = cut_last(rest)?;
                Self::Start { pid, track: some(track)?, name: some(name)?, cookie: number(cookie)? as u64 }
            }
            b'H' => {
                let (track, rest) = cut(rest)?;
                // Some writers repeat the name before the cookie.
                let cookie = cut_last(rest).map_or(rest, |(_, cookie)| cookie);
                Self::Finish { pid, track: some(track)?, cookie: number(cookie)? as u64 }
            }
            _ => return None,
        })
    }
}

/// The text, unless it is empty.
fn some(text: &[u8]) -> Option<&[u8]> {
    Some(text).filter(|text| !text.is_empty())
}

fn cut(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == b'|')?;
    Some((&text[..at], &text[at + 1..]))
}

fn cut_last(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().rposition(|&byte| byte == b'|')?;
    Some((&text[..at], &text[at + 1..]))
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atrace_is_understood() {
        let parse = |text: &'static str| Marker::parse(text.as_bytes());
        assert_eq!(parse("B|199|request 1\n"), Marker::Begin(b"request 1"));
        assert_eq!(parse("B|199|a|b"), Marker::Begin(b"a|b"));
        assert_eq!(parse("E"), Marker::End);
        assert_eq!(parse("E|199\n"), Marker::End);
        assert_eq!(parse("C|7|q|depth|-3"), Marker::Counter { pid: 7, name: b"q|depth", value: -3.0 });
        assert_eq!(parse("C|7|load|0.25"), Marker::Counter { pid: 7, name: b"load", value: 0.25 });
        assert_eq!(parse("S|7|io|9"), Marker::Start { pid: 7, track: b"io", name: b"io", cookie: 9 });
        assert_eq!(parse("F|7|io|9"), Marker::Finish { pid: 7, track: b"io", cookie: 9 });
        assert_eq!(parse("G|7|disk|read|9"), Marker::Start { pid: 7, track: b"disk", name: b"read", cookie: 9 });
        assert_eq!(parse("H|7|disk|9"), Marker::Finish { pid: 7, track: b"disk", cookie: 9 });
        assert_eq!(parse("H|7|disk|read|9"), Marker::Finish { pid: 7, track: b"disk", cookie: 9 });
        assert_eq!(parse("I|7|vsync"), Marker::Instant(b"vsync"));
        assert_eq!(parse("N|7|display|vsync"), Marker::Instant(b"vsync"));
    }

    #[test]
    fn what_is_not_quite_atrace_is_a_text() {
        for text in [
            "",
            "plain note 5",
            "B",
            "B|",
            "B|x|name",
            "B|1",
            "B|1|",
            "E|x",
            "Everything",
            "C|1|n",
            "C|1|n|",
            "C|1|n|x",
            "C|1||5",
            "C|1|n|inf",
            "C|1|n|NaN",
            "S|1|n",
            "S|1|n|x",
            "S|99999999999|n|1",
            "G|1|t|1",
            "H|1|t",
            "N|1|t",
            "X|1|n",
        ] {
            assert_eq!(Marker::parse(text.as_bytes()), Marker::Instant(text.as_bytes()), "{text}");
        }
        assert_eq!(Marker::parse(b"B|1|\xff"), Marker::Begin(b"\xff"));
    }
}
