//! A physical CPU: which task runs, and which vCPUs wait for it.

use super::batch_builder::Canvas;
use super::drawing::{Category, TrackId};
use super::names::NameId;
use super::row::{Closing, Open, Row};

/// A task on a CPU. Thread id 0 is the idle task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) tid: i32,
    /// Index of the vCPU whose thread it is.
    pub(super) vcpu: Option<u32>,
    /// Index of the VM that it works for.
    pub(super) vm: Option<u32>,
    pub(super) name: NameId,
    /// Since when, in nanoseconds.
    pub(super) since: u64,
    /// The flow id of its slice; 0 where it has none.
    pub(super) flow: u64,
}

/// How many finished slices a CPU remembers, for a thread that turns out to have waited for it.
const REMEMBERED: usize = 16;

/// A physical CPU.
pub(super) struct HostCpu {
    pub(super) number: u32,
    pub(super) row: Row,
    /// Its events as instants; only without VMs.
    pub(super) events: Option<TrackId>,
    /// Recorded streams that have not ended.
    pub(super) streams: usize,
    /// What runs on it; `None` where that is not known.
    pub(super) running: Option<Running>,
    /// vCPUs that are runnable and wait for it.
    pub(super) waiters: Vec<u32>,
    /// How many vCPU threads would come back to it: its slices get flow ids while there are any.
    pub(super) homed: usize,
    /// "preempted, CPU n idle" and "kept waiting, CPU n idle".
    pub(super) idle_names: [NameId; 2],
    recent: [Option<(Running, u64)>; REMEMBERED],
    next: usize,
}

impl HostCpu {
    pub(super) fn new(number: u32, track: TrackId, events: Option<TrackId>, canvas: &mut Canvas) -> Self {
        let mut idle = |what: &str| canvas.names.intern(format!("{what}, CPU {number} idle").as_bytes());
        Self {
            number,
            row: Row::of_host(track),
            events,
            streams: 0,
            running: None,
            waiters: Vec::new(),
            homed: 0,
            idle_names: [idle("preempted"), idle("kept waiting")],
            recent: [None; REMEMBERED],
            next: 0,
        }
    }

    /// The running task leaves; its slice stays open until [`HostCpu::draw`].
    pub(super) fn leave(&mut self, ns: u64) {
        if let Some(running) = self.running.take() {
            self.recent[self.next] = Some((running, ns));
            self.next = (self.next + 1) % REMEMBERED;
        }
    }

    /// Ends all slices and starts that of the next task, where the arrow with the id `arrow` arrives.
    pub(super) fn draw(&mut self, canvas: &mut Canvas, ns: u64, next: Running, arrow: Option<u64>) {
        self.row.close_all(canvas, ns, Closing::Over);
        if next.tid != 0 {
            if next.flow != 0 {
                canvas.flow(next.flow);
            }
            if let Some(arrow) = arrow {
                canvas.arrive(arrow);
            }
            self.row.open(canvas, ns, Category::Host, Open::Task, next.name);
        }
        self.running = Some(next);
    }

    /// Tasks that ran between two times, with the part of each that lies between them, as far as remembered.
    pub(super) fn ran_between(&self, begin: u64, end: u64) -> impl Iterator<Item = (Running, u64, u64)> {
        let past = self.recent.iter().flatten().copied().chain(self.running.map(|running| (running, end)));
        past.filter_map(move |(running, until)| {
            let (from, to) = (running.since.max(begin), until.min(end));
            (from < to).then_some((running, from, to))
        })
    }
}
