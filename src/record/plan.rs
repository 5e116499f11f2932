//! Every write of a recording, in order, before the first is made.

use std::path::PathBuf;

use super::events::{self, Events};
use super::facts::Moment;
use super::system::{System, text};
use crate::error::{Error, ErrorKind, Result};
use crate::selection::EventPattern;

/// The instance that records the events.
pub const BUFFER: &str = "kvm-timeline";
/// The instance that records the offsets, by the name that the kernel's commit gave it.
pub const OFFSETS: &str = "tsc_offset";
/// The clock that host and guests share.
const CLOCK: &str = "x86-tsc";
/// The event that tells a vCPU's new offset, below `events/`.
const OFFSET_EVENT: &str = "kvm/kvm_write_tsc_offset";

/// What is recorded on the host where nothing else is asked for; what a kernel does not have is left out.
pub const DEFAULT_EVENTS: [&str; 9] = [
    "kvm",
    "irq",
    "sched:sched_switch",
    "sched:sched_waking",
    "sched:sched_wakeup_new",
    "sched:sched_migrate_task",
    "sched:sched_process_fork",
    "sched:sched_process_exec",
    "sched:sched_process_exit",
];

/// The kernel's buffer for each CPU, in KiB, where nothing else is asked for: it has to hold what a CPU records while
/// the copying thread waits for its turn.
pub const DEFAULT_BUFFER_KIB: u32 = 8192;

/// What to record.
#[derive(Clone, Debug)]
pub struct Options {
    /// `SYSTEM:EVENT` with wildcards, or a system or event alone; [`DEFAULT_EVENTS`] where it is empty.
    pub events: Vec<EventPattern>,
    /// The kernel's buffer for each CPU, in KiB.
    pub buffer_kib: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { events: Vec::new(), buffer_kib: DEFAULT_BUFFER_KIB }
    }
}

/// One change of the kernel's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A tracing instance is made; it is put back by removing it.
    Instance(PathBuf),
    /// A file is written.
    Write {
        /// The file.
        path: PathBuf,
        /// Its new content.
        value: String,
        /// What it is put back to; `None` in an instance that is removed as a whole.
        put_back: Option<String>,
    },
}

impl Step {
    /// As a line of shell.
    pub fn line(&self) -> String {
        match self {
            Self::Instance(path) => format!("mkdir {}", path.display()),
            Self::Write { path, value, .. } => format!("echo {value} > {}", path.display()),
        }
    }

    /// How it is put back, as a line of shell.
    pub fn undo_line(&self) -> Option<String> {
        match self {
            Self::Instance(path) => Some(format!("rmdir {}", path.display())),
            Self::Write { path, put_back, .. } => {
                put_back.as_ref().map(|value| format!("echo {value} > {}", path.display()))
            }
        }
    }
}

