//! Pass 2: every chunk is decoded once, merged in host-time order, interpreted and encoded.
//!
//! Three stages overlap. While group `n` of chunks is interpreted, which must be sequential, group `n + 1` is decoded
//! and group `n - 1` is encoded on whatever threads are free. Groups are cut by counts alone and batches by events, so
//! the output is the same for any number of threads and any size of groups. Memory is bounded by three groups: where more
//! than a group's events are due at once, interpreting stops for the encoders in between.

pub mod lane;
pub mod lanes;
mod merge;
pub(crate) mod pull;

use rayon::prelude::*;

use crate::capture::{Chunk, Record};
use crate::error::Result;
use crate::monitor::Monitor;
use crate::time::HostTsc;
use lane::{Lane, Ledger, Loaded};
use merge::Merge;

/// Chunks per group. With trace-cmd's chunks of ten 4 KiB sub-buffers a group is about a megabyte and 25,000 events:
/// large enough that the three stages rarely wait for each other, small enough for the caches.
const GROUP: usize = 24;
/// What an event is taken to need in each stage: its payload and its place, then what is drawn of it. With the usual limit
/// a group has at most 32,768 events, however long its chunks are.
const EVENT_BYTES: u64 = 256;
/// Groups that are in memory at a time, and what they are turned into.
const STAGES: u64 = 4;

/// How much memory pass 2 may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For events on their way, in bytes. A chunk that needs more than its share is still read: it is decoded whole.
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 32 << 20 }
    }
}

/// What a process needs besides events on their way: the program, formats, symbols, places of chunks.
const BESIDES: u64 = 32 << 20;

impl Limits {
    /// For a process that is to use `bytes` in all.
    pub fn of_process(bytes: u64) -> Self {
        Self { memory: bytes.saturating_sub(BESIDES).max(1 << 20) }
    }

    /// How many events a group may have.
    fn events(self) -> u64 {
        self.memory / STAGES / EVENT_BYTES
    }

    /// Cuts the schedule into groups.
    fn groups<'a>(self, lanes: &[Lane<'_>], plan: &'a [Scheduled]) -> Vec<&'a [Scheduled]> {
        let events = self.events();
        let mut groups = Vec::new();
        let (mut from, mut held) = (0, 0);
        for (at, s) in plan.iter().enumerate() {
            let records = u64::from(lanes[s.lane as usize].chunks[s.at as usize].records);
            if at > from && (at - from >= GROUP || held + records > events) {
                groups.push(&plan[from..at]);
                (from, held) = (at, 0);
            }
            held += records;
        }
        groups.extend((from < plan.len()).then(|| &plan[from..]));
        groups
    }
}

/// What is done with the merged events.
pub trait Consumer: Send {
    /// Work that is handed to the encoders.
    type Batch: Send;

    /// One event, in host-time order. `payload` starts at its first common field.
    fn event(&mut self, lane: u32, ts: HostTsc, record: &Record, payload: &[u8]);

    /// The ring buffer of this lane lost events before `ts`.
    fn lost(&mut self, lane: u32, ts: HostTsc, count: Option<u64>);

    /// The lane has no events after `ts`.
    fn ends(&mut self, lane: u32, ts: HostTsc);

    /// Moves finished batches into `out`. Called after every few thousand events.
    fn take(&mut self, out: &mut Vec<Self::Batch>);

    /// Gets a batch back that has been encoded, for its memory.
    fn recycle(&mut self, _batch: Self::Batch) {}
}

/// Appends a batch, of which this is the number, as bytes.
pub type Encode<'a, B> = dyn Fn(u64, &B, &mut Vec<u8>) + Sync + 'a;

/// Where encoded bytes go, in order.
pub type Write<'a> = dyn FnMut(&[u8]) -> Result<()> + Send + 'a;

/// What pass 2 leaves behind.
#[derive(Debug)]
pub struct Done {
    /// One per lane.
    pub ledgers: Vec<Ledger>,
    /// How many batches were encoded; a batch that is still to come has this number.
    pub batches: u64,
}

