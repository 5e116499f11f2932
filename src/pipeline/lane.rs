//! A lane: one stream on its way through pass 2, with its clock mapping and its filters.

use std::collections::BTreeMap;
use std::path::Path;

use crate::capture::event_format::FormatTable;
use crate::capture::{Chunk, Endian, Lost, Record, Stream};
use crate::clock::scaling::HostRange;
use crate::clock::stamps::{MapStamps, NotPlaced};
use crate::error::Result;
use crate::time::HostTsc;

/// A chunk that is to be read.
#[derive(Clone, Copy, Debug)]
pub struct LaneChunk {
    /// Index in the stream.
    pub index: u32,
    /// Host time of its first event.
    pub start: HostTsc,
    /// Position of its first event in the stream, counted in events.
    pub first_event: u64,
    /// How many records it has.
    pub records: u32,
}

/// What happened to a lane's events; see the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Filtered before the consumer saw them.
    pub filtered: u64,
    /// Handed to the consumer.
    pub passed: u64,
    /// Without a host time, by reason.
    pub not_placed: BTreeMap<NotPlaced, u64>,
    /// Events whose host time lay before an earlier event's of the same stream; drawn at that event's time.
    pub out_of_order: u64,
}

impl Ledger {
    /// What is known before pass 2: chunks that are not even read.
    pub(super) fn of_skipped(lane: &Lane<'_>) -> Self {
        Self { filtered: lane.skipped, ..Self::default() }
    }

    /// Adds another ledger.
    pub fn add(&mut self, other: &Self) {
        self.filtered += other.filtered;
        self.passed += other.passed;
        self.out_of_order += other.out_of_order;
        for (reason, count) in &other.not_placed {
            *self.not_placed.entry(*reason).or_default() += count;
        }
    }
}

/// One stream in the merge.
pub struct Lane<'a> {
    /// The file, for errors.
    pub path: &'a Path,
    /// The stream.
    pub stream: &'a Stream,
    /// The chunks to read, in order.
    pub chunks: Vec<LaneChunk>,
    /// Events in chunks that are left out because none of them is wanted.
    pub skipped: u64,
    /// Raw stamps to host time.
    pub map: &'a dyn MapStamps,
    /// Events outside these stretches of time are filtered; sorted and disjoint.
    pub spans: Vec<HostRange>,
    /// Events (by format index) that are filtered: second copies that another buffer has as well, and those that the
    /// user does not want.
    pub drop: Vec<bool>,
    /// Threads some of whose events are filtered.
    pub strangers: Option<Strangers<'a>>,
}

/// Threads of vCPUs that the user does not want to see.
pub struct Strangers<'a> {
    /// The capture's formats.
    pub formats: &'a FormatTable,
    /// The capture's byte order.
    pub endian: Endian,
    /// Which events (by format index) are filtered if one of the threads recorded them.
    pub events: Vec<bool>,
    /// The threads, sorted.
    pub threads: Vec<i32>,
}

impl Strangers<'_> {
    fn recorded(&self, event: u16, payload: &[u8]) -> bool {
        self.events.get(usize::from(event)).copied().unwrap_or(false)
            && self
                .formats
                .get(event)
                .and_then(|format| format.pid(payload, self.endian))
                .is_some_and(|pid| self.threads.binary_search(&pid).is_ok())
    }
}

/// A chunk on its way: decoded, mapped, filtered.
pub(super) struct Loaded {
    pub lane: u32,
    pub chunk: Chunk,
    pub ledger: Ledger,
}

impl Lane<'_> {
    pub(super) fn load(&self, lane: u32, at: usize, chunk: Chunk) -> Result<Loaded> {
        self.load_noting(lane, at, chunk, |_, _| {})
    }

    /// Calls `note` for each event that is kept, with its number in the stream and how many were kept before it.
    #[inline]
    pub(super) fn load_noting(
        &self,
        lane: u32,
        at: usize,
        mut chunk: Chunk,
        mut note: impl FnMut(u64, usize),
    ) -> Result<Loaded> {
        let LaneChunk { index, first_event, .. } = self.chunks[at];
        chunk.clear();
        self.stream.source.read(index as usize, &mut chunk).map_err(|e| e.in_file(self.path))?;
        let mut ledger = Ledger::default();
        let mut lost = std::mem::take(&mut chunk.lost);
        let mut next_lost = 0;
        let mut kept = 0;
        let mut floor = HostTsc::MIN;
        for i in 0..chunk.records.len() {
            while lost.get(next_lost).is_some_and(|l| l.before <= i) {
                lost[next_lost].before = kept;
                next_lost += 1;
            }
            let mut record = chunk.records[i];
            match self.keep(first_event + i as u64, &record, &chunk) {
                Ok(Some(ts)) => {
                    if ts < floor {
                        ledger.out_of_order += 1;
                    }
                    floor = floor.max(ts);
                    record.ts = floor.get();
                    chunk.records[kept] = record;
                    note(first_event + i as u64, kept);
                    kept += 1;
                }
                Ok(None) => ledger.filtered += 1,
                Err(reason) => *ledger.not_placed.entry(reason).or_default() += 1,
            }
        }
        for l in lost.iter_mut().skip(next_lost) {
            l.before = kept;
        }
        chunk.records.truncate(kept);
        chunk.lost = lost;
        ledger.passed = kept as u64;
        Ok(Loaded { lane, chunk, ledger })
    }

    #[inline]
    fn keep(&self, event: u64, record: &Record, chunk: &Chunk) -> Result<Option<HostTsc>, NotPlaced> {
        if record.event == Record::UNKNOWN {
            return Err(NotPlaced::NoFormat);
        }
        let ts = self.map.map(event, record.ts)?;
        let wanted = match self.spans.as_slice() {
            [only] => only.contains(ts),
            spans => spans.get(spans.partition_point(|s| s.last < ts)).is_some_and(|s| s.contains(ts)),
        };
        let dropped = self.drop.get(usize::from(record.event)).copied().unwrap_or(false);
        let strange = || self.strangers.as_ref().is_some_and(|s| s.recorded(record.event, chunk.payload(record)));
        Ok((wanted && !dropped && !strange()).then_some(ts))
    }
}

/// The loss that stands before record `index`, if any.
pub(super) fn lost_before(chunk: &Chunk, next: usize, index: usize) -> Option<Lost> {
    chunk.lost.get(next).copied().filter(|l| l.before <= index)
}
