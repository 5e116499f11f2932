//! Settling what recording order leaves open, and the finished placement.

use std::sync::Arc;

use crate::clock::place::collect::{Run, Runs};
use crate::clock::place::solve::{Answer, Choice, Unit, decide};
use crate::clock::place::stale::{self, Neighbour};
use crate::clock::place::{Counts, Piece, PieceKind, Placement, Reason, Track};
use crate::clock::scaling::HostRange;
use crate::clock::windows::{State, Windows};
use crate::time::{HostTsc, RawStamp};

/// What an event is worth inside a window.
const INSIDE: u64 = 64;
/// Where nothing is known: the worse guess, but nothing speaks against it.
const UNKNOWN: u64 = 63;
/// Outside; placing an event is always worth something.
const OUTSIDE: u64 = 1;

/// A placement that may still have open questions.
#[derive(Debug)]
pub struct Placing {
    tracks: Arc<[Track]>,
    runs: Runs,
    /// One per run.
    answers: Vec<Answer>,
}

/// A part of the stream with its answer.
struct Part {
    start: u64,
    first: u64,
    last: u64,
    /// The run it is a part of.
    run: usize,
    answer: Answer,
}

impl Placing {
    pub(super) fn new(tracks: Arc<[Track]>, runs: Runs) -> Self {
        let mut placing = Self { tracks, runs, answers: Vec::new() };
        let (units, mut choices) = placing.whole_runs();
        placing.answers = decide(&units, &mut choices, placing.tracks.len());
        placing
    }

    /// The host times for which run windows of the vCPU's thread would settle what is open: sorted, disjoint; empty if
    /// nothing is. Windows for a part of them help as well: what they do not cover counts as unknown.
    pub fn needs(&self) -> Vec<HostRange> {
        let mut spans = Vec::new();
        let parts = self.parts_of_runs();
        for (index, (run, answer)) in self.runs.runs.iter().zip(&self.answers).enumerate() {
            if run.stale {
                let (before, after) = self.neighbours(&parts, index);
                spans.extend(stale::candidates(&self.tracks, self.stale_stamps(run), before, after).map(|c| c.span));
            } else if answer.open {
                for track in self.fits(run).iter().filter_map(|&t| self.track(t)) {
                    let (first, last) = (RawStamp::new(run.first), RawStamp::new(run.last));
                    spans.extend(track.mapping.host_span(first, last, track.within));
                }
            }
        }
        spans.sort_by_key(|span| span.first);
        let mut joined: Vec<HostRange> = Vec::new();
        for span in spans {
            match joined.last_mut() {
                Some(last) if span.first <= last.last => last.last = last.last.max(span.last),
                _ => joined.push(span),
            }
        }
        joined
    }

    /// Settles what is open, with the windows where there are any (they need only cover [`Placing::needs`]), by recording
    /// order alone where there are none.
    pub fn resolve(self, windows: Option<&Windows>) -> Placement {
        let parts = match windows {
            Some(windows) if self.answers.iter().any(|answer| answer.open) => self.parts_by_windows(windows),
            _ => self.parts_of_runs(),
        };
        let mut placement =
            Placement { pieces: Vec::new(), counts: Counts::default(), out_of_order: 0, events: self.runs.events };
        placement.out_of_order = self.runs.out_of_order;
        for (index, part) in parts.iter().enumerate() {
            let end = parts.get(index + 1).map_or(self.runs.events, |next| next.start);
            let Some(run) = self.runs.runs.get(part.run) else { continue };
            let piece = if run.stale {
                let (before, after) = self.neighbours(&parts, index);
                let found = stale::repair(&self.tracks, self.stale_stamps(run), before, after, windows);
                let kept = self.stale_stamps(run).len() as u64 == end.saturating_sub(part.start);
                match found.filter(|_| kept) {
                    Some(found) => {
                        let kind = if found.sure { PieceKind::Repaired } else { PieceKind::Ambiguous };
                        let piece = self.piece(part.start, kind, found.track, found.uncertainty);
                        Piece { shift: found.shift, ..piece }
                    }
                    None => unplaced(part.start, Reason::StaleRun),
                }
            } else {
                match part.answer.track {
                    Some(track) => {
                        let kind = if part.answer.open { PieceKind::Ambiguous } else { PieceKind::Plain };
                        self.piece(part.start, kind, track, 0)
                    }
                    None if run.fits.0 == run.fits.1 => unplaced(part.start, Reason::FitsNoSegment),
                    None => unplaced(part.start, Reason::ClockWentBack),
                }
            };
            *placement.counts.of(piece.kind) += end.saturating_sub(part.start);
            // What is mapped alike is one piece.
            let same =
                placement.pieces.last().is_some_and(|last| Piece { start: piece.start, ..last.clone() } == piece);
            if !same {
                placement.pieces.push(piece);
            }
        }
        placement
    }

    fn piece(&self, start: u64, kind: PieceKind, track: u32, uncertainty: u64) -> Piece {
        let Some(track) = self.track(track) else { return unplaced(start, Reason::FitsNoSegment) };
        Piece {
            start,
            kind,
            segment: track.segment,
            shift: 0,
            uncertainty: uncertainty.saturating_add(track.uncertainty),
            within: track.within,
            mapping: Some(track.mapping.clone()),
        }
    }

    fn track(&self, track: u32) -> Option<&Track> {
        self.tracks.get(track as usize)
    }

    fn fits(&self, run: &Run) -> &[u32] {
        self.runs.fits.get(run.fits.0..run.fits.1).unwrap_or(&[])
    }

    fn stale_stamps(&self, run: &Run) -> &[u64] {
        self.runs.stale.get(run.kept.0..run.kept.1).unwrap_or(&[])
    }

