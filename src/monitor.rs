//! How long work tells its caller how far it is, and hears that it should stop.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// Progress out, interruption in.
#[derive(Clone, Copy)]
pub struct Monitor<'a> {
    /// Called with the number of events that were just read; from any thread.
    pub tick: &'a (dyn Fn(u64) + Sync),
    /// Raised to end the work with [`ErrorKind::Interrupted`].
    pub stop: &'a AtomicBool,
}

impl Monitor<'static> {
    /// Nobody watches and nobody interrupts.
    pub fn silent() -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Self { tick: &|_| {}, stop: &NEVER }
    }
}

impl Monitor<'_> {
    /// An error once the stop flag is up.
    pub fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        Ok(())
    }
}