/// A recording before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In order; put back in reverse order.
    pub steps: Vec<Step>,
    /// The instance that records the events.
    pub(super) buffer: PathBuf,
    /// The instance with the offset writes, where there is one to be used.
    pub(super) offsets: Option<PathBuf>,
    /// It was there before, so it may know of offsets from long ago.
    pub(super) offsets_were_recorded: bool,
    pub(super) events: Events,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl Plan {
    /// Looks at what the kernel has, and writes nothing.
    ///
    /// # Errors
    /// `Unsupported` where it has no trace clock x86-tsc or no kvm events; `Usage` where an event does not exist or
    /// another recording runs; `Io` where tracefs cannot be read.
    pub fn new(system: &System, options: &Options) -> Result<Self> {
        has_clock(system)?;
        let buffer = system.instance(BUFFER);
        if buffer.is_dir() {
            return Err(Error::new(ErrorKind::Usage, "exists: another recording runs, or one was killed")
                .in_file(&buffer)
                .hint(format!("where no other runs: rmdir {}", buffer.display())));
        }
        let named = !options.events.is_empty();
        let wanted =
            if named { options.events.clone() } else { DEFAULT_EVENTS.iter().filter_map(|e| e.parse().ok()).collect() };
        let events = events::find(&system.tracefs.join("events"), &wanted, named)?;
        let mut plan = Self {
            steps: Vec::new(),
            buffer: buffer.clone(),
            offsets: None,
            offsets_were_recorded: false,
            events,
            notes: Vec::new(),
        };
        plan.offsets(system);
        plan.steps.push(Step::Instance(buffer));
        plan.write("tracing_on", "0");
        plan.write("trace_clock", CLOCK);
        plan.write("buffer_size_kb", &options.buffer_kib.to_string());
        if system.tracefs.join("options/record-tgid").exists() {
            plan.write("options/record-tgid", "1");
        }
        for enabled in plan.events.enabled.clone() {
            plan.write(&format!("events/{enabled}/enable"), "1");
        }
        plan.write("tracing_on", "1");
        Ok(plan)
    }

    /// The instance with the offset writes: the one that is there, or a new one.
    fn offsets(&mut self, system: &System) {
        if !system.tracefs.join("events").join(OFFSET_EVENT).is_dir() {
            return;
        }
        let instance = system.instance(OFFSETS);
        if !instance.is_dir() {
            self.steps.extend(make_offsets(system));
            self.offsets = Some(instance);
            return;
        }
        let read = |name: &str| text(&instance.join(name)).unwrap_or_default();
        if !uses_clock(&read("trace_clock")) {
            let path = instance.display();
            self.notes.push(format!("{path} is there but has another clock than {CLOCK}, and is not used"));
            return;
        }
        for name in ["tracing_on".to_owned(), format!("events/{OFFSET_EVENT}/enable")] {
            let old = read(&name).trim().to_owned();
            if !old.starts_with('1') {
                let path = instance.join(name);
                self.notes.push(format!("{} was {old}: it may have missed offsets", path.display()));
                self.steps.push(Step::Write { path, value: "1".into(), put_back: Some(old) });
            }
        }
        self.offsets = Some(instance);
        self.offsets_were_recorded = true;
    }

    fn write(&mut self, name: &str, value: &str) {
        self.steps.push(Step::Write { path: self.buffer.join(name), value: value.into(), put_back: None });
    }

    /// Everything that a recording into `target` writes, for a person to read, each write as a line of shell.
    pub fn text(&self, target: &str) -> String {
        let mut lines: Vec<String> = vec!["# to begin:".into()];
        lines.extend(self.steps.iter().map(Step::line));
        let marker = self.buffer.join("trace_marker");
        let mark = |what: &str| format!("echo \"{}\" > {}", Moment::mark(what, "SECONDS"), marker.display());
        lines.push(mark("begin"));
        lines.push(format!("# until it is over, {}/per_cpu/cpu*/trace_pipe_raw is read; then:", self.buffer.display()));
        lines.push(mark("end"));
        lines.push(format!("echo 0 > {}", self.buffer.join("tracing_on").display()));
        lines.push("# everything is put back, also after Ctrl-C and after an error:".into());
        lines.extend(self.steps.iter().rev().filter_map(Step::undo_line));
        lines.push(format!("# only read: /proc, debugfs kvm/*/vcpu*, /dev/kmsg; the result is {target}"));
        lines.join("\n") + "\n"
    }

    /// Leaves a mark in the recording that tells which wall-clock time it was; it is missing where that fails.
    pub(super) fn mark(&self, system: &System, what: &str) {
        let _ = system.write(&self.buffer.join("trace_marker"), &Moment::mark(what, &Moment::now().seconds()));
    }

    /// Ends the recording of events; what is in the buffers stays.
    pub(super) fn stop(&self, system: &System) -> Result<()> {
        system.write(&self.buffer.join("tracing_on"), "0")
    }
}

/// The steps that make the instance for the offset event, to be there before the VMs start. None where it is there.
///
/// # Errors
/// As [`Plan::new`]; `Usage` where the instance has another clock.
pub fn prepare(system: &System) -> Result<Vec<Step>> {
    has_clock(system)?;
    let event = system.tracefs.join("events").join(OFFSET_EVENT);
    if !event.is_dir() {
        return Err(Error::new(ErrorKind::Unsupported, "this kernel has no such event: the module kvm is not loaded")
            .in_file(event)
            .hint("as root: modprobe kvm_intel, or kvm_amd"));
    }
    let instance = system.instance(OFFSETS);
    if !instance.is_dir() {
        return Ok(make_offsets(system));
    }
    if !uses_clock(&text(&instance.join("trace_clock")).unwrap_or_default()) {
        return Err(Error::new(ErrorKind::Usage, format!("is there with another clock than {CLOCK}"))
            .in_file(&instance)
            .hint(format!("if nobody needs it: rmdir {}", instance.display())));
    }
    let files = ["tracing_on".to_owned(), format!("events/{OFFSET_EVENT}/enable")].map(|name| instance.join(name));
    let off = files.into_iter().filter(|path| !text(path).unwrap_or_default().starts_with('1'));
    Ok(off.map(|path| Step::Write { path, value: "1".into(), put_back: None }).collect())
}

/// Removes the instance that [`prepare`] made. Returns whether there was one.
///
/// # Errors
/// `Io` where the kernel refuses.
pub fn unprepare(system: &System) -> Result<bool> {
    let instance = system.instance(OFFSETS);
    if !instance.is_dir() {
        return Ok(false);
    }
    system.remove_instance(&instance).map(|()| true)
}

fn make_offsets(system: &System) -> Vec<Step> {
    let instance = system.instance(OFFSETS);
    let write =
        |name: &str, value: &str| Step::Write { path: instance.join(name), value: value.into(), put_back: None };
    vec![
        Step::Instance(instance.clone()),
        write("trace_clock", CLOCK),
        write(&format!("events/{OFFSET_EVENT}/enable"), "1"),
    ]
}

fn has_clock(system: &System) -> Result<()> {
    let path = system.tracefs.join("trace_clock");
    let clocks = system.read(&path)?;
    if clocks.split_whitespace().any(|name| name.trim_matches(['[', ']']) == CLOCK) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unsupported, format!("this kernel has no trace clock {CLOCK}"))
        .in_file(path)
        .hint("only x86 hosts can be recorded: host and guests must share a counter"))
}

/// `local [x86-tsc]`, or the name alone.
fn uses_clock(text: &str) -> bool {
    text.contains(&format!("[{CLOCK}]")) || text.trim() == CLOCK
}
