//! `FtraceEventBundle`: what one CPU recorded in a stretch of time, as messages and in columns.

use super::wire::{Fields, Packed, Value};

/// One `FtraceEvent`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Event<'a> {
    pub(super) ts: u64,
    pub(super) pid: i32,
    pub(super) flags: u8,
    /// Its field in `FtraceEvent`.
    pub(super) number: u32,
    pub(super) message: &'a [u8],
}

impl<'a> Event<'a> {
    /// `None` where it makes no sense or does not say when or what it was.
    #[inline]
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (mut event, mut timed) = (Self::default(), false);
        let mut fields = Fields::new(bytes);
        for (number, value) in &mut fields {
            match (number, value) {
                (1, Value::Number(ts)) => (event.ts, timed) = (ts, true),
                (2, Value::Number(pid)) => event.pid = pid as u32 as i32,
                (5, Value::Number(flags)) => event.flags = flags as u8,
                (_, Value::Bytes(message)) => (event.number, event.message) = (number, message),
                _ => {}
            }
        }
        (timed && event.number != 0 && !fields.broken).then_some(event)
    }
}

/// The columns of context switches and wakeups.
#[derive(Clone, Debug, Default)]
pub(super) struct Compact<'a> {
    comms: Vec<&'a [u8]>,
    /// Fields 1, 2, 3, 4, 6.
    switches: [Packed<'a>; 5],
    /// Fields 7 to 12.
    wakings: [Packed<'a>; 6],
}

/// A context switch in columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switch<'a> {
    pub(super) ts: u64,
    pub(super) prev_state: u64,
    pub(super) next_pid: i32,
    pub(super) next_prio: i32,
    pub(super) next_comm: &'a [u8],
}

/// A wakeup in columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waking<'a> {
    pub(super) ts: u64,
    pub(super) pid: i32,
    pub(super) target_cpu: i32,
    pub(super) prio: i32,
    pub(super) comm: &'a [u8],
    pub(super) flags: u8,
}

impl<'a> Compact<'a> {
    /// Reads the columns; false where they make no sense.
    fn parse(&mut self, bytes: &'a [u8]) -> bool {
        let mut fields = Fields::new(bytes);
        for (number, value) in &mut fields {
            let Value::Bytes(bytes) = value else { continue };
            let column = match number {
                1..=4 => self.switches.get_mut(number as usize - 1),
                5 => {
                    self.comms.push(bytes);
                    continue;
                }
                6 => self.switches.get_mut(4),
                7..=12 => self.wakings.get_mut(number as usize - 7),
                _ => None,
            };
            if let Some(column) = column {
                *column = Packed(bytes);
            }
        }
        !fields.broken
    }

    fn comm(&self, index: u64) -> &'a [u8] {
        usize::try_from(index).ok().and_then(|index| self.comms.get(index)).copied().unwrap_or(&[])
    }

    /// The switches, as far as all columns reach.
    pub(super) fn switches(&self) -> impl Iterator<Item = Switch<'a>> {
        let [mut times, mut states, mut pids, mut prios, mut comms] = self.switches.clone();
        let mut ts = 0_u64;
        std::iter::from_fn(move || {
            ts = ts.wrapping_add(times.next()?);
            Some(Switch {
                ts,
                prev_state: states.next()?,
                next_pid: pids.next()? as i32,
                next_prio: prios.next()? as i32,
                next_comm: self.comm(comms.next()?),
            })
        })
    }

    /// The wakeups. Flags were added later.
    pub(super) fn wakings(&self) -> impl Iterator<Item = Waking<'a>> {
        let [mut times, mut pids, mut cpus, mut prios, mut comms, mut flags] = self.wakings.clone();
        let mut ts = 0_u64;
        std::iter::from_fn(move || {
            ts = ts.wrapping_add(times.next()?);
            Some(Waking {
                ts,
                pid: pids.next()? as i32,
                target_cpu: cpus.next()? as i32,
                prio: prios.next()? as i32,
                comm: self.comm(comms.next()?),
                flags: flags.next().unwrap_or(0) as u8,
            })
        })
    }
}

