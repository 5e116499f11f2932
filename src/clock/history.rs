//! The offset history of one vCPU: which offset held when, from all the evidence there is.
//!
//! Precedence: what the user gave, then recorded writes, then TIME_SHIFT samples and debugfs snapshots, then inference.
//! Lower evidence never changes what higher evidence says; where they disagree, a [`Conflict`] holds both values.

mod build;
mod edges;
mod writes;

use std::fmt;

pub use edges::EdgeBounds;
pub use writes::{Change, Write, join_copies};

use crate::clock::mapping::Mapping;
use crate::clock::scaling::{HostRange, Scaling};
use crate::time::{GuestTsc, HostTsc, RawStamp, TscOffset};

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
    /// Whether it was measured over a message exchange (protocol ptp) and so is off by some microseconds; the kvm
    /// protocol reads the exact value from debugfs.
    pub measured: bool,
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
    /// The history that `evidence` tells; without segments if it tells nothing.
    pub fn build(evidence: &Evidence) -> Self {
        build::build(evidence)
    }

    /// One offset for all time.
    pub fn constant(offset: TscOffset, scaling: Scaling, source: Source, uncertainty: u64) -> Self {
        let segment = Segment::new(HostTsc::MIN, HostTsc::MAX, offset, scaling, source);
        Self { segments: vec![Segment { uncertainty, ..segment }], conflicts: Vec::new() }
    }

    /// Narrows [`Segment::ran`] to when the vCPU thread really entered and left guest mode. Does nothing if the host
    /// recorded no kvm_entry and no kvm_exit of the thread.
    pub fn tighten(&mut self, bounds: &EdgeBounds) {
        if bounds.is_empty() {
            return;
        }
        for segment in &mut self.segments {
            segment.ran = segment.ran.and_then(|ran| bounds.within(ran));
        }
    }

    /// The segment that holds at `host`.
    pub fn at(&self, host: HostTsc) -> Option<&Segment> {
        let index = self.segments.partition_point(|s| s.from <= host).checked_sub(1)?;
        self.segments.get(index).filter(|s| host < s.to || s.to == HostTsc::MAX)
    }
}

impl History {
    /// How far `samples` place what they were taken for from where this history does, in host cycles: the farthest
    /// one, positive where the sample's host time is later. `None` without a sample that the history can place.
    pub fn apart(&self, samples: &[ShiftSample]) -> Option<i64> {
        let apart = |sample: &ShiftSample| {
            let stamp = RawStamp::new(sample.at.get());
            let here = |s: &Segment, within| Some((s.mapping().host(stamp, within)?.first, s.scaling));
            let inside = |s: &Segment| {
                let last = if s.to == HostTsc::MAX { s.to } else { HostTsc::new(s.to.get().saturating_sub(1)) };
                here(s, HostRange::new(s.from, last)?)
            };
            // A sample of another time, as one that was added later, is still used for every event.
            let last = || here(self.segments.last()?, HostRange::ALL);
            let (here, scaling) = self.segments.iter().find_map(inside).or_else(last)?;
            let sampled = Mapping::tsc(sample.offset, sample.scaling.unwrap_or(scaling));
            let there = sampled.host(stamp, HostRange::ALL)?.first;
            Some(there.get().wrapping_sub(here.get()).cast_signed())
        };
        samples.iter().filter_map(apart).max_by_key(|cycles| cycles.unsigned_abs())
    }
}

impl Segment {
    fn new(from: HostTsc, to: HostTsc, offset: TscOffset, scaling: Scaling, source: Source) -> Self {
        // `to` is exclusive, but the end of time is meant inclusively.
        let last = if to == HostTsc::MAX { to } else { HostTsc::new(to.get().saturating_sub(1)) };
        let ran = HostRange::new(from, last);
        Self { from, to, ran, offset, scaling, source, uncertainty: 0, vague: false }
    }
}

#[cfg(test)]
mod tests;
