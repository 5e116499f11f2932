//! The head of an HTTP request: read within a time and a size, and taken only if it is written as browsers write it.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Instant;

/// A head may not be longer.
pub(super) const MAX_HEAD: usize = 16 << 10;

/// What came in.
pub(super) enum Head {
    /// The bytes before the empty line.
    Whole(Vec<u8>),
    /// More than [`MAX_HEAD`] bytes without an empty line.
    TooLong,
    /// The other side has nothing to say.
    Silent,
}

/// What of a request matters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) target: &'a str,
    pub(super) host: &'a str,
    pub(super) origin: Option<&'a str>,
}

/// Reads up to the empty line. All of it has to arrive before `deadline`, however it is cut into pieces.
pub(super) fn read(stream: &mut TcpStream, deadline: Instant) -> io::Result<Head> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Head::Silent);
        }
        stream.set_read_timeout(Some(left))?;
        let got = match stream.read(&mut buffer) {
            Ok(0) => return Ok(Head::Silent),
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        // The empty line may stand across two pieces.
        let from = head.len().saturating_sub(3);
        head.extend_from_slice(buffer.get(..got).unwrap_or(&[]));
        if let Some(at) = head[from..].windows(4).position(|four| four == b"\r\n\r\n") {
            head.truncate(from + at);
            return Ok(if head.len() > MAX_HEAD { Head::TooLong } else { Head::Whole(head) });
        }
        if head.len() > MAX_HEAD {
            return Ok(Head::TooLong);
        }
    }
}

impl<'a> Request<'a> {
    /// `None` if this is no request as a browser writes it: anything that two readers could understand differently is
    /// refused.
    pub(super) fn parse(head: &'a [u8]) -> Option<Self> {
        let head = std::str::from_utf8(head).ok()?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        let plain = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic());
        if words.next().is_some() || !plain(method) || !plain(target) || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
            return None;
        }
        let (mut host, mut origin) = (None, None);
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let value = value.trim_matches([' ', '\t']);
            if !plain(name) || value.chars().any(|c| c.is_control() && c != '\t') {
                return None;
            }
            let once = |slot: &mut Option<&'a str>| slot.replace(value).is_none();
            let fine = match () {
                () if name.eq_ignore_ascii_case("host") => once(&mut host),
                () if name.eq_ignore_ascii_case("origin") => once(&mut origin),
                // None of the methods has a body.
                () if name.eq_ignore_ascii_case("content-length") => value == "0",
                () => !name.eq_ignore_ascii_case("transfer-encoding"),
            };
            if !fine {
                return None;
            }
        }
        Some(Self { method, target, host: host?, origin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browsers_request() {
        let head = b"GET /a/b HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nACCEPT: */*\r\norigin:\thttps://ui.perfetto.dev ";
        let origin = Some("https://ui.perfetto.dev");
        let expected = Request { method: "GET", target: "/a/b", host: "127.0.0.1:9001", origin };
        assert_eq!(Request::parse(head), Some(expected));
    }

    #[test]
    fn what_two_readers_could_understand_differently() {
        for wrong in [
            "",
            "GET",
            "GET /",
            "GET / HTTP/1.1",
            "GET  / HTTP/1.1\r\nHost: h",
            "GET / HTTP/1.1 \r\nHost: h",
            "GET / HTTP/2\r\nHost: h",
            "GET /\t HTTP/1.1\r\nHost: h",
            "GET /\u{e9} HTTP/1.1\r\nHost: h",
            " / HTTP/1.1\r\nHost: h",
            "GET / HTTP/1.1\nHost: h",
            "GET / HTTP/1.1\r\nHost: h\r\nHost: h",
            "GET / HTTP/1.1\r\nHost: h\r\nOrigin: a\r\nORIGIN: a",
            "GET / HTTP/1.1\r\nHost: h\r\n folded",
            "GET / HTTP/1.1\r\nHost : h",
            "GET / HTTP/1.1\r\nHost: h\r\nno colon",
            "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb",
            "GET / HTTP/1.1\r\nHost: h\r\nX: a\nb",
            "GET / HTTP/1.1\r\nHost: h\0",
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5",
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +0",
            "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked",
        ] {
            assert_eq!(Request::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
        assert_eq!(Request::parse(b"GET / HTTP/1.1\r\nHost: h\r\nX: \xff"), None);
    }
}
