//! From evidence to segments.

use crate::clock::history::{Change, Conflict, Evidence, History, Segment, ShiftSample, Source};
use crate::clock::scaling::{HostRange, Scaling};
use crate::time::{HostTsc, TscOffset};

pub(super) fn build(evidence: &Evidence) -> History {
    let mut conflicts = Vec::new();
    let scaling = scaling(evidence, &mut conflicts);
    // Every source tells its own story; the first that tells one is used, the others are compared with it.
    let given = evidence.given.and_then(|given| given.offset);
    let stories = [
        given.map(|offset| History::constant(offset, scaling, Source::Given, 0)),
        recorded(&evidence.changes, evidence.ran_before, scaling),
        sampled(&evidence.samples, scaling),
        evidence.snapshots.first().map(|s| History::constant(s.offset, scaling, Source::Snapshot, 0)),
        evidence.inferred.map(|i| History::constant(i.offset, scaling, Source::Inferred, i.uncertainty)),
    ];
    let mut stories = stories.into_iter().flatten();
    let Some(mut history) = stories.next() else {
        return History { segments: Vec::new(), conflicts };
    };
    let used = std::mem::take(&mut history.segments);
    for other in stories {
        conflicts.extend(disagreement(&used, &other.segments));
    }
    // More snapshots than the first: each must be an offset of the history.
    for snapshot in evidence.snapshots.iter().skip(1) {
        let other = History::constant(snapshot.offset, scaling, Source::Snapshot, 0);
        conflicts.extend(disagreement(&used, &other.segments));
    }
    conflicts.append(&mut history.conflicts);
    History { segments: used, conflicts }
}

/// The first offset of `other` that `used` does not have. What was recorded over time may well hold offsets that a
/// sample or a snapshot missed, so only what the lesser source says has to be found, not the other way round, except
/// that the user's offset must stand against every recorded one.
fn disagreement(used: &[Segment], other: &[Segment]) -> Option<Conflict> {
    let agrees = |a: &Segment, b: &Segment| {
        let apart = a.offset.raw().wrapping_sub(b.offset.raw()).cast_signed().unsigned_abs();
        apart <= a.uncertainty.saturating_add(b.uncertainty)
    };
    let odd = other.iter().find(|o| !used.iter().any(|u| agrees(u, o)))?;
    let instead = used.last()?;
    Some(Conflict::Offset { used: (instead.source, instead.offset), other: (odd.source, odd.offset) })
}

fn scaling(evidence: &Evidence, conflicts: &mut Vec<Conflict>) -> Scaling {
    let given = evidence.given.and_then(|given| given.scaling);
    let snapshots = evidence.snapshots.iter().filter_map(|snapshot| snapshot.scaling);
    let samples = evidence.samples.iter().filter_map(|sample| sample.scaling);
    let mut named = given.into_iter().chain(snapshots).chain(samples);
    let used = named.next().unwrap_or(Scaling::NONE);
    if let Some(other) = named.find(|&other| other != used) {
        conflicts.push(Conflict::Scaling { used, other });
    }
    used
}

/// The history that recorded writes tell.
fn recorded(changes: &[Change], ran_before: bool, scaling: Scaling) -> Option<History> {
    let first = changes.first()?;
    let mut history = History::default();
    let segment = |from, offset, source| Segment::new(from, HostTsc::MAX, offset, scaling, source);
    if first.prev != TscOffset::default() || ran_before {
        history.segments.push(segment(HostTsc::MIN, first.prev, Source::RecordedPrev));
    }
    // The last moment at which the present offset was confirmed.
    let mut confirmed = HostTsc::MIN;
    for change in changes {
        let present = history.segments.last().map_or(change.prev, |last| last.offset);
        // A `prev` of 0 behind another offset is a new vCPU in an old thread.
        if change.prev != present && change.prev != TscOffset::default() {
            history.conflicts.push(Conflict::LostWrite {
                after: confirmed,
                before: change.at,
                left: present,
                found: change.prev,
            });
            lost_write(&mut history.segments, confirmed, change, scaling);
        }
        let present = history.segments.last().map(|last| last.offset);
        if present != Some(change.next) {
            close(&mut history.segments, change.at);
            history.segments.push(segment(change.at, change.next, Source::Recorded));
        }
        confirmed = change.at;
    }
    Some(history)
}

/// The last segment ends before `at`.
fn close(segments: &mut [Segment], at: HostTsc) {
    if let Some(last) = segments.last_mut() {
        last.to = at;
        let end = HostTsc::new(at.get().saturating_sub(1));
        last.ran = last.ran.and_then(|ran| HostRange::new(ran.first, ran.last.min(end)));
    }
}

/// Somewhere between `confirmed` and `change` the offset became `change.prev`, unrecorded. Drawn in the middle, but
/// events of either offset may lie anywhere between.
fn lost_write(segments: &mut Vec<Segment>, confirmed: HostTsc, change: &Change, scaling: Scaling) {
    let middle = HostTsc::new(confirmed.get().midpoint(change.at.get()));
    close(segments, change.at);
    if let Some(last) = segments.last_mut() {
        last.to = middle;
        last.vague = true;
    }
    let mut found = Segment::new(middle, HostTsc::MAX, change.prev, scaling, Source::RecordedPrev);
    found.ran = HostRange::new(confirmed, HostTsc::MAX);
    found.vague = true;
    segments.push(found);
}

/// The history that TIME_SHIFT samples tell.
fn sampled(samples: &[ShiftSample], scaling: Scaling) -> Option<History> {
    let first = samples.first()?;
    let apart = |sample: &ShiftSample| sample.offset.raw().wrapping_sub(first.offset.raw()).cast_signed();
    if samples.iter().any(|sample| sample.measured) {
        // Measured offsets scatter around the truth.
        let mut scatter: Vec<i64> = samples.iter().map(apart).collect();
        scatter.sort_unstable();
        let (least, most) = (*scatter.first()?, *scatter.last()?);
        let middle = *scatter.get(scatter.len() / 2)?;
        let offset = TscOffset::from_raw(first.offset.raw().wrapping_add(middle.cast_unsigned()));
        let uncertainty = middle.abs_diff(least).max(most.abs_diff(middle));
        return Some(History::constant(offset, scaling, Source::TimeShift, uncertainty));
    }
    // The host time of each sample, by its own offset.
    let within = HostRange::ALL;
    let mut exact: Vec<(HostTsc, TscOffset)> =
        samples.iter().filter_map(|s| Some((scaling.host_range(s.at, s.offset, within)?.first, s.offset))).collect();
    exact.sort_by_key(|&(at, _)| at);
    let mut segments: Vec<Segment> = Vec::new();
    let mut confirmed = HostTsc::MIN;
    for (at, offset) in exact {
        if segments.last().is_none_or(|last| last.offset != offset) {
            // It changed somewhere between two samples.
            close(&mut segments, at);
            let from = if segments.is_empty() { at } else { HostTsc::new(confirmed.get().midpoint(at.get())) };
            if let Some(last) = segments.last_mut() {
                last.to = from;
                last.vague = true;
            }
            let mut next = Segment::new(from, HostTsc::MAX, offset, scaling, Source::TimeShift);
            next.vague = !segments.is_empty();
            next.ran = HostRange::new(confirmed, HostTsc::MAX);
            if segments.is_empty() {
                // Nothing says that it was another one before the first sample.
                next.from = HostTsc::MIN;
                next.ran = Some(HostRange::ALL);
            }
            segments.push(next);
        }
        confirmed = at;
    }
    (!segments.is_empty()).then_some(History { segments, conflicts: Vec::new() })
}
