//! Finding an offset that nobody recorded, from the fact that guest events happen inside run windows only.

mod events;
mod search;

use std::cell::Cell;

use crate::clock::scaling::{HostRange, Scaling};
use crate::clock::windows::{State, Windows};
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
        // Counted from `self.lo`, so that a wrap-around lies on the far side.
        let shift = i128::from(other.lo.raw().wrapping_sub(self.lo.raw()).cast_signed());
        self.cut(shift, shift + i128::from(other.width()))
    }

    /// The part from `from` to `to`, both counted from `lo`.
    fn cut(self, from: i128, to: i128) -> Option<Self> {
        let (from, to) = (from.max(0), to.min(i128::from(self.width())));
        let at = |distance: i128| TscOffset::from_raw(self.lo.raw().wrapping_add(distance as u64));
        (from <= to).then(|| Self { lo: at(from), hi: at(to) })
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

/// How much may still be looked at, over several searches: a capture of whatever size may be made up so that nothing can
/// be excluded, for any VM.
#[derive(Debug)]
pub struct Effort(Cell<u64>);

impl Default for Effort {
    fn default() -> Self {
        Self(Cell::new(u64::MAX))
    }
}

impl Effort {
    /// For captures with so many events: the more there is, the more it may cost.
    pub fn for_events(events: u64) -> Self {
        Self(Cell::new((1_u64 << 20).saturating_add(events.saturating_mul(1 << 9))))
    }

    /// What is left.
    pub(super) fn left(&self) -> u64 {
        self.0.get()
    }

    pub(super) fn spend(&self, looks: u64) {
        self.0.set(self.0.get().saturating_sub(looks));
    }
}

/// Finds the one offset that all vCPUs of `sample` share, in well under a second for 40,000 stamps.
///
/// At least half of the stamps must lie within the time for which there are windows. One stamp in 200 may lie outside its
/// windows (stale runs, a clock that jumped once); if any does, the ranges are a best fit and no proof.
///
/// # Errors
///
/// If there is no such offset, or if too many would do.
pub fn infer(sample: &[VcpuSample<'_>], scaling: Scaling) -> Result<Inference, Undecided> {
    infer_within(sample, scaling, &Effort::default())
}

/// As [`infer`], with what is left of an effort.
///
/// # Errors
///
/// As there; where nothing is left, too many offsets would do.
pub fn infer_within(sample: &[VcpuSample<'_>], scaling: Scaling, effort: &Effort) -> Result<Inference, Undecided> {
    let problem = search::Problem::new(sample, scaling).ok_or(Undecided::NoData)?;
    let found = problem.solve(effort)?;
    let mut ranges: Vec<OffsetRange> = found.ranges.iter().map(|&(from, to)| problem.offsets(from, to)).collect();
    // The offset falls where the distance of host and guest rises.
    ranges.reverse();
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return Err(Undecided::NothingFits) };
    let hull = OffsetRange { lo: first.lo, hi: last.hi };
    // Of equal ranges (all are equally good) the middle of the widest is the least wrong.
    let estimate = ranges.iter().max_by_key(|range| range.width()).map_or(hull.middle(), |range| range.middle());
    let mut total = Score::default();
    for vcpu in sample {
        let score = score(estimate, scaling, *vcpu);
        total.inside += score.inside;
        total.checked += score.checked;
    }
    let verdict = if found.unique { Verdict::Unique } else { Verdict::Several };
    Ok(Inference { ranges, estimate, hull, inside: total.inside, checked: total.checked, verdict })
}

/// Infers the offsets of all vCPUs of one VM: one offset for all if one fits, else each vCPU on its own.
pub fn infer_vm(sample: &[VcpuSample<'_>], scaling: Scaling, effort: &Effort) -> Vec<Result<Inference, Undecided>> {
    match infer_within(sample, scaling, effort) {
        Ok(joint) if joint.verdict == Verdict::Unique => vec![Ok(joint); sample.len()],
        _ => sample.iter().map(|vcpu| infer_within(std::slice::from_ref(vcpu), scaling, effort)).collect(),
    }
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
    causes.iter().try_fold(range, |range, &(guest, order, host)| {
        // The offset with which the event would have happened exactly then.
        let exact = guest.get().wrapping_sub(scaling.guest(host, TscOffset::default()).get());
        let bound = i128::from(exact.wrapping_sub(range.lo.raw()).cast_signed());
        match order {
            Order::NotBefore => range.cut(0, bound),
            Order::NotAfter => range.cut(bound, i128::from(u64::MAX)),
        }
    })
}

/// Fewer readings than this say nothing: some are of a deadline that was written again meanwhile.
const LEAST_READINGS: usize = 16;

impl Inference {
    /// Narrows the hull by readings of the guest's TSC that were made just before a host time.
    ///
    /// Each is a lower bound of the offset, and the highest is nearly exact: nothing but the time between the reading and
    /// its stamp is missing. Readings outside the hull are mistaken, and of those inside one in two hundred may be.
    #[must_use]
    pub fn with_readings(mut self, scaling: Scaling, readings: &[(GuestTsc, HostTsc)]) -> Self {
        let above = |&(guest, host): &(GuestTsc, HostTsc)| {
            let exact = guest.get().wrapping_sub(scaling.guest(host, TscOffset::default()).get());
            exact.wrapping_sub(self.hull.lo.raw())
        };
        let mut bounds: Vec<(u64, (GuestTsc, HostTsc))> =
            readings.iter().map(|r| (above(r), *r)).filter(|(above, _)| *above <= self.hull.width()).collect();
        if bounds.len() < LEAST_READINGS {
            return self;
        }
        bounds.sort_unstable_by_key(|(above, _)| std::cmp::Reverse(*above));
        let (_, (guest, host)) = bounds[bounds.len() / 200];
        if let Some(hull) = constrain(self.hull, scaling, &[(guest, Order::NotAfter, host)]) {
            self.ranges = self.ranges.iter().filter_map(|range| range.intersect(hull)).collect();
            self.hull = hull;
            self.estimate = hull.lo;
        }
        self
    }
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
    score_by(sample, |stamp| scaling.host_range(GuestTsc::new(stamp.get()), offset, HostRange::ALL))
}

/// Scores any mapping from stamps to host time, such as that of a finished placement; a stamp without a host time counts
/// as neither inside nor outside.
pub fn score_by(sample: VcpuSample<'_>, host: impl Fn(RawStamp) -> Option<HostRange>) -> Score {
    let mut score = Score { stamps: sample.stamps.len() as u64, ..Score::default() };
    for &stamp in sample.stamps {
        let Some(host) = host(stamp) else { continue };
        match (sample.windows.state(host.first), sample.windows.state(host.last)) {
            (State::Inside, _) | (_, State::Inside) => {
                score.inside += 1;
                score.checked += 1;
            }
            (State::Unknown, _) | (_, State::Unknown) => {}
            _ => score.checked += 1,
        }
    }
    score
}

#[cfg(test)]
mod tests;
