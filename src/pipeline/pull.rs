//! Pass 2 for whoever asks for events instead of being handed them: one group of chunks at a time, merged in host-time
//! order, each event with the piece of its stream's placement that it belongs to.
//!
//! In memory are the group that is merged and the next one, which is decoded meanwhile.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::lane::{Lane, Ledger, Loaded};
use super::merge::Merge;
use super::{Consumer, Limits, Scheduled, schedule, trim};
use crate::capture::{Chunk, Record};
use crate::clock::place::Placement;
use crate::error::Result;
use crate::monitor::Monitor;
use crate::time::HostTsc;

/// What is done with merged events.
pub(crate) trait Sink: Send {
    /// One event, in host-time order. `piece` is an index into its lane's placement, 0 for the host's lanes.
    fn event(&mut self, lane: u32, ts: HostTsc, piece: u32, record: &Record, payload: &[u8]);

    /// The ring buffer of this lane lost events before its next one.
    fn lost(&mut self, lane: u32, count: Option<u64>);
}

/// The state between two groups.
pub(crate) struct Pull {
    plan: Vec<Scheduled>,
    /// Where each group ends in `plan`.
    ends: Vec<usize>,
    /// Groups that were decoded.
    decoded: usize,
    merge: Merge,
    ready: Vec<Noted>,
    free: Vec<Chunk>,
    pieces: Vec<Pieces>,
    ledgers: Vec<Ledger>,
}

/// A decoded chunk and where in it, counted in events that were kept, each piece begins.
struct Noted {
    loaded: Loaded,
    pieces: Vec<(u64, u32)>,
}

/// Which piece a lane's next event belongs to.
#[derive(Default)]
struct Pieces {
    /// The number of a piece's first event among those kept, and the piece.
    starts: VecDeque<(u64, u32)>,
    arrived: u64,
    emitted: u64,
}

impl Pieces {
    fn arrive(&mut self, noted: &Noted) {
        for &(at, piece) in &noted.pieces {
            if self.starts.back().is_none_or(|last| last.1 != piece) {
                self.starts.push_back((self.arrived + at, piece));
            }
        }
        self.arrived += noted.loaded.ledger.passed;
    }

    #[inline]
    fn next(&mut self) -> u32 {
        while self.starts.get(1).is_some_and(|next| next.0 <= self.emitted) {
            self.starts.pop_front();
        }
        self.emitted += 1;
        self.starts.front().map_or(0, |piece| piece.1)
    }
}

