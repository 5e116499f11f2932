//! How much may be unpacked.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::capture::limits::{Limit, Limits};
use crate::error::{Error, Result};

/// How many bytes an archive, and the archives inside it, may unpack to in all.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    limits: Limits,
    used: AtomicU64,
    exceeded: AtomicBool,
}

impl Budget {
    /// At most `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Self::within(0, &Limits::default().with(Limit::Unpacked, limit.max(1)))
    }

    /// For an archive, or a capture with compressed parts, of `size` bytes: what [`Limits::unpacked`] allows.
    pub fn within(size: u64, limits: &Limits) -> Arc<Self> {
        let (used, exceeded) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { limit: limits.unpacked(size), limits: *limits, used, exceeded })
    }

    /// For an archive of `size` bytes: a hundred times that, and at least 1 GiB.
    pub fn for_archive(size: u64) -> Arc<Self> {
        Self::within(size, &Limits::default())
    }

    /// The other limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Charges `bytes` that are about to be unpacked.
    pub(in crate::capture) fn charge(&self, bytes: u64) -> Result<()> {
        self.take(bytes).map_err(|_| self.error())
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
        self.exceeded.load(Ordering::Relaxed).then(|| self.error())
    }

    fn error(&self) -> Error {
        let mib = self.limit.div_ceil(1 << 20);
        Error::limit(Limit::Unpacked, format!("unpacks to more than {mib} MiB"))
            .hint("if that is no mistake, allow more with --max-unpacked, such as --max-unpacked 64G")
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
