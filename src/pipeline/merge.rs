//! The k-way merge of all lanes in host-time order. Equal times go by lane number: the host's lanes come first.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::Consumer;
use super::lane::{Loaded, lost_before};
use crate::capture::Chunk;
use crate::time::HostTsc;

/// How often the consumer is asked for finished batches, in events.
const TAKE_EVERY: u32 = 4096;

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Chunk>,
    /// Position in the front chunk.
    at: usize,
    next_lost: usize,
    last: HostTsc,
    /// Chunks that have not arrived yet.
    coming: usize,
    ended: bool,
    seen: bool,
}

pub(super) struct Merge {
    queues: Vec<Queue>,
    done: Vec<Chunk>,
    now: HostTsc,
    /// Events since the consumer was asked for finished batches.
    since: u32,
}

impl Merge {
    /// `chunks` holds how many chunks each lane will get.
    pub(super) fn new(chunks: impl Iterator<Item = usize>) -> Self {
        let queues = chunks.map(|coming| Queue { coming, ..Queue::default() }).collect();
        Self { queues, done: Vec::new(), now: HostTsc::MIN, since: 0 }
    }

    /// Appends chunks that were decoded; per lane in stream order.
    pub(super) fn add(&mut self, loaded: Vec<Loaded>) {
        for l in loaded {
            let queue = &mut self.queues[l.lane as usize];
            queue.chunks.push_back(l.chunk);
            queue.coming = queue.coming.saturating_sub(1);
        }
    }

    /// Hands events before `horizon` to the consumer: all of them, or about `most`. Gives whether there may be more.
    pub(super) fn run<C: Consumer>(
        &mut self,
        horizon: HostTsc,
        most: u64,
        consumer: &mut C,
        out: &mut Vec<C::Batch>,
    ) -> bool {
        let mut left = most;
        let mut heap: BinaryHeap<Reverse<(HostTsc, u32)>> = BinaryHeap::with_capacity(self.queues.len());
        for lane in 0..self.queues.len() as u32 {
            if let Some(ts) = self.head(lane, consumer) {
                heap.push(Reverse((ts, lane)));
            }
        }
        while let Some(Reverse((ts, lane))) = heap.pop() {
            if ts >= horizon && horizon != HostTsc::MAX {
                break;
            }
            let last = last_of_turn(lane, heap.peek().map(|Reverse(next)| *next), horizon);
            let mut head = Some(ts);
            while head.is_some_and(|ts| ts <= last) {
                self.emit(lane, last, consumer);
                if self.since == TAKE_EVERY {
                    self.since = 0;
                    consumer.take(out);
                    left = left.saturating_sub(TAKE_EVERY.into());
                    if left == 0 {
                        return true;
                    }
                }
                head = self.head(lane, consumer);
            }
            if let Some(ts) = head {
                heap.push(Reverse((ts, lane)));
            }
        }
        false
    }

    /// The time of the lane's next event; drops chunks that are used up.
    fn head<C: Consumer>(&mut self, lane: u32, consumer: &mut C) -> Option<HostTsc> {
        let queue = &mut self.queues[lane as usize];
        loop {
            let chunk = queue.chunks.front()?;
            if let Some(record) = chunk.records.get(queue.at) {
                return Some(HostTsc::new(record.ts));
            }
            for lost in &chunk.lost[queue.next_lost.min(chunk.lost.len())..] {
                consumer.lost(lane, self.now.max(queue.last), lost.count);
            }
            self.done.extend(queue.chunks.pop_front());
            queue.at = 0;
            queue.next_lost = 0;
        }
    }

    /// Hands over the lane's next event, and those behind it in its chunk up to time `last` or the next question for
    /// batches.
    fn emit<C: Consumer>(&mut self, lane: u32, last: HostTsc, consumer: &mut C) {
        let queue = &mut self.queues[lane as usize];
        let Some(chunk) = queue.chunks.front() else { return };
        let Some((first, behind)) = chunk.records.get(queue.at..).and_then(<[_]>::split_first) else { return };
        let behind = behind.iter().take_while(|record| HostTsc::new(record.ts) <= last);
        let room = (TAKE_EVERY - self.since) as usize;
        let before = queue.at;
        for record in std::iter::once(first).chain(behind).take(room) {
            // A stream may step back from one chunk to the next; merged time never does.
            self.now = self.now.max(HostTsc::new(record.ts));
            while let Some(lost) = lost_before(chunk, queue.next_lost, queue.at) {
                consumer.lost(lane, self.now, lost.count);
                queue.next_lost += 1;
            }
            consumer.event(lane, self.now, record, chunk.payload(record));
            queue.at += 1;
        }
        self.since += (queue.at - before) as u32;
        queue.last = self.now;
        queue.seen = true;
        if queue.coming == 0 && queue.chunks.len() == 1 && queue.at >= chunk_len(queue) {
            queue.ended = true;
            consumer.ends(lane, self.now);
        }
    }

    /// Gives chunks that are used up back for reading into.
    pub(super) fn recycle(&mut self, free: &mut Vec<Chunk>) {
        free.append(&mut self.done);
    }

    /// Tells the consumer where the remaining lanes ended: those whose last chunk was filtered away.
    pub(super) fn finish<C: Consumer>(&mut self, consumer: &mut C, out: &mut Vec<C::Batch>) {
        let mut ends: Vec<(HostTsc, u32)> =
            (0_u32..).zip(&self.queues).filter(|(_, q)| q.seen && !q.ended).map(|(lane, q)| (q.last, lane)).collect();
        ends.sort_unstable();
        for (ts, lane) in ends {
            consumer.ends(lane, ts);
        }
        consumer.take(out);
    }
}

/// Up to which time a lane goes on: until `next` has its turn, which of equal times is the lower lane's, or `horizon`
/// comes.
fn last_of_turn(lane: u32, next: Option<(HostTsc, u32)>, horizon: HostTsc) -> HostTsc {
    let before = |ts: HostTsc| HostTsc::new(ts.get().saturating_sub(1));
    let turn = match next {
        Some((ts, other)) if lane < other => ts,
        Some((ts, _)) => before(ts),
        None => HostTsc::MAX,
    };
    if horizon == HostTsc::MAX { turn } else { turn.min(before(horizon)) }
}

fn chunk_len(queue: &Queue) -> usize {
    queue.chunks.front().map_or(0, |chunk| chunk.records.len())
}
