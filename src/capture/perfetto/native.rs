//! What a Perfetto trace holds beyond the events that are read: its packets as they stand, for an output of the same
//! format; and how its clock relates to the TSC.

use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::capture::source::ReadAt;
use crate::clock::line::ClockLine;
use crate::error::{Error, Result};

/// Beyond this many numbers only the largest is kept.
const MAX_NUMBERS: usize = 1 << 16;
/// Track numbers below it are somebody's counting; those beyond are hashes.
const COUNTED: u64 = 1 << 40;

/// Numbers that a trace uses for something, so that others can be chosen.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    known: FxHashSet<u32>,
    largest: u32,
}

impl Taken {
    /// Notes a number.
    pub(super) fn add(&mut self, number: u32) {
        if self.known.len() < MAX_NUMBERS {
            self.known.insert(number);
        }
        self.largest = self.largest.max(number);
    }

    /// The least number from 1 on from which `count` in a row are free.
    pub fn free(&self, count: u32) -> u32 {
        if self.known.len() >= MAX_NUMBERS {
            return self.largest.checked_add(1).filter(|first| first.checked_add(count).is_some()).unwrap_or(1);
        }
        let (mut first, mut next) = (1_u32, 1_u32);
        while next - first < count {
            if self.known.contains(&next) {
                first = next + 1;
            }
            next += 1;
        }
        first
    }
}

/// A Perfetto trace as an output needs to know it.
pub struct Native {
    /// The file, as it is.
    pub(super) source: Arc<dyn ReadAt>,
    /// The end of its last whole packet.
    pub(super) end: u64,
    /// The end of the packet with its first clock snapshot, 0 where there is none.
    pub(super) settled: u64,
    /// Its packets, compressed ones as one.
    pub packets: u64,
    /// The clock of its events as Perfetto numbers clocks; `None` for those that have no number.
    pub clock: Option<u32>,
    /// Its clock against the TSC, where it was recorded together with it.
    pub line: Option<ClockLine>,
    /// First stamp, in nanoseconds of its clock.
    pub first_ns: u64,
    /// `trusted_packet_sequence_id`s.
    pub sequences: Taken,
    /// `machine_id`s.
    pub machines: Taken,
    /// The largest `uuid` of a track that is a small number.
    pub(super) largest_track: u64,
    /// What wrote it, where that is this program.
    pub made_by: Option<String>,
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Native").field("packets", &self.packets).field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// How much is copied at once.
const STEP: u64 = 1 << 20;

impl Native {
    /// What a track's number must be larger than.
    pub fn largest_track(&self) -> u64 {
        self.largest_track
    }

    /// Whether the trace has a clock snapshot.
    pub fn has_snapshot(&self) -> bool {
        self.settled > 0
    }

    /// The packets up to its first clock snapshot, as they stand: what must come before any other packet.
    ///
    /// # Errors
    /// Where reading or `write` fails.
    pub fn copy_start(&self, write: &mut dyn FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
        self.copy(0, self.settled, write)
    }

    /// All further packets.
    ///
    /// # Errors
    /// As [`Native::copy_start`].
    pub fn copy_rest(&self, write: &mut dyn FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
        self.copy(self.settled, self.end, write)
    }

    fn copy(&self, mut from: u64, to: u64, write: &mut dyn FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
        while from < to {
            let mut bytes = vec![0; (to - from).min(STEP) as usize];
            self.source.read_exact_at(&mut bytes, from).map_err(|error| {
                Error::new(crate::error::ErrorKind::Io, format!("cannot read packets again: {error}")).at(from)
            })?;
            from += bytes.len() as u64;
            write(bytes)?;
        }
        Ok(())
    }

    /// Notes the number of a track.
    pub(super) fn track(largest: &mut u64, uuid: u64) {
        if uuid < COUNTED {
            *largest = uuid.max(*largest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_numbers() {
        let mut taken = Taken::default();
        assert_eq!((taken.free(1), taken.free(5)), (1, 1));
        [1, 2, 5, u32::MAX].into_iter().for_each(|number| taken.add(number));
        assert_eq!((taken.free(1), taken.free(2), taken.free(3)), (3, 3, 6));
        (0..MAX_NUMBERS as u32).for_each(|number| taken.add(number * 2));
        assert_eq!(taken.free(4), 1, "there is no better");
        let mut many = Taken::default();
        (0..=MAX_NUMBERS as u32).for_each(|number| many.add(number));
        assert_eq!(many.free(4), MAX_NUMBERS as u32 + 1);
    }
}
