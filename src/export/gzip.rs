//! Gzip in pieces: each piece is a member of its own, which readers put together (RFC 1952, section 2.2), so that pieces
//! can be compressed on any thread.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Fast enough that compressing is not what one waits for: perhaps a tenth larger than the default level.
const LEVEL: u32 = 3;

/// One member that holds `bytes`. The same bytes give the same member.
pub fn member(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4 + 32), Compression::new(LEVEL));
    // Writing to memory cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn members_one_after_the_other_are_one_file() {
        let file = [member(b"one, "), member(b""), member(b"two")].concat();
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(&file[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one, two");
    }
}
