//! Names of errors that stay the same from version to version: what a script asks for.

use std::fmt;

use super::ErrorKind;
use crate::capture::limits::{LIMITS, Limit};

/// What went wrong, by a name that stays: `error[damaged-trace-dat]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// `not-found`
    NotFound,
    /// `no-permission`
    NoPermission,
    /// `no-space`
    NoSpace,
    /// `cut-while-read`
    CutWhileRead,
    /// `io`
    Io,
    /// `empty-file`
    EmptyFile,
    /// `not-a-capture`
    NotACapture,
    /// `no-capture`
    NoCapture,
    /// `damaged-trace-dat`
    DamagedTraceDat,
    /// `damaged-perf-data`
    DamagedPerfData,
    /// `damaged-perfetto`
    DamagedPerfetto,
    /// `damaged-text`
    DamagedText,
    /// `damaged-tracefs`
    DamagedTracefs,
    /// `damaged-archive`
    DamagedArchive,
    /// `damaged-manifest`
    DamagedManifest,
    /// `damaged`
    Damaged,
    /// `unsupported`
    Unsupported,
    /// `usage`
    Usage,
    /// `input-overwritten`
    InputOverwritten,
    /// `no-host`
    NoHost,
    /// `no-match`
    NoMatch,
    /// `no-clock`
    NoClock,
    /// `no-evidence`
    NoEvidence,
    /// `limit-NAME`
    Limit(Limit),
    /// `limit`
    OtherLimit,
    /// `interrupted`
    Interrupted,
}

/// A code, for people.
#[derive(Clone, Copy, Debug)]
pub struct CodeInfo {
    /// Which it is.
    pub code: Code,
    /// Its name.
    pub name: &'static str,
    /// The kind of error.
    pub kind: ErrorKind,
    /// What happened.
    pub what: &'static str,
    /// What to do.
    pub do_this: &'static str,
}

const fn info(code: Code, name: &'static str, kind: ErrorKind, what: &'static str, do_this: &'static str) -> CodeInfo {
    CodeInfo { code, name, kind, what, do_this }
}

