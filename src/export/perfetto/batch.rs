//! A batch as packets: the hot path.

use rustc_hash::FxHashMap;

use super::frame::Frame;
use super::header;
use super::intern::{Lookup, Recent, Renderings, Seen, Table};
use super::proto::clock_snapshot::Clocks;
use super::proto::trace_packet::SequenceFlags;
use super::proto::track_event::Type;
use super::wire::Out;
use crate::capture::Endian;
use crate::capture::event_format::{Field, Value};
use crate::export::text::{push_array, push_hex};
use crate::timeline::drawing::{ARRIVES, Arg, Batch, Correlation, Item, Shape, StringId, TrackId, World};

/// The sequence's own clock, whose times are distances.
const DELTA_CLOCK: u64 = 64;

/// Appends the packets of `batch`.
pub(super) fn write(world: &World, frame: &Frame, batch: &Batch, out: &mut Vec<u8>) {
    if batch.items.is_empty() {
        return;
    }
    let busiest = busiest_track(world, batch);
    header::late_tracks(frame, batch, out);
    let mut packets = Out::from(std::mem::take(out));
    begin(world, frame, busiest, &mut packets);
    let strings = batch.strings.len();
    let mut encoder = Encoder {
        world,
        batch,
        frame: *frame,
        out: packets,
        busiest,
        last_ts: if frame.clock.is_some() { 0 } else { world.start.get() },
        interned: Out::default(),
        scratch: Vec::new(),
        categories: 0,
        correlations: 0,
        names: Table::new(strings),
        keys: Table::new(strings),
        texts: Table::new(strings),
        recent: Recent::new(),
        renderings: Renderings::new(),
        last_name: 0,
        last_key: 0,
        last_text: 0,
        formats: Vec::new(),
        field_keys: Vec::new(),
        field_names: FxHashMap::default(),
    };
    for item in &batch.items {
        encoder.item(item);
    }
    *out = encoder.out.into();
}

/// The row with most items, the first of them if there are several.
fn busiest_track(world: &World, batch: &Batch) -> TrackId {
    let mut counts = vec![0_u32; world.tracks.len()];
    for item in &batch.items {
        if let Some(count) = counts.get_mut(item.track.0 as usize) {
            *count += 1;
        }
    }
    let most = counts.iter().copied().max().unwrap_or(0);
    TrackId(counts.iter().position(|&count| count == most).unwrap_or(0) as u32)
}

/// The packet that begins a batch: forget interned strings, set defaults, and start the delta clock at the world's
/// start. The start is the same in all batches, as readings of the axis must not go backwards in the file. Beside
/// somebody else's readings of it there can be none of ours: then times are written in full.
fn begin(world: &World, frame: &Frame, busiest: TrackId, out: &mut Out) {
    let packet = out.open(1);
    if frame.clock.is_none() {
        delta_clock(world.start.get(), out);
    }
    out.uint(10, frame.sequence.into());
    out.uint(13, SequenceFlags::SeqIncrementalStateCleared as u64);
    let defaults = out.open(59);
    let track_event = out.open(11);
    out.uint(11, frame.uuid(busiest));
    out.close(track_event);
    out.uint(58, frame.clock.map_or(DELTA_CLOCK, u64::from));
    out.close(defaults);
    out.close(packet);
}

fn delta_clock(start: u64, out: &mut Out) {
    let snapshot = out.open(6);
    let clock = out.open(1);
    out.uint(1, Clocks::ClockBoottime as u64);
    out.uint(2, start);
    out.close(clock);
    let clock = out.open(1);
    out.uint(1, DELTA_CLOCK);
    out.uint(2, start);
    out.uint(3, 1);
    out.close(clock);
    out.close(snapshot);
}

struct Encoder<'a> {
    world: &'a World,
    batch: &'a Batch,
    frame: Frame,
    out: Out,
    busiest: TrackId,
    /// Where the delta clock stands.
    last_ts: u64,
    /// Entries for the `interned_data` of the packet that is being written.
    interned: Out,
    scratch: Vec<u8>,
    /// One bit per category that has been interned; its number is its discriminant.
    categories: u32,
    /// Likewise for correlation ids.
    correlations: u32,
    names: Table,
    keys: Table,
    /// Texts of the batch's strings and of `recent` share a number space.
    texts: Table,
    recent: Recent,
    renderings: Renderings<'a>,
    last_name: u32,
    last_key: u32,
    last_text: u32,
    /// Per source and event that has come by, where the numbers of its fields' names begin in `field_keys`.
    formats: Vec<Vec<Option<u32>>>,
    field_keys: Vec<u32>,
    /// Asked only when an event comes by for the first time.
    field_names: FxHashMap<&'a str, u32>,
}

