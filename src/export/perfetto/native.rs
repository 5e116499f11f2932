//! The native layer of a batch as ftrace events: one bundle per CPU.
//!
//! A switch or waking that follows from the switch before it takes six bytes in columns (`CompactSched`) instead of
//! forty as a message. No bundle names a clock: the trace processor then takes its times for BOOTTIME of its machine,
//! which it equates with the host's as long as nothing else relates the two.

use rustc_hash::FxHashMap;

use super::frame::Frame;
use super::generic::{self, GenericIds};
use super::wire::Out;
use crate::capture::Endian;
use crate::capture::event_format::{EventFormat, Field, Value};
use crate::timeline::drawing::{Batch, World};
use crate::timeline::native::{Native, NativeEvent, NativeShape, Recorded};

/// Events that the trace processor knows: system, name, field in `FtraceEvent`, and the kernel's names of the message's
/// fields 1, 2, ….
const KNOWN: [(&str, &str, u32, &[&str]); 7] = [
    (
        "sched",
        "sched_switch",
        SWITCH,
        &["prev_comm", "prev_pid", "prev_prio", "prev_state", "next_comm", "next_pid", "next_prio"],
    ),
    ("sched", "sched_waking", WAKING, &["comm", "pid", "prio", "success", "target_cpu"]),
    ("sched", "sched_wakeup", 17, &["comm", "pid", "prio", "success", "target_cpu"]),
    ("sched", "sched_wakeup_new", 114, &["comm", "pid", "prio", "success", "target_cpu"]),
    ("sched", "sched_process_free", 240, &["comm", "pid", "prio"]),
    ("task", "task_newtask", 235, &["pid", "comm", "clone_flags", "oom_score_adj"]),
    ("task", "task_rename", RENAME, &["pid", "oldcomm", "newcomm", "oom_score_adj"]),
];
const SWITCH: u32 = 4;
const WAKING: u32 = 20;
const RENAME: u32 = 236;

/// TASK_INTERRUPTIBLE of include/linux/sched.h. Of the states that a task may leave its CPU in this is the one that says
/// least: the viewer leaves it blank.
const SLEEPS: u64 = 1;
/// The priority of the idle task.
const IDLE_PRIO: u64 = 120;

/// Appends the batch's bundles.
pub(super) fn write(world: &World, frame: &Frame, batch: &Batch, out: &mut Vec<u8>) {
    let Some(native) = &world.native else { return };
    if batch.native.is_empty() {
        return;
    }
    let mut encoder = Encoder {
        world,
        records: &batch.records,
        out: Out::from(std::mem::take(out)),
        ids: native.all.then(|| GenericIds::new(world, native)),
        plans: vec![Vec::new(); world.sources.len()],
        columns: Columns::default(),
        scratch: Vec::new(),
    };
    let (order, ends) = by_cpu(native, &batch.native);
    let mut start = 0;
    for (cpu, end) in native.cpus.iter().zip(ends) {
        let there = cpu.machine == 0 && frame.host_is_there;
        if let Some(events) = order.get(start..end).filter(|events| !events.is_empty() && !there) {
            let machine = if cpu.machine == 0 { 0 } else { frame.machines + cpu.machine };
            encoder.bundle(machine, cpu.number, &batch.native, events);
        }
        start = end;
    }
    *out = encoder.out.into();
}

/// The events' indices CPU by CPU, each CPU's in their order, and where each CPU's end.
fn by_cpu(native: &Native, events: &[NativeEvent]) -> (Vec<u32>, Vec<usize>) {
    let mut ends = vec![0; native.cpus.len()];
    for event in events {
        if let Some(count) = ends.get_mut(event.cpu as usize) {
            *count += 1;
        }
    }
    let mut sum = 0;
    for end in &mut ends {
        // Where the CPU's begin; filling them in moves it to where they end.
        sum += std::mem::replace(end, sum);
    }
    let mut order = vec![0; sum];
    for (index, event) in (0_u32..).zip(events) {
        if let Some(end) = ends.get_mut(event.cpu as usize) {
            order[*end] = index;
            *end += 1;
        }
    }
    (order, ends)
}

/// How an event is written.
#[derive(Clone, Copy)]
struct Plan<'a> {
    endian: Endian,
    format: &'a EventFormat,
    flags: Option<&'a Field>,
    /// Field in `FtraceEvent`; 0 for an event that is not written.
    number: u32,
    /// The kernel's fields for the message's fields 1, 2, …; none for an event of its own kind.
    fields: [Option<&'a Field>; 7],
}

struct Encoder<'a> {
    world: &'a World,
    records: &'a [u8],
    out: Out,
    ids: Option<GenericIds>,
    /// By source and event.
    plans: Vec<Vec<Option<Plan<'a>>>>,
    columns: Columns,
    scratch: Vec<u8>,
}