/// A bundle.
#[derive(Debug, Default)]
pub(super) struct Bundle<'a> {
    pub(super) cpu: u32,
    /// Events were lost before it.
    pub(super) lost: bool,
    /// The clock of its times, by number; 0 is BOOTTIME.
    pub(super) clock: u64,
    pub(super) compact: Compact<'a>,
    /// The messages of its events.
    events: Fields<'a>,
    /// Descriptions of events.
    pub(super) descriptors: Vec<&'a [u8]>,
    /// Places that the recorder could not make sense of.
    pub(super) errors: u64,
    /// Something in it makes no sense.
    pub(super) broken: bool,
}

impl<'a> Bundle<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Self {
        let mut bundle = Self { events: Fields::new(bytes), ..Self::default() };
        let mut fields = Fields::new(bytes);
        for (number, value) in &mut fields {
            match (number, value) {
                (1, Value::Number(cpu)) => bundle.cpu = u32::try_from(cpu).unwrap_or(u32::MAX),
                (3, Value::Number(lost)) => bundle.lost = lost != 0,
                (4, Value::Bytes(compact)) => bundle.broken |= !bundle.compact.parse(compact),
                (5, Value::Number(clock)) => bundle.clock = clock,
                (8, Value::Bytes(_)) => bundle.errors += 1,
                (11, Value::Bytes(descriptor)) => bundle.descriptors.push(descriptor),
                _ => {}
            }
        }
        bundle.broken |= fields.broken;
        bundle
    }

    /// The events; `None` for one that makes no sense.
    #[inline]
    pub(super) fn events(&self) -> impl Iterator<Item = Option<Event<'a>>> {
        self.events.clone().filter(|(number, _)| *number == 2).map(|(_, value)| Event::parse(value.bytes()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::perfetto::wire::Out;

    #[test]
    fn columns_are_rows() {
        let mut out = Out::default();
        out.uint(1, 3);
        let compact = out.open(4);
        out.bytes(5, b"a");
        out.bytes(5, b"b");
        out.bytes(1, &[100, 5, 7]);
        out.bytes(2, &[1, 0, 2]);
        out.bytes(3, &[0, 20, 30]);
        out.bytes(4, &[120, 0xff, 1, 100]);
        // The last name is missing, and the second is not in the table.
        out.bytes(6, &[1, 9]);
        out.bytes(7, &[90]);
        for field in 8..=11 {
            out.bytes(field, &[field as u8]);
        }
        out.close(compact);
        let bundle = Bundle::parse(out.written());
        assert_eq!((bundle.cpu, bundle.broken), (3, false));
        let rows = bundle.compact.switches().map(|s| (s.ts, s.prev_state, s.next_pid, s.next_prio, s.next_comm));
        assert_eq!(rows.collect::<Vec<_>>(), [(100, 1, 0, 120, &b"b"[..]), (105, 0, 20, 255, b"")]);
        let rows = bundle.compact.wakings().map(|w| (w.ts, w.pid, w.target_cpu, w.prio, w.comm, w.flags));
        assert_eq!(rows.collect::<Vec<_>>(), [(90, 8, 9, 10, &b""[..], 0)]);
    }

    #[test]
    fn an_event_says_when_and_what() {
        let mut out = Out::default();
        out.uint(1, 5);
        assert!(Event::parse(out.written()).is_none());
        out.uint(2, 7);
        out.bytes(376, b"");
        let event = Event::parse(out.written()).unwrap();
        assert_eq!((event.ts, event.pid, event.number, event.message), (5, 7, 376, &b""[..]));
        out.raw(&[8]);
        assert!(Event::parse(out.written()).is_none());
    }
}
