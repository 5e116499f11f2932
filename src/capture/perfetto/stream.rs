//! The events of one CPU as a [`ChunkSource`].

use std::path::Path;
use std::sync::Arc;

use super::bundle::{Bundle, Event, Switch, Waking};
use super::discover::{Layouts, event_name};
use super::known::{GENERIC, SWITCH, WAKING};
use super::packets::{field, whole};
use super::running::{Running, next_of};
use super::wire::{Fields, Value};
use crate::capture::cpu_runs::Piece;
use crate::capture::source::ReadAt;
use crate::capture::{Chunk, ChunkSource, Lost, Record};
use crate::clock::line::ClockLine;
use crate::error::{Error, Result};

/// No chunk becomes larger; events beyond are damage.
const MAX_DATA: usize = 256 << 20;

/// What all streams of a trace share.
pub(super) struct Shared {
    pub(super) source: Arc<dyn ReadAt>,
    pub(super) path: Arc<Path>,
    pub(super) layouts: Layouts,
    /// How to make TSC cycles of stamps.
    pub(super) line: Option<ClockLine>,
}

/// The events of one CPU.
pub(super) struct CpuStream {
    pub(super) shared: Arc<Shared>,
    pub(super) cpu: u32,
    pub(super) pieces: Vec<Piece>,
    /// Who runs at the beginning of each piece.
    pub(super) starts: Vec<Running>,
}

