//! The offset history of one vCPU: which offset held when, from all the evidence there is.
//!
//! Precedence: what the user gave, then recorded writes, then TIME_SHIFT samples and debugfs snapshots, then inference.
//! Lower evidence never changes what higher evidence says; where they disagree, a [`Conflict`] holds both values.

use std::fmt;

use crate::clock::mapping::Mapping;
use crate::clock::scaling::{HostRange, Scaling};
use crate::time::{GuestTsc, HostTsc, TscOffset};

/// One `kvm_write_tsc_offset` event of one vCPU, as one buffer holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// Its host time stamp.
    pub at: HostTsc,
    /// `prev`.
    pub prev: TscOffset,
    /// `next`.
    pub next: TscOffset,
    /// Which buffer (or file) it was read from: two copies of one write never come from the same buffer.
    pub buffer: u16,
}

/// One write, after its copies in several buffers have been joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Host time stamp of the earliest copy.
    pub at: HostTsc,
    /// The offset before.
    pub prev: TscOffset,
    /// The offset after; may equal `prev`.
    pub next: TscOffset,
    /// In how many buffers it was found.
    pub copies: u16,
}

/// Joins the copies of each write. `writes` are those of one vCPU, in any order; the result is sorted by time and holds
/// repeats of a value too.
///
/// One thread makes a vCPU's writes one after the other, so the copies of a write are neighbours in time; their stamps
/// are microseconds apart and are never compared for equality.
pub fn join_copies(writes: &[Write]) -> Vec<Change> {
    let _ = writes;
    todo!()
}

/// What debugfs said about a vCPU, at a moment that is not known exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// `tsc-offset`.
    pub offset: TscOffset,
    /// `tsc-scaling-ratio` and its fraction bits, where the CPU has scaling.
    pub scaling: Option<Scaling>,
}

/// A TIME_SHIFT sample of a guest's trace.dat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShiftSample {
    /// The guest's clock when the sample was taken.
    pub at: GuestTsc,
    /// The offset with KVM's sign (`guest = host + offset`): the *negated* value of the file.
    pub offset: TscOffset,
    /// Scaling, where the file has it and it can be trusted.
    pub scaling: Option<Scaling>,
}

/// What the user said, by flag or manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The offset; `None` where only the scaling was given.
    pub offset: Option<TscOffset>,
    /// The scaling.
    pub scaling: Option<Scaling>,
}

/// An inferred offset: the truth lies within `uncertainty` cycles on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InferredOffset {
    /// Best estimate.
    pub offset: TscOffset,
    /// Half the width of the rigorous interval, rounded up, in guest cycles.
    pub uncertainty: u64,
}

/// Everything known about one vCPU's offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// By flag or manifest.
    pub given: Option<Given>,
    /// Recorded writes, joined ([`join_copies`]).
    pub changes: Vec<Change>,
    /// Whether the vCPU was seen to run before its first recorded write ([`EdgeBounds::ran_before_first`]); without
    /// that a first write with `prev` 0 is the vCPU's creation, and nothing ran before it.
    pub ran_before: bool,
    /// TIME_SHIFT samples.
    pub samples: Vec<ShiftSample>,
    /// debugfs snapshots.
    pub snapshots: Vec<Snapshot>,
    /// From [`crate::clock::infer`].
    pub inferred: Option<InferredOffset>,
}

/// Where a segment's offset is known from. [`fmt::Display`] gives the words for rows and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A flag or the manifest.
    Given,
    /// `next` of a recorded write.
    Recorded,
    /// `prev` of the first recorded write, or of one that follows a lost one.
    RecordedPrev,
    /// TIME_SHIFT.
    TimeShift,
    /// debugfs.
    Snapshot,
    /// Inferred from run windows.
    Inferred,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given => "given by the user",
            Self::Recorded => "kvm_write_tsc_offset",
            Self::RecordedPrev => "prev of kvm_write_tsc_offset",
            Self::TimeShift => "TIME_SHIFT of the guest's trace.dat",
            Self::Snapshot => "debugfs tsc-offset",
            Self::Inferred => "inferred from run windows",
        })
    }
}

