//! Where unpacked bytes stay: in memory, or in a temporary file that has no name.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::budget::Budget;
use crate::capture::source::ReadAt;
use crate::error::{Error, ErrorKind, Result};

/// Members up to this size stay in memory…
const SMALL: usize = 128 << 10;
/// …as long as all of them together are no larger than this.
const MEMORY: u64 = 256 << 20;

/// Stores unpacked files.
pub(super) struct Spool<'a> {
    budget: Arc<Budget>,
    stopped: &'a dyn Fn() -> bool,
    file: Option<Arc<File>>,
    end: u64,
    memory: u64,
}

impl<'a> Spool<'a> {
    pub(super) fn new(budget: &Arc<Budget>, stopped: &'a dyn Fn() -> bool) -> Self {
        Self { budget: Arc::clone(budget), stopped, file: None, end: 0, memory: 0 }
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// What an error while reading means: too much data, else what `damaged` says.
    pub(super) fn error(&self, error: io::Error, damaged: &dyn Fn(io::Error) -> Error) -> Error {
        self.budget.exceeded().unwrap_or_else(|| damaged(error))
    }

    /// Ends a run that was asked to stop.
    pub(super) fn check(&self) -> Result<()> {
        if (self.stopped)() { Err(Error::new(ErrorKind::Interrupted, "interrupted")) } else { Ok(()) }
    }

    /// Stores all that `reader` gives.
    pub(super) fn store(
        &mut self,
        reader: &mut dyn Read,
        damaged: &dyn Fn(io::Error) -> Error,
    ) -> Result<Arc<dyn ReadAt>> {
        let mut first = Vec::new();
        reader.take(SMALL as u64).read_to_end(&mut first).map_err(|error| self.error(error, damaged))?;
        if first.len() < SMALL && self.memory < MEMORY {
            self.memory += first.len() as u64;
            first.shrink_to_fit();
            return Ok(Arc::new(first));
        }
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(self.file.insert(Arc::new(tempfile::tempfile().map_err(cannot_spool)?))),
        };
        let start = self.end;
        let mut buffer = first;
        while !buffer.is_empty() {
            self.check()?;
            file.write_all_at(&buffer, self.end).map_err(cannot_spool)?;
            self.end += buffer.len() as u64;
            buffer.clear();
            reader.take(1 << 20).read_to_end(&mut buffer).map_err(|error| self.error(error, damaged))?;
        }
        Ok(Arc::new(Spooled { file, start, len: self.end - start }))
    }
}

fn cannot_spool(error: io::Error) -> Error {
    Error::io(std::env::temp_dir(), "unpack into a temporary file", error)
        .hint("set TMPDIR to a directory with more room, or unpack the archive yourself")
}

/// A part of the temporary file.
struct Spooled {
    file: Arc<File>,
    start: u64,
    len: u64,
}

impl ReadAt for Spooled {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        within(self.len, buffer, offset)?;
        self.file.read_exact_at(buffer, self.start + offset)
    }
}

/// A part of another file, read where it stands.
pub(super) struct Window {
    source: Arc<dyn ReadAt>,
    start: u64,
    len: u64,
}

impl Window {
    /// Bytes `start..start + len`, or nothing if they are not all there.
    pub(super) fn new(source: &Arc<dyn ReadAt>, start: u64, len: u64) -> Option<Self> {
        let end = start.checked_add(len)?;
        (end <= source.len()).then(|| Self { source: Arc::clone(source), start, len })
    }
}

impl ReadAt for Window {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        within(self.len, buffer, offset)?;
        self.source.read_exact_at(buffer, self.start + offset)
    }
}

fn within(len: u64, buffer: &[u8], offset: u64) -> io::Result<()> {
    let end = offset.checked_add(buffer.len() as u64);
    if end.is_some_and(|end| end <= len) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
