//! Which segment of its vCPU's history each event of a guest CPU's stream belongs to.
//!
//! Recording order is host-time order, so the assignment is monotone: [`Placer::push`] takes the events one by one
//! (pass 1, a few nanoseconds and no memory per event), [`Placer::finish`] finds the assignment that places the most
//! events, [`Placing::needs`] says for which host times run windows would settle what is still open, and
//! [`Placing::resolve`] gives the [`Placement`], from which any chunk can be mapped by event index (pass 2).

mod cells;
mod collect;
mod resolve;
mod solve;
mod stale;

pub use collect::Placer;
pub use resolve::Placing;

use crate::clock::history::{History, Segment};
use crate::clock::mapping::{Mapping, Step};
use crate::clock::scaling::{HostRange, Scaling};
use crate::time::{HostTsc, RawStamp};

/// Flag of [`Placer::push`]: first event of its sub-buffer, its stamp is absolute. Same bit as `Record::FIRST`.
pub const FIRST: u8 = 1;
/// Flag of [`Placer::push`]: a TIME_EXTEND of zero stands before the event. Same bit as `Record::ZERO_EXTEND`.
pub const ZERO_EXTEND: u8 = 2;

/// A stretch of host time with one conversion: a history's segment, or what was composed from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Where events can lie.
    pub within: HostRange,
    /// Host TSC to stamp.
    pub mapping: Mapping,
    /// Index of the segment in [`History::segments`] that it came from.
    pub segment: usize,
    /// How far a mapped time may be off on either side, in host cycles, because the offset itself is not exact.
    pub uncertainty: u64,
}

/// The tracks of a guest that records x86-tsc: one per segment in which the vCPU ran.
pub fn tracks(history: &History) -> Vec<Track> {
    let track = |(index, segment): (usize, &Segment)| {
        Some(Track {
            within: bounded(segment.ran?),
            mapping: segment.mapping(),
            segment: index,
            uncertainty: segment.scaling.host_cycles(segment.uncertainty),
        })
    };
    history.segments.iter().enumerate().filter_map(track).collect()
}

/// The tracks of a guest inside a guest: `outer` is the history of the vCPU that the host runs, `inner` that of the nested
/// vCPU as the guest's own KVM wrote it, in that guest's TSC. A track's `segment` is the one of `inner`.
///
/// They hold while the nested vCPU stays on that one vCPU of the guest.
pub fn nested_tracks(outer: &History, inner: &History) -> Vec<Track> {
    let nest = |below: Track| {
        let scaling = outer.segments.get(below.segment).map_or(Scaling::NONE, |segment| segment.scaling);
        let track = move |(index, segment): (usize, &Segment)| {
            let ran = segment.ran?;
            let (first, last) = (RawStamp::new(ran.first.get()), RawStamp::new(ran.last.get()));
            let own = segment.scaling.host_cycles(segment.uncertainty);
            Some(Track {
                within: below.mapping.host_span(first, last, below.within)?,
                mapping: below.mapping.clone().then(Step::Tsc { scaling: segment.scaling, offset: segment.offset }),
                segment: index,
                uncertainty: below.uncertainty.saturating_add(scaling.host_cycles(own)),
            })
        };
        inner.segments.iter().enumerate().filter_map(track).collect::<Vec<_>>()
    };
    tracks(outer).into_iter().flat_map(nest).collect()
}

/// A segment that is open on one side reaches no further than anyone's uptime: else it would hold, modulo 2^64, almost
/// every stamp.
fn bounded(range: HostRange) -> HostRange {
    const UPTIME: u64 = 1 << 60;
    let (first, last) = (range.first.get(), range.last.get());
    match (range.first == HostTsc::MIN, range.last == HostTsc::MAX) {
        (true, false) => HostRange { first: HostTsc::new(last.saturating_sub(UPTIME)), ..range },
        (false, true) => HostRange { last: HostTsc::new(first.saturating_add(UPTIME)), ..range },
        _ => range,
    }
}

/// Why events could not be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The stamp fits no segment of the history.
    FitsNoSegment,
    /// It fits a segment, but not in recording order: the clock went backwards and the history does not say why.
    ClockWentBack,
    /// Recorded behind a clock that went backwards, with a time that cannot be repaired.
    StaleRun,
}

/// What a piece's events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceKind {
    /// Their stamps are as the guest's clock showed them.
    Plain,
    /// A stale run: recorded behind a clock that went backwards, times repaired.
    Repaired,
    /// Two segments fit and nothing tells which is right: recording order chose.
    Ambiguous,
    /// They have no host time.
    NotPlaced(Reason),
}

/// A run of events of a stream that are mapped alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index of its first event in the stream; it ends where the next piece starts.
    pub start: u64,
    /// What its events are.
    pub kind: PieceKind,
    /// Index into [`History::segments`]; meaningless where not placed.
    pub segment: usize,
    /// Added to a stamp, modulo 2^64, before it is mapped; 0 but for repaired runs.
    pub shift: u64,
    /// How far a mapped time may be off on either side, in host cycles.
    pub uncertainty: u64,
    within: HostRange,
    mapping: Option<Mapping>,
}

impl Piece {
    /// The host times at which an event of this piece with this stamp may have happened, not counting
    /// [`Piece::uncertainty`]: draw the first. `None` exactly where the piece is not placed.
    #[inline]
    pub fn host(&self, stamp: RawStamp) -> Option<HostRange> {
        let mapping = self.mapping.as_ref()?;
        let stamp = RawStamp::new(stamp.get().wrapping_add(self.shift));
        mapping.host(stamp, self.within).or_else(|| Some(self.nearest(mapping, stamp)))
    }

    /// The conversion; `None` exactly where the piece is not placed.
    pub fn mapping(&self) -> Option<&Mapping> {
        self.mapping.as_ref()
    }

    /// A faster guest skips readings. One that was skipped can be recorded all the same if the offset is not exact.
    #[cold]
    fn nearest(&self, mapping: &Mapping, stamp: RawStamp) -> HostRange {
        let beyond = RawStamp::new(stamp.get().wrapping_add(0x1_0000));
        let after = mapping.host_span(stamp, beyond, self.within);
        HostRange::at(after.map_or(self.within.last, |range| range.first))
    }
}

/// How many events of a stream went which way; they add up to the events pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Placed by their own stamp.
    pub plain: u64,
    /// Placed in a repaired stale run.
    pub repaired: u64,
    /// Placed where two segments fit.
    pub ambiguous: u64,
    /// Not placed: no segment fits.
    pub fits_no_segment: u64,
    /// Not placed: the clock went backwards without a reason.
    pub clock_went_back: u64,
    /// Not placed: stale and beyond repair.
    pub stale: u64,
}

/// Where every event of a stream belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// In recording order; the first starts at 0. Empty for an empty stream.
    pub pieces: Vec<Piece>,
    /// The sums.
    pub counts: Counts,
    /// Times the stamps stepped backwards within one segment by a few cycles (no clock change; counted only).
    pub out_of_order: u64,
    /// Number of events pushed.
    pub events: u64,
}

impl Placement {
    /// Index of the piece that holds event `event` of the stream.
    pub fn index_at(&self, event: u64) -> Option<usize> {
        if event >= self.events {
            return None;
        }
        self.pieces.partition_point(|p| p.start <= event).checked_sub(1)
    }
}

#[cfg(test)]
mod tests;
