//! `kvm-timeline record`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Exit;
use super::inputs::say;
use super::output::{json, print, write_all};
use super::progress::stop_flag;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::nanoseconds;
use crate::record::plan::{DEFAULT_BUFFER_KIB, OFFSETS};
use crate::record::{Options, Plan, Roots, Setup, Step, Summary, System, Target, guest, plan, record};
use crate::selection::EventPattern;

/// What a recording is called where it has no name.
const DEFAULT_OUTPUT: &str = "kvm-timeline-recording";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Records until Ctrl-C, unless --duration or a COMMAND says when it is over. The result is what convert, check and the
other commands take; put the guests' files into it. Everything is put back at the end. `kvm-timeline recipe` tells the
whole way from two machines to one timeline.")]
pub(super) struct Args {
    /// The result: a directory, or an archive FILE.tar.zst [default: kvm-timeline-recording].
    #[arg(short, long, value_name = "DIR|FILE.tar.zst")]
    output: Option<PathBuf>,
    /// How long to record, such as 10s or 500ms.
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// What to record: SYSTEM, SYSTEM:EVENT, with * and ? [default: kvm, irq and what counts of sched].
    #[arg(short, long, value_name = "EVENT,...", value_delimiter = ',')]
    events: Vec<EventPattern>,
    /// The kernel's buffer for each CPU, in KiB [default: 8192; 16384 in a guest script].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..=16 << 20))]
    buffer_size_kb: Option<u32>,
    /// Show every write that would be made, and make none.
    #[arg(long)]
    dry_run: bool,
    /// Before the VMs start: only make the tracing instance that keeps their TSC offsets, and leave it.
    #[arg(long, conflicts_with_all = ["output", "duration", "events", "buffer_size_kb", "unprepare", "command"])]
    prepare: bool,
    /// Remove what --prepare made.
    #[arg(long, conflicts_with_all = ["output", "duration", "events", "buffer_size_kb", "command"])]
    unprepare: bool,
    /// Write a shell script that records inside a guest with nothing but tracefs; - is stdout.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "dry_run", "prepare", "unprepare", "command"])]
    guest_script: Option<PathBuf>,
    /// Print JSON: what was recorded, or with --dry-run the writes.
    #[arg(long, conflicts_with_all = ["guest_script"])]
    pub(super) json: bool,
    /// Where tracefs is mounted [default: where /proc/mounts says].
    #[arg(long, value_name = "DIR")]
    tracefs: Option<PathBuf>,
    /// Where debugfs is mounted [default: where /proc/mounts says].
    #[arg(long, value_name = "DIR")]
    debugfs: Option<PathBuf>,
    /// A directory that stands for /.
    #[arg(long, value_name = "DIR", hide = true)]
    root: Option<PathBuf>,
    /// Where plain files stand for tracefs: what a new instance holds.
    #[arg(long, value_name = "DIR", hide = true)]
    new_instance: Option<PathBuf>,
    /// A command to record, from its start to its end.
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "duration")]
    command: Vec<String>,
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    nanoseconds(text, 1_000_000_000).map(Duration::from_nanos)
}

impl Args {
    fn system(&self) -> Result<System> {
        if !cfg!(target_os = "linux") {
            return Err(Error::new(ErrorKind::Unsupported, "only Linux hosts can be recorded")
                .hint("`kvm-timeline recipe` tells what to do there"));
        }
        System::find(&Roots {
            tracefs: self.tracefs.clone(),
            debugfs: self.debugfs.clone(),
            root: self.root.clone(),
            new_instance: self.new_instance.clone(),
        })
    }
}

pub(super) fn run(args: &Args, quiet: bool) -> Result<Exit> {
    if let Some(path) = &args.guest_script {
        let seconds = args.duration.map(|d| d.as_secs().max(1));
        let options = guest::Options { events: args.events.clone(), buffer_kib: args.buffer_size_kb, seconds };
        write_all(path, guest::script(&options)?.as_bytes())?;
        if path != Path::new("-") {
            say(quiet, &format!("{} written; in the guest, as root: sh {0} -d SECONDS\n", path.display()));
        }
        return Ok(Exit::Done);
    }
    let system = args.system()?;
    if args.prepare {
        return prepare(args, &system, quiet);
    }
    if args.unprepare {
        return unprepare(args, &system, quiet);
    }
    let options =
        Options { events: args.events.clone(), buffer_kib: args.buffer_size_kb.unwrap_or(DEFAULT_BUFFER_KIB) };
    let target = Target::new(args.output.as_deref().unwrap_or(Path::new(DEFAULT_OUTPUT)))?;
    let plan = Plan::new(&system, &options)?;
    if args.dry_run {
        plan.notes.iter().for_each(|note| say(quiet, &format!("note: {note}\n")));
        let text = plan.text(&target.path().display().to_string());
        return shown(args, &Done { plan: lines(&text), notes: plan.notes.clone(), ..Done::default() }, &text);
    }
    // Before anything is changed, so that from now on an interrupt ends the recording and not the program.
    let stop = stop_flag();
    let path = target.path().to_owned();
    let pending = target.begin()?;
    let mut until = Until::new(args, &stop, quiet);
    let summary = record(&system, &plan, pending.directory(), &mut || until.over())?;
    pending.finish()?;
    until.notes.extend(summary.notes.iter().cloned());
    until.notes.iter().for_each(|note| say(quiet, &format!("note: {note}\n")));
    if args.json {
        print(&json("kvm-timeline/record", &Done::recorded(&summary, &path, &until.notes))?)?;
    } else {
        say(quiet, &words(&summary, &path));
    }
    match &summary.not_put_back {
        None => Ok(Exit::Done),
        Some(what) => Err(Error::new(ErrorKind::Io, format!("recorded, but not everything was put back: {what}"))),
    }
}

