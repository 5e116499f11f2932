//! Where bytes come from: a file, or memory (an unpacked archive member, a decompressed section).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use super::Endian;
use super::bytes::{Cursor, u32_from, u64_from};
use super::limits::{Limit, Limits};
use crate::error::{Error, Result};

/// Bytes that can be read at any offset by several threads at once.
pub trait ReadAt: Send + Sync {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` where fewer bytes are there; whatever the operating system says.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A regular file, read with `pread`: a file that is cut short meanwhile is an error, not a signal.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    len: u64,
}

impl FileSource {
    /// Opens `path` for reading.
    ///
    /// # Errors
    /// Where the operating system refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|error| Error::io(path, "open", error))?;
        let metadata = file.metadata().map_err(|error| Error::io(path, "look at", error))?;
        Ok(Self { file, len: metadata.len() })
    }
}

impl ReadAt for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let bytes = start.and_then(|start| self.get(start..start.checked_add(buffer.len())?));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        ReadAt::len(self.as_slice())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buffer, offset)
    }
}

impl ReadAt for Arc<[u8]> {
    fn len(&self) -> u64 {
        ReadAt::len(&**self)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }
}

/// Reads a [`ReadAt`] front to back.
#[derive(Clone)]
pub(crate) struct SourceReader {
    source: Arc<dyn ReadAt>,
    at: u64,
    end: u64,
}

impl SourceReader {
    pub(crate) fn new(source: Arc<dyn ReadAt>) -> Self {
        Self::within(source, 0, u64::MAX)
    }

    /// Reads bytes `start..end`, clipped to what is there.
    pub(crate) fn within(source: Arc<dyn ReadAt>, start: u64, end: u64) -> Self {
        let end = end.min(source.len());
        Self { source, at: start, end }
    }
}

impl Read for SourceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_sub(self.at);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..count) else { return Ok(0) };
        self.source.read_exact_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for SourceReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// How much a [`Reader`] fetches at once.
const WINDOW: u64 = 64 << 10;

/// Reads metadata front to back from a [`ReadAt`], fetching 64 KiB at a time, never beyond its end.
pub struct Reader<'a> {
    source: &'a dyn ReadAt,
    endian: Endian,
    position: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Set where `source` is a decompressed section: that section's offset in the file.
    inside: Option<u64>,
}

impl<'a> Reader<'a> {
    /// Reads bytes `start..end` of a file, clipped to what is there.
    pub fn new(source: &'a dyn ReadAt, start: u64, end: u64, endian: Endian) -> Self {
        let end = end.min(source.len());
        Self { source, endian, position: start, end, window: Vec::new(), window_at: 0, inside: None }
    }

    /// Reads decompressed bytes; errors name the offset of their compressed `section`.
    pub fn inside(bytes: &'a dyn ReadAt, section: u64, endian: Endian) -> Self {
        Self { inside: Some(section), ..Self::new(bytes, 0, bytes.len(), endian) }
    }

    /// The offset of the next byte.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on reading at `position`.
    pub fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// How many bytes have not been read.
    pub fn left(&self) -> u64 {
        self.end.saturating_sub(self.position)
    }

    /// Sets the byte order of the numbers to come.
    pub fn set_endian(&mut self, endian: Endian) {
        self.endian = endian;
    }

    /// The byte order.
    pub fn endian(&self) -> Endian {
        self.endian
    }

    /// A format error at the current position.
    pub fn error(&self, message: impl Into<String>) -> Error {
        self.place(Error::format(self.describe(message.into())))
    }

    fn describe(&self, message: String) -> String {
        match self.inside {
            Some(_) => format!("{message} (byte {:#x} of this section after decompression)", self.position),
            None => message,
        }
    }

    fn place(&self, error: Error) -> Error {
        error.at(self.inside.unwrap_or(self.position))
    }

    fn need(&self, count: u64, what: &str) -> Result<()> {
        if count <= self.left() {
            return Ok(());
        }
        Err(self.error(format!("{what} needs {count} bytes, only {} are left", self.left())))
    }

    fn fetch(&self, buffer: &mut [u8], what: &str) -> Result<()> {
        self.source.read_exact_at(buffer, self.position).map_err(|error| {
            let kind = crate::error::ErrorKind::Io;
            self.place(Error::new(kind, self.describe(format!("cannot read {what}: {error}"))))
        })
    }

    /// Up to `count` bytes, without going on; fewer only at the end.
    fn peek(&mut self, count: u64, what: &str) -> Result<&[u8]> {
        let count = count.min(self.left());
        let behind = self
            .position
            .checked_sub(self.window_at)
            .filter(|&behind| behind.checked_add(count).is_some_and(|end| end <= self.window.len() as u64));
        let start = match behind {
            Some(behind) => behind as usize,
            None => {
                let mut window = std::mem::take(&mut self.window);
                window.resize(self.left().min(WINDOW.max(count)) as usize, 0);
                self.fetch(&mut window, what)?;
                self.window = window;
                self.window_at = self.position;
                0
            }
        };
        Ok(self.window.get(start..start + count as usize).unwrap_or(&[]))
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        self.need(N as u64, what)?;
        let mut array = [0; N];
        let bytes = self.peek(N as u64, what)?;
        array.copy_from_slice(bytes);
        self.position += N as u64;
        Ok(array)
    }

    /// The next byte.
    pub fn u8(&mut self, what: &str) -> Result<u8> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// The next two bytes as a number.
    pub fn u16(&mut self, what: &str) -> Result<u16> {
        self.array(what).map(|bytes| super::bytes::u16_from(self.endian, bytes))
    }

    /// The next four bytes as a number.
    pub fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(|bytes| u32_from(self.endian, bytes))
    }

    /// The next eight bytes as a number.
    pub fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(|bytes| u64_from(self.endian, bytes))
    }

    /// The next `count` bytes, at most `limit`; nothing is allocated before both are checked.
    pub fn take(&mut self, count: u64, limit: u64, what: &str) -> Result<Vec<u8>> {
        self.need(count, what)?;
        if count > limit {
            let message = self.describe(format!("{what} has {count} bytes, more than the limit of {limit}"));
            return Err(self.place(Error::new(crate::error::ErrorKind::Limit, message)));
        }
        self.taken(count, what)
    }

    /// The next `count` bytes, at most as many as a limit that the user can raise.
    pub fn take_limited(&mut self, count: u64, limits: &Limits, limit: Limit, what: &str) -> Result<Vec<u8>> {
        self.need(count, what)?;
        let most = limits.get(limit);
        if count > most {
            let message = self.describe(format!("{what} has {count} bytes, more than the limit of {most}"));
            return Err(self.place(limit.exceeded(message)));
        }
        self.taken(count, what)
    }

    fn taken(&mut self, count: u64, what: &str) -> Result<Vec<u8>> {
        let bytes = if count <= WINDOW {
            self.peek(count, what)?.to_vec()
        } else {
            let mut bytes = vec![0; count as usize];
            self.fetch(&mut bytes, what)?;
            bytes
        };
        self.position += count;
        Ok(bytes)
    }

    /// Steps over `count` bytes.
    pub fn skip(&mut self, count: u64, what: &str) -> Result<()> {
        self.need(count, what)?;
        self.position += count;
        Ok(())
    }

    /// The bytes up to the next NUL, which is read too; at most `limit` bytes.
    pub fn cstr(&mut self, limit: u64, what: &str) -> Result<Vec<u8>> {
        let bytes = self.peek(limit.saturating_add(1), what)?;
        let Some(text) = Cursor::new(bytes, 0, Endian::Little).cstr(what).ok().map(<[u8]>::to_vec) else {
            return Err(self.error(format!("{what} does not end within {limit} bytes")));
        };
        self.position += text.len() as u64 + 1;
        Ok(text)
    }

    /// Reads `expected`, or fails.
    pub fn expect(&mut self, expected: &[u8], what: &str) -> Result<()> {
        let found = self.peek(expected.len() as u64, what)?.to_vec();
        if found != expected {
            let [found, expected] = [&found[..], expected].map(<[u8]>::escape_ascii);
            return Err(self.error(format!("expected {what} \"{expected}\", found \"{found}\"")));
        }
        self.position += expected.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_stays_within_its_bounds() {
        let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
        let mut reader = Reader::new(&bytes, 10, 150_000, Endian::Big);
        assert_eq!(reader.u16("a").unwrap(), 0x0a0b);
        assert_eq!(reader.take(100_000, 1 << 20, "b").unwrap(), &bytes[12..100_012]);
        assert_eq!(reader.left(), 49_988);
        let error = reader.take(49_989, u64::MAX, "c").unwrap_err();
        assert_eq!(error.to_string(), "at byte 0x186ac: c needs 49989 bytes, only 49988 are left");
        assert!(reader.take(u64::MAX, u64::MAX, "c").is_err());
        assert_eq!(reader.take(20, 10, "d").unwrap_err().kind(), crate::error::ErrorKind::Limit);
        reader.skip(49_988, "e").unwrap();
        assert!(reader.u8("f").is_err());
    }

    #[test]
    fn strings_have_a_limit() {
        let bytes = b"abc\0defghijk".to_vec();
        let mut reader = Reader::new(&bytes, 0, u64::MAX, Endian::Little);
        assert_eq!(reader.cstr(3, "name").unwrap(), b"abc");
        assert!(reader.cstr(3, "name").is_err());
        reader.expect(b"def", "mark").unwrap();
        let error = reader.expect(b"xyz", "mark").unwrap_err();
        assert_eq!(error.to_string(), "at byte 0x7: expected mark \"xyz\", found \"ghi\"");
    }

    #[test]
    fn memory_reads_are_checked() {
        let bytes: Arc<[u8]> = Arc::from(&b"0123456789"[..]);
        let mut two = [0; 2];
        bytes.read_exact_at(&mut two, 8).unwrap();
        assert_eq!(&two, b"89");
        assert!(bytes.read_exact_at(&mut two, 9).is_err());
        assert!(bytes.read_exact_at(&mut two, u64::MAX).is_err());
    }
}
