//! The trace event format of chrome://tracing, which many other tools read too.
//!
//! Times are microseconds with three decimals, counted from the world's start, so that they stay exact in a double.
//! Rows are threads: `pid` is the VM's process, `tid` the row's number.

use std::io::Write;
use std::ops::Range;

use rustc_hash::FxHashMap;

use crate::capture::Endian;
use crate::capture::event_format::Value;
use crate::export::text::push_array;
use crate::printable;
use crate::timeline::drawing::{
    ARRIVES, Arg, Batch, Exporter, Item, LateTrack, Owner, Shape, StringId, Track, TrackId, TrackKind, World,
};

mod flows;
mod json;
#[cfg(test)]
mod tests;

use flows::{Flows, Role};

/// Writes `{"displayTimeUnit":"ns","traceEvents":[…],"metadata":{…}}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChromeJson;

/// The host's `pid`.
const HOST_PID: u32 = 1;
/// Linux gives out no process ids beyond this one.
const PID_MAX_LIMIT: u32 = 1 << 22;

impl Exporter for ChromeJson {
    fn header(&self, world: &World, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n");
        let pids = pids(world);
        let processes = std::iter::once((HOST_PID, "Host"))
            .chain(pids.iter().copied().zip(world.vms.iter().map(|vm| vm.name.as_str())));
        for (index, (pid, name)) in processes.enumerate() {
            // The first event of the file is the only one without a comma before it.
            if index > 0 {
                out.extend_from_slice(b",\n");
            }
            let prefix = if index > 0 { "VM " } else { "" };
            let _ = write!(out, r#"{{"ph":"M","pid":{pid},"name":"process_name","args":{{"name":"{prefix}"#);
            json::escape(out, name.as_bytes());
            out.extend_from_slice(b"\"}},\n");
            let _ =
                write!(out, r#"{{"ph":"M","pid":{pid},"name":"process_sort_index","args":{{"sort_index":{index}}}}}"#);
        }
        for (index, track) in world.tracks.iter().enumerate() {
            describe(TrackId(index as u32), track, &pids, out);
        }
    }

    fn batch(&self, world: &World, _number: u64, batch: &Batch, out: &mut Vec<u8>) {
        if batch.tracks.iter().any(|late| late.new) {
            let pids = pids(world);
            batch.tracks.iter().filter(|late| late.new).for_each(|late| describe(late.id, &late.track, &pids, out));
        }
        let encoder =
            Encoder { world, batch, rows: rows(world), late: late_rows(world, batch), flows: Flows::of(batch) };
        let mut scratch = Vec::new();
        for (index, item) in batch.items.iter().enumerate() {
            encoder.item(index, item, &mut scratch, out);
        }
    }

    fn footer(&self, world: &World, out: &mut Vec<u8>) {
        let mut metadata = match &world.metadata {
            serde_json::Value::Object(facts) => facts.clone(),
            serde_json::Value::Null => serde_json::Map::new(),
            other => std::iter::once(("conversion".to_owned(), other.clone())).collect(),
        };
        // `ts` of 0 is this time on the host's trace clock.
        metadata.insert("start_ns".to_owned(), exact(world.start.get()));
        metadata.insert("clock".to_owned(), "nanoseconds of the host's trace clock".into());
        if let Some((at, wall)) = world.wall_clock {
            metadata.insert(
                "wall_clock".to_owned(),
                serde_json::json!({ "at_ns": exact(at.get()), "unix_ns": exact(wall) }),
            );
        }
        out.extend_from_slice(b"\n],\"metadata\":");
        // A map with text keys can be written. The trace processor takes no DEL in a text, which JSON allows.
        let metadata = serde_json::to_string(&metadata).unwrap_or_default();
        out.extend_from_slice(printable::json(metadata).as_bytes());
        out.extend_from_slice(b"}\n");
    }
}

/// A number that every reader gets right: as text where a double would round it.
fn exact(value: u64) -> serde_json::Value {
    if value <= json::MAX_EXACT { value.into() } else { value.to_string().into() }
}

/// Whether a track becomes a thread.
fn is_row(track: &Track) -> bool {
    !matches!(track.kind, TrackKind::Group | TrackKind::TscOffset)
}

/// Names a row, unless it is a heading or a counter, which are no threads.
fn describe(id: TrackId, track: &Track, pids: &[u32], out: &mut Vec<u8>) {
    if !is_row(track) || track.hidden || matches!(track.kind, TrackKind::Counter { .. }) {
        return;
    }
    let (pid, tid) = (pid(pids, track.owner), tid(id));
    let _ = write!(out, ",\n{{\"ph\":\"M\",\"pid\":{pid},\"tid\":{tid},\"name\":\"thread_name\",\"args\":{{\"name\":");
    json::string(out, track.name.as_bytes());
    out.extend_from_slice(b"}},\n");
    let _ =
        write!(out, r#"{{"ph":"M","pid":{pid},"tid":{tid},"name":"thread_sort_index","args":{{"sort_index":{tid}}}}}"#);
}

/// A process id for each VM: its own where it is known and not taken yet, else one that no process can have.
fn pids(world: &World) -> Vec<u32> {
    let mut taken = vec![0, HOST_PID];
    world
        .vms
        .iter()
        .zip(PID_MAX_LIMIT + 1..)
        .map(|(vm, unused)| {
            let pid = vm.pid.filter(|pid| *pid < PID_MAX_LIMIT && !taken.contains(pid)).unwrap_or(unused);
            taken.push(pid);
            pid
        })
        .collect()
}

fn pid(pids: &[u32], owner: Owner) -> u32 {
    match owner {
        Owner::Host => HOST_PID,
        Owner::Vm(index) => pids.get(index as usize).copied().unwrap_or(HOST_PID),
    }
}

/// Numbers from 1 upward in the order of the rows; 0 would be read as "the process's own thread".
const fn tid(track: TrackId) -> u32 {
    track.0.saturating_add(1)
}

/// What stands in each event of a row: `"pid":7,"tid":3`. Empty for tracks that are not shown.
struct Rows {
    text: Vec<u8>,
    ends: Vec<u32>,
}

fn rows(world: &World) -> Rows {
    let pids = pids(world);
    let mut rows = Rows { text: Vec::new(), ends: Vec::with_capacity(world.tracks.len()) };
    for (index, track) in world.tracks.iter().enumerate() {
        if is_row(track) {
            let _ = write!(rows.text, r#","pid":{},"tid":{}"#, pid(&pids, track.owner), tid(TrackId(index as u32)));
        }
        rows.ends.push(rows.text.len() as u32);
    }
    rows
}

/// Likewise for rows that only the batch knows, by number.
fn late_rows<'a>(world: &World, batch: &'a Batch) -> FxHashMap<TrackId, (Vec<u8>, &'a Track)> {
    if batch.tracks.is_empty() {
        return FxHashMap::default();
    }
    let pids = pids(world);
    let shown = batch.tracks.iter().filter(|late| !late.track.hidden && is_row(&late.track));
    let row = |late: &'a LateTrack| {
        let text = format!(r#","pid":{},"tid":{}"#, pid(&pids, late.track.owner), tid(late.id));
        (late.id, (text.into_bytes(), &*late.track))
    };
    shown.map(row).collect()
}

impl Rows {
    fn get(&self, track: TrackId) -> Option<&[u8]> {
        let index = track.0 as usize;
        let start = if index == 0 { 0 } else { *self.ends.get(index - 1)? };
        self.text.get(start as usize..*self.ends.get(index)? as usize).filter(|text| !text.is_empty())
    }
}

struct Encoder<'a> {
    world: &'a World,
    batch: &'a Batch,
    rows: Rows,
    late: FxHashMap<TrackId, (Vec<u8>, &'a Track)>,
    flows: Flows,
}

impl Encoder<'_> {
    fn item(&self, index: usize, item: &Item, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        let (row, track) = match self.rows.get(item.track) {
            Some(row) => (row, self.world.tracks.get(item.track.0 as usize)),
            None => match self.late.get(&item.track) {
                Some((row, track)) => (row.as_slice(), Some(*track)),
                None => return,
            },
        };
        match item.shape {
            Shape::Begin => {
                self.begin(out, "B", item, row);
                self.named(out, item);
                self.args(out, item, scratch);
                out.push(b'}');
                self.flows(index, item, row, out);
            }
            Shape::End => {
                // While the slice is still open.
                self.flows(index, item, row, out);
                self.begin(out, "E", item, row);
                self.args(out, item, scratch);
                out.push(b'}');
            }
            Shape::Instant => {
                self.begin(out, "i", item, row);
                out.extend_from_slice(br#","s":"t""#);
                self.named(out, item);
                self.args(out, item, scratch);
                out.push(b'}');
            }
            Shape::Counter(value) if value.is_finite() => {
                self.begin(out, "C", item, row);
                out.extend_from_slice(b",\"name\":");
                json::string(out, track.map_or("", |track| &track.name).as_bytes());
                // Counters of one name in one machine are told apart by their process.
                if let Some(TrackKind::Counter { pid: Some(pid) }) = track.map(|track| track.kind) {
                    let _ = write!(out, r#","id":"{pid}""#);
                }
                let _ = write!(out, r#","args":{{"value":{value}}}}}"#);
            }
            // JSON has no such numbers.
            Shape::Counter(_) => {}
        }
    }

    fn begin(&self, out: &mut Vec<u8>, phase: &str, item: &Item, row: &[u8]) {
        out.extend_from_slice(b",\n{\"ph\":\"");
        out.extend_from_slice(phase.as_bytes());
        out.extend_from_slice(b"\",\"ts\":");
        json::microseconds(out, i128::from(item.ts.get()) - i128::from(self.world.start.get()));
        out.extend_from_slice(row);
    }

    fn named(&self, out: &mut Vec<u8>, item: &Item) {
        if let Some(category) = item.category.name() {
            out.extend_from_slice(b",\"cat\":\"");
            out.extend_from_slice(category.as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b",\"name\":");
        json::string(out, self.batch.strings.get(item.name));
    }

    fn flows(&self, index: usize, item: &Item, row: &[u8], out: &mut Vec<u8>) {
        let Some(flows) = self.batch.flows.get(range(&item.flows)) else { return };
        for &flow in flows {
            let (phase, bind) = match self.flows.role(flow, index, item.category) {
                Role::Start => ("s", ""),
                Role::Step => ("t", r#","bp":"e""#),
                Role::Finish => ("f", r#","bp":"e""#),
            };
            self.begin(out, phase, item, row);
            let _ = write!(out, r#","cat":"flow","name":"flow","id":"{:#x}"{bind}}}"#, flow & !ARRIVES);
        }
    }

    fn args(&self, out: &mut Vec<u8>, item: &Item, scratch: &mut Vec<u8>) {
        let args = self.batch.args.get(range(&item.args)).unwrap_or(&[]);
        if args.is_empty() {
            return;
        }
        out.extend_from_slice(b",\"args\":");
        let mut object = json::Object::new(out);
        for arg in args {
            self.arg(&mut object, arg, scratch);
        }
        object.close();
    }

    fn arg(&self, object: &mut json::Object<'_>, arg: &Arg, scratch: &mut Vec<u8>) {
        let (strings, bytes) = (&self.batch.strings, |payload| self.batch.bytes.get(range(payload)).unwrap_or(&[]));
        let key = |id: StringId| strings.get(id);
        let source = |index: u16| self.world.sources.get(usize::from(index));
        match arg {
            Arg::Uint(id, value) => json::unsigned(object.key(key(*id)), *value),
            Arg::Int(id, value) => json::signed(object.key(key(*id)), *value),
            Arg::Hex(id, value) => json::hex(object.key(key(*id)), *value),
            Arg::Bool(id, value) => json::boolean(object.key(key(*id)), *value),
            Arg::Name(id, text) => json::string(object.key(key(*id)), strings.get(*text)),
            Arg::Text(id, text) => json::string(object.key(key(*id)), bytes(text)),
            Arg::Fields { source: index, event, payload } => {
                let Some(source) = source(*index) else { return };
                let Some(format) = source.formats.get(*event) else { return };
                for field in &format.fields {
                    if let Some(value) = field.value(bytes(payload), source.endian) {
                        json_value(object.key(field.name.as_bytes()), value, source.endian);
                    }
                }
            }
            Arg::Rendered { key: id, source: index, event, payload } => {
                let Some(source) = source(*index) else { return };
                let Some(format) = source.formats.get(*event) else { return };
                scratch.clear();
                format.render(bytes(payload), source.endian, &source.context(), scratch);
                json::string(object.key(key(*id)), scratch);
            }
        }
    }
}

fn json_value(out: &mut Vec<u8>, value: Value<'_>, endian: Endian) {
    match value {
        Value::Uint(value) => json::unsigned(out, value),
        Value::Int(value) => json::signed(out, value),
        Value::Pointer(value) => json::hex(out, value),
        Value::Bool(value) => json::boolean(out, value),
        Value::Text(text) => json::string(out, text),
        Value::Array { bytes, element, signed } => {
            out.push(b'"');
            push_array(out, bytes, element, signed, endian);
            out.push(b'"');
        }
    }
}

fn range(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}
