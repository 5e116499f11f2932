//! How much may be unpacked.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, ErrorKind};

/// Unpacked bytes that are always allowed.
const ALWAYS: u64 = 1 << 30;
/// Captures seldom shrink to less than a thirtieth; bombs shrink to less than a thousandth.
const RATIO: u64 = 100;

/// How many bytes an archive, and the archives inside it, may unpack to in all.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: AtomicU64,
    exceeded: AtomicBool,
}

impl Budget {
    /// At most `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0), exceeded: AtomicBool::new(false) })
    }

    /// For an archive of `size` bytes: a hundred times that, and at least 1 GiB.
    pub fn for_archive(size: u64) -> Arc<Self> {
        Self::new(size.saturating_mul(RATIO).max(ALWAYS))
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limit {
            self.exceeded.store(true, Ordering::Relaxed);
            return Err(io::Error::other("too large"));
        }
        Ok(())
    }

    /// The error, where there was one because of too much data.
    pub(super) fn exceeded(&self) -> Option<Error> {
        let mib = self.limit.div_ceil(1 << 20);
        self.exceeded.load(Ordering::Relaxed).then(|| {
            Error::new(ErrorKind::Limit, format!("unpacks to more than {mib} MiB"))
                .hint("if that is no mistake, allow more with --max-unpacked, such as --max-unpacked 64G")
        })
    }
}

/// Charges what it reads to a budget.
pub(super) struct Counted<R> {
    inner: R,
    budget: Arc<Budget>,
}

impl<R> Counted<R> {
    pub(super) fn new(inner: R, budget: Arc<Budget>) -> Self {
        Self { inner, budget }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.budget.take(count as u64)?;
        Ok(count)
    }
}
