//! Events that the trace processor does not know, described by ourselves: they show in its list of ftrace events and in
//! the table `ftrace_event`.

use prost::Message;

use super::native::is_known;
use super::proto::EventDescriptor;
use super::proto::event_descriptor::{self, Type};
use super::proto::ftrace_event_bundle::GenericEventDescriptor;
use super::wire::Out;
use crate::capture::Endian;
use crate::capture::event_format::{EventFormat, Field, FieldKind, Value};
use crate::export::text::{push_array, push_hex, push_lossy};
use crate::timeline::drawing::World;
use crate::timeline::native::{Machine, Native};

/// Fields of `FtraceEvent` from here up to [`LAST_ID`] are described in the file itself.
pub(super) const FIRST_ID: u32 = 65_536;
const LAST_ID: u32 = 131_072;
/// The trace processor refuses descriptions with a field number beyond.
const MAX_FIELDS: u32 = 31;

/// The number of each event: every event of a machine has its own.
pub(super) struct GenericIds {
    /// By source: the first number of its events.
    first: Vec<u32>,
}

impl GenericIds {
    pub(super) fn new(world: &World, native: &Native) -> Self {
        let mut first = vec![LAST_ID; world.sources.len()];
        for machine in &native.machines {
            let mut next = FIRST_ID;
            for source in machine.sources.iter().map(|source| usize::from(source.source)) {
                let (Some(first), Some(formats)) = (first.get_mut(source), world.sources.get(source)) else { continue };
                *first = next;
                next = next.saturating_add(formats.formats.events().len() as u32);
            }
        }
        Self { first }
    }

    /// The number of an event, if there is room for it.
    pub(super) fn get(&self, source: u16, event: u16) -> Option<u32> {
        let id = self.first.get(usize::from(source))?.checked_add(event.into())?;
        (id < LAST_ID).then_some(id)
    }
}

/// Describes the events that were recorded on a machine.
pub(super) fn descriptors(world: &World, ids: &GenericIds, machine: &Machine) -> Vec<GenericEventDescriptor> {
    let mut list = Vec::new();
    for source in &machine.sources {
        let Some(formats) = world.sources.get(usize::from(source.source)).map(|source| &source.formats) else {
            continue;
        };
        for ((event, format), recorded) in (0_u16..).zip(formats.events()).zip(&source.recorded) {
            let Some(id) = ids.get(source.source, event).filter(|_| *recorded && !is_known(format)) else { continue };
            list.push(GenericEventDescriptor {
                field_id: i32::try_from(id).ok(),
                event_descriptor: Some(descriptor(format).encode_to_vec()),
            });
        }
    }
    list
}

fn descriptor(format: &EventFormat) -> EventDescriptor {
    let mut list = Vec::new();
    for (number, also, field) in numbered(format) {
        let kind = match field.kind {
            FieldKind::Number if field.signed => Type::Int64,
            FieldKind::Number => Type::Uint64,
            FieldKind::Bool => Type::Bool,
            _ => Type::String,
        };
        let mut add = |number: u32, kind: Type| {
            list.push(event_descriptor::Field {
                name: Some(field.name.to_string()),
                number: i32::try_from(number).ok(),
                r#type: Some(kind as i32),
            });
        };
        add(number, kind);
        if let Some(also) = also {
            add(also, Type::String);
        }
    }
    EventDescriptor { name: Some(format.name.to_string()), field: list }
}

/// The fields of an event with their numbers. SQL has signed numbers alone: a field of 64 unsigned bits has a second
/// number under which it is text, for values beyond.
fn numbered(format: &EventFormat) -> impl Iterator<Item = (u32, Option<u32>, &Field)> {
    let mut next = format.fields.len() as u32;
    (1..).zip(&format.fields).take(MAX_FIELDS as usize).map(move |(number, field)| {
        let wide = field.kind == FieldKind::Number && !field.signed && field.size == 8 && next < MAX_FIELDS;
        next += u32::from(wide);
        (number, wide.then_some(next), field)
    })
}

/// Writes an event's own fields as described. Addresses are text.
pub(super) fn write_fields(format: &EventFormat, payload: &[u8], endian: Endian, scratch: &mut Vec<u8>, out: &mut Out) {
    for (number, also, field) in numbered(format) {
        let Some(value) = field.value(payload, endian) else { continue };
        scratch.clear();
        let mut number = number;
        match (value, also) {
            (Value::Uint(value), Some(also)) if i64::try_from(value).is_err() => {
                number = also;
                push_hex(scratch, value);
            }
            (Value::Uint(value), _) => out.uint(number, value),
            (Value::Int(value), _) => out.int(number, value),
            (Value::Bool(value), _) => out.uint(number, value.into()),
            (Value::Pointer(value), _) => push_hex(scratch, value),
            (Value::Text(text), _) => {
                push_lossy(scratch, text);
                out.bytes(number, scratch);
                continue;
            }
            (Value::Array { bytes, element, signed }, _) => push_array(scratch, bytes, element, signed, endian),
        }
        // Neither an address nor an array is ever an empty text.
        if !scratch.is_empty() {
            out.bytes(number, scratch);
        }
    }
}