/// A stretch of host time with one offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First host time at which the offset holds.
    pub from: HostTsc,
    /// First host time at which it no longer holds; [`HostTsc::MAX`] for "to the end".
    pub to: HostTsc,
    /// Where guest events made with this offset can lie: from the first kvm_entry after `from` to the last kvm_exit
    /// before `to`. `None` where the vCPU did not run at all. Before [`History::tighten`]: all of `from..to`.
    pub ran: Option<HostRange>,
    /// The offset.
    pub offset: TscOffset,
    /// The scaling.
    pub scaling: Scaling,
    /// Where it is known from.
    pub source: Source,
    /// How far the true offset may lie from `offset` on either side, in guest cycles; 0 where it is exact.
    pub uncertainty: u64,
    /// Whether a write was lost around its start (or end): the boundary with the neighbour is then not known exactly.
    pub vague: bool,
}

impl Segment {
    /// The conversion that holds in it.
    pub fn mapping(&self) -> Mapping {
        Mapping::tsc(self.offset, self.scaling)
    }
}

/// Two pieces of evidence that disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Two sources name different offsets; the first was used.
    Offset {
        /// What was used.
        used: (Source, TscOffset),
        /// What was set aside.
        other: (Source, TscOffset),
    },
    /// Two sources name different scaling; the first was used.
    Scaling {
        /// What was used.
        used: Scaling,
        /// What was set aside.
        other: Scaling,
    },
    /// A write's `prev` is not the `next` of the write before it: one was lost between `after` and `before`.
    LostWrite {
        /// The write before the gap.
        after: HostTsc,
        /// The write behind the gap.
        before: HostTsc,
        /// The offset behind `after`.
        left: TscOffset,
        /// The offset just before `before`.
        found: TscOffset,
    },
}

/// The offset history of one vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// In host-time order; empty where nothing is known.
    pub segments: Vec<Segment>,
    /// What does not agree.
    pub conflicts: Vec<Conflict>,
}

impl History {
    /// The history that `evidence` tells.
    pub fn build(evidence: &Evidence) -> Self {
        let _ = evidence;
        todo!()
    }

    /// One offset for all time.
    pub fn constant(offset: TscOffset, scaling: Scaling, source: Source, uncertainty: u64) -> Self {
        let _ = (offset, scaling, source, uncertainty);
        todo!()
    }

    /// Narrows [`Segment::ran`] to when the vCPU thread really entered and left guest mode.
    pub fn tighten(&mut self, bounds: &EdgeBounds) {
        let _ = bounds;
        todo!()
    }

    /// The segment that holds at `host`.
    pub fn at(&self, host: HostTsc) -> Option<&Segment> {
        let _ = host;
        todo!()
    }
}

/// First kvm_entry and last kvm_exit of a vCPU thread in each interval between two offset writes.
///
/// Filled from host records in any order, by any number of threads, and merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeBounds {
    writes: Vec<HostTsc>,
    edges: Vec<Option<HostRange>>,
    entries: Vec<u64>,
    known: HostRange,
}

impl EdgeBounds {
    /// For a vCPU whose offset was written at `changes` (sorted, as from [`join_copies`]). `known` is the time in which
    /// kvm_entry and kvm_exit of its thread were recorded; outside it the vCPU may have run unseen.
    pub fn new(changes: &[Change], known: HostRange) -> Self {
        let _ = (changes, known);
        todo!()
    }

    /// The thread's kvm_entry at `ts`.
    pub fn note_entry(&mut self, ts: HostTsc) {
        let _ = ts;
        todo!()
    }

    /// The thread's kvm_exit at `ts`.
    pub fn note_exit(&mut self, ts: HostTsc) {
        let _ = ts;
        todo!()
    }

    /// Host events were lost in `range`: the vCPU may have run unseen in it.
    pub fn note_lost(&mut self, range: HostRange) {
        let _ = range;
        todo!()
    }

    /// Adds what another scan over other records of the same host found.
    pub fn merge(&mut self, other: &Self) {
        let _ = other;
        todo!()
    }

    /// Whether a kvm_entry before the first write was noted.
    pub fn ran_before_first(&self) -> bool {
        todo!()
    }
}