fn prepare(args: &Args, system: &System, quiet: bool) -> Result<Exit> {
    let steps = plan::prepare(system)?;
    if args.dry_run {
        let text = steps.iter().map(|step| step.line() + "\n").collect::<String>();
        return shown(args, &Done { plan: lines(&text), ..Done::default() }, &text);
    }
    let instance = system.instance(OFFSETS);
    let was_there = !steps.iter().any(|step| matches!(step, Step::Instance(_)));
    Setup::steps(system, &steps)?.keep();
    let what = if was_there { "was there, and records" } else { "made, and records" };
    say(quiet, &format!("{} {what} TSC offsets; `record --unprepare` removes it\n", instance.display()));
    shown(args, &Done { instance: Some(instance), changed: Some(!was_there), ..Done::default() }, "")
}

fn unprepare(args: &Args, system: &System, quiet: bool) -> Result<Exit> {
    let instance = system.instance(OFFSETS);
    if args.dry_run {
        let line = if instance.is_dir() { format!("rmdir {}\n", instance.display()) } else { String::new() };
        return shown(args, &Done { plan: lines(&line), ..Done::default() }, &line);
    }
    let changed = plan::unprepare(system)?;
    let what = if changed { "removed" } else { "was not there" };
    say(quiet, &format!("{} {what}\n", instance.display()));
    shown(args, &Done { instance: Some(instance), changed: Some(changed), ..Done::default() }, "")
}

/// What `--json` prints.
#[derive(Default, Serialize)]
struct Done {
    /// With --dry-run: the writes, each a line of shell.
    plan: Option<Vec<String>>,
    /// With --prepare and --unprepare: the tracing instance.
    instance: Option<PathBuf>,
    /// Whether it was made or removed just now.
    changed: Option<bool>,
    /// What was recorded.
    recording: Option<Recording>,
    /// What a person should know.
    notes: Vec<String>,
}

/// A recording.
#[derive(Serialize)]
struct Recording {
    output: PathBuf,
    bytes: u64,
    events: u64,
    lost: u64,
    vms: Vec<RecordedVm>,
    offsets_read: usize,
    not_put_back: Option<String>,
}

#[derive(Serialize)]
struct RecordedVm {
    name: String,
    vcpus: usize,
}

impl Done {
    fn recorded(summary: &Summary, path: &Path, notes: &[String]) -> Self {
        let Summary { bytes, events, lost, vms, offsets, not_put_back, notes: _ } = summary.clone();
        let vms = vms.into_iter().map(|(name, vcpus)| RecordedVm { name, vcpus }).collect();
        let output = path.to_owned();
        let recording = Recording { output, bytes, events, lost, vms, offsets_read: offsets, not_put_back };
        Self { recording: Some(recording), notes: notes.to_vec(), ..Self::default() }
    }
}

fn lines(text: &str) -> Option<Vec<String>> {
    Some(text.lines().map(str::to_owned).collect())
}

/// Prints one or the other.
fn shown(args: &Args, done: &Done, text: &str) -> Result<Exit> {
    let text = if args.json { json("kvm-timeline/record", done)? } else { text.to_owned() };
    print(&text).map(|()| Exit::Done)
}

/// Says when the recording is over.
struct Until<'a> {
    args: &'a Args,
    stop: &'a AtomicBool,
    quiet: bool,
    began: Option<Instant>,
    child: Option<Child>,
    notes: Vec<String>,
}

impl<'a> Until<'a> {
    fn new(args: &'a Args, stop: &'a AtomicBool, quiet: bool) -> Self {
        Self { args, stop, quiet, began: None, child: None, notes: Vec::new() }
    }

    fn over(&mut self) -> Result<bool> {
        let began = match self.began {
            Some(began) => began,
            None => {
                self.begin()?;
                *self.began.insert(Instant::now())
            }
        };
        if self.stop.load(Ordering::Relaxed) {
            if let Some(child) = &self.child {
                self.notes.push(format!("interrupted: the command, process {}, was left alone", child.id()));
            }
            return Ok(true);
        }
        if let Some(child) = &mut self.child {
            let ended = child.try_wait().map_err(|error| Error::io(&self.args.command[0], "wait for", error))?;
            if let Some(status) = ended.filter(|status| !status.success()) {
                self.notes.push(format!("{} ended with {status}", self.args.command[0]));
            }
            return Ok(ended.is_some());
        }
        Ok(self.args.duration.is_some_and(|duration| began.elapsed() >= duration))
    }

    fn begin(&mut self) -> Result<()> {
        if let Some((program, arguments)) = self.args.command.split_first() {
            let child = Command::new(program).args(arguments).spawn();
            self.child = Some(child.map_err(|error| Error::io(program, "start the command", error))?);
        } else if self.args.duration.is_none() {
            say(self.quiet, "recording; Ctrl-C ends it\n");
        }
        Ok(())
    }
}

/// What came of it.
fn words(summary: &Summary, path: &Path) -> String {
    let Summary { bytes, events, lost, vms, offsets, .. } = summary;
    let mut text = format!("{}: {events} events read, {lost} lost, {bytes} bytes of sub-buffers\n", path.display());
    for (name, vcpus) in vms {
        text.push_str(&format!("VM {name}: {vcpus} vCPU threads\n"));
    }
    if *offsets > 0 {
        text.push_str(&format!("offsets of {offsets} vCPUs read from debugfs\n"));
    }
    if *lost > 0 {
        text.push_str("hint: larger buffers lose less: --buffer-size-kb\n");
    }
    text
}