impl<'a> Encoder<'a> {
    fn bundle(&mut self, machine: u32, number: u32, events: &[NativeEvent], order: &[u32]) {
        let packet = self.out.open(1);
        let bundle = self.out.open(1);
        self.out.uint(1, number.into());
        self.columns.clear();
        for event in order.iter().filter_map(|&index| events.get(index as usize)) {
            self.event(event, number);
        }
        self.columns.write(&mut self.out);
        self.out.close(bundle);
        if machine != 0 {
            self.out.uint(98, machine.into());
        }
        self.out.close(packet);
    }

    fn event(&mut self, event: &NativeEvent, cpu: u32) {
        let ts = event.ts.get();
        match &event.shape {
            NativeShape::Ends => {
                let mut comm = std::mem::take(&mut self.scratch);
                comm.clear();
                comm.extend_from_slice(b"swapper/");
                comm.extend_from_slice(itoa::Buffer::new().format(cpu).as_bytes());
                self.columns.switch(ts, SLEEPS, 0, IDLE_PRIO, &comm);
                self.scratch = comm;
            }
            NativeShape::Resumes(recorded) => {
                let Some((plan, payload)) = self.plan(recorded) else { return };
                let number = |field| plan.number(field, payload);
                self.columns.switch(ts, 0, number(2), number(3), plan.text(1, payload));
            }
            NativeShape::Follows(recorded) => {
                let Some((plan, payload)) = self.plan(recorded) else { return };
                let number = |field| plan.number(field, payload);
                if plan.number == SWITCH {
                    self.columns.switch(ts, number(4), number(6), number(7), plan.text(5, payload));
                } else {
                    let flags = plan.flags.and_then(|flags| flags.number(payload, plan.endian)).unwrap_or(0);
                    let row = [number(2), number(5), number(3), flags];
                    self.columns.waking(ts, row, plan.text(1, payload));
                }
            }
            NativeShape::Full(recorded) => {
                let Some((plan, payload)) = self.plan(recorded).filter(|(plan, _)| plan.number != 0) else { return };
                self.full(ts, plan, payload);
            }
        }
    }

    /// The fields that the trace processor's fast path expects come first: time, thread, message.
    fn full(&mut self, ts: u64, plan: Plan<'_>, payload: &[u8]) {
        let pid = plan.format.pid(payload, plan.endian).unwrap_or(0);
        let event = self.out.open(2);
        self.out.uint(1, ts);
        self.out.uint(2, pid.max(0) as u64);
        let message = self.out.open(plan.number);
        if plan.number >= generic::FIRST_ID {
            generic::write_fields(plan.format, payload, plan.endian, &mut self.scratch, &mut self.out);
        } else {
            for (number, field) in (1..).zip(plan.fields) {
                match field.and_then(|field| field.value(payload, plan.endian)) {
                    Some(Value::Text(letters)) if (plan.number, number) == (SWITCH, 4) => {
                        self.out.uint(number, state(letters));
                    }
                    Some(Value::Text(text)) => lossy(&mut self.out, number, text),
                    Some(value) => self.out.uint(number, bits(value)),
                    // Linux 6.15 has no such field any more, as only a thread itself changes its name.
                    None if (plan.number, number) == (RENAME, 1) => self.out.int(number, pid.into()),
                    None => {}
                }
            }
        }
        self.out.close(message);
        self.out.close(event);
    }

    #[inline]
    fn plan(&mut self, recorded: &Recorded) -> Option<(Plan<'a>, &'a [u8])> {
        let payload = self.records.get(recorded.payload.start as usize..recorded.payload.end as usize)?;
        let known = self.plans.get_mut(usize::from(recorded.source))?;
        if let Some(Some(plan)) = known.get(usize::from(recorded.event)) {
            return Some((*plan, payload));
        }
        let source = self.world.sources.get(usize::from(recorded.source))?;
        let format = source.formats.get(recorded.event)?;
        let id = || self.ids.as_ref().and_then(|ids| ids.get(recorded.source, recorded.event)).unwrap_or(0);
        let plan = Plan::new(format, source.endian, id);
        known.resize(known.len().max(source.formats.events().len()), None);
        *known.get_mut(usize::from(recorded.event))? = Some(plan);
        Some((plan, payload))
    }
}

impl<'a> Plan<'a> {
    fn new(format: &'a EventFormat, endian: Endian, generic: impl FnOnce() -> u32) -> Self {
        let mut fields = [None; 7];
        let known = KNOWN.iter().find(|(system, name, ..)| (*system, *name) == (&*format.system, &*format.name));
        let number = match known {
            Some((_, _, number, names)) => {
                for (field, name) in fields.iter_mut().zip(*names) {
                    *field = format.field(name);
                }
                *number
            }
            None => generic(),
        };
        Self { endian, format, flags: format.field("common_flags"), number, fields }
    }

