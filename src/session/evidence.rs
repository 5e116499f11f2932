//! Collects everything that is known about each vCPU's offset and turns it into histories.

use std::collections::BTreeMap;

use crate::capture::TimeShift;
use crate::clock::history::{Change, EdgeBounds, Evidence, Given, History, ShiftSample, Snapshot, Write, join_copies};
use crate::clock::pvclock::{Params, Update};
use crate::clock::scaling::{HostRange, Scaling};
use crate::error::Result;
use crate::monitor::Monitor;
use crate::session::facts::Facts;
use crate::session::groups::Group;
use crate::session::inputs::Opened;
use crate::session::request::OffsetSpec;
use crate::session::runs::{Edge, Host, for_each_edge, known_span};
use crate::time::{GuestTsc, HostTsc, TscOffset};

/// An offset write with its place among all files.
#[derive(Clone, Copy, Debug)]
struct HostWrite {
    tid: i32,
    vcpu: u32,
    write: Write,
}

/// All that the host's captures say about offsets.
pub(super) struct HostEvidence {
    writes: Vec<HostWrite>,
    updates: Vec<(i32, u32, Update)>,
    /// vCPU thread to vcpu_id.
    threads: BTreeMap<i32, Option<u32>>,
    /// First kvm event of each vCPU thread.
    first_run: BTreeMap<i32, u64>,
    groups: usize,
}

impl HostEvidence {
    /// Gathers the writes of the host's captures and of files that hold nothing else.
    pub(super) fn new(hosts: &[&Opened], offsets: &[&Opened], groups: usize) -> Self {
        let mut evidence = Self {
            writes: Vec::new(),
            updates: Vec::new(),
            threads: BTreeMap::new(),
            first_run: BTreeMap::new(),
            groups,
        };
        let mut base = 0;
        for opened in hosts.iter().chain(offsets) {
            for w in &opened.survey.writes {
                let write = Write {
                    at: HostTsc::new(w.ts),
                    prev: TscOffset::from_raw(w.prev),
                    next: TscOffset::from_raw(w.next),
                    buffer: (base + w.buffer) as u16,
                };
                evidence.writes.push(HostWrite { tid: w.tid, vcpu: w.vcpu, write });
            }
            base += opened.capture.buffers.len();
            for p in &opened.survey.pvclock {
                let params = Params {
                    tsc_timestamp: GuestTsc::new(p.tsc_timestamp),
                    system_time: p.system_time,
                    mul: p.mul,
                    shift: p.shift,
                };
                evidence.updates.push((p.tid, p.vcpu, Update { at: HostTsc::new(p.ts), params }));
            }
            for (tid, thread) in &opened.survey.threads {
                evidence.threads.insert(*tid, thread.vcpu_id);
                let first = evidence.first_run.entry(*tid).or_insert(u64::MAX);
                *first = thread.first.min(*first);
            }
        }
        evidence
    }

    /// Whether a write by `tid` for `vcpu` is about the vCPU `(vcpu_id, thread)` of `group`.
    ///
    /// QEMU writes from the vCPU's own thread. Other programs create all vCPUs from one thread, which then belongs to
    /// the VM's process or is a stranger among the vCPU threads.
    fn is_about(&self, tid: i32, vcpu: u32, group: &Group, vcpu_id: u32, thread: i32) -> bool {
        match self.threads.get(&tid) {
            Some(own) if own.is_none_or(|own| own == vcpu) => tid == thread,
            _ if vcpu != vcpu_id => false,
            _ => self.groups == 1 || u32::try_from(tid).is_ok_and(|tid| Some(tid) == group.pid),
        }
    }

    /// The recorded writes of a vCPU, copies joined.
    pub(super) fn changes(&self, group: &Group, vcpu_id: u32, thread: i32) -> Vec<Change> {
        let about = |w: &&HostWrite| self.is_about(w.tid, w.vcpu, group, vcpu_id, thread);
        let writes: Vec<Write> = self.writes.iter().filter(about).map(|w| w.write).collect();
        join_copies(&writes)
    }

    /// The pvclock updates of a vCPU, by time.
    pub(super) fn updates(&self, group: &Group, vcpu_id: u32, thread: i32) -> Vec<Update> {
        let about = |(tid, vcpu, _): &&(i32, u32, Update)| self.is_about(*tid, *vcpu, group, vcpu_id, thread);
        let mut updates: Vec<Update> = self.updates.iter().filter(about).map(|(_, _, u)| *u).collect();
        updates.sort_by_key(|u| u.at);
        updates
    }

