//! Many captures in one run that is safe to repeat, and to share among machines.
//!
//! [`find`] tells where captures are, [`plan`] what becomes of each, [`run`] converts those that are not finished. What was
//! finished, of which contents and with which options, is recorded beside the outputs, so that the next run, on this or
//! another machine, does the rest.

mod budget;
mod claim;
mod engine;
pub mod find;
pub mod fingerprint;
mod job;
mod log;
mod meter;
pub mod name;
mod plan;
pub mod record;
pub mod shard;
pub mod since;
pub mod state;
pub mod store;
pub mod summary;
pub mod worker;

use std::time::{Duration, SystemTime};

use crate::capture::limits::Limit;
use crate::convert::ConvertOptions;
use crate::filter::Filter;
use crate::selection::Span;
use crate::session::request::Request;

pub use engine::{Observer, Work, run};
pub(crate) use plan::real;
pub use plan::{Plan, plan};

/// What is wanted of every capture, and how it is worked on.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to write; its limits are set for each capture by `memory`.
    pub convert: ConvertOptions,
    /// What is said of all captures; it names none.
    pub request: Request,
    /// What of each capture is wanted.
    pub filter: Filter,
    /// How much of the host's trace is drawn.
    pub span: Span,
    /// How outputs are called.
    pub name: name::Template,
    /// Whether statistics are written beside each output, and one table over all.
    pub stats: bool,
    /// Whether events that were lost, or have no place, count as damage.
    pub strict: bool,
    /// Which part of the captures.
    pub shard: shard::Shard,
    /// Only captures of which a file was changed later than this.
    pub newer_than: Option<SystemTime>,
    /// How often a capture is tried again whose files, or whose output's place, could not be read or written.
    pub retry: u32,
    /// Whether the first failure ends the run.
    pub fail_fast: bool,
    /// What the process may use, in bytes.
    pub memory: u64,
    /// How many captures at a time, where memory allows.
    pub jobs: usize,
    /// After how long a worker on another machine that says nothing is taken for dead.
    pub stale_after: Duration,
}

/// The program and its version, as it is recorded.
pub const TOOL: &str = concat!("kvm-timeline ", env!("CARGO_PKG_VERSION"));

impl Options {
    /// The fingerprint of everything that shapes an output, the program's version included.
    pub fn fingerprint(&self) -> String {
        let ConvertOptions { format, compress, draw, limits: _ } = &self.convert;
        // How much may be unpacked decides whether there is an output, not what is in it.
        let request = Request { limits: self.request.limits.with(Limit::Unpacked, 0), ..self.request.clone() };
        let text = format!("{TOOL} {format:?} {compress} {draw:?} {request:?} {:?} {:?}", self.filter, self.span);
        fingerprint::of_text(&text)
    }
}
