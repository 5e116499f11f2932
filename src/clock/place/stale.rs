//! Stale runs: the times behind a clock that went backwards, and what they were really.
//!
//! The ring buffer cannot store a negative step. It stores none, and goes on with true distances; so the recorded stamps
//! of the rest of the sub-buffer are too late by one constant. Unknown is only when the first of them happened: not
//! before the vCPU's first entry with the new offset, and so that each of them is inside a window and before the next
//! sub-buffer, whose own stamp is true again.

use crate::clock::place::Track;
use crate::clock::scaling::HostRange;
use crate::clock::windows::Windows;
use crate::time::{HostTsc, RawStamp};

/// More offsets than these between the events around a run are not tried.
const MAX_CANDIDATES: usize = 64;
/// Where nothing follows a run it is sought within this many host cycles, a second or two.
const REACH: u64 = 1 << 32;
/// Stamps, a fifth of a millisecond or so.
const SOON: u64 = 1 << 19;

/// The placed event before or behind a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neighbour {
    pub(super) track: u32,
    pub(super) host: HostRange,
    /// Whether its own place is open.
    pub(super) open: bool,
}

/// A track on which a run may lie, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    track: u32,
    /// From the earliest time of its first event to the latest time of its last.
    pub(super) span: HostRange,
}

/// How to repair a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Repair {
    pub(super) track: u32,
    /// To be added to its stamps.
    pub(super) shift: u64,
    /// Host cycles on either side.
    pub(super) uncertainty: u64,
    /// Whether the offset changed only once between the events around the run. Otherwise it may lie on another track, or
    /// even on two.
    pub(super) sure: bool,
}

/// The tracks on which a run may lie: behind the one of the event before it, up to the one of the event behind it. If
/// that is the same one the clock went back by itself, and came again.
pub(super) fn candidates<'a>(
    tracks: &'a [Track],
    stamps: &'a [u64],
    before: Option<Neighbour>,
    after: Option<Neighbour>,
) -> impl Iterator<Item = Candidate> + 'a {
    let first = before.map_or(0, |n| n.track as usize + 1);
    let last = after.map_or(tracks.len(), |n| n.track as usize + 1);
    let later = (first..last).take(MAX_CANDIDATES);
    let same = before.filter(|n| after.is_some_and(|after| after.track == n.track)).map(|n| n.track as usize);
    later.chain(same).filter_map(move |index| {
        let track = tracks.get(index)?;
        let from = before.map_or(track.within.first, |n| n.host.first.max(track.within.first));
        let to = match after {
            Some(after) => after.host.last.min(track.within.last),
            None => HostTsc::new(from.get().saturating_add(REACH)).min(track.within.last),
        };
        let span = HostRange::new(from, to)?;
        // It must be long enough for the run.
        let room = track.mapping.stamp(to).get().wrapping_sub(track.mapping.stamp(from).get());
        let length = stamps.last()?.wrapping_sub(*stamps.first()?);
        (length <= room).then_some(Candidate { track: u32::try_from(index).ok()?, span })
    })
}

