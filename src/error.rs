//! One error type: what went wrong, in which file, at which byte, and what to do about it.

mod code;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use code::{CODES, Code, CodeInfo};

use crate::capture::limits::Limit;

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused: retry, or fix the path, the rights or the disk.
    Io,
    /// The bytes are not what they claim to be, or are damaged beyond use.
    Format,
    /// The bytes are fine, but this program does not handle such input.
    Unsupported,
    /// The request cannot be carried out as it was put.
    Usage,
    /// The captures do not hold what is needed to place events.
    Evidence,
    /// A size in the input goes beyond a fixed limit.
    Limit,
    /// The user asked to stop.
    Interrupted,
}

impl ErrorKind {
    /// The word in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Format => "format",
            Self::Unsupported => "unsupported",
            Self::Usage => "usage",
            Self::Evidence => "evidence",
            Self::Limit => "limit",
            Self::Interrupted => "interrupted",
        }
    }
}

/// The error of every fallible function of this crate.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    code: Option<Code>,
    file: Option<PathBuf>,
    offset: Option<u64>,
    message: String,
    hint: Option<String>,
    source: Option<io::Error>,
}

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `message` is lower case, without a period, and says what was found and what was expected.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let inner =
            Inner { kind, code: None, file: None, offset: None, message: message.into(), hint: None, source: None };
        Self(Box::new(inner))
    }

    /// A limit that was exceeded; [`Limit::exceeded`] adds what to do.
    pub(crate) fn limit(limit: Limit, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Limit, message).coded(Code::Limit(limit))
    }

    /// Bytes that are not what they should be.
    pub fn format(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Format, message)
    }

    /// A failed system call on `path`.
    pub fn io(path: impl Into<PathBuf>, doing: &str, source: io::Error) -> Self {
        let mut error = Self::new(ErrorKind::Io, format!("cannot {doing}"));
        error.0.code = Some(Code::of_system(&source));
        error.0.file = Some(path.into());
        error.0.source = Some(source);
        error
    }

    /// Names the file, unless an inner layer already did.
    #[must_use]
    pub fn in_file(mut self, path: impl AsRef<Path>) -> Self {
        self.0.file.get_or_insert_with(|| path.as_ref().to_path_buf());
        self
    }

    /// Names the byte offset in the file, unless an inner layer already did.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Gives it a name that stays, unless an inner layer already did.
    #[must_use]
    pub fn coded(mut self, code: Code) -> Self {
        self.0.code.get_or_insert(code);
        self
    }

    /// As [`Error::coded`], for errors of the kind [`ErrorKind::Format`] only: what the bytes were taken for.
    #[must_use]
    pub(crate) fn damaged_as(self, code: Code) -> Self {
        if self.0.kind == ErrorKind::Format { self.coded(code) } else { self }
    }

    /// Says what to do; shown on a line of its own.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The name that stays from version to version.
    pub fn code(&self) -> Code {
        self.0.code.unwrap_or_else(|| Code::of(self.0.kind))
    }

    /// What went wrong, without file and offset.
    pub fn message(&self) -> String {
        match &self.0.source {
            Some(source) => format!("{}: {source}", self.0.message),
            None => self.0.message.clone(),
        }
    }

    /// What to do about it, in words.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The file it is about.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The byte offset in [`Error::file`].
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.0.file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some(offset) = self.0.offset {
            write!(f, "at byte {offset:#x}: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}
