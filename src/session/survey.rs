//! Pass 1: read every chunk once, in parallel, and keep only what placing the events needs.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::capture::{Capture, Chunk, Endian, Record};
use crate::error::Result;
use crate::monitor::Monitor;
use crate::session::fields::{Events, KvmFields, pid_of};

/// Where a chunk lies on its buffer's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChunkSpan {
    /// Stamp of the first record; 0 in an empty chunk.
    pub first: u64,
    /// Stamp of the last record.
    pub last: u64,
    /// Smallest stamp.
    pub min: u64,
    /// Largest stamp.
    pub max: u64,
    /// Records in it.
    pub records: u32,
    /// A stamp steps back, or a zero extend stands before a record.
    pub jumps: bool,
}

/// What pass 1 found in one stream.
#[derive(Debug, Default)]
pub struct StreamSurvey {
    /// Index into the capture's buffers.
    pub buffer: usize,
    /// Index into that buffer's streams.
    pub stream: usize,
    /// CPU number.
    pub cpu: u32,
    /// One per chunk.
    pub chunks: Vec<ChunkSpan>,
    /// Records in all.
    pub events: u64,
    /// Events that the recording says were lost.
    pub lost: u64,
    /// Places where events were lost, but not how many.
    pub lost_unknown: u64,
    /// Damaged sub-buffers or lines.
    pub damaged: u64,
    /// The first few damages in words.
    pub damage: Vec<String>,
}

/// One `kvm_write_tsc_offset` as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetWrite {
    /// Index into the capture's buffers.
    pub buffer: usize,
    /// Raw stamp.
    pub ts: u64,
    /// The thread that wrote it.
    pub tid: i32,
    /// vcpu_id.
    pub vcpu: u32,
    /// Offset before.
    pub prev: u64,
    /// Offset after.
    pub next: u64,
}

/// One `kvm_pvclock_update`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PvclockWrite {
    /// Raw stamp.
    pub ts: u64,
    /// The thread that wrote it.
    pub tid: i32,
    /// vcpu_id.
    pub vcpu: u32,
    /// Guest TSC of the update.
    pub tsc_timestamp: u64,
    /// kvm-clock nanoseconds at `tsc_timestamp`.
    pub system_time: u64,
    /// Multiplier.
    pub mul: u32,
    /// Shift, signed.
    pub shift: i8,
}

/// A guest's TSC as the host itself read it for a timer that was due: `kvm_wait_lapic_expire` tells its distance from the
/// deadline that the guest wrote before (`kvm_msr`, IA32_TSC_DEADLINE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerReading {
    /// The vCPU's thread.
    pub tid: i32,
    /// Raw stamp of the event; the reading was made just before.
    pub ts: u64,
    /// The guest's TSC.
    pub guest: u64,
}

/// A thread that entered or left a guest.
#[derive(Clone, Debug, Default)]
pub struct ThreadSurvey {
    /// vcpu_id as the events say, where they say it.
    pub vcpu_id: Option<u32>,
    /// How many kvm_entry.
    pub entries: u64,
    /// How many kvm_exit.
    pub exits: u64,
    /// First stamp of either.
    pub first: u64,
    /// Last stamp of either.
    pub last: u64,
}

/// What pass 1 found in a capture.
#[derive(Debug, Default)]
pub struct Survey {
    /// Streams of all buffers, top buffer first.
    pub streams: Vec<StreamSurvey>,
    /// Records per event (index into the format table), all buffers.
    pub counts: Vec<u64>,
    /// Records per buffer and event: which buffer has which events.
    pub buffer_counts: Vec<Vec<u64>>,
    /// Records without a format.
    pub unknown: u64,
    /// All offset writes, by buffer, then time.
    pub writes: Vec<OffsetWrite>,
    /// All pvclock updates of the first buffer that has any, by time.
    pub pvclock: Vec<PvclockWrite>,
    /// Threads with kvm_entry or kvm_exit.
    pub threads: BTreeMap<i32, ThreadSurvey>,
    /// Child thread to the process or thread that made it (sched_process_fork).
    pub forks: BTreeMap<i32, i32>,
    /// Pairs of (stamp, nanosecond clock) from events that carry one, at most one per chunk.
    pub ns_pairs: Vec<(u64, u64)>,
    /// The first [`TIMER_READINGS`] readings of guests' TSCs.
    pub timer_readings: Vec<TimerReading>,
}

/// More readings do not make an inferred offset any better.
pub const TIMER_READINGS: usize = 1 << 16;

impl Survey {
    /// Whether a host's run windows are in it.
    pub fn has_kvm(&self) -> bool {
        !self.threads.is_empty()
    }

    /// Records in all.
    pub fn events(&self) -> u64 {
        self.streams.iter().map(|s| s.events).sum()
    }

