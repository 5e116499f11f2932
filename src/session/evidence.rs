//! Collects everything that is known about each vCPU's offset and turns it into histories.

use std::collections::BTreeMap;

use crate::capture::TimeShift;
use crate::clock::history::{Change, EdgeBounds, Evidence, Given, History, ShiftSample, Snapshot, Write, join_copies};
use crate::clock::pvclock::{Params, Update};
use crate::clock::scaling::{HostRange, Scaling};
use crate::error::Result;
use crate::monitor::Monitor;
use crate::session::facts::{DebugfsVcpu, Facts};
use crate::session::groups::Group;
use crate::session::inputs::Opened;
use crate::session::request::OffsetSpec;
use crate::session::runs::{Edge, Host, for_each_edge, known_span};
use crate::session::writers::{Kin, Written, owners};
use crate::time::{GuestTsc, HostTsc, TscOffset};

/// All that the host's captures say about offsets.
pub(super) struct HostEvidence {
    /// By time, each with the vCPU thread that it is about.
    writes: Vec<(Option<i32>, Write)>,
    /// The threads that wrote them.
    writers: Vec<i32>,
    updates: Vec<(i32, Update)>,
    /// First kvm event of each vCPU thread.
    first_run: BTreeMap<i32, u64>,
    /// Writes of which nobody knows the vCPU.
    pub(super) strangers: usize,
}

impl HostEvidence {
    /// Gathers the writes of the host's captures and of files that hold nothing else.
    pub(super) fn new(hosts: &[&Opened], offsets: &[&Opened], groups: &[Group]) -> Self {
        let mut writes: Vec<(Written, u16)> = Vec::new();
        let mut updates = Vec::new();
        let mut first_run: BTreeMap<i32, u64> = BTreeMap::new();
        let mut base = 0;
        for opened in hosts.iter().chain(offsets) {
            for w in &opened.survey.writes {
                let written = Written { at: w.ts, tid: w.tid, vcpu: w.vcpu, prev: w.prev, next: w.next };
                writes.push((written, (base + w.buffer) as u16));
            }
            base += opened.capture.buffers.len();
            for p in &opened.survey.pvclock {
                let params = Params {
                    tsc_timestamp: GuestTsc::new(p.tsc_timestamp),
                    system_time: p.system_time,
                    mul: p.mul,
                    shift: p.shift,
                };
                updates.push((p.tid, Update { at: HostTsc::new(p.ts), params }));
            }
            for (tid, thread) in &opened.survey.threads {
                let first = first_run.entry(*tid).or_insert(u64::MAX);
                *first = thread.first.min(*first);
            }
        }
        writes.sort_by_key(|(w, _)| w.at);
        updates.sort_by_key(|(_, u)| u.at);
        let written: Vec<Written> = writes.iter().map(|(w, _)| *w).collect();
        let owners = owners(&written, groups, &Kin::new(hosts));
        let write = |(w, buffer): (Written, u16)| Write {
            at: HostTsc::new(w.at),
            prev: TscOffset::from_raw(w.prev),
            next: TscOffset::from_raw(w.next),
            buffer,
        };
        let strangers = owners.iter().filter(|o| o.is_none()).count();
        let writers = writes.iter().map(|(w, _)| w.tid).collect();
        let writes = owners.into_iter().zip(writes.into_iter().map(write)).collect();
        Self { writes, writers, updates, first_run, strangers }
    }

    /// The recorded writes of a vCPU, copies joined.
    pub(super) fn changes(&self, thread: i32) -> Vec<Change> {
        let about = self.writes.iter().filter(|(owner, _)| *owner == Some(thread));
        join_copies(&about.map(|(_, write)| *write).collect::<Vec<_>>())
    }

    /// The pvclock updates of a vCPU, by time: KVM makes them in the vCPU's own thread.
    pub(super) fn updates(&self, thread: i32) -> Vec<Update> {
        self.updates.iter().filter(|(tid, _)| *tid == thread).map(|(_, update)| *update).collect()
    }

    /// The process of debugfs snapshots that is the group's: it wrote for it, its offsets are those that the group's
    /// vCPUs got last, or there is no other (`alone`: and no other VM).
    pub(super) fn debugfs_pid(&self, group: &Group, facts: &Facts, alone: bool) -> Option<u32> {
        let mut pids: Vec<u32> = facts.debugfs.iter().map(|d| d.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        let of_group = |owner: &Option<i32>| group.vcpus.iter().any(|(_, thread)| Some(*thread) == *owner);
        let wrote = self.writes.iter().zip(&self.writers).filter(|((owner, _), _)| of_group(owner));
        let wrote: Vec<u32> = wrote.filter_map(|(_, tid)| u32::try_from(*tid).ok()).collect();
        if let Some(pid) = pids.iter().find(|pid| wrote.contains(pid)) {
            return Some(*pid);
        }
        let last = |thread: i32| self.writes.iter().rev().find(|(o, _)| *o == Some(thread)).map(|(_, w)| w.next);
        let agrees = |pid: &u32| {
            let mut seen = 0;
            for (vcpu, thread) in &group.vcpus {
                let Some(d) = facts.debugfs.iter().find(|d| d.pid == *pid && d.vcpu == *vcpu) else { continue };
                match (last(*thread), d.offset) {
                    (Some(last), Some(offset)) if last == offset => seen += 1,
                    (Some(_), Some(_)) => return false,
                    _ => {}
                }
            }
            seen > 0
        };
        let fitting: Vec<u32> = pids.iter().copied().filter(agrees).collect();
        match (fitting.as_slice(), pids.as_slice()) {
            ([only], _) => Some(*only),
            ([], [only]) if alone => Some(*only),
            _ => None,
        }
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
    /// The host's time is its TSC. If not, what speaks of TSC cycles says nothing of the guest's stamps.
    pub(super) tsc: bool,
    /// Use nothing that was recorded.
    pub(super) ignore_recorded: bool,
}

/// All evidence about a vCPU's offset except inference.
pub(super) fn evidence(host: &HostEvidence, group: &Group, vcpu_id: u32, thread: i32, extra: &Extra<'_>) -> Evidence {
    let own = |d: &&DebugfsVcpu| extra.tsc && Some(d.pid) == group.pid && d.vcpu == vcpu_id;
    let debugfs: Vec<&DebugfsVcpu> = extra.facts.debugfs.iter().filter(own).collect();
    let named = |d: &DebugfsVcpu| d.ratio.zip(d.frac_bits).and_then(|(ratio, frac)| Scaling::new(ratio, frac));
    let samples = extra.time_shift.map_or_else(Vec::new, |(shift, cpu)| shift_samples(shift, cpu));
    let mut evidence = Evidence::default();
    if extra.ignore_recorded {
        // Scaling cannot be inferred: what is known of it stays.
        let scaling = debugfs.iter().find_map(|d| named(d)).or_else(|| samples.iter().find_map(|s| s.scaling));
        evidence.given = Some(Given { offset: extra.given, scaling });
        return evidence;
    }
    evidence.changes = if extra.tsc { host.changes(thread) } else { Vec::new() };
    evidence.ran_before = host.ran_before(thread, &evidence.changes);
    evidence.samples = samples;
    let snapshots = debugfs.iter().filter_map(|d| Some(Snapshot { offset: d.offset?, scaling: named(d) }));
    evidence.snapshots = snapshots.collect();
    // A snapshot of the scaling alone.
    let scaling = debugfs.iter().filter(|d| d.offset.is_none()).find_map(|d| named(d));
    if extra.given.is_some() || scaling.is_some() {
        evidence.given = Some(Given { offset: extra.given, scaling });
    }
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