/// Runs pass 2 over `lanes`.
///
/// `encode` turns batch `n` into bytes; it runs on any thread. `write` gets the bytes in order. Ends early with
/// [`crate::error::ErrorKind::Interrupted`] when the monitor says so.
pub fn run<C: Consumer>(
    lanes: &[Lane<'_>],
    limits: Limits,
    consumer: &mut C,
    encode: &Encode<'_, C::Batch>,
    write: &mut Write<'_>,
    monitor: &Monitor<'_>,
) -> Result<Done> {
    let plan = schedule(lanes);
    let groups = limits.groups(lanes, &plan);
    let mut ledgers: Vec<Ledger> = lanes.iter().map(Ledger::of_skipped).collect();
    let mut merge = Merge::new(lanes.iter().map(|l| l.chunks.len()));
    let mut free: Vec<Chunk> = Vec::new();
    let mut ready: Vec<Loaded> = match groups.first() {
        Some(group) => decode(lanes, group, &mut free, monitor)?,
        None => Vec::new(),
    };
    let mut drawn = Drawn::default();
    // Where chunks of different lengths lie side by side, much of what was held back may be due with one group.
    let most_at_once = limits.events() / 4 * 5;
    for n in 0..groups.len() {
        let next = groups.get(n + 1).copied().unwrap_or(&[]);
        let horizon = next.first().map_or(HostTsc::MAX, |s| s.start);
        for loaded in &ready {
            ledgers[loaded.lane as usize].add(&loaded.ledger);
        }
        merge.add(std::mem::take(&mut ready));
        let mut wanted = next;
        loop {
            monitor.check()?;
            let encoding = std::mem::take(&mut drawn.work);
            let mut spare = std::mem::take(&mut free);
            let ((interpreted, more), (encoded, decoded)) = rayon::join(
                || {
                    let mut out = Vec::new();
                    let more = merge.run(horizon, most_at_once, consumer, &mut out);
                    (out, more)
                },
                || {
                    let encode_and_write = || {
                        let encoded = encode_all(encoding, encode);
                        encoded.iter().try_for_each(|done| write(&done.bytes)).map(|()| encoded)
                    };
                    rayon::join(encode_and_write, || decode(lanes, wanted, &mut spare, monitor))
                },
            );
            for done in encoded? {
                drawn.buffers.push(done.bytes);
                consumer.recycle(done.batch);
            }
            drawn.add(interpreted);
            ready.extend(decoded?);
            wanted = &[];
            free = spare;
            merge.recycle(&mut free);
            trim(&mut free, groups.get(n + 2).map_or(0, |group| group.len()));
            if !more {
                break;
            }
        }
    }
    let mut out = Vec::new();
    merge.finish(consumer, &mut out);
    drawn.add(out);
    for done in encode_all(drawn.work, encode) {
        write(&done.bytes)?;
    }
    Ok(Done { ledgers, batches: drawn.number })
}

/// Batches that are to be encoded.
struct Drawn<B> {
    work: Vec<Work<B>>,
    /// Room for bytes that was used before.
    buffers: Vec<Vec<u8>>,
    /// The next batch's.
    number: u64,
}

impl<B> Default for Drawn<B> {
    fn default() -> Self {
        Self { work: Vec::new(), buffers: Vec::new(), number: 0 }
    }
}

impl<B> Drawn<B> {
    fn add(&mut self, batches: Vec<B>) {
        for (number, batch) in (self.number..).zip(batches) {
            self.work.push(Work { number, batch, bytes: self.buffers.pop().unwrap_or_default() });
            self.number = number + 1;
        }
    }
}

/// A batch with room for its bytes.
struct Work<B> {
    number: u64,
    batch: B,
    bytes: Vec<u8>,
}

fn encode_all<B: Send>(work: Vec<Work<B>>, encode: &Encode<'_, B>) -> Vec<Work<B>> {
    let one = |mut work: Work<B>| {
        work.bytes.clear();
        encode(work.number, &work.batch, &mut work.bytes);
        work
    };
    work.into_par_iter().map(one).collect()
}

/// A chunk in the order in which chunks are needed.
#[derive(Clone, Copy)]
struct Scheduled {
    start: HostTsc,
    lane: u32,
    /// Index into the lane's chunk list.
    at: u32,
}

fn schedule(lanes: &[Lane<'_>]) -> Vec<Scheduled> {
    let mut plan = Vec::with_capacity(lanes.iter().map(|lane| lane.chunks.len()).sum());
    for (lane, l) in lanes.iter().enumerate() {
        let mut floor = HostTsc::MIN;
        for (at, chunk) in (0_u32..).zip(&l.chunks) {
            // A stream's chunks must keep their order even where its clock stepped back.
            floor = floor.max(chunk.start);
            plan.push(Scheduled { start: floor, lane: lane as u32, at });
        }
    }
    plan.sort_by_key(|s| (s.start, s.lane, s.at));
    plan
}

/// Keeps `needed` chunks to be read into. Each has grown to the largest that it ever held: more of them would be memory
/// that nobody uses.
fn trim(free: &mut Vec<Chunk>, needed: usize) {
    free.drain(..free.len().saturating_sub(needed));
}

fn decode(
    lanes: &[Lane<'_>],
    group: &[Scheduled],
    free: &mut Vec<Chunk>,
    monitor: &Monitor<'_>,
) -> Result<Vec<Loaded>> {
    let work: Vec<(Scheduled, Chunk)> = group.iter().map(|&s| (s, free.pop().unwrap_or_default())).collect();
    work.into_par_iter()
        .map(|(s, chunk)| {
            let lane = &lanes[s.lane as usize];
            let loaded = lane.load(s.lane, s.at as usize, chunk)?;
            (monitor.tick)(u64::from(lane.chunks[s.at as usize].records));
            Ok(loaded)
        })
        .collect()
}