impl Pull {
    /// Nothing is read yet.
    pub(crate) fn new(lanes: &[Lane<'_>], limits: Limits) -> Self {
        let plan = schedule(lanes);
        let mut end = 0;
        let ends = limits.groups(lanes, &plan).into_iter().map(|group| {
            end += group.len();
            end
        });
        let ends = ends.collect();
        Self {
            plan,
            ends,
            decoded: 0,
            merge: Merge::new(lanes.iter().map(|lane| lane.chunks.len())),
            ready: Vec::new(),
            free: Vec::new(),
            pieces: lanes.iter().map(|_| Pieces::default()).collect(),
            ledgers: lanes.iter().map(Ledger::of_skipped).collect(),
        }
    }

    /// What became of the events so far, one per lane.
    pub(crate) fn ledgers(&self) -> &[Ledger] {
        &self.ledgers
    }

    /// Hands the events of one group to `sink`; `false` if there was none left. `lanes` and `placements` (one per lane,
    /// `None` for the host's) are always the same.
    ///
    /// # Errors
    ///
    /// If an input can no longer be read, or if the monitor asks to stop.
    pub(crate) fn step<S: Sink>(
        &mut self,
        lanes: &[Lane<'_>],
        placements: &[Option<&Placement>],
        sink: &mut S,
        monitor: &Monitor<'_>,
    ) -> Result<bool> {
        monitor.check()?;
        if self.decoded == 0 {
            self.ready = self.decode(lanes, placements, monitor)?;
        }
        if self.ready.is_empty() {
            return Ok(false);
        }
        let horizon = self.group().first().map_or(HostTsc::MAX, |s| s.start);
        for noted in &self.ready {
            let lane = noted.loaded.lane as usize;
            self.pieces[lane].arrive(noted);
            self.ledgers[lane].add(&noted.loaded.ledger);
        }
        let arrived = std::mem::take(&mut self.ready).into_iter().map(|noted| noted.loaded).collect();
        let group: Vec<Scheduled> = self.group().to_vec();
        let mut free = std::mem::take(&mut self.free);
        let (merge, pieces) = (&mut self.merge, &mut self.pieces);
        let ((), decoded) = rayon::join(
            || {
                merge.add(arrived);
                merge.run(horizon, u64::MAX, &mut Adapter { sink, pieces }, &mut Vec::new());
            },
            || decode(lanes, placements, &group, &mut free, monitor),
        );
        self.decoded += 1;
        self.ready = decoded?;
        self.free = free;
        self.merge.recycle(&mut self.free);
        let needed = self.group().len();
        trim(&mut self.free, needed);
        Ok(true)
    }

    /// The group that is decoded next.
    fn group(&self) -> &[Scheduled] {
        let from = self.decoded.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
        match self.ends.get(self.decoded) {
            Some(&end) => &self.plan[from..end],
            None => &[],
        }
    }

    fn decode(
        &mut self,
        lanes: &[Lane<'_>],
        placements: &[Option<&Placement>],
        monitor: &Monitor<'_>,
    ) -> Result<Vec<Noted>> {
        let ready = decode(lanes, placements, self.group(), &mut Vec::new(), monitor)?;
        self.decoded += 1;
        Ok(ready)
    }
}

fn decode(
    lanes: &[Lane<'_>],
    placements: &[Option<&Placement>],
    group: &[Scheduled],
    free: &mut Vec<Chunk>,
    monitor: &Monitor<'_>,
) -> Result<Vec<Noted>> {
    let work: Vec<(Scheduled, Chunk)> = group.iter().map(|&s| (s, free.pop().unwrap_or_default())).collect();
    work.into_par_iter()
        .map(|(s, chunk)| {
            let lane = &lanes[s.lane as usize];
            let placement = placements.get(s.lane as usize).copied().flatten();
            let mut pieces: Vec<(u64, u32)> = Vec::new();
            // The first event that no longer belongs to the last piece.
            let mut until = 0;
            let loaded = lane.load_noting(s.lane, s.at as usize, chunk, |event, kept| {
                let Some(placement) = placement.filter(|_| event >= until) else { return };
                let Some(piece) = placement.index_at(event) else { return };
                until = placement.pieces.get(piece + 1).map_or(u64::MAX, |next| next.start);
                pieces.push((kept as u64, piece as u32));
            })?;
            (monitor.tick)(u64::from(lane.chunks[s.at as usize].records));
            Ok(Noted { loaded, pieces })
        })
        .collect()
}

/// The merge's consumer.
struct Adapter<'a, S> {
    sink: &'a mut S,
    pieces: &'a mut Vec<Pieces>,
}

impl<S: Sink> Consumer for Adapter<'_, S> {
    type Batch = ();

    #[inline]
    fn event(&mut self, lane: u32, ts: HostTsc, record: &Record, payload: &[u8]) {
        let piece = self.pieces.get_mut(lane as usize).map_or(0, Pieces::next);
        self.sink.event(lane, ts, piece, record, payload);
    }

    fn lost(&mut self, lane: u32, _ts: HostTsc, count: Option<u64>) {
        self.sink.lost(lane, count);
    }

    fn ends(&mut self, _lane: u32, _ts: HostTsc) {}

    fn take(&mut self, _out: &mut Vec<()>) {}
}