impl<'a> Encoder<'a> {
    fn item(&mut self, item: &Item) {
        let ts = item.ts.get();
        let packet = self.out.open(1);
        // The delta clock only goes forward. A time before it is written in full, in the clock of the axis.
        let delta = self.frame.clock.is_none();
        let late = delta && ts < self.last_ts;
        if late || !delta {
            self.out.uint(8, ts);
        } else {
            self.out.uint(8, ts - self.last_ts);
            self.last_ts = ts;
        }
        self.out.uint(10, self.frame.sequence.into());
        let event = self.out.open(11);
        self.event(item);
        self.out.close(event);
        if !self.interned.is_empty() {
            self.out.bytes(12, self.interned.written());
            self.interned.clear();
        }
        if late {
            self.out.uint(58, Clocks::ClockBoottime as u64);
        }
        self.out.close(packet);
    }

    fn event(&mut self, item: &Item) {
        let (kind, named) = match item.shape {
            Shape::Begin => (Type::SliceBegin, true),
            Shape::End => (Type::SliceEnd, false),
            Shape::Instant => (Type::Instant, true),
            Shape::Counter(_) => (Type::Counter, false),
        };
        if named && let Some(name) = item.category.name() {
            let iid = item.category as u64;
            if self.categories & 1 << iid == 0 {
                self.categories |= 1 << iid;
                intern(&mut self.interned, 1, iid, name.as_bytes());
            }
            self.out.uint(3, iid);
        }
        let batch = self.batch;
        if !matches!(item.shape, Shape::Counter(_)) {
            for arg in slice(&batch.args, &item.args) {
                self.arg(arg);
            }
        }
        self.out.uint(9, kind as u64);
        if named {
            match self.names.get(item.name, &mut self.last_name) {
                Lookup::Known(iid) => self.out.uint(10, iid),
                Lookup::New(iid) => {
                    intern(&mut self.interned, 2, iid, batch.strings.get(item.name));
                    self.out.uint(10, iid);
                }
                Lookup::Inline => {}
            }
        }
        if item.track != self.busiest {
            self.out.uint(11, self.frame.uuid(item.track));
        }
        if let Shape::Counter(value) = item.shape {
            self.out.double(44, value);
            return;
        }
        for &flow in slice(&batch.flows, &item.flows) {
            self.out.fixed64(47, self.frame.flows ^ (flow & !ARRIVES));
        }
        let correlation = match item.correlation {
            Correlation::None => return,
            Correlation::OffCpu => "off-cpu",
            Correlation::Halted => "halted",
        };
        if item.shape == Shape::Begin {
            let iid = item.correlation as u64;
            if self.correlations & 1 << iid == 0 {
                self.correlations |= 1 << iid;
                intern(&mut self.interned, 43, iid, correlation.as_bytes());
            }
            self.out.uint(54, iid);
        }
    }

    fn arg(&mut self, arg: &Arg) {
        let batch = self.batch;
        match *arg {
            Arg::Uint(key, value) => self.keyed(key, |encoder, key| encoder.number(key, value)),
            Arg::Int(key, value) => self.keyed(key, |encoder, key| encoder.annotation(key, |out| out.int(4, value))),
            Arg::Hex(key, value) => self.keyed(key, |encoder, key| encoder.hex(key, value)),
            Arg::Bool(key, value) => {
                self.keyed(key, |encoder, key| encoder.pair(key, 2, value.into()));
            }
            Arg::Name(key, text) => self.keyed(key, |encoder, key| encoder.name(key, text)),
            Arg::Text(key, ref range) => self.keyed(key, |encoder, key| encoder.text(key, slice(&batch.bytes, range))),
            Arg::Fields { source, event, ref payload } => self.fields(source, event, slice(&batch.bytes, payload)),
            Arg::Rendered { key, source: index, event, ref payload } => {
                let source = self.world.sources.get(usize::from(index));
                let Some((source, format)) = source.and_then(|s| Some((s, s.formats.get(event)?))) else { return };
                let record = slice(&batch.bytes, payload);
                let own = record.get(format.printed_from()..).unwrap_or(record);
                let seen = self.renderings.see(index, event, own);
                if let Seen::Rendered(iid) = seen {
                    return self.keyed(key, |encoder, key| encoder.pair(key, 17, iid));
                }
                let mut rendered = std::mem::take(&mut self.scratch);
                rendered.clear();
                format.render(record, source.endian, &source.context(), &mut rendered);
                self.keyed(key, |encoder, key| encoder.rendering(key, &seen, &rendered));
                self.scratch = rendered;
            }
        }
    }

    /// Calls `write` with the number of an argument's name.
    #[inline]
    fn keyed(&mut self, key: StringId, write: impl FnOnce(&mut Self, u64)) {
        match self.keys.get(key, &mut self.last_key) {
            Lookup::Known(iid) => write(self, iid),
            Lookup::New(iid) => {
                intern(&mut self.interned, 3, iid, self.batch.strings.get(key));
                write(self, iid);
            }
            Lookup::Inline => {}
        }
    }

    /// An argument that is a number, or the number of a text.
    #[inline]
    fn pair(&mut self, key: u64, field: u32, value: u64) {
        self.out.pair(4, key, (field, value));
    }

    #[inline]
    fn annotation(&mut self, key: u64, value: impl FnOnce(&mut Out)) {
        let annotation = self.out.open(4);
        self.out.uint(1, key);
        value(&mut self.out);
        self.out.close(annotation);
    }