    /// The events of each run in turn: from, to.
    fn spans(&self) -> impl Iterator<Item = (usize, &Run, u64)> {
        let runs = &self.runs.runs;
        let ends = runs.iter().skip(1).map(|run| run.start).chain([self.runs.events]);
        runs.iter().zip(ends).enumerate().map(|(index, (run, end))| (index, run, end))
    }

    /// Each run is one unit; every event counts the same wherever it fits.
    fn whole_runs(&self) -> (Vec<Unit>, Vec<Choice>) {
        let mut choices = Vec::with_capacity(self.runs.fits.len());
        let mut units = Vec::with_capacity(self.runs.runs.len());
        for (index, run, end) in self.spans() {
            let worth = INSIDE * (end - run.start).max(1);
            let start = choices.len();
            choices.extend(self.fits(run).iter().map(|&track| Choice { track, worth, not_refuted: worth }));
            units.push(self.unit(index, run.first, run.last, (start, choices.len())));
        }
        (units, choices)
    }

    fn unit(&self, run: usize, first: u64, last: u64, choices: (usize, usize)) -> Unit {
        let before = run.checked_sub(1).and_then(|before| self.runs.runs.get(before));
        Unit { first, last, after_stale: before.is_some_and(|before| before.stale), choices }
    }

    fn parts_of_runs(&self) -> Vec<Part> {
        let part = |((run, answer), index): ((&Run, &Answer), usize)| Part {
            start: run.start,
            first: run.first,
            last: run.last,
            run: index,
            answer: *answer,
        };
        self.runs.runs.iter().zip(&self.answers).zip(0..).map(part).collect()
    }

    /// Solves again, with every kept event of an open run on its own and worth what the windows say.
    fn parts_by_windows(&self, windows: &Windows) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut units = Vec::new();
        let mut choices = Vec::new();
        for ((index, run, end), answer) in self.spans().zip(&self.answers) {
            let kept = self.runs.groups.get(run.kept.0..run.kept.1).unwrap_or(&[]);
            if run.stale || !answer.open || kept.is_empty() {
                let worth = INSIDE * (end - run.start).max(1);
                let start = choices.len();
                choices.extend(self.fits(run).iter().map(|&track| Choice { track, worth, not_refuted: worth }));
                units.push(self.unit(index, run.first, run.last, (start, choices.len())));
                parts.push(Part { start: run.start, first: run.first, last: run.last, run: index, answer: *answer });
                continue;
            }
            for (nth, group) in kept.iter().enumerate() {
                let next = kept.get(nth + 1);
                let events = next.map_or(end, |next| next.start).saturating_sub(group.start).max(1);
                let last = next.map_or(run.last, |next| next.stamp);
                let start = choices.len();
                choices.extend(self.fits(run).iter().map(|&track| {
                    let host = self.track(track).and_then(|t| t.mapping.host(RawStamp::new(group.stamp), t.within));
                    let (worth, not_refuted) = worth(windows, host);
                    Choice { track, worth: events * worth, not_refuted: events * not_refuted }
                }));
                let mut unit = self.unit(index, group.stamp, last, (start, choices.len()));
                unit.after_stale &= nth == 0;
                units.push(unit);
                parts.push(Part { start: group.start, first: group.stamp, last, run: index, answer: *answer });
            }
        }
        for (part, answer) in parts.iter_mut().zip(decide(&units, &mut choices, self.tracks.len())) {
            part.answer = answer;
        }
        parts
    }

    /// The nearest placed events before and behind part `index`.
    fn neighbours(&self, parts: &[Part], index: usize) -> (Option<Neighbour>, Option<Neighbour>) {
        let plain = |part: &&Part| self.runs.runs.get(part.run).is_some_and(|run| !run.stale);
        let neighbour = |part: &Part, stamp: u64| {
            let number = part.answer.track?;
            let track = self.track(number)?;
            let host = track.mapping.host(RawStamp::new(stamp), track.within)?;
            Some(Neighbour { track: number, host, open: part.answer.open })
        };
        let before = parts.iter().take(index).rev().filter(plain).find_map(|part| neighbour(part, part.last));
        let after = parts.iter().skip(index + 1).filter(plain).find_map(|part| neighbour(part, part.first));
        (before, after)
    }
}

fn unplaced(start: u64, reason: Reason) -> Piece {
    let within = HostRange::at(HostTsc::MIN);
    let kind = PieceKind::NotPlaced(reason);
    Piece { start, kind, segment: 0, shift: 0, uncertainty: 0, within, mapping: None }
}

/// What it is worth to place an event there, and what it would be if the unknown were known in its favour.
fn worth(windows: &Windows, host: Option<HostRange>) -> (u64, u64) {
    let Some(host) = host else { return (OUTSIDE, OUTSIDE) };
    match (windows.state(host.first), windows.state(host.last)) {
        (State::Inside, _) | (_, State::Inside) => (INSIDE, INSIDE),
        (State::Unknown, _) | (_, State::Unknown) => (UNKNOWN, INSIDE),
        _ => (OUTSIDE, OUTSIDE),
    }
}

impl Counts {
    fn of(&mut self, kind: PieceKind) -> &mut u64 {
        match kind {
            PieceKind::Plain => &mut self.plain,
            PieceKind::Repaired => &mut self.repaired,
            PieceKind::Ambiguous => &mut self.ambiguous,
            PieceKind::NotPlaced(Reason::FitsNoSegment) => &mut self.fits_no_segment,
            PieceKind::NotPlaced(Reason::ClockWentBack) => &mut self.clock_went_back,
            PieceKind::NotPlaced(Reason::StaleRun) => &mut self.stale,
        }
    }
}
