//! An event as JSON: an object like a row of the Arrow table, with its fields in an object of their own.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};

use super::{Event, Gap};
use crate::capture::Endian;
use crate::capture::event_format::Value;

impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let certainty = self.certainty();
        let mut object = serializer.serialize_struct("Event", 15)?;
        object.serialize_field("time_ns", &self.time().get())?;
        object.serialize_field("host_tsc", &self.host_tsc().get())?;
        object.serialize_field("guest_tsc", &self.guest_tsc().map(|tsc| tsc.get()))?;
        object.serialize_field("machine", self.machine())?;
        object.serialize_field("cpu", &self.cpu())?;
        object.serialize_field("vm", &self.vm())?;
        object.serialize_field("vcpu", &self.vcpu())?;
        object.serialize_field("pid", &self.pid())?;
        object.serialize_field("system", self.system())?;
        object.serialize_field("event", self.name())?;
        object.serialize_field("placed", certainty.placed.name())?;
        object.serialize_field("offset_source", &certainty.source.map(|source| source.to_string()))?;
        object.serialize_field("uncertainty_ns", &certainty.uncertainty_ns)?;
        let lost = match self.lost_before() {
            Gap::None => Some(0),
            Gap::Events(count) => Some(count),
            Gap::Uncounted => None,
        };
        object.serialize_field("lost_before", &lost)?;
        object.serialize_field("fields", &Fields(self))?;
        object.end()
    }
}

struct Fields<'e, 'a>(&'e Event<'a>);

impl Serialize for Fields<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.fields() {
            map.serialize_entry(name, &value.map(|value| Shown(value, self.0.endian())))?;
        }
        map.end()
    }
}

struct Shown<'e>(Value<'e>, Endian);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Uint(number) | Value::Pointer(number) => serializer.serialize_u64(number),
            Value::Int(number) => serializer.serialize_i64(number),
            Value::Bool(truth) => serializer.serialize_bool(truth),
            Value::Text(text) => serializer.serialize_str(&String::from_utf8_lossy(text)),
            Value::Array { .. } => {
                let mut list = serializer.serialize_seq(None)?;
                for number in self.0.elements(self.1) {
                    list.serialize_element(&number)?;
                }
                list.end()
            }
        }
    }
}
