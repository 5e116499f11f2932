//! What lies beside the inputs and was not read.

use std::path::PathBuf;

use serde::Serialize;

/// A file that was seen and left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The file; a member of an archive as a path behind the archive's.
    #[serde(serialize_with = "crate::printable::lossy")]
    pub path: PathBuf,
    /// Why, in words.
    pub why: String,
    /// Whether a person may have expected it to be used: then it is a warning.
    pub surprising: bool,
    /// Whether it could have been opened as a capture.
    pub capture: bool,
    /// Whether it is what is left of a capture.
    pub damaged: bool,
}

impl LeftOut {
    /// Left out on purpose: nothing is missing.
    pub(super) fn silently(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self { path: path.into(), why: why.into(), surprising: false, capture: false, damaged: false }
    }

    /// A buffer that could be read and has no use.
    pub(in crate::session) fn instance(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self::silently(path, why)
    }

    /// A capture that nothing is missing without.
    pub(super) fn capture(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self { capture: true, ..Self::silently(path, why) }
    }

    /// What is left of a capture, of which nothing can be read.
    pub(super) fn damaged(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self { damaged: true, ..Self::surprising(path, why) }
    }

    /// Something may be missing.
    pub(super) fn surprising(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self { surprising: true, ..Self::silently(path, why) }
    }
}
