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

    /// Reads a chunk into `buffer`.
    pub(super) fn read<'b>(&self, index: usize, buffer: &'b mut Vec<u8>) -> Result<Lines<'b>> {
        let len = self.source.len();
        let start = (index as u64).saturating_mul(self.chunk).min(len);
        let limit = start.saturating_add(self.chunk).min(len);
        // The byte before tells whether a line starts right here.
        let from = start.saturating_sub(1);
        let to = limit.saturating_add(MAX_LINE).min(len);
        buffer.resize((to - from) as usize, 0);
        self.source.read_exact_at(buffer, from).map_err(|error| Error::io(&*self.path, "read", error).at(from))?;
        let mut lines = Lines { bytes: buffer, base: from, at: 0, limit };
        if start > 0 {
            lines.skip_line();
        }
        Ok(lines)
    }
}

/// The lines that start in a chunk, with their byte offsets in the file.
pub(super) struct Lines<'a> {
    bytes: &'a [u8],
    base: u64,
    at: usize,
    limit: u64,
}

impl<'a> Lines<'a> {
    /// Goes behind the next line end.
    fn skip_line(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        self.at = rest.iter().position(|&byte| byte == b'\n').map_or(self.bytes.len(), |end| self.at + end + 1);
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.base + self.at as u64;
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty() && offset < self.limit)?;
        let line = match rest.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                self.at += end + 1;
                rest.get(..end)?
            }
            None => {
                self.at = self.bytes.len();
                // The last line of the file; or one that is too long, and is cut.
                rest
            }
        };
        Some((offset, line.strip_suffix(b"\r").unwrap_or(line)))
    }
}