enum What<'a> {
    Event(Event<'a>),
    Switch(Switch<'a>),
    Waking(Waking<'a>),
}

impl ChunkSource for CpuStream {
    fn chunks(&self) -> usize {
        self.pieces.len()
    }

    fn read(&self, index: usize, chunk: &mut Chunk) -> Result<()> {
        chunk.clear();
        let Some(piece) = self.pieces.get(index) else { return Ok(()) };
        let mut bytes = std::mem::take(&mut chunk.scratch);
        bytes.clear();
        for (start, end) in piece.runs() {
            let before = bytes.len();
            bytes.resize(before + end.saturating_sub(start) as usize, 0);
            let run = bytes.get_mut(before..).unwrap_or(&mut []);
            let size = run.len();
            self.shared
                .source
                .read_exact_at(run, start)
                .map_err(|error| Error::io(&*self.shared.path, &format!("read {size} bytes"), error).at(start))?;
        }
        let (mut items, mut losses) = (Vec::new(), Vec::new());
        for packet in whole(&bytes, 0) {
            self.packet(packet.body, &mut items, &mut losses, chunk);
        }
        if !items.is_sorted_by_key(|(ts, _)| *ts) {
            items.sort_by_key(|(ts, _)| *ts);
        }
        let mut running = self.starts.get(index).copied().unwrap_or_default();
        for (ts, what) in &items {
            self.record(*ts, what, &mut running, chunk);
        }
        drop(items);
        chunk.scratch = bytes;
        if let Some(first) = chunk.records.first_mut() {
            first.flags |= Record::FIRST;
        }
        losses.sort_unstable();
        let records = &chunk.records;
        chunk.lost.extend(
            losses
                .into_iter()
                .filter_map(|ns| self.stamp(ns))
                .map(|time| Lost { before: records.partition_point(|record| record.ts < time), count: None }),
        );
        Ok(())
    }
}

impl CpuStream {
    /// Gathers what a packet holds of this CPU.
    fn packet<'a>(&self, body: &'a [u8], items: &mut Vec<(u64, What<'a>)>, losses: &mut Vec<u64>, chunk: &mut Chunk) {
        let mut bundles = None;
        for (number, value) in Fields::new(body) {
            match (number, value) {
                (field::FTRACE_EVENTS, Value::Bytes(bytes)) => bundles = Some(bytes),
                (field::MACHINE, Value::Number(machine)) if machine != 0 => return,
                _ => {}
            }
        }
        let Some(bundle) = bundles.map(Bundle::parse).filter(|bundle| bundle.cpu == self.cpu) else { return };
        let start = items.len();
        let mut damaged = u64::from(bundle.broken);
        for event in bundle.events() {
            match event {
                Some(event) => items.push((event.ts, What::Event(event))),
                None => damaged += 1,
            }
        }
        items.extend(bundle.compact.switches().map(|switch| (switch.ts, What::Switch(switch))));
        items.extend(bundle.compact.wakings().map(|waking| (waking.ts, What::Waking(waking))));
        if bundle.lost {
            losses.extend(items.iter().skip(start).map(|(ts, _)| *ts).min());
        }
        if damaged > 0 {
            self.damage(chunk, damaged, "events that make no sense");
        }
        if bundle.errors > 0 {
            self.damage(chunk, bundle.errors, "places that the recorder could not read");
        }
    }

    fn damage(&self, chunk: &mut Chunk, count: u64, what: &str) {
        chunk.damaged += count;
        if chunk.damage.len() < 5 {
            chunk.damage.push(format!("{count} {what}"));
        }
    }

    fn record(&self, ts: u64, what: &What<'_>, running: &mut Running, chunk: &mut Chunk) {
        if chunk.data.len() > MAX_DATA {
            if chunk.damage.is_empty() {
                self.damage(chunk, 0, "further events: the bundle holds too much");
            }
            chunk.damaged += 1;
            return;
        }
        let at = chunk.data.len();
        let layouts = &self.shared.layouts;
        let pid = running.pid.unwrap_or(-1);
        let layout = match what {
            What::Event(event) if event.number == GENERIC => {
                running.recorded(event.pid);
                let layout = event_name(event.message).and_then(|name| layouts.named(name));
                if let Some(layout) = layout {
                    layout.named_record(event.message, event.pid, &mut chunk.data);
                }
                layout
            }
            What::Event(event) => {
                running.recorded(event.pid);
                let layout = layouts.of(event.number);
                if let Some(layout) = layout {
                    layout.record(event.message, event.pid, event.flags, &mut chunk.data);
                }
                if event.number == SWITCH {
                    *running = next_of(event.message);
                }
                layout
            }
            What::Switch(switch) => {
                let layout = layouts.of(SWITCH);
                if let Some(layout) = layout {
                    let out = &mut chunk.data;
                    let start = layout.begin(pid, 0, out);
                    layout.set(1, Value::Bytes(running.comm()), start, out);
                    layout.set(2, number(pid), start, out);
                    layout.set(3, number(running.prio), start, out);
                    layout.set(4, Value::Number(switch.prev_state), start, out);
                    layout.set(5, Value::Bytes(switch.next_comm), start, out);
                    layout.set(6, number(switch.next_pid), start, out);
                    layout.set(7, number(switch.next_prio), start, out);
                }
                *running = Running::after(switch.next_pid, switch.next_prio, switch.next_comm);
                layout
            }
            What::Waking(waking) => {
                let layout = layouts.of(WAKING);
                if let Some(layout) = layout {
                    let out = &mut chunk.data;
                    let start = layout.begin(pid, waking.flags, out);
                    layout.set(1, Value::Bytes(waking.comm), start, out);
                    layout.set(2, number(waking.pid), start, out);
                    layout.set(3, number(waking.prio), start, out);
                    layout.set(5, number(waking.target_cpu), start, out);
                }
                layout
            }
        };
        let Some(layout) = layout else { return };
        let Some(ts) = self.stamp(ts) else {
            chunk.data.truncate(at);
            return;
        };
        let len = (chunk.data.len() - at) as u32;
        chunk.records.push(Record { ts, at: at as u32, len, event: layout.event, flags: Record::ABSOLUTE });
    }

    #[inline]
    fn stamp(&self, ns: u64) -> Option<u64> {
        match &self.shared.line {
            None => Some(ns),
            Some(line) => line.cycles(ns),
        }
    }
}

/// A 32-bit number as protobuf has it.
fn number(value: i32) -> Value<'static> {
    Value::Number(i64::from(value).cast_unsigned())
}
