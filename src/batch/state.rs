//! What a batch keeps beside its outputs, so that it can be run again: names below the destination.

/// The directory of all of it. Captures are not looked for in directories with a dot.
pub const DIRECTORY: &str = ".kvm-timeline";
/// Files that are being written, by worker.
pub const UNFINISHED: &str = ".kvm-timeline/unfinished";
/// Who works on what.
pub const CLAIMS: &str = ".kvm-timeline/claims";
/// What was finished, of what, and how.
pub const DONE: &str = ".kvm-timeline/done";
/// One log per worker.
pub const LOGS: &str = ".kvm-timeline/log";
