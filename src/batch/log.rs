//! A worker's log: JSON, one line per capture.

use std::path::PathBuf;
use std::sync::Arc;

use super::record::{Line, now};
use super::state;
use super::store::Store;
use super::worker::Worker;
use crate::error::{Error, ErrorKind, Result};

/// A log that this worker alone writes.
pub(super) struct Log {
    store: Arc<dyn Store>,
    path: PathBuf,
    lines: u64,
}

impl Log {
    pub(super) fn new(store: &Arc<dyn Store>, worker: &Worker) -> Self {
        let name = format!("{:.3}-{}.jsonl", now(), worker.name());
        Self { store: Arc::clone(store), path: PathBuf::from(state::LOGS).join(name), lines: 0 }
    }

    /// Adds a line.
    pub(super) fn add(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_vec(line)
            .map_err(|error| Error::new(ErrorKind::Io, format!("cannot write the log: {error}")))?;
        text.push(b'\n');
        self.store.append(&self.path, self.lines, &text)?;
        self.lines += 1;
        Ok(())
    }
}
