//! One budget of memory for all captures that are converted at a time.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::pipeline::Limits;

/// The program itself.
const PROGRAM: u64 = 12 << 20;
/// What a capture needs besides events on their way (formats, symbols, each thread's chunks, buffers of the output): at
/// least so much, four bytes more for each of its own, and at most so much…
const BESIDES: (u64, u64) = (4 << 20, 20 << 20);
/// …and of larger ones what grows with the recording: places of chunks, run windows, offset writes. One in so many bytes.
const STAYS: u64 = 16;
/// A capture's events on their way take at least and at most so much.
const EVENTS: (u64, u64) = (2 << 20, 32 << 20);

/// What converting a capture of `bytes` takes, out of `all`: for events on their way, and in all.
fn need(bytes: u64, all: u64) -> (Limits, u64) {
    let besides = bytes.saturating_mul(4).saturating_add(BESIDES.0).min(BESIDES.1).saturating_add(bytes / STAYS);
    // Recordings are compressed up to tenfold, and a decoded event is larger than a recorded one.
    let wanted = bytes.saturating_mul(4).clamp(EVENTS.0, EVENTS.1);
    let memory = wanted.min(all.saturating_sub(besides)).max(EVENTS.0 / 2);
    (Limits { memory }, besides.saturating_add(memory))
}

/// Work that waits for its turn and for memory: in the order in which it was put in, as much at a time as there is room
/// for. What is larger than all memory runs alone.
pub(super) struct Queue {
    all: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    left: VecDeque<(usize, u64)>,
    used: u64,
}

/// A capture whose turn it is.
pub(super) struct Turn<'a> {
    queue: &'a Queue,
    taken: u64,
    /// Its position.
    pub(super) index: usize,
    /// For its events on their way.
    pub(super) limits: Limits,
}

impl Queue {
    /// For a process that is to use `memory` in all; `work` is each capture's position and size.
    pub(super) fn new(memory: u64, work: impl IntoIterator<Item = (usize, u64)>) -> Self {
        let all = memory.saturating_sub(PROGRAM);
        let state = State { left: work.into_iter().collect(), used: 0 };
        Self { all, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The next, once there is room; `None` when nothing is left or `stopped` holds.
    pub(super) fn next(&self, stopped: &dyn Fn() -> bool) -> Option<Turn<'_>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if stopped() {
                return None;
            }
            let &(index, bytes) = state.left.front()?;
            let (limits, taken) = need(bytes, self.all);
            if state.used == 0 || state.used.saturating_add(taken) <= self.all {
                state.left.pop_front();
                state.used += taken;
                return Some(Turn { queue: self, taken, index, limits });
            }
            let waited = self.changed.wait_timeout(state, Duration::from_millis(100));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.queue.state.lock().unwrap_or_else(PoisonError::into_inner).used -= self.taken;
        self.queue.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn as_many_at_a_time_as_there_is_room_for() {
        let go = &|| false;
        // Small ones take a little over 4 MiB and 2 MiB.
        let queue = Queue::new(PROGRAM + 13 * MIB, (0..4).map(|i| (i, 1000)));
        let (one, other) = (queue.next(go).unwrap(), queue.next(go).unwrap());
        assert_eq!((one.index, other.index, one.limits.memory), (0, 1, 2 * MIB));
        let soon = std::time::Instant::now() + Duration::from_millis(250);
        assert!(queue.next(&|| std::time::Instant::now() > soon).is_none());
        drop(one);
        assert_eq!(queue.next(go).map(|turn| turn.index), Some(2));
    }

    #[test]
    fn what_is_larger_than_all_memory_runs_alone() {
        let go = &|| false;
        let queue = Queue::new(32 * MIB, [(0, 10_000 * MIB), (1, 10)]);
        let huge = queue.next(go).unwrap();
        assert_eq!((huge.index, huge.limits.memory), (0, MIB));
        let soon = std::time::Instant::now() + Duration::from_millis(250);
        assert!(queue.next(&|| std::time::Instant::now() > soon).is_none());
        drop(huge);
        assert_eq!(queue.next(go).map(|turn| turn.index), Some(1));
        assert!(queue.next(go).is_none());
    }
}
