//! The records of one CPU as a [`ChunkSource`].

use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::attr::{Attr, When};
use super::clock::TimeConv;
use super::index::Piece;
use super::records::{PerfRecord, kind};
use crate::capture::bytes::u64_from;
use crate::capture::ring_buffer::EventIds;
use crate::capture::source::ReadAt;
use crate::capture::{Chunk, ChunkSource, Endian, Lost, Record};
use crate::error::{Error, Result};

/// Runs are fetched together up to this many bytes…
const FETCH: u64 = 1 << 20;
/// …where no more than this lies between them.
const FETCH_GAP: u64 = 16 << 10;

/// Which event a record belongs to.
pub(super) struct Attrs {
    pub(super) list: Vec<Attr>,
    pub(super) ids: FxHashMap<u64, u32>,
}

impl Attrs {
    /// Index of the event that a sample is of. Samples of several events all have their ids at the same place.
    #[inline]
    pub(super) fn of_sample(&self, body: &[u8], endian: Endian) -> Option<usize> {
        match &*self.list {
            [] => None,
            [_] => Some(0),
            [first, ..] => self.ids.get(&first.sample_id(body, endian)?).map(|&index| index as usize),
        }
    }

    /// When and where a record that is no sample was written.
    pub(super) fn when(&self, record: &PerfRecord<'_>, endian: Endian) -> Option<When> {
        self.list.first()?.when_at_end(record.body, endian)
    }
}

/// How many events a record says were lost; `None` for other records.
pub(super) fn lost(record: &PerfRecord<'_>, endian: Endian) -> Option<u64> {
    let at = match record.kind {
        kind::LOST => 8,
        kind::LOST_SAMPLES => 0,
        _ => return None,
    };
    record.body.get(at..)?.first_chunk().map(|&bytes| u64_from(endian, bytes))
}

/// What all streams of a file share.
pub(super) struct Shared {
    pub(super) source: Arc<dyn ReadAt>,
    pub(super) path: Arc<Path>,
    pub(super) endian: Endian,
    pub(super) attrs: Attrs,
    pub(super) event_ids: EventIds,
    /// How to make TSC cycles of stamps.
    pub(super) conversion: Option<TimeConv>,
}

/// The records of one CPU.
pub(super) struct PerfStream {
    pub(super) shared: Arc<Shared>,
    pub(super) cpu: u32,
    pub(super) pieces: Vec<Piece>,
}

impl ChunkSource for PerfStream {
    fn chunks(&self) -> usize {
        self.pieces.len()
    }

    fn read(&self, index: usize, chunk: &mut Chunk) -> Result<()> {
        chunk.clear();
        let Some(piece) = self.pieces.get(index) else { return Ok(()) };
        let mut losses = Vec::new();
        let mut runs = piece.runs().peekable();
        let mut together: Vec<(u64, u64)> = Vec::new();
        while let Some((start, first_end)) = runs.next() {
            together.clear();
            together.push((start, first_end));
            let mut end = first_end;
            while let Some((next, next_end)) =
                runs.next_if(|run| run.0.saturating_sub(end) <= FETCH_GAP && run.1.saturating_sub(start) <= FETCH)
            {
                together.push((next, next_end));
                end = next_end;
            }
            let mut bytes = std::mem::take(&mut chunk.scratch);
            bytes.resize(end.saturating_sub(start) as usize, 0);
            self.shared.source.read_exact_at(&mut bytes, start).map_err(|error| {
                Error::io(&*self.shared.path, &format!("read {} bytes", bytes.len()), error).at(start)
            })?;
            for &(from, to) in &together {
                let (from_at, to_at) = ((from - start) as usize, (to - start) as usize);
                self.run(bytes.get(from_at..to_at).unwrap_or(&[]), from, chunk, &mut losses);
            }
            chunk.scratch = bytes;
        }
        if !chunk.records.is_sorted_by_key(|record| record.ts) {
            chunk.records.sort_by_key(|record| record.ts);
        }
        if let Some(first) = chunk.records.first_mut() {
            first.flags |= Record::FIRST;
        }
        losses.sort_unstable();
        let records = &chunk.records;
        chunk.lost.extend(losses.into_iter().map(|(time, count)| Lost {
            before: records.partition_point(|record| record.ts < time),
            count: Some(count),
        }));
        Ok(())
    }
}

impl PerfStream {
    /// Appends the events among the records in `bytes`, which stand at `at`.
    fn run(&self, bytes: &[u8], at: u64, chunk: &mut Chunk, losses: &mut Vec<(u64, u64)>) {
        let endian = self.shared.endian;
        let mut position = 0;
        // The scan has seen these records already: they are whole, unless the file has changed since.
        while let Some(Ok(record)) = bytes.get(position..).map(|rest| PerfRecord::split(rest, at, endian)) {
            position = position.saturating_add(record.size().saturating_add(record.behind) as usize);
            if record.kind == kind::SAMPLE {
                self.sample(record.body, chunk);
            } else if let Some(count) = lost(&record, endian)
                && let Some(when) = self.shared.attrs.when(&record, endian)
                && when.cpu == self.cpu
                && let Some(time) = self.stamp(when.time)
            {
                losses.push((time, count));
            }
        }
    }

    fn sample(&self, body: &[u8], chunk: &mut Chunk) {
        let Shared { endian, attrs, event_ids, .. } = &*self.shared;
        let attr = attrs.of_sample(body, *endian).and_then(|index| attrs.list.get(index)).filter(|a| a.tracepoint);
        let Some(attr) = attr else { return };
        let Some(when) = attr.when(body, *endian).filter(|when| when.cpu == self.cpu) else { return };
        let (Some(raw), Some(ts)) = (attr.raw(body, *endian), self.stamp(when.time)) else { return };
        let Ok(at) = u32::try_from(chunk.data.len()) else { return };
        let event = event_ids.index(*endian, raw);
        chunk.data.extend_from_slice(raw);
        chunk.records.push(Record { ts, at, len: raw.len() as u32, event, flags: Record::ABSOLUTE });
    }

    fn stamp(&self, ns: u64) -> Option<u64> {
        match self.shared.conversion {
            None => Some(ns),
            Some(conversion) => conversion.cycles(ns),
        }
    }
}