/// Finds where a run of `stamps` really was.
pub(super) fn repair(
    tracks: &[Track],
    stamps: &[u64],
    before: Option<Neighbour>,
    after: Option<Neighbour>,
    windows: Option<&Windows>,
) -> Option<Repair> {
    let mut best: Option<(Repair, u64)> = None;
    let mut rounded = 0;
    let first = before.map_or(0, |n| n.track as usize + 1);
    let last = after.map_or(tracks.len(), |n| n.track as usize + 1);
    let open = |neighbour: Option<Neighbour>| neighbour.is_some_and(|n| n.open);
    let sure = last.saturating_sub(first) <= 1 && !open(before) && !open(after);
    for candidate in candidates(tracks, stamps, before, after) {
        let Some(track) = tracks.get(candidate.track as usize) else { continue };
        let feasible = starts(track, stamps, candidate.span, windows);
        let (Some(&(least, _)), Some(&(_, most)), Some(chosen)) =
            (feasible.first(), feasible.last(), choose(&feasible))
        else {
            continue;
        };
        // Stamps count from the start of the span: no wrap-around.
        let base = track.mapping.stamp(candidate.span.first).get();
        let host = |start: u64| {
            let stamp = RawStamp::new(base.wrapping_add(start));
            track.mapping.host(stamp, candidate.span)
        };
        // A stamp that a faster guest skips has no host time: be generous.
        let low = host(least).map_or(candidate.span.first, |range| range.first).get();
        let high = host(most).map_or(candidate.span.last, |range| range.last).get();
        let (repair, at) = best.get_or_insert_with(|| {
            let at = host(chosen).map_or(low, |range| range.first.get());
            let shift = base.wrapping_add(chosen).wrapping_sub(stamps.first().copied().unwrap_or(0));
            // Where scaling rounds, later events of the run round differently from the first.
            let rounding = host(chosen).map_or(1, |range| range.width() + u64::from(track.mapping.rounds()));
            rounded = rounded.max(rounding);
            (Repair { track: candidate.track, shift, uncertainty: 0, sure }, at)
        });
        repair.uncertainty = repair.uncertainty.max(at.abs_diff(low)).max(at.abs_diff(high));
    }
    best.map(|(repair, _)| Repair { uncertainty: repair.uncertainty.saturating_add(rounded), ..repair })
}

/// The middle of the first stretch, but not far into a long one: the events behind a write follow soon.
fn choose(feasible: &[(u64, u64)]) -> Option<u64> {
    feasible.first().map(|&(from, to)| from + ((to - from) / 2).min(SOON))
}

/// All starts of the run, in stamps since the start of `span`, that keep every event inside a window.
fn starts(track: &Track, stamps: &[u64], span: HostRange, windows: Option<&Windows>) -> Vec<(u64, u64)> {
    let base = track.mapping.stamp(span.first).get();
    let since = |host: HostTsc| track.mapping.stamp(host).get().wrapping_sub(base);
    let (Some(&first), Some(&last)) = (stamps.first(), stamps.last()) else { return Vec::new() };
    let Some(latest) = since(span.last).checked_sub(last.wrapping_sub(first)) else { return Vec::new() };
    let mut feasible = vec![(0, latest)];
    let Some(windows) = windows else { return feasible };

    let mut allowed: Vec<(u64, u64)> = Vec::new();
    for list in [windows.windows(), windows.unknown()] {
        let from = list.partition_point(|range| range.last < span.first);
        let within = list.iter().skip(from).map_while(|range| range.intersect(span));
        allowed.extend(within.map(|range| (since(range.first), since(range.last))));
    }
    allowed.sort_unstable();
    let mut distance = u64::MAX;
    for &stamp in stamps {
        // Equal stamps ask the same question.
        if std::mem::replace(&mut distance, stamp.wrapping_sub(first)) == distance {
            continue;
        }
        feasible = intersect(&feasible, &allowed, distance);
        if feasible.is_empty() {
            break;
        }
    }
    feasible
}

/// The parts of `feasible` that lie, moved up by `distance`, in `allowed`. Both are sorted.
fn intersect(feasible: &[(u64, u64)], allowed: &[(u64, u64)], distance: u64) -> Vec<(u64, u64)> {
    let mut common: Vec<(u64, u64)> = Vec::new();
    let mut from = 0;
    for &(first, last) in feasible {
        let (first, last) = (first.saturating_add(distance), last.saturating_add(distance));
        while allowed.get(from).is_some_and(|&(_, end)| end < first) {
            from += 1;
        }
        for &(start, end) in allowed.iter().skip(from).take_while(|&&(start, _)| start <= last) {
            let (low, high) = (first.max(start), last.min(end));
            if low <= high {
                common.push((low - distance, high - distance));
            }
        }
    }
    common
}
