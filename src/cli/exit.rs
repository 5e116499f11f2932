//! Exit codes, the same for every subcommand, and how an error is shown.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::error::{Error, ErrorKind};
use crate::output::{json_line, print};
pub(super) use crate::printable::lines as printable;
use crate::printable::{line, lossy_option};

/// The table that `--help` shows.
pub(super) const TABLE: &str = "\
Exit codes:
    0  done
    1  failed, or a check failed
    2  wrong usage
    3  done, but part of an input was damaged, cut short or skipped
  130  interrupted

An error begins with a code that stays the same, such as error[not-a-capture]; docs/errors.md has the list.

Events that the kernel lost while recording, or that could not be placed, are warnings and leave 0; --strict makes
them 3.";

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed, or a check failed.
    Failed,
    /// 2: wrong usage.
    Usage,
    /// 3: done, but part of an input was damaged, cut short or skipped.
    Damaged,
    /// 130: interrupted.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Damaged => 3,
            Exit::Interrupted => 130,
        })
    }
}

/// An error as JSON.
#[derive(Serialize)]
struct Failure<'a> {
    kind: &'static str,
    code: String,
    message: String,
    hint: Option<&'a str>,
    #[serde(serialize_with = "lossy_option")]
    file: Option<&'a Path>,
    offset: Option<u64>,
}

/// Shows an error, its hint on a line of its own; with `json` on stdout too.
pub(super) fn report(error: &Error, json: bool) -> Exit {
    if is_broken_pipe(error) {
        return Exit::Done;
    }
    if json {
        let kind = error.kind().name();
        let (hint, file, offset) = (error.hint_text(), error.file(), error.offset());
        let code = error.code().name();
        let failure = Failure { kind, code, message: error.to_string(), hint, file, offset };
        // What went wrong is said on stderr in any case.
        let _ = json_line("kvm-timeline/error", &failure).and_then(|line| print(&line));
    }
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "kvm-timeline: error[{}]: {}", error.code(), line(&error.to_string()));
    if let Some(hint) = error.hint_text() {
        let _ = writeln!(stderr, "hint: {}", line(hint));
    }
    match error.kind() {
        ErrorKind::Usage => Exit::Usage,
        ErrorKind::Interrupted => Exit::Interrupted,
        _ => Exit::Failed,
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|s| s.downcast_ref::<io::Error>());
    source.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
