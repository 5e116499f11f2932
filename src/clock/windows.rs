//! When a vCPU thread was in guest mode: guest events can only happen between a kvm_entry and the next kvm_exit.

use crate::clock::scaling::HostRange;
use crate::time::HostTsc;

/// What the windows say about a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Between an entry and the next exit, both inclusive.
    Inside,
    /// In the host, this many cycles from the nearest window.
    Outside(u64),
    /// Events that would tell were lost or not recorded.
    Unknown,
}

/// The run windows of one vCPU thread: sorted and disjoint, within a known span that may have holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    windows: Vec<HostRange>,
    unknown: Vec<HostRange>,
}

impl Windows {
    /// The windows, from kvm_entry to kvm_exit, in host-time order.
    pub fn windows(&self) -> &[HostRange] {
        &self.windows
    }

    /// The times about which nothing is known, in host-time order; always reaches to both ends of time.
    pub fn unknown(&self) -> &[HostRange] {
        &self.unknown
    }

    /// What is known about `ts`.
    pub fn state(&self, ts: HostTsc) -> State {
        let _ = ts;
        todo!()
    }
}

/// Collects a thread's entries and exits, in any order.
#[derive(Clone, Debug)]
pub struct WindowsBuilder {
    known: HostRange,
    marks: Vec<(HostTsc, u32, bool)>,
    lost: Vec<(HostRange, u32)>,
}

impl WindowsBuilder {
    /// `known` is the time in which the thread's kvm events were recorded (on all CPUs); outside it nothing is known.
    pub fn new(known: HostRange) -> Self {
        Self { known, marks: Vec::new(), lost: Vec::new() }
    }

    /// A kvm_entry on physical CPU `cpu`.
    pub fn entry(&mut self, ts: HostTsc, cpu: u32) {
        self.marks.push((ts, cpu, true));
    }

    /// A kvm_exit on physical CPU `cpu`.
    pub fn exit(&mut self, ts: HostTsc, cpu: u32) {
        self.marks.push((ts, cpu, false));
    }

    /// CPU `cpu` lost events in `range`.
    pub fn lost(&mut self, range: HostRange, cpu: u32) {
        self.lost.push((range, cpu));
    }

    /// Adds what another scan over other records of the same host found.
    pub fn merge(&mut self, other: Self) {
        let _ = other;
        todo!()
    }

    /// Pairs entries with exits.
    ///
    /// Two entries (or two exits) in a row mean that something is missing between them: unknown.
    pub fn build(self) -> Windows {
        todo!()
    }
}
