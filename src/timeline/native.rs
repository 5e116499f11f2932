//! The native layer: each machine's scheduler events as what they are, for a viewer that knows schedulers itself.
//!
//! Here is what an exporter gets; `layer` picks the events.

pub(super) mod layer;

use std::ops::Range;

use crate::time::TraceNs;

/// What an exporter must know of the machines beforehand.
#[derive(Clone, Debug)]
pub struct Native {
    /// The host, then the VMs in the order of their rows.
    pub machines: Vec<Machine>,
    /// [`NativeEvent::cpu`] is an index into it.
    pub cpus: Vec<MachineCpu>,
    /// Events that no viewer knows come too.
    pub all: bool,
}

/// A CPU of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineCpu {
    /// Index into [`Native::machines`].
    pub machine: u32,
    /// Its number there.
    pub number: u32,
}

/// A host or guest with a kernel of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Shown name; the host has none.
    pub name: Option<String>,
    /// Its kernel: what `prev_state` means depends on the version.
    pub kernel: Kernel,
    /// How many CPUs it has; 0 where that is not known.
    pub cpu_count: u32,
    /// Threads whose process is known, by thread id.
    pub threads: Vec<Thread>,
    /// What recorded it.
    pub sources: Vec<MachineSource>,
}

/// A kernel as `uname` names it; empty where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// "Linux".
    pub system: String,
    /// Such as "6.8.0-31-generic".
    pub release: String,
    /// Such as "x86_64".
    pub machine: String,
}

/// A thread whose process is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Thread id.
    pub tid: i32,
    /// The process's id, which is that of its first thread.
    pub process: i32,
    /// Its name as last known; empty where it is not.
    pub comm: Box<str>,
}

/// A capture of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSource {
    /// Index into [`super::drawing::World::sources`].
    pub source: u16,
    /// By event index: whether there is any such event.
    pub recorded: Vec<bool>,
}

/// The events of the scheduler: those from which a viewer knows what each CPU and each thread does, and what it is called.
pub const SCHEDULING: [(&str, &str); 7] = [
    ("sched", "sched_switch"),
    ("sched", "sched_waking"),
    ("sched", "sched_wakeup"),
    ("sched", "sched_wakeup_new"),
    ("sched", "sched_process_free"),
    ("task", "task_newtask"),
    ("task", "task_rename"),
];

/// An event of the native layer. Those of a CPU come in time order.
#[derive(Clone, Debug)]
pub struct NativeEvent {
    /// When.
    pub ts: TraceNs,
    /// Where: index into [`Native::cpus`].
    pub cpu: u32,
    /// What.
    pub shape: NativeShape,
}

/// What an event of the native layer says.
#[derive(Clone, Debug)]
pub enum NativeShape {
    /// All that was recorded.
    Full(Recorded),
    /// A `sched_switch` or `sched_waking` by the thread that the CPU's switch before it has started: who was running
    /// need not be said again.
    Follows(Recorded),
    /// The CPU goes idle, which no event says: what it does from now on is not known.
    Ends,
    /// The CPU runs the thread that this `sched_switch` leaves. Its own switch follows.
    Resumes(Recorded),
}

/// A record in a [`super::drawing::Batch`].
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Index into [`super::drawing::World::sources`].
    pub source: u16,
    /// Index into the source's format table.
    pub event: u16,
    /// A range of [`super::drawing::Batch::records`].
    pub payload: Range<u32>,
}