/// All codes but those of limits, which are `limit-` and the limit's name.
pub const CODES: [CodeInfo; 25] = [
    info(Code::NotFound, "not-found", ErrorKind::Io, "a file or directory is not there", "check the path"),
    info(
        Code::NoPermission,
        "no-permission",
        ErrorKind::Io,
        "the operating system forbids it",
        "check who owns the file and the directory, or run as that user",
    ),
    info(
        Code::NoSpace,
        "no-space",
        ErrorKind::Io,
        "the disk, the quota or the largest file size is exhausted",
        "free space or write elsewhere; for archives set TMPDIR",
    ),
    info(
        Code::CutWhileRead,
        "cut-while-read",
        ErrorKind::Io,
        "a file became shorter while it was read",
        "wait until the recorder or the copy has ended, then run again",
    ),
    info(Code::Io, "io", ErrorKind::Io, "a system call failed", "see the message; try again, or look at the disk"),
    info(
        Code::EmptyFile,
        "empty-file",
        ErrorKind::Format,
        "the file has no bytes",
        "copy it again; a recorder that was stopped early leaves such a file",
    ),
    info(
        Code::NotACapture,
        "not-a-capture",
        ErrorKind::Format,
        "the bytes are of no kind that is known",
        "name the file that was recorded; docs/inputs.md lists what is read",
    ),
    info(
        Code::NoCapture,
        "no-capture",
        ErrorKind::Format,
        "a directory or an archive holds no capture",
        "name the one that does, or the files with --host and --guest",
    ),
    info(
        Code::DamagedTraceDat,
        "damaged-trace-dat",
        ErrorKind::Format,
        "a trace.dat without its header, or without what describes its events",
        "copy it again, or record again; damage anywhere else only costs what it hits",
    ),
    info(
        Code::DamagedPerfData,
        "damaged-perf-data",
        ErrorKind::Format,
        "a perf.data without its header, or without what describes its events",
        "copy it again, or record again and let perf end by itself",
    ),
    info(
        Code::DamagedPerfetto,
        "damaged-perfetto",
        ErrorKind::Format,
        "a Perfetto trace whose events cannot be told",
        "copy it again, or record again with one clock",
    ),
    info(
        Code::DamagedText,
        "damaged-text",
        ErrorKind::Format,
        "a text without a line that is an event",
        "copy the file `trace` of tracefs, or the output of `trace-cmd report`",
    ),
    info(
        Code::DamagedTracefs,
        "damaged-tracefs",
        ErrorKind::Format,
        "a copied tracefs without data, or without what describes it",
        "copy events/ and per_cpu/*/trace_pipe_raw again, as root",
    ),
    info(
        Code::DamagedArchive,
        "damaged-archive",
        ErrorKind::Format,
        "an archive or a compressed file was cut short or changed",
        "copy or download it again",
    ),
    info(
        Code::DamagedManifest,
        "damaged-manifest",
        ErrorKind::Format,
        "a capture.toml contradicts itself or is no TOML",
        "correct the line that the message names",
    ),
    info(Code::Damaged, "damaged", ErrorKind::Format, "other bytes are not what they should be", "see the message"),
    info(
        Code::Unsupported,
        "unsupported",
        ErrorKind::Unsupported,
        "the bytes are sound, but of a kind that is not read",
        "do what the hint says: most can be turned into something that is read",
    ),
    info(
        Code::Usage,
        "usage",
        ErrorKind::Usage,
        "the request cannot be carried out as it was put",
        "correct the arguments; `kvm-timeline help COMMAND` lists them",
    ),
    info(
        Code::InputOverwritten,
        "input-overwritten",
        ErrorKind::Usage,
        "the output would replace an input",
        "name another file for the output",
    ),
    info(
        Code::NoHost,
        "no-host",
        ErrorKind::Evidence,
        "which capture is the host's cannot be told",
        "record the host with `-e kvm -e sched`, or name its file with --host",
    ),
    info(
        Code::NoMatch,
        "no-match",
        ErrorKind::Evidence,
        "which VM or thread of the host a guest is cannot be told",
        "name its process or its vCPU threads: --guest NAME,pid=N=FILE",
    ),
    info(
        Code::NoClock,
        "no-clock",
        ErrorKind::Evidence,
        "a guest's clock cannot be put in relation to the host's",
        "give the offset (--offset), or record with `-C x86-tsc` and the host's offset events",
    ),
    info(Code::NoEvidence, "no-evidence", ErrorKind::Evidence, "other evidence is missing", "see the message"),
    info(Code::OtherLimit, "limit", ErrorKind::Limit, "something is too large", "see the message"),
    info(Code::Interrupted, "interrupted", ErrorKind::Interrupted, "the run was asked to stop", "run again"),
];

impl Code {
    /// The name that stays.
    pub fn name(self) -> String {
        match self {
            Self::Limit(limit) => format!("limit-{}", limit.name()),
            _ => CODES.iter().find(|info| info.code == self).map_or("", |info| info.name).to_owned(),
        }
    }

    /// The code of errors of a kind that have none of their own.
    pub(super) fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Io => Self::Io,
            ErrorKind::Format => Self::Damaged,
            ErrorKind::Unsupported => Self::Unsupported,
            ErrorKind::Usage => Self::Usage,
            ErrorKind::Evidence => Self::NoEvidence,
            ErrorKind::Limit => Self::OtherLimit,
            ErrorKind::Interrupted => Self::Interrupted,
        }
    }

    /// The code of what the operating system says.
    pub(super) fn of_system(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as System;
        match error.kind() {
            System::NotFound | System::NotADirectory => Self::NotFound,
            System::PermissionDenied | System::ReadOnlyFilesystem => Self::NoPermission,
            System::StorageFull | System::QuotaExceeded | System::FileTooLarge => Self::NoSpace,
            System::UnexpectedEof => Self::CutWhileRead,
            _ => Self::Io,
        }
    }

    /// The table in `docs/errors.md`.
    pub fn table() -> String {
        let mut table = "| code | what happened | what to do | exit |\n|---|---|---|---|\n".to_owned();
        let mut row = |name: &str, what: &str, do_this: &str, kind: ErrorKind| {
            let exit = match kind {
                ErrorKind::Usage => 2,
                ErrorKind::Interrupted => 130,
                _ => 1,
            };
            table.push_str(&format!("| `{name}` | {what} | {do_this} | {exit} |\n"));
        };
        for info in CODES {
            row(info.name, info.what, info.do_this, info.kind);
        }
        for info in LIMITS {
            let name = Self::Limit(info.limit).name();
            let what = format!("beyond the limit of {}", info.what);
            row(&name, &what, &format!("if that is no mistake: `--limit {}=VALUE`", info.name), ErrorKind::Limit);
        }
        table
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}