    /// Smallest and largest stamp of the streams that `keep` wants.
    pub fn span(&self, keep: impl Fn(&StreamSurvey) -> bool) -> Option<(u64, u64)> {
        let chunks = self.streams.iter().filter(|s| keep(s)).flat_map(|s| &s.chunks).filter(|c| c.records > 0);
        chunks.fold(None, |span, c| match span {
            None => Some((c.min, c.max)),
            Some((min, max)) => Some((c.min.min(min), c.max.max(max))),
        })
    }
}

/// What one chunk adds to the survey.
#[derive(Default)]
struct Piece {
    span: ChunkSpan,
    lost: u64,
    lost_unknown: u64,
    damaged: u64,
    damage: Vec<String>,
    counts: Vec<(u16, u32)>,
    unknown: u64,
    writes: Vec<OffsetWrite>,
    pvclock: Vec<PvclockWrite>,
    threads: Vec<(i32, ThreadSurvey)>,
    forks: Vec<(i32, i32)>,
    ns_pair: Option<(u64, u64)>,
    /// The deadline that each thread's guest wrote last.
    deadlines: Vec<(i32, u64)>,
    timer_readings: Vec<TimerReading>,
}

/// How many chunks are looked at before what was found in them is put together: enough for any number of threads, and
/// what is found in a chunk takes more memory than what is kept of it.
const AT_ONCE: usize = 1024;

/// Per-worker scratch: a chunk and a dense counter per event.
#[derive(Default)]
struct Scratch {
    chunk: Chunk,
    counts: Vec<u32>,
}

/// Whether a guest is entered or left in `capture`, which makes it a host's. Ends with the first such event.
pub(crate) fn shows_runs(capture: &Capture, monitor: &Monitor<'_>) -> Result<bool> {
    let Events { entry, exit, .. } = Events::new(&capture.formats);
    if entry.is_none() && exit.is_none() {
        return Ok(false);
    }
    let streams = capture.buffers.iter().flat_map(|buffer| &buffer.streams);
    let chunks: Vec<_> = streams.flat_map(|s| (0..s.source.chunks()).map(move |chunk| (chunk, s))).collect();
    let found = chunks.par_iter().map_init(Chunk::default, |chunk, (index, stream)| {
        monitor.check()?;
        chunk.clear();
        stream.source.read(*index, chunk)?;
        Ok(chunk.records.iter().any(|r| Some(r.event) == entry || Some(r.event) == exit))
    });
    let end = found.find_any(|found| !matches!(found, Ok(false))).unwrap_or(Ok(false));
    end.map_err(|error: crate::error::Error| error.in_file(&capture.path))
}

/// Reads all of `capture` once.
pub fn survey(capture: &Capture, monitor: &Monitor<'_>) -> Result<Survey> {
    let events = Events::new(&capture.formats);
    let fields = KvmFields::new(&capture.formats);
    let mut survey = Survey {
        counts: vec![0; capture.formats.events().len()],
        buffer_counts: vec![vec![0; capture.formats.events().len()]; capture.buffers.len()],
        ..Survey::default()
    };
    let mut streams = Vec::new();
    for (b, buffer) in capture.buffers.iter().enumerate() {
        for (s, stream) in buffer.streams.iter().enumerate() {
            let chunks = Vec::with_capacity(stream.source.chunks());
            let found = StreamSurvey { buffer: b, stream: s, cpu: stream.cpu, chunks, ..StreamSurvey::default() };
            survey.streams.push(found);
            streams.push((b, &*stream.source));
        }
    }
    let mut work = streams.iter().enumerate().flat_map(|(at, (_, source))| (0..source.chunks()).map(move |c| (at, c)));
    let mut now = Vec::new();
    loop {
        now.clear();
        now.extend(work.by_ref().take(AT_ONCE));
        if now.is_empty() {
            break;
        }
        let pieces = now
            .par_iter()
            .map_init(Scratch::default, |scratch, &(at, index)| {
                monitor.check()?;
                let (buffer, source) = streams[at];
                scratch.chunk.clear();
                source.read(index, &mut scratch.chunk)?;
                let piece = look(scratch, buffer, capture.endian, &events, &fields);
                (monitor.tick)(u64::from(piece.span.records));
                Ok(piece)
            })
            .collect::<Result<Vec<_>>>()
            .map_err(|e| e.in_file(&capture.path))?;
        for (&(at, _), piece) in now.iter().zip(pieces) {
            survey.add(at, piece);
        }
    }
    survey.writes.sort_by_key(|w| (w.buffer, w.ts));
    survey.pvclock.sort_by_key(|p| p.ts);
    Ok(survey)
}