    fn value(&self, number: usize, payload: &'a [u8]) -> Option<Value<'a>> {
        self.fields.get(number - 1).copied().flatten()?.value(payload, self.endian)
    }

    /// A number; 0 where there is none.
    #[inline]
    fn number(&self, number: usize, payload: &'a [u8]) -> u64 {
        match self.value(number, payload) {
            Some(Value::Text(letters)) => state(letters),
            Some(value) => bits(value),
            None => 0,
        }
    }

    #[inline]
    fn text(&self, number: usize, payload: &'a [u8]) -> &'a [u8] {
        match self.value(number, payload) {
            Some(Value::Text(text)) => text,
            _ => &[],
        }
    }
}

/// Whether an event is one that the trace processor knows.
pub(super) fn is_known(format: &EventFormat) -> bool {
    KNOWN.iter().any(|(system, name, ..)| (*system, *name) == (&*format.system, &*format.name))
}

fn bits(value: Value<'_>) -> u64 {
    match value {
        Value::Uint(value) | Value::Pointer(value) => value,
        Value::Int(value) => value as u64,
        Value::Bool(value) => value.into(),
        Value::Text(_) | Value::Array { .. } => 0,
    }
}

/// `prev_state` in letters, as ftrace text has it, in the numbers of Linux 4.14 and later (`sched_switch` of
/// include/trace/events/sched.h).
fn state(letters: &[u8]) -> u64 {
    if letters.first().is_some_and(u8::is_ascii_digit) {
        return std::str::from_utf8(letters).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    }
    let bit = |letter: &u8| match letter {
        b'S' => 0x01,
        b'D' => 0x02,
        b'T' => 0x04,
        b't' => 0x08,
        b'X' => 0x10,
        b'Z' => 0x20,
        b'P' => 0x40,
        b'I' => 0x80,
        b'+' => 0x100,
        _ => 0,
    };
    letters.iter().map(bit).fold(0, |state, bit| state | bit)
}

/// The columns of a `CompactSched`, each as it stands in the file.
#[derive(Default)]
struct Columns {
    /// Fields 1, 2, 3, 4 and 6.
    switches: [Out; 5],
    /// Fields 7 to 12.
    wakings: [Out; 6],
    last_switch: u64,
    last_waking: u64,
    comms: FxHashMap<u128, u64>,
    /// Field 5, entry by entry.
    table: Out,
}

impl Columns {
    const SWITCHES: [u32; 5] = [1, 2, 3, 4, 6];
    const WAKINGS: [u32; 6] = [7, 8, 9, 10, 11, 12];

    fn clear(&mut self) {
        self.switches.iter_mut().chain(&mut self.wakings).for_each(Out::clear);
        (self.last_switch, self.last_waking) = (0, 0);
        self.comms.clear();
        self.table.clear();
    }

    fn switch(&mut self, ts: u64, state: u64, next: u64, prio: u64, comm: &[u8]) {
        let distance = ts.saturating_sub(self.last_switch);
        self.last_switch += distance;
        let row = [distance, state, next, prio, self.comm(comm)];
        self.switches.iter_mut().zip(row).for_each(|(column, value)| column.varint(value));
    }

    /// `row`: thread, CPU, priority, flags.
    fn waking(&mut self, ts: u64, [pid, cpu, prio, flags]: [u64; 4], comm: &[u8]) {
        let distance = ts.saturating_sub(self.last_waking);
        self.last_waking += distance;
        let row = [distance, pid, cpu, prio, self.comm(comm), flags];
        self.wakings.iter_mut().zip(row).for_each(|(column, value)| column.varint(value));
    }

    fn comm(&mut self, comm: &[u8]) -> u64 {
        let mut key = [0; 16];
        let len = comm.len().min(key.len());
        key[..len].copy_from_slice(&comm[..len]);
        let next = self.comms.len() as u64;
        *self.comms.entry(u128::from_ne_bytes(key)).or_insert_with(|| {
            lossy(&mut self.table, 5, &comm[..len]);
            next
        })
    }

    fn write(&self, out: &mut Out) {
        if self.table.is_empty() {
            return;
        }
        let compact = out.open(4);
        out.raw(self.table.written());
        let numbers = Self::SWITCHES.into_iter().chain(Self::WAKINGS);
        for (number, column) in numbers.zip(self.switches.iter().chain(&self.wakings)) {
            if !column.is_empty() {
                out.bytes(number, column.written());
            }
        }
        out.close(compact);
    }
}

/// A string field, which must be UTF-8.
fn lossy(out: &mut Out, field: u32, text: &[u8]) {
    out.bytes(field, String::from_utf8_lossy(text).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::native::SCHEDULING;

    #[test]
    fn every_event_of_the_layer_is_known() {
        assert!(SCHEDULING.into_iter().all(|event| KNOWN.iter().any(|(system, name, ..)| (*system, *name) == event)));
    }

    #[test]
    fn letters_are_numbers() {
        for (letters, number) in [("R", 0), ("S", 1), ("D", 2), ("I", 0x80), ("R+", 0x100), ("X", 0x10), ("1", 1)] {
            assert_eq!(state(letters.as_bytes()), number, "{letters}");
        }
    }
}
