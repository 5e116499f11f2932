//! Rendering without a print format: `name=value` for each of the event's own fields.

use super::field::{Field, Value};
use super::pointer;
use super::printf;
use crate::capture::Endian;

/// Appends all fields that fit into the record.
pub(super) fn render(fields: &[Field], payload: &[u8], endian: Endian, out: &mut Vec<u8>) {
    let mut first = true;
    for field in fields {
        let Some(value) = field.value(payload, endian) else { continue };
        if !first {
            out.push(b' ');
        }
        first = false;
        out.extend_from_slice(field.name.as_bytes());
        out.push(b'=');
        match value {
            Value::Uint(value) => printf::decimal(value, out),
            Value::Int(value) => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
            Value::Pointer(value) => printf::hex(value, out),
            Value::Bool(value) => out.push(b'0' + u8::from(value)),
            Value::Text(text) => out.extend_from_slice(text),
            Value::Array { bytes, element, .. } => pointer::hex_list(bytes, element, endian, out),
        }
    }
}
