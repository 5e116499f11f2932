//! A text file in chunks of whole lines.

use std::path::Path;
use std::sync::Arc;

use crate::capture::source::ReadAt;
use crate::error::{Error, Result};

/// A text file.
#[derive(Clone)]
pub(super) struct TextFile {
    pub(super) source: Arc<dyn ReadAt>,
    pub(super) path: Arc<Path>,
    /// Bytes of a chunk. A line belongs to the chunk in which it starts.
    pub(super) chunk: u64,
}

/// Bytes of a chunk.
pub(super) const CHUNK: u64 = 256 << 10;
/// Longest line. The kernel writes none of more than 8 KiB.
const MAX_LINE: u64 = 16 << 10;

impl TextFile {
    /// How many chunks there are.
    pub(super) fn chunks(&self) -> usize {
        usize::try_from(self.source.len().div_ceil(self.chunk)).unwrap_or(usize::MAX)
    }

    /// Reads a chunk into `buffer`, with what its last line may need more. Where the chunk starts in it: behind the
    /// byte before, which tells whether a line starts right here.
    pub(super) fn fetch(&self, index: usize, buffer: &mut Vec<u8>) -> Result<usize> {
        let len = self.source.len();
        let start = (index as u64).saturating_mul(self.chunk).min(len);
        let from = start.saturating_sub(1);
        let to = start.saturating_add(self.chunk).saturating_add(MAX_LINE).min(len);
        buffer.resize((to - from) as usize, 0);
        self.source.read_exact_at(buffer, from).map_err(|error| Error::io(&*self.path, "read", error).at(from))?;
        Ok((start - from) as usize)
    }

    /// The lines of a chunk.
    pub(super) fn read<'b>(&self, index: usize, buffer: &'b mut Vec<u8>) -> Result<Lines<'b>> {
        let start = self.fetch(index, buffer)?;
        let limit = usize::try_from(self.chunk).unwrap_or(usize::MAX).saturating_add(start);
        let mut lines = Lines { bytes: buffer, start, at: 0, limit };
        if index > 0 {
            lines.at += first_line(lines.bytes).len() + 1;
        }
        Ok(lines)
    }
}

/// The bytes before the next line end.
pub(super) fn first_line(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or(bytes)
}

/// The lines that start in a chunk, with their offsets from its start. One that is too long is cut.
pub(super) struct Lines<'a> {
    bytes: &'a [u8],
    /// Where the chunk starts in `bytes`.
    start: usize,
    at: usize,
    /// Where it ends.
    limit: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = self.bytes.get(at..).filter(|rest| !rest.is_empty() && at < self.limit)?;
        let line = first_line(rest);
        self.at = at + line.len() + 1;
        Some(((at - self.start) as u32, line))
    }
}