impl Survey {
    fn add(&mut self, at: usize, piece: Piece) {
        let Some(stream) = self.streams.get_mut(at) else { return };
        stream.chunks.push(piece.span);
        stream.events += u64::from(piece.span.records);
        // Counts from the file: they may be any number.
        stream.lost = stream.lost.saturating_add(piece.lost);
        stream.lost_unknown += piece.lost_unknown;
        stream.damaged += piece.damaged;
        let room = 5_usize.saturating_sub(stream.damage.len());
        stream.damage.extend(piece.damage.into_iter().take(room));
        self.unknown += piece.unknown;
        for (event, count) in piece.counts {
            self.counts[usize::from(event)] += u64::from(count);
            self.buffer_counts[stream.buffer][usize::from(event)] += u64::from(count);
        }
        self.writes.extend(piece.writes);
        self.pvclock.extend(piece.pvclock);
        for (tid, seen) in piece.threads {
            let thread =
                self.threads.entry(tid).or_insert_with(|| ThreadSurvey { first: u64::MAX, ..Default::default() });
            thread.vcpu_id = thread.vcpu_id.or(seen.vcpu_id);
            thread.entries += seen.entries;
            thread.exits += seen.exits;
            thread.first = thread.first.min(seen.first);
            thread.last = thread.last.max(seen.last);
        }
        self.forks.extend(piece.forks);
        self.ns_pairs.extend(piece.ns_pair);
        let room = TIMER_READINGS.saturating_sub(self.timer_readings.len());
        self.timer_readings.extend(piece.timer_readings.into_iter().take(room));
    }
}

fn look(scratch: &mut Scratch, buffer: usize, endian: Endian, events: &Events, fields: &KvmFields) -> Piece {
    let Scratch { chunk, counts } = scratch;
    let mut piece = Piece {
        damaged: chunk.damaged,
        damage: std::mem::take(&mut chunk.damage),
        span: ChunkSpan {
            first: chunk.records.first().map_or(0, |r| r.ts),
            last: chunk.records.last().map_or(0, |r| r.ts),
            min: u64::MAX,
            records: chunk.records.len() as u32,
            ..ChunkSpan::default()
        },
        ..Piece::default()
    };
    for lost in &chunk.lost {
        match lost.count {
            Some(count) => piece.lost = piece.lost.saturating_add(count),
            None => piece.lost_unknown += 1,
        }
    }
    counts.resize(events.count(), 0);
    let mut previous = 0;
    for record in &chunk.records {
        piece.span.min = piece.span.min.min(record.ts);
        piece.span.max = piece.span.max.max(record.ts);
        piece.span.jumps |= record.ts < previous || record.flags & Record::ZERO_EXTEND != 0;
        previous = record.ts;
        let Some(count) = counts.get_mut(usize::from(record.event)) else {
            piece.unknown += 1;
            continue;
        };
        if *count == 0 {
            piece.counts.push((record.event, 0));
        }
        *count += 1;
        if events.is_of_interest(record.event) {
            note(&mut piece, chunk, record, buffer, endian, events, fields);
        }
    }
    for (event, count) in &mut piece.counts {
        *count = std::mem::take(&mut counts[usize::from(*event)]);
    }
    if piece.span.records == 0 {
        piece.span.min = 0;
    }
    piece
}

fn note(
    piece: &mut Piece,
    chunk: &Chunk,
    record: &Record,
    buffer: usize,
    endian: Endian,
    events: &Events,
    fields: &KvmFields,
) {
    let payload = chunk.payload(record);
    let event = Some(record.event);
    if event == events.entry || event == events.exit {
        let Some(tid) = pid_of(fields, payload, endian) else { return };
        let vcpu = if event == events.entry { &fields.entry_vcpu } else { &fields.exit_vcpu };
        let index = piece.threads.iter().position(|(t, _)| *t == tid).unwrap_or_else(|| {
            let vcpu_id = vcpu.as_ref().and_then(|f| f.number(payload, endian)).map(|v| v as u32);
            piece.threads.push((tid, ThreadSurvey { vcpu_id, first: record.ts, ..Default::default() }));
            piece.threads.len() - 1
        });
        let thread = &mut piece.threads[index].1;
        thread.first = thread.first.min(record.ts);
        thread.last = thread.last.max(record.ts);
        if event == events.entry {
            thread.entries += 1;
        } else {
            thread.exits += 1;
        }
    } else if event == events.write_offset {
        if let Some((tid, vcpu, prev, next)) = fields.write(payload, endian) {
            piece.writes.push(OffsetWrite { buffer, ts: record.ts, tid, vcpu, prev, next });
        }
    } else if event == events.pvclock {
        piece.pvclock.extend(fields.pvclock(payload, endian, record.ts));
    } else if event == events.fork {
        piece.forks.extend(fields.fork(payload, endian));
    } else if event == events.msr {
        if let Some((tid, deadline)) = fields.deadline(payload, endian) {
            piece.deadlines.retain(|(thread, _)| *thread != tid);
            piece.deadlines.extend((deadline != 0).then_some((tid, deadline)));
        }
    } else if event == events.timer_due {
        if let Some((tid, delta)) = fields.timer_due(payload, endian)
            && let Some((_, deadline)) = piece.deadlines.iter().find(|(thread, _)| *thread == tid)
        {
            piece.timer_readings.push(TimerReading { tid, ts: record.ts, guest: deadline.wrapping_add(delta) });
        }
    } else if piece.ns_pair.is_none()
        && let Some(now) = fields.now(record.event, payload, endian)
    {
        piece.ns_pair = Some((record.ts, now));
    }
}
