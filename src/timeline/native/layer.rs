//! Picks the events of the native layer, and keeps each CPU's chain of switches whole.
//!
//! A viewer takes the thread that a switch starts to run until the next switch of that CPU, so where the recording ends
//! or has a hole the CPU is sent idle, as a gap in the overlay is.

use super::{MachineCpu, NativeEvent, NativeShape, SCHEDULING};
use crate::time::TraceNs;
use crate::timeline::accessor::Num;
use crate::timeline::batch_builder::Canvas;
use crate::timeline::drawing::FieldSource;
use crate::timeline::setup::{NativeEvents, Setup, StreamRole};

/// Perfetto refuses a whole file for the sake of one CPU beyond.
const MAX_CPU: u32 = 1023;

/// What an event is to the layer.
#[derive(Clone, Copy)]
enum Kind {
    Left,
    Switch { prev: Num, next: Num },
    Waking { by: Num },
    Other,
}

/// A CPU of a machine.
#[derive(Clone, Copy, Default)]
struct Cpu {
    /// The thread that its last switch has started.
    runs: Option<i32>,
    /// It went idle without an event, and no switch has been seen since.
    ended: bool,
    /// Its last event.
    last: u64,
    /// Its last event that was written in full: no shorter one may have its time, as their order would be lost.
    full: u64,
}

/// The native layer.
pub(in crate::timeline) struct NativeLayer {
    /// By source and event.
    kinds: Vec<Vec<Kind>>,
    cpus: Vec<Cpu>,
    /// By stream: index into `cpus`.
    streams: Vec<Option<usize>>,
}

impl NativeLayer {
    /// The layer, if it is wanted, and its CPUs in the order of machines and numbers.
    pub(in crate::timeline) fn new(setup: &Setup) -> Option<(Self, Vec<MachineCpu>)> {
        let events = setup.options.layers.native;
        if events == NativeEvents::None {
            return None;
        }
        let streams: Vec<Option<MachineCpu>> = setup.streams.iter().map(|role| machine_cpu(setup, role)).collect();
        let mut cpus: Vec<MachineCpu> = streams.iter().flatten().copied().collect();
        cpus.sort_unstable_by_key(|cpu| (cpu.machine, cpu.number));
        cpus.dedup();
        let layer = Self {
            kinds: setup.sources.iter().map(|source| kinds(source, events)).collect(),
            streams: streams.iter().map(|cpu| cpus.iter().position(|other| Some(*other) == *cpu)).collect(),
            cpus: vec![Cpu::default(); cpus.len()],
        };
        Some((layer, cpus))
    }

    /// An event of `stream`. Returns whether it belongs to the layer.
    pub(in crate::timeline) fn event(
        &mut self,
        stream: usize,
        ns: u64,
        (source, event, payload): (u16, u16, &[u8]),
        canvas: &mut Canvas,
    ) -> bool {
        let Some(kind) = self.kinds.get(usize::from(source)).and_then(|kinds| kinds.get(usize::from(event))) else {
            return false;
        };
        let Some((index, cpu)) = self.streams.get(stream).copied().flatten().and_then(|index| {
            let cpu = self.cpus.get_mut(index)?;
            Some((index as u32, cpu))
        }) else {
            return false;
        };
        if matches!(kind, Kind::Left) {
            return false;
        }
        let Some(recorded) = canvas.record(source, event, payload) else { return false };
        let ns = ns.max(cpu.last);
        let mut push = |shape| canvas.native(NativeEvent { ts: TraceNs::new(ns), cpu: index, shape });
        let follows = match *kind {
            Kind::Switch { prev, next } => {
                let prev = prev.pid(payload);
                if cpu.ended && cpu.runs.is_some_and(|runs| runs != prev) && ns > cpu.full {
                    push(NativeShape::Resumes(recorded.clone()));
                    cpu.runs = Some(prev);
                }
                cpu.ended = false;
                cpu.runs.replace(next.pid(payload)) == Some(prev)
            }
            Kind::Waking { by } => cpu.runs == Some(by.pid(payload)),
            Kind::Left | Kind::Other => false,
        };
        if follows && ns > cpu.full {
            push(NativeShape::Follows(recorded));
        } else {
            push(NativeShape::Full(recorded));
            if !matches!(kind, Kind::Other) {
                cpu.full = ns;
            }
        }
        cpu.last = ns;
        true
    }

    /// What a stream's CPU does after `ns` is not known.
    pub(in crate::timeline) fn ends(&mut self, stream: usize, ns: u64, canvas: &mut Canvas) {
        if let Some(index) = self.streams.get(stream).copied().flatten() {
            self.end(index, ns, canvas);
        }
    }

    /// What all CPUs do after `ns` is not known.
    pub(in crate::timeline) fn all_end(&mut self, ns: u64, canvas: &mut Canvas) {
        for index in 0..self.cpus.len() {
            self.end(index, ns, canvas);
        }
    }

    fn end(&mut self, index: usize, ns: u64, canvas: &mut Canvas) {
        let cpu = &mut self.cpus[index];
        if !matches!(cpu.runs, None | Some(0)) {
            let ns = ns.max(cpu.last).max(cpu.full + 1);
            canvas.native(NativeEvent { ts: TraceNs::new(ns), cpu: index as u32, shape: NativeShape::Ends });
            (cpu.runs, cpu.last) = (Some(0), ns);
        }
        cpu.ended = true;
    }
}

/// Which CPU of which machine recorded a stream.
fn machine_cpu(setup: &Setup, role: &StreamRole) -> Option<MachineCpu> {
    let cpu = match *role {
        StreamRole::Host { cpu, .. } => MachineCpu { machine: 0, number: cpu },
        StreamRole::Guest { vm, vcpu, .. } => {
            let vcpu = setup.vms.get(vm as usize)?.vcpus.get(vcpu as usize)?;
            if vcpu.hidden {
                return None;
            }
            MachineCpu { machine: vm + 1, number: vcpu.number }
        }
    };
    (cpu.number <= MAX_CPU).then_some(cpu)
}

fn kinds(source: &FieldSource, events: NativeEvents) -> Vec<Kind> {
    let kind = |format: &crate::capture::event_format::EventFormat| {
        let number = |name| Num::named(format, name, source.endian);
        let rest = if events == NativeEvents::All { Kind::Other } else { Kind::Left };
        match (&*format.system, &*format.name) {
            ("sched", "sched_switch") => match (number("prev_pid"), number("next_pid")) {
                (Some(prev), Some(next)) => Kind::Switch { prev, next },
                _ => rest,
            },
            ("sched", "sched_waking") => number("common_pid").map_or(rest, |by| Kind::Waking { by }),
            event if SCHEDULING.contains(&event) => Kind::Other,
            _ => rest,
        }
    };
    source.formats.events().iter().map(kind).collect()
}
