//! What is written down about each capture: in the log, for people and scripts, and beside the output, for the next run.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The version of everything that this module writes.
pub const VERSION: u32 = 1;

/// What became of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Converted.
    Done,
    /// Was finished before, by this or another worker, with the same contents and options.
    Skipped,
    /// Could not be converted; see `error`.
    Failed,
    /// Was being converted when the run ended.
    Interrupted,
}

/// One capture in a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The capture's path below what the user named.
    pub input: String,
    /// Where it is.
    pub source: String,
    /// Its output's path below the destination.
    pub output: String,
    /// What became of it.
    pub status: Status,
    /// How long this run worked on it.
    pub seconds: f64,
    /// When that ended, in seconds since 1970.
    pub ended: f64,
    /// How often it was tried.
    pub attempts: u32,
    /// The bytes of its files.
    pub bytes_in: u64,
    /// The bytes of its output.
    pub bytes_out: u64,
    /// Events that were read.
    pub events: u64,
    /// Events that the kernel lost while recording, and places where it did not count them.
    pub events_lost: u64,
    /// Events that have no place in host time.
    pub not_placed: u64,
    /// The verdict of `check`; null without guest events.
    pub verdict: Option<String>,
    /// What of the input was damaged, cut short or skipped.
    pub damaged: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Why it failed.
    pub error: Option<ErrorRecord>,
}

impl Record {
    /// Whether all of it is in its output.
    pub fn is_whole(&self) -> bool {
        matches!(self.status, Status::Done | Status::Skipped) && self.damaged.is_empty()
    }

    /// Whether `--strict` takes offence.
    pub fn has_gaps(&self) -> bool {
        self.events_lost > 0 || self.not_placed > 0
    }
}

/// An error in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// A word that does not change between versions: that of [`crate::error::Code`].
    pub code: String,
    /// What went wrong, in words.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl From<&Error> for ErrorRecord {
    fn from(error: &Error) -> Self {
        Self { code: error.code().name(), message: error.to_string(), hint: error.hint_text().map(str::to_owned) }
    }
}

impl ErrorRecord {
    /// A conversion that panicked: a mistake of this program.
    pub(super) fn panic(words: &str) -> Self {
        Self {
            code: "panic".to_owned(),
            message: format!("the program made a mistake: {words}"),
            hint: Some("report it, with the capture if possible".to_owned()),
        }
    }
}

/// What is recorded beside a finished output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// [`VERSION`].
    pub version: u32,
    /// Which program wrote it.
    pub tool: String,
    /// Fingerprint of the capture's contents.
    pub content: String,
    /// Fingerprint of all options that shape the output, and of the program's version.
    pub options: String,
    /// Whether statistics were written beside it.
    pub stats: bool,
    /// How it went.
    pub record: Record,
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
pub enum Line {
    /// The first.
    Start(Start),
    /// One per capture.
    Capture(Record),
    /// The last, if the worker got there.
    End(End),
}

/// Who works, and on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// [`VERSION`].
    pub version: u32,
    /// Which program.
    pub tool: String,
    /// The worker's name.
    pub worker: String,
    /// When, in seconds since 1970.
    pub time: f64,
    /// Which part: `1/1` is all.
    pub shard: String,
    /// How many captures were found.
    pub found: u64,
    /// How many of them this worker looks at.
    pub mine: u64,
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When, in seconds since 1970.
    pub time: f64,
    /// How long it worked.
    pub seconds: f64,
    /// Whether it was interrupted.
    pub interrupted: bool,
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
