//! Finding an offset that nobody recorded, from the fact that guest events happen inside run windows only.

use crate::clock::scaling::Scaling;
use crate::clock::windows::Windows;
use crate::time::{GuestTsc, HostTsc, RawStamp, TscOffset};

/// What one vCPU contributes: a sample of its stamps and the windows of the thread that ran it.
#[derive(Clone, Copy, Debug)]
pub struct VcpuSample<'a> {
    /// Stamps of the guest CPU's stream, any number, in any order; stale ones left out. 40,000 are plenty.
    pub stamps: &'a [RawStamp],
    /// Run windows of the thread.
    pub windows: &'a Windows,
}

/// A range of offsets, in guest cycles, modulo 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    /// The least.
    pub lo: TscOffset,
    /// The greatest, inclusive.
    pub hi: TscOffset,
}

impl OffsetRange {
    /// `hi - lo` in cycles.
    pub fn width(self) -> u64 {
        self.hi.raw().wrapping_sub(self.lo.raw())
    }

    /// Whether `offset` lies in it.
    pub fn contains(self, offset: TscOffset) -> bool {
        offset.raw().wrapping_sub(self.lo.raw()) <= self.width()
    }

    /// The middle, rounded down.
    pub fn middle(self) -> TscOffset {
        TscOffset::from_raw(self.lo.raw().wrapping_add(self.width() / 2))
    }

    /// The common part with another range, if any.
    pub fn intersect(self, other: Self) -> Option<Self> {
        let _ = other;
        todo!()
    }
}

/// What the windows say about the offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inference {
    /// All offsets that explain the sample equally well, as disjoint ranges in ascending order; close together if
    /// `verdict` is [`Verdict::Unique`].
    pub ranges: Vec<OffsetRange>,
    /// Best estimate.
    pub estimate: TscOffset,
    /// From the least to the greatest offset of `ranges`.
    pub hull: OffsetRange,
    /// Stamps inside a window at the best offset.
    pub inside: u64,
    /// Stamps whose host time is known to be inside or outside at the best offset. The ranges are rigorous if
    /// `inside == checked`.
    pub checked: u64,
    /// Whether to believe it.
    pub verdict: Verdict,
}

/// Whether an inference can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One offset, up to the width of the hull.
    Unique,
    /// Several places fit equally well.
    Several,
}

/// Why there is no inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecided {
    /// No stamps, or no windows.
    NoData,
    /// No single offset puts nearly all stamps into windows.
    NothingFits,
    /// The windows have too little structure: too many offsets fit.
    TooVague,
}

/// Finds the one offset that all vCPUs of `sample` share.
///
/// # Errors
///
/// If there is none, or if too many would do.
pub fn infer(sample: &[VcpuSample<'_>], scaling: Scaling) -> Result<Inference, Undecided> {
    let _ = (sample, scaling);
    todo!()
}

/// What is known about the order of a guest event and a moment on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The guest event did not happen before the host time (it was caused by it).
    NotBefore,
    /// The guest event did not happen after the host time (it caused it).
    NotAfter,
}

/// Narrows a range by causes and effects. `None` if they contradict it.
pub fn constrain(range: OffsetRange, scaling: Scaling, causes: &[(GuestTsc, Order, HostTsc)]) -> Option<OffsetRange> {
    let _ = (range, scaling, causes);
    todo!()
}

/// How well a mapping from stamps to host time fits windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Stamps inside a window.
    pub inside: u64,
    /// Stamps inside or outside; the others fall where nothing is known.
    pub checked: u64,
    /// All stamps.
    pub stamps: u64,
}

/// Scores one offset.
pub fn score(offset: TscOffset, scaling: Scaling, sample: VcpuSample<'_>) -> Score {
    let _ = (offset, scaling, sample);
    todo!()
}
