//! How far a capture is, by what was read of its files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::capture::source::ReadAt;
use crate::capture::tree::{Entry, Tree};
use crate::error::Result;

/// Counts what is read of one capture, in shares of its size.
pub(super) struct Meter {
    /// The bytes of its files.
    size: u64,
    /// How often each byte is read, about.
    passes: u64,
    read: AtomicU64,
    /// What was told of it, at most `size`.
    told: AtomicU64,
    tell: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Meter {
    /// `tell` gets bytes of `size` that are done with.
    pub(super) fn new(size: u64, passes: u64, tell: Arc<dyn Fn(u64) + Send + Sync>) -> Self {
        Self { size, passes: passes.max(1), read: AtomicU64::new(0), told: AtomicU64::new(0), tell }
    }

    fn add(&self, bytes: u64) {
        let read = self.read.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // The last share is told at the end.
        self.reach((read / self.passes).min(self.size - self.size / 100));
    }

    /// All of it is done with.
    pub(super) fn finish(&self) {
        self.reach(self.size);
    }

    fn reach(&self, to: u64) {
        let before = self.told.fetch_max(to, Ordering::Relaxed);
        if to > before {
            (self.tell)(to - before);
        }
    }
}

/// A tree whose files count what is read of them.
pub(super) struct Metered {
    tree: Arc<dyn Tree>,
    meter: Arc<Meter>,
}

impl Metered {
    pub(super) fn new(tree: Arc<dyn Tree>, meter: Arc<Meter>) -> Self {
        Self { tree, meter }
    }
}

impl Tree for Metered {
    fn shown(&self, path: &Path) -> PathBuf {
        self.tree.shown(path)
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>> {
        self.tree.list(directory)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(File { inner: self.tree.open(path)?, meter: Arc::clone(&self.meter) }))
    }
}

struct File {
    inner: Arc<dyn ReadAt>,
    meter: Arc<Meter>,
}

impl ReadAt for File {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(buffer, offset)?;
        self.meter.add(buffer.len() as u64);
        Ok(())
    }
}
