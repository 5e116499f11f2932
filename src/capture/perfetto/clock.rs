//! The clocks of a trace: which one the events were stamped with, and how it relates to the TSC.

use super::wire::{Fields, Value};
use crate::capture::Clock;

/// Numbers of clocks (builtin_clock.proto).
pub(super) const REALTIME: u32 = 1;
const MONO_RAW: u32 = 5;
const BOOTTIME: u32 = 6;
pub(super) const TSC: u32 = 9;
/// Numbers from here on mean something in one sequence of packets alone.
const FIRST_OWN: u32 = 64;

/// Most snapshots that are kept.
const MAX_SNAPSHOTS: usize = 1 << 20;
/// How long one reading of a clock may take, in nanoseconds: a system call where it is not read in user space.
const READING_NS: u64 = 250;

/// What `FtraceEventBundle` calls its clock: the name that ftrace has for it, and its number in snapshots.
pub(super) fn of_bundle(clock: u64) -> (Clock, Option<u32>) {
    let (name, number) = match clock {
        0 => ("boot", Some(BOOTTIME)),
        2 => ("global", None),
        3 => ("local", None),
        4 => ("mono_raw", Some(MONO_RAW)),
        _ => ("unknown", None),
    };
    (Clock::Other(name.into()), number)
}

/// What snapshots of several clocks say.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// (number, nanoseconds or cycles) in the order in which they were read.
    list: Vec<Box<[(u32, u64)]>>,
}

impl Snapshots {
    /// Notes a `ClockSnapshot`.
    pub(super) fn add(&mut self, message: &[u8]) {
        let clocks = Fields::new(message).filter_map(|(field, value)| {
            let (mut number, mut time, mut plain) = (None, None, true);
            for (inner, value) in Fields::new(value.bytes().filter(|_| field == 1)?) {
                match (inner, value) {
                    (1, Value::Number(value)) => number = u32::try_from(value).ok(),
                    (2, Value::Number(value)) => time = Some(value),
                    // Distances; a unit that is not the nanosecond.
                    (3, Value::Number(value)) => plain &= value == 0,
                    (4, Value::Number(value)) => plain &= value <= 1,
                    _ => {}
                }
            }
            number.filter(|&number| plain && number < FIRST_OWN).zip(time)
        });
        let clocks: Box<[(u32, u64)]> = clocks.take(FIRST_OWN as usize).collect();
        if clocks.len() > 1 && self.list.len() < MAX_SNAPSHOTS {
            self.list.push(clocks);
        }
    }

    /// Readings of two clocks together.
    pub(super) fn pairs(&self, first: u32, second: u32) -> Vec<(u64, u64)> {
        let of = |list: &[(u32, u64)], wanted| list.iter().find(|(number, _)| *number == wanted).map(|(_, time)| *time);
        self.list.iter().filter_map(|list| of(list, first).zip(of(list, second))).collect()
    }

    /// How much later the second clock may have been read than the first, in nanoseconds: others were read in between.
    pub(super) fn late_ns(&self, first: u32, second: u32) -> u64 {
        let place = |list: &[(u32, u64)], wanted| list.iter().position(|(number, _)| *number == wanted);
        let between = |list: &[(u32, u64)]| {
            let (a, b) = (place(list, first)?, place(list, second)?);
            Some(a.abs_diff(b).saturating_sub(1) as u64)
        };
        self.list.iter().filter_map(|list| between(list)).max().unwrap_or(0).saturating_mul(READING_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::perfetto::wire::Out;

    #[test]
    fn what_snapshots_say() {
        let mut snapshots = Snapshots::default();
        for (boot, tsc) in [(100, 250), (200, 500)] {
            let mut message = Out::default();
            for (number, time, own) in [(BOOTTIME, boot, 0), (REALTIME, 9, 0), (64, 7, 0), (3, 5, 1), (TSC, tsc, 0)] {
                let clock = message.open(1);
                message.uint(1, number.into());
                message.uint(2, time);
                message.uint(3, own);
                message.close(clock);
            }
            snapshots.add(message.written());
        }
        assert_eq!(snapshots.pairs(BOOTTIME, TSC), [(100, 250), (200, 500)]);
        assert_eq!(snapshots.pairs(BOOTTIME, 3), []);
        assert_eq!(snapshots.late_ns(BOOTTIME, TSC), READING_NS);
        assert_eq!(snapshots.late_ns(REALTIME, TSC), 0);
    }
}
