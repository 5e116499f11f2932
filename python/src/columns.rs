//! Events as columns.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow_schema::{ArrowError, DataType, Field as Column, Schema, SchemaRef};
use rustc_hash::FxHashMap;
use timeline::capture::Endian;
use timeline::capture::event_format::{EventFormat, Field, FieldKind, Value};
use timeline::error::Result;
use timeline::session::Role;
use timeline::{Capture, Event, EventKind, Gap, Placed};

use crate::choices::Wanted;
use crate::error::usage;

/// Text per batch after which it is closed: offsets have 32 bits.
const MOST_TEXT: usize = 1 << 28;

/// What a stream's batches look like.
pub(crate) struct Spec {
    pub(crate) schema: SchemaRef,
    rows: usize,
    machines: Names,
    systems: Names,
    events: Names,
    words: Names,
    sources: Names,
    /// Names of fields that are columns; whether the value's name is wanted.
    fields: Vec<(String, bool, DataType)>,
    json: bool,
    text: bool,
}

/// The values of a dictionary, the same in all batches.
struct Names {
    values: Arc<StringArray>,
    index: FxHashMap<String, i32>,
}

impl Names {
    fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names: BTreeSet<String> = names.into_iter().collect();
        let values = Arc::new(StringArray::from_iter_values(&names));
        Self { values, index: names.into_iter().zip(0..).collect() }
    }

    fn find(&self, name: &str) -> Option<i32> {
        self.index.get(name).copied()
    }

    fn column(&self, keys: Vec<Option<i32>>) -> Result<ArrayRef, ArrowError> {
        let values: ArrayRef = Arc::clone(&self.values) as ArrayRef;
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::from(keys), values)?))
    }
}

/// The type of a field's column in this event alone.
fn type_of(field: &Field) -> DataType {
    match field.kind {
        FieldKind::Number if !field.signed && field.size == 8 => DataType::UInt64,
        FieldKind::Number => DataType::Int64,
        FieldKind::Pointer => DataType::UInt64,
        FieldKind::Bool => DataType::Boolean,
        _ => DataType::Utf8,
    }
}

/// A type for both.
fn common(a: DataType, b: DataType) -> DataType {
    match (a, b) {
        (a, b) if a == b => a,
        (DataType::Boolean, other) | (other, DataType::Boolean) if other != DataType::Utf8 => other,
        _ => DataType::Utf8,
    }
}

/// The formats of all events that occur and are wanted.
fn formats<'a>(capture: &'a Capture, wanted: &'a Wanted) -> impl Iterator<Item = &'a EventFormat> {
    let session = capture.session();
    session.inputs.iter().flat_map(move |input| {
        let machine = match input.role {
            Role::Guest(vm) => session.vms.get(vm).map_or("?", |vm| &vm.name),
            _ => "host",
        };
        let filter = &wanted.filter;
        let counted = input.capture.formats.events().iter().zip(&input.survey.counts);
        counted.filter(|(_, count)| **count > 0).map(|(format, _)| format).filter(move |f| {
            let any = |patterns: &[timeline::selection::EventPattern]| {
                patterns.iter().any(|p| p.matches(machine, &f.system, &f.name))
            };
            (filter.events.is_empty() || any(&filter.events)) && !any(&filter.exclude)
        })
    })
}

impl Spec {
    pub(crate) fn new(
        capture: &Capture,
        wanted: &Wanted,
        fields: Option<&[String]>,
        text: bool,
        rows: usize,
    ) -> Result<Self> {
        if !(1..=1 << 24).contains(&rows) {
            return Err(usage(format!("batch_size {rows} is not possible"), "choose 1 to 16777216 rows"));
        }
        let session = capture.session();
        let all = || formats(capture, wanted);
        let mut columns = Vec::new();
        for name in fields.unwrap_or_default() {
            // `exit_reason.name` is what the print format calls the value of `exit_reason`.
            let (field, symbol) = match name.strip_suffix(".name") {
                Some(field) => (field, true),
                None => (name.as_str(), false),
            };
            let found = all().filter_map(|format| format.field(field)).map(type_of).reduce(common);
            let Some(found) = found else {
                let known: BTreeSet<&str> = all().flat_map(|f| &f.fields).map(|f| &*f.name).take(1000).collect();
                let known: Vec<&str> = known.into_iter().take(20).collect();
                let hint = format!("some that there are: {}", known.join(", "));
                return Err(usage(format!("no event that is wanted has a field `{field}`"), hint));
            };
            columns.push((field.to_owned(), symbol, if symbol { DataType::Utf8 } else { found }));
        }
        let vms = session.vms.iter().map(|vm| vm.name.clone());
        let segments = session.vms.iter().flat_map(|vm| &vm.vcpus).flat_map(|v| &v.history.segments);
        let placed = [Placed::Host, Placed::Stamp, Placed::Repaired, Placed::Ambiguous];
        let mut spec = Self {
            schema: Arc::new(Schema::empty()),
            rows,
            machines: Names::new(vms.chain(["host".to_owned()])),
            systems: Names::new(all().map(|f| f.system.to_string())),
            events: Names::new(all().map(|f| f.name.to_string())),
            words: Names::new(placed.map(|p| p.name().to_owned())),
            sources: Names::new(segments.map(|s| s.source.to_string())),
            fields: columns,
            json: fields.is_none(),
            text,
        };
        spec.schema = Arc::new(spec.describe());
        Ok(spec)
    }

