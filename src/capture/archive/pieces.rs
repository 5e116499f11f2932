//! What is unpacked piece by piece inside a capture, stored as archives are.

use std::io::{self, Read};
use std::sync::Arc;

use super::{Budget, store};
use crate::capture::source::ReadAt;
use crate::error::{Error, Result};

/// Something that unpacks itself.
pub(in crate::capture) trait Pieces {
    /// Puts the next bytes into `out`, which is empty; none at the end.
    fn next(&mut self, out: &mut Vec<u8>) -> Result<()>;
}

/// Stores all that `pieces` gives, in memory or in a temporary file, and charges it to `budget`.
pub(in crate::capture) fn store_pieces(pieces: &mut dyn Pieces, budget: &Arc<Budget>) -> Result<Arc<dyn ReadAt>> {
    let mut reader = Reader { pieces, out: Vec::new(), at: 0, failed: None };
    let stored = store(&mut reader, budget, &|error| Error::format(error.to_string()));
    reader.failed.map_or(stored, Err)
}

struct Reader<'a> {
    pieces: &'a mut dyn Pieces,
    out: Vec<u8>,
    at: usize,
    /// What a reader's error cannot carry.
    failed: Option<Error>,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.out.len() {
            self.out.clear();
            self.at = 0;
            if let Err(error) = self.pieces.next(&mut self.out) {
                let message = error.to_string();
                self.failed = Some(error);
                return Err(io::Error::other(message));
            }
        }
        let mut rest = self.out.get(self.at..).unwrap_or(&[]);
        let count = rest.read(buffer)?;
        self.at += count;
        Ok(count)
    }
}
