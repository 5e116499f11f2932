//! Each vCPU's clock.

use crate::clock::history::Segment;
use crate::session::{Session, conflict_words};

/// The clock of one vCPU.
#[derive(Clone, Debug)]
pub struct VcpuClock<'a> {
    /// The VM's name.
    pub vm: &'a str,
    /// The vCPU's number in the guest, or KVM's without a guest's capture.
    pub vcpu: u32,
    /// KVM's number, where known.
    pub vcpu_id: Option<u32>,
    /// Its host thread, where known.
    pub thread: Option<i32>,
    /// Which offset held when, in host-time order: each with its source, and how far it may be off.
    pub segments: &'a [Segment],
    /// How many host cycles one reading of the guest's clock may last, at least 1: more than 1 for a guest that counts
    /// slower than the host, or in nanoseconds.
    pub reading_cycles: u64,
    /// What else is worth saying, in words.
    pub note: Option<&'a str>,
    /// Where the evidence contradicts itself, in words.
    pub conflicts: Vec<String>,
}

pub(super) fn clocks(session: &Session) -> Vec<VcpuClock<'_>> {
    let vcpus = session.vms.iter().flat_map(|vm| vm.vcpus.iter().map(move |vcpu| (vm, vcpu)));
    vcpus
        .map(|(vm, vcpu)| VcpuClock {
            vm: &vm.name,
            vcpu: vcpu.number,
            vcpu_id: vcpu.vcpu_id,
            thread: vcpu.thread,
            segments: &vcpu.history.segments,
            reading_cycles: vcpu.reading_cycles.max(1),
            note: vcpu.note.as_deref(),
            conflicts: vcpu.history.conflicts.iter().map(conflict_words).collect(),
        })
        .collect()
}