    fn describe(&self) -> Schema {
        let name = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let mut columns = vec![
            Column::new("time_ns", DataType::Int64, false),
            Column::new("host_tsc", DataType::UInt64, false),
            Column::new("guest_tsc", DataType::UInt64, true),
            Column::new("machine", name(), false),
            Column::new("cpu", DataType::UInt32, false),
            Column::new("vm", name(), true),
            Column::new("vcpu", DataType::UInt32, true),
            Column::new("pid", DataType::Int32, true),
            Column::new("system", name(), false),
            Column::new("event", name(), false),
            Column::new("placed", name(), false),
            Column::new("offset_source", name(), true),
            Column::new("uncertainty_ns", DataType::UInt64, false),
            Column::new("lost_before", DataType::UInt64, true),
        ];
        for (field, symbol, data_type) in &self.fields {
            let name = if *symbol { format!("{field}.name") } else { field.clone() };
            columns.push(Column::new(name, data_type.clone(), true));
        }
        if self.json {
            columns.push(Column::new("fields", DataType::Utf8, false));
        }
        if self.text {
            columns.push(Column::new("text", DataType::Utf8, false));
        }
        Schema::new(columns)
    }
}

/// What all events of a kind have in common.
struct Kind<'a> {
    system: Option<i32>,
    event: Option<i32>,
    fields: Vec<Option<&'a Field>>,
}

/// A field's column while it grows.
enum Values {
    Int(Vec<Option<i64>>),
    Uint(Vec<Option<u64>>),
    Bool(Vec<Option<bool>>),
    Text(StringBuilder),
}

impl Values {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Int64 => Self::Int(Vec::new()),
            DataType::UInt64 => Self::Uint(Vec::new()),
            DataType::Boolean => Self::Bool(Vec::new()),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    fn push(&mut self, value: Option<Value<'_>>, endian: Endian, scratch: &mut String) {
        match self {
            Self::Int(list) => list.push(value.and_then(|value| match value {
                Value::Int(number) => Some(number),
                Value::Uint(number) => i64::try_from(number).ok(),
                Value::Bool(truth) => Some(i64::from(truth)),
                _ => None,
            })),
            Self::Uint(list) => list.push(value.and_then(|value| match value {
                Value::Uint(number) | Value::Pointer(number) => Some(number),
                Value::Bool(truth) => Some(u64::from(truth)),
                _ => None,
            })),
            Self::Bool(list) => list.push(value.and_then(|value| match value {
                Value::Bool(truth) => Some(truth),
                _ => None,
            })),
            Self::Text(list) => match value {
                None => list.append_null(),
                Some(Value::Text(text)) => list.append_value(String::from_utf8_lossy(text)),
                Some(value) => {
                    scratch.clear();
                    json(value, endian, scratch);
                    list.append_value(&scratch);
                }
            },
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Text(list) => list.values_slice().len(),
            _ => 0,
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Int(list) => Arc::new(Int64Array::from(std::mem::take(list))),
            Self::Uint(list) => Arc::new(UInt64Array::from(std::mem::take(list))),
            Self::Bool(list) => Arc::new(BooleanArray::from(std::mem::take(list))),
            Self::Text(list) => Arc::new(list.finish()),
        }
    }
}

/// A batch while it grows.
pub(crate) struct Rows<'s, 'a> {
    spec: &'s Spec,
    kinds: FxHashMap<EventKind, Kind<'a>>,
    time: Vec<i64>,
    host_tsc: Vec<u64>,
    guest_tsc: Vec<Option<u64>>,
    machine: Vec<Option<i32>>,
    cpu: Vec<u32>,
    vm: Vec<Option<i32>>,
    vcpu: Vec<Option<u32>>,
    pid: Vec<Option<i32>>,
    system: Vec<Option<i32>>,
    event: Vec<Option<i32>>,
    placed: Vec<Option<i32>>,
    source: Vec<Option<i32>>,
    uncertainty: Vec<u64>,
    lost: Vec<Option<u64>>,
    fields: Vec<Values>,
    json: StringBuilder,
    text: StringBuilder,
    scratch: String,
    rendered: Vec<u8>,
    /// Words that seldom change: the source that was last asked for.
    last_source: Option<(timeline::clock::history::Source, Option<i32>)>,
}

