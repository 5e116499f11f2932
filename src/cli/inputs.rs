//! The options that name inputs, the same for every subcommand that reads captures.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::exit::{Exit, printable};
pub(super) use super::output::keep_inputs;
use super::progress::Progress;
use crate::capture::limits::{self, Limit, LimitSpec, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::printable::line;
use crate::session::Session;
use crate::session::request::{GuestSpec, OffsetSpec, Request};

#[derive(Debug, Args)]
pub(super) struct InputArgs {
    /// A directory or an archive with the captures of a host and its guests, or a single capture.
    #[arg(value_name = "CAPTURE")]
    paths: Vec<PathBuf>,
    /// The host's capture, where the names are to be given.
    #[arg(long, value_name = "FILE")]
    host: Vec<PathBuf>,
    /// A guest's capture; the same name again adds a file to that VM.
    #[arg(long, value_name = "NAME[,pid=N][,threads=A:B]=FILE")]
    guest: Vec<GuestSpec>,
    /// A file that holds the host's kvm_write_tsc_offset events.
    #[arg(long, value_name = "FILE")]
    offsets: Vec<PathBuf>,
    /// The TSC offset of a VM or of one vCPU: guest TSC = host TSC + CYCLES; decimal or 0x.
    #[arg(long, value_name = "VM[/VCPU]=CYCLES", allow_hyphen_values = true)]
    offset: Vec<OffsetSpec>,
    /// The virtual counter offset of an arm64 VM or vCPU: guest counter = host counter - CYCLES.
    #[arg(long, value_name = "VM[/VCPU]=CYCLES", allow_hyphen_values = true)]
    cntvoff: Vec<OffsetSpec>,
    #[command(flatten)]
    reading: ReadingArgs,
}

/// What may be said of any capture.
#[derive(Debug, Args)]
pub(super) struct ReadingArgs {
    /// The host's TSC rate in Hz.
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u64).range(1..))]
    tsc_hz: Option<u64>,
    /// Do not use recorded offsets: infer them from the run windows.
    #[arg(long)]
    infer: bool,
    /// The most that archives may unpack to, such as 64G [default: 100 times each archive, at least 1G].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_unpacked: Option<u64>,
    /// Believe a file more than usual: raise what bounds damaged and hostile input (docs/reliability.md has the names).
    #[arg(long, value_name = "NAME=VALUE")]
    limit: Vec<LimitSpec>,
}

/// `500M`, `64G`, or bytes.
pub(super) fn size(text: &str) -> std::result::Result<u64, String> {
    limits::size(text)
}

impl InputArgs {
    /// Opens and surveys everything that was named.
    pub(super) fn open(&self, progress: &Progress) -> Result<Session> {
        let request = self.request()?;
        progress.stage("reading");
        Session::open(&request, &progress.monitor())
    }

    /// What a table calls this capture: the first path, as it was given.
    pub(super) fn name(&self) -> String {
        let first = self.paths.iter().chain(&self.host).next();
        first.map(|path| path.display().to_string()).unwrap_or_default()
    }

    /// The options as the library takes them.
    pub(super) fn request(&self) -> Result<Request> {
        if self.paths.is_empty() && self.host.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "no capture was named")
                .hint("name a directory, or --host FILE and --guest NAME=FILE"));
        }
        let twice = |spec: &&OffsetSpec| self.offset.iter().any(|o| (&o.vm, o.vcpu) == (&spec.vm, spec.vcpu));
        if let Some(spec) = self.cntvoff.iter().find(twice) {
            let message = format!("VM {} has both --offset and --cntvoff", spec.vm);
            return Err(Error::new(ErrorKind::Usage, message).hint("they say the same with opposite signs: give one"));
        }
        Ok(Request {
            paths: self.paths.clone(),
            hosts: self.host.clone(),
            guests: self.guest.clone(),
            offset_files: self.offsets.clone(),
            offsets: self
                .offset
                .iter()
                .cloned()
                .chain(self.cntvoff.iter().cloned().map(OffsetSpec::from_cntvoff))
                .collect(),
            ..self.reading.request()
        })
    }
}

impl ReadingArgs {
    /// A request that names no capture.
    pub(super) fn request(&self) -> Request {
        let mut limits = Limits::default();
        self.limit.iter().for_each(|spec| limits.set(spec.limit, spec.value));
        if let Some(most) = self.max_unpacked {
            limits.set(Limit::Unpacked, most.max(1));
        }
        Request { tsc_hz: self.tsc_hz, ignore_recorded_offsets: self.infer, limits, ..Request::default() }
    }
}

/// Words for a person, on stderr.
pub(super) fn say(quiet: bool, text: &str) {
    if !quiet {
        let _ = write!(std::io::stderr().lock(), "{}", printable(text));
    }
}

/// Says what a person should know of the inputs, and whether part of them was damaged.
pub(super) fn report_inputs(quiet: bool, warnings: &[String], damaged: &[String]) -> Exit {
    warn(quiet, warnings);
    warn(quiet, damaged);
    if damaged.is_empty() { Exit::Done } else { Exit::Damaged }
}

/// One line per warning.
fn warn(quiet: bool, warnings: &[String]) {
    for warning in warnings {
        say(quiet, &format!("warning: {}\n", line(warning)));
    }
}