    /// Whether the thread ran before its first recorded write.
    fn ran_before(&self, thread: i32, changes: &[Change]) -> bool {
        let first = self.first_run.get(&thread).copied().unwrap_or(u64::MAX);
        changes.first().is_some_and(|c| first < c.at.get())
    }
}

/// What else may be known about one vCPU.
pub(super) struct Extra<'a> {
    /// `--offset`, already chosen for this VM and vCPU.
    pub(super) given: Option<TscOffset>,
    /// TIME_SHIFT of the guest's file, and the guest's CPU.
    pub(super) time_shift: Option<(&'a TimeShift, usize)>,
    /// debugfs and the like.
    pub(super) facts: &'a Facts,
    /// Use nothing that was recorded.
    pub(super) ignore_recorded: bool,
}

/// All evidence about a vCPU's offset except inference.
pub(super) fn evidence(host: &HostEvidence, group: &Group, vcpu_id: u32, thread: i32, extra: &Extra<'_>) -> Evidence {
    let mut evidence = Evidence {
        given: extra.given.map(|offset| Given { offset: Some(offset), scaling: None }),
        ..Evidence::default()
    };
    if extra.ignore_recorded {
        return evidence;
    }
    evidence.changes = host.changes(group, vcpu_id, thread);
    evidence.ran_before = host.ran_before(thread, &evidence.changes);
    if let Some((shift, cpu)) = extra.time_shift {
        evidence.samples = shift_samples(shift, cpu);
    }
    let about = extra.facts.debugfs.iter().filter(|d| Some(d.pid) == group.pid && d.vcpu == vcpu_id);
    evidence.snapshots = about
        .map(|d| Snapshot {
            offset: d.offset,
            scaling: d.ratio.zip(d.frac_bits).and_then(|(ratio, frac)| Scaling::new(ratio, frac)),
        })
        .collect();
    evidence
}

/// The samples of one CPU in KVM's sign.
fn shift_samples(shift: &TimeShift, cpu: usize) -> Vec<ShiftSample> {
    let list = if shift.all_cpus { shift.vcpus.first() } else { shift.vcpus.get(cpu) };
    let samples = list.map(Vec::as_slice).unwrap_or_default();
    samples
        .iter()
        .map(|s| ShiftSample {
            at: GuestTsc::new(s.time),
            offset: TscOffset::from_signed(s.offset.wrapping_neg()),
            measured: shift.interpolate,
            scaling: match (s.scaling, s.fraction_bits) {
                (0 | 1, _) | (_, None) => None,
                (ratio, Some(bits)) => Scaling::new(ratio, bits),
            },
        })
        .collect()
}

/// The offset that the user gave for a vCPU: its own before its VM's.
pub(super) fn given(specs: &[OffsetSpec], vm: &str, number: u32) -> Option<TscOffset> {
    let of = |vcpu: Option<u32>| specs.iter().rev().find(|s| s.vm == vm && s.vcpu == vcpu).map(|s| s.offset);
    of(Some(number)).or_else(|| of(None))
}

/// Narrows every history with more than one segment to the times at which its thread really ran, in one scan.
pub(super) fn tighten(
    hosts: &[Host<'_>],
    histories: &mut [(i32, &mut History, Vec<Change>)],
    monitor: &Monitor<'_>,
) -> Result<()> {
    let Some(known) = known_span(hosts) else { return Ok(()) };
    let mut bounds: BTreeMap<i32, EdgeBounds> = BTreeMap::new();
    for (thread, history, changes) in histories.iter() {
        if history.segments.len() > 1 && !changes.is_empty() {
            bounds.insert(*thread, EdgeBounds::new(changes, known));
        }
    }
    if bounds.is_empty() {
        return Ok(());
    }
    for_each_edge(hosts, &[HostRange::ALL], monitor, &mut |edge, _cpu| match edge {
        Edge::Entry(tid, ts) => {
            if let Some(b) = bounds.get_mut(&tid) {
                b.note_entry(ts);
            }
        }
        Edge::Exit(tid, ts) => {
            if let Some(b) = bounds.get_mut(&tid) {
                b.note_exit(ts);
            }
        }
        Edge::Lost(range) => bounds.values_mut().for_each(|b| b.note_lost(range)),
    })?;
    for (thread, history, _) in histories {
        if let Some(b) = bounds.get(thread) {
            history.tighten(b);
        }
    }
    Ok(())
}