impl<'s, 'a> Rows<'s, 'a> {
    pub(crate) fn new(spec: &'s Spec) -> Self {
        Self {
            spec,
            kinds: FxHashMap::default(),
            time: Vec::new(),
            host_tsc: Vec::new(),
            guest_tsc: Vec::new(),
            machine: Vec::new(),
            cpu: Vec::new(),
            vm: Vec::new(),
            vcpu: Vec::new(),
            pid: Vec::new(),
            system: Vec::new(),
            event: Vec::new(),
            placed: Vec::new(),
            source: Vec::new(),
            uncertainty: Vec::new(),
            lost: Vec::new(),
            fields: spec.fields.iter().map(|(_, _, data_type)| Values::new(data_type)).collect(),
            json: StringBuilder::new(),
            text: StringBuilder::new(),
            scratch: String::new(),
            rendered: Vec::new(),
            last_source: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        let own = [self.json.values_slice().len(), self.text.values_slice().len()];
        self.time.len() >= self.spec.rows || self.fields.iter().map(Values::bytes).chain(own).any(|b| b > MOST_TEXT)
    }

    pub(crate) fn push(&mut self, event: &Event<'a>) {
        let spec = self.spec;
        let kind = self.kinds.entry(event.kind()).or_insert_with(|| {
            let format = event.format();
            Kind {
                system: spec.systems.find(&format.system),
                event: spec.events.find(&format.name),
                fields: spec.fields.iter().map(|(name, _, _)| format.field(name)).collect(),
            }
        });
        let certainty = event.certainty();
        self.time.push(i64::try_from(event.time().get()).unwrap_or(i64::MAX));
        self.host_tsc.push(event.host_tsc().get());
        self.guest_tsc.push(event.guest_tsc().map(|tsc| tsc.get()));
        self.machine.push(spec.machines.find(event.machine()));
        self.cpu.push(event.cpu());
        self.vm.push(event.vm().and_then(|vm| spec.machines.find(vm)));
        self.vcpu.push(event.vcpu());
        self.pid.push(event.pid());
        self.system.push(kind.system);
        self.event.push(kind.event);
        self.placed.push(spec.words.find(certainty.placed.name()));
        self.source.push(match (certainty.source, self.last_source) {
            (None, _) => None,
            (Some(source), Some((last, key))) if source == last => key,
            (Some(source), _) => {
                let key = spec.sources.find(&source.to_string());
                self.last_source = Some((source, key));
                key
            }
        });
        self.uncertainty.push(certainty.uncertainty_ns);
        self.lost.push(match event.lost_before() {
            Gap::None => Some(0),
            Gap::Events(count) => Some(count),
            Gap::Uncounted => None,
        });
        for ((values, field), (name, symbol, _)) in self.fields.iter_mut().zip(&kind.fields).zip(&spec.fields) {
            match values {
                Values::Text(list) if *symbol => list.append_option(field.and_then(|_| event.symbol(name))),
                values => values.push(field.and_then(|field| event.read(field)), event.endian(), &mut self.scratch),
            }
        }
        if spec.json {
            object(event, &mut self.scratch);
            self.json.append_value(&self.scratch);
        }
        if spec.text {
            self.rendered.clear();
            event.render(&mut self.rendered);
            self.text.append_value(String::from_utf8_lossy(&self.rendered));
        }
    }

    pub(crate) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        use std::mem::take;
        let spec = self.spec;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(take(&mut self.time))),
            Arc::new(UInt64Array::from(take(&mut self.host_tsc))),
            Arc::new(UInt64Array::from(take(&mut self.guest_tsc))),
            spec.machines.column(take(&mut self.machine))?,
            Arc::new(UInt32Array::from(take(&mut self.cpu))),
            spec.machines.column(take(&mut self.vm))?,
            Arc::new(UInt32Array::from(take(&mut self.vcpu))),
            Arc::new(Int32Array::from(take(&mut self.pid))),
            spec.systems.column(take(&mut self.system))?,
            spec.events.column(take(&mut self.event))?,
            spec.words.column(take(&mut self.placed))?,
            spec.sources.column(take(&mut self.source))?,
            Arc::new(UInt64Array::from(take(&mut self.uncertainty))),
            Arc::new(UInt64Array::from(take(&mut self.lost))),
        ];
        columns.extend(self.fields.iter_mut().map(Values::finish));
        if spec.json {
            columns.push(Arc::new(self.json.finish()));
        }
        if spec.text {
            columns.push(Arc::new(self.text.finish()));
        }
        RecordBatch::try_new(Arc::clone(&spec.schema), columns)
    }
}

/// An event's own fields as a JSON object.
fn object(event: &Event<'_>, out: &mut String) {
    out.clear();
    out.push('{');
    for (name, value) in event.fields() {
        if out.len() > 1 {
            out.push(',');
        }
        quoted(name, out);
        out.push(':');
        match value {
            Some(value) => json(value, event.endian(), out),
            None => out.push_str("null"),
        }
    }
    out.push('}');
}

fn json(value: Value<'_>, endian: Endian, out: &mut String) {
    // Writing to memory cannot fail.
    let _ = match value {
        Value::Uint(number) | Value::Pointer(number) => write!(out, "{number}"),
        Value::Int(number) => write!(out, "{number}"),
        Value::Bool(truth) => write!(out, "{truth}"),
        Value::Text(text) => {
            quoted(&String::from_utf8_lossy(text), out);
            Ok(())
        }
        Value::Array { .. } => {
            let numbers: Vec<String> = value.elements(endian).map(|number| number.to_string()).collect();
            write!(out, "[{}]", numbers.join(","))
        }
    };
}

fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