    #[inline]
    fn number(&mut self, key: u64, value: u64) {
        // The UI shows more than 63 bits as a negative number.
        if i64::try_from(value).is_ok() {
            self.pair(key, 3, value);
        } else {
            self.hex(key, value);
        }
    }

    fn hex(&mut self, key: u64, value: u64) {
        let lookup = self.recent.hex(value, &mut self.last_text);
        if let Lookup::Known(iid) = lookup {
            return self.pair(key, 17, iid);
        }
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        push_hex(&mut text, value);
        self.looked_up(key, lookup, &text);
        self.scratch = text;
    }

    fn name(&mut self, key: u64, text: StringId) {
        let lookup = self.texts.get(text, &mut self.last_text);
        self.looked_up(key, lookup, self.batch.strings.get(text));
    }

    fn text(&mut self, key: u64, text: &[u8]) {
        let lookup = self.recent.text(text, &mut self.last_text);
        self.looked_up(key, lookup, text);
    }

    fn rendering(&mut self, key: u64, seen: &Seen, text: &[u8]) {
        let mut lookup = self.recent.text(text, &mut self.last_text);
        if let Seen::Again(index) = *seen {
            if lookup == Lookup::Inline {
                self.last_text += 1;
                lookup = Lookup::New(self.last_text.into());
            }
            if let Lookup::Known(iid) | Lookup::New(iid) = lookup {
                self.renderings.number(index, iid);
            }
        }
        self.looked_up(key, lookup, text);
    }

    fn looked_up(&mut self, key: u64, lookup: Lookup, text: &[u8]) {
        match lookup {
            Lookup::Known(iid) => self.pair(key, 17, iid),
            Lookup::New(iid) => {
                intern(&mut self.interned, 29, iid, text);
                self.pair(key, 17, iid);
            }
            Lookup::Inline => self.annotation(key, |out| lossy(out, 6, text)),
        }
    }

    fn fields(&mut self, source: u16, event: u16, payload: &[u8]) {
        let world = self.world;
        let Some(endian) = world.sources.get(usize::from(source)).map(|source| source.endian) else { return };
        let Some((first, fields)) = self.field_keys(source, event) else { return };
        for (index, field) in (first..).zip(fields) {
            let Some(&key) = self.field_keys.get(index) else { return };
            if let Some(value) = field.value(payload, endian) {
                self.value(u64::from(key), value, endian);
            }
        }
    }

    /// The fields of an event, and where the numbers of their names begin in `field_keys`.
    #[inline]
    fn field_keys(&mut self, source: u16, event: u16) -> Option<(usize, &'a [Field])> {
        let formats = &self.world.sources.get(usize::from(source))?.formats;
        let format = formats.get(event)?;
        if self.formats.is_empty() {
            self.formats.resize(self.world.sources.len(), Vec::new());
        }
        let known = self.formats.get_mut(usize::from(source))?;
        if known.is_empty() {
            known.resize(formats.events().len(), None);
        }
        let known = known.get_mut(usize::from(event))?;
        if let Some(first) = *known {
            return Some((first as usize, &format.fields));
        }
        let first = self.field_keys.len();
        *known = Some(first as u32);
        for field in &format.fields {
            let key = *self.field_names.entry(&field.name).or_insert_with(|| {
                self.last_key += 1;
                intern(&mut self.interned, 3, self.last_key.into(), field.name.as_bytes());
                self.last_key
            });
            self.field_keys.push(key);
        }
        Some((first, &format.fields))
    }

    fn value(&mut self, key: u64, value: Value<'_>, endian: Endian) {
        match value {
            Value::Uint(value) => self.number(key, value),
            Value::Int(value) => self.annotation(key, |out| out.int(4, value)),
            Value::Pointer(value) => self.hex(key, value),
            Value::Bool(value) => self.pair(key, 2, value.into()),
            Value::Text(text) => self.text(key, text),
            Value::Array { bytes, element, signed } => {
                let mut text = std::mem::take(&mut self.scratch);
                text.clear();
                push_array(&mut text, bytes, element, signed, endian);
                self.text(key, &text);
                self.scratch = text;
            }
        }
    }
}

/// A range of a batch's vector; empty where it goes beyond.
#[inline]
fn slice<'a, T>(items: &'a [T], range: &std::ops::Range<u32>) -> &'a [T] {
    items.get(range.start as usize..range.end as usize).unwrap_or(&[])
}

/// Appends an entry of `interned_data`; all kinds of entries look alike.
fn intern(out: &mut Out, field: u32, iid: u64, text: &[u8]) {
    let entry = out.open(field);
    out.uint(1, iid);
    lossy(out, 2, text);
    out.close(entry);
}

/// A string field, which must be UTF-8.
fn lossy(out: &mut Out, field: u32, text: &[u8]) {
    if std::str::from_utf8(text).is_ok() {
        out.bytes(field, text);
    } else {
        out.bytes(field, String::from_utf8_lossy(text).as_bytes());
    }
}
