//! Protobuf's wire format, field by field into a byte buffer.
//!
//! For packets that are written by the million: no message structs, no second pass for lengths. A nested message gets
//! one byte for its length, which nearly always suffices; where it does not, its bytes move up. The result is the
//! shortest encoding.

/// Where a nested message begins; [`close`] wants it back.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open(usize);

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;

/// Appends `value` in groups of 7 bits, lowest first.
#[inline(always)]
pub(crate) fn varint(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
    } else {
        varint_long(out, value);
    }
}

/// Two bytes and more. All ten are appended and the rest cut off: a copy of a fixed length is no call.
#[inline(never)]
fn varint_long(out: &mut Vec<u8>, mut value: u64) {
    if value < 0x4000 {
        return out.extend_from_slice(&[value as u8 | 0x80, (value >> 7) as u8]);
    }
    let mut bytes = [0; 10];
    let mut len = 0;
    for byte in &mut bytes {
        len += 1;
        if value < 0x80 {
            *byte = value as u8;
            break;
        }
        *byte = value as u8 | 0x80;
        value >>= 7;
    }
    let end = out.len() + len;
    out.extend_from_slice(&bytes);
    out.truncate(end);
}

/// Field numbers are constants, and so is what this appends.
#[inline(always)]
fn tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    let value = field << 3 | wire_type;
    if value < 0x80 {
        out.push(value as u8);
    } else if value < 0x4000 {
        out.extend_from_slice(&[value as u8 | 0x80, (value >> 7) as u8]);
    } else {
        varint_long(out, u64::from(value));
    }
}

/// A `uint64`, `uint32`, `bool` or enum field.
#[inline]
pub(crate) fn uint(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, VARINT);
    varint(out, value);
}

/// An `int64` or `int32` field: negative values take ten bytes.
#[inline]
pub(crate) fn int(out: &mut Vec<u8>, field: u32, value: i64) {
    uint(out, field, value as u64);
}

/// A `fixed64` field.
#[inline]
pub(crate) fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A `double` field.
#[inline]
pub(crate) fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    fixed64(out, field, value.to_bits());
}

/// A `bytes` or `string` field, or a message that is encoded already.
#[inline]
pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    tag(out, field, LENGTH_DELIMITED);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Begins a nested message.
#[inline]
pub(crate) fn open(out: &mut Vec<u8>, field: u32) -> Open {
    tag(out, field, LENGTH_DELIMITED);
    out.push(0);
    Open(out.len())
}

/// Ends the nested message that began at `message`; nothing that began inside it may still be open.
#[inline]
pub(crate) fn close(out: &mut Vec<u8>, message: Open) {
    let Open(start) = message;
    let len = out.len() - start;
    if len < 0x80 {
        out[start - 1] = len as u8;
    } else {
        close_long(out, start, len);
    }
}

#[cold]
fn close_long(out: &mut Vec<u8>, start: usize, len: usize) {
    let end = out.len();
    // The length goes to the end first, which makes just enough room for it.
    varint(out, len as u64);
    let extra = out.len() - end - 1;
    let mut length = [0; 10];
    length[..=extra].copy_from_slice(&out[end..]);
    out.truncate(end + extra);
    out.copy_within(start..end, start + extra);
    out[start - 1..start + extra].copy_from_slice(&length[..=extra]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::export::perfetto::proto::{
        DebugAnnotation, InternedData, InternedString, Trace, TracePacket, TrackEvent, debug_annotation, trace_packet,
    };

    fn write_annotation(out: &mut Vec<u8>, annotation: &DebugAnnotation) {
        let message = open(out, 4);
        if let Some(iid) = annotation.name_iid {
            uint(out, 1, iid);
        }
        match &annotation.value {
            Some(debug_annotation::Value::BoolValue(value)) => uint(out, 2, u64::from(*value)),
            Some(debug_annotation::Value::UintValue(value)) => uint(out, 3, *value),
            Some(debug_annotation::Value::IntValue(value)) => int(out, 4, *value),
            Some(debug_annotation::Value::StringValue(value)) => bytes(out, 6, value.as_bytes()),
            Some(debug_annotation::Value::StringValueIid(value)) => uint(out, 17, *value),
            None => {}
        }
        close(out, message);
    }

    fn write_packet(out: &mut Vec<u8>, packet: &TracePacket) {
        let message = open(out, 1);
        uint(out, 8, packet.timestamp());
        if let Some(trace_packet::Data::TrackEvent(event)) = &packet.data {
            let inner = open(out, 11);
            event.debug_annotations.iter().for_each(|annotation| write_annotation(out, annotation));
            double(out, 44, event.double_counter_value());
            event.flow_ids.iter().for_each(|&id| fixed64(out, 47, id));
            close(out, inner);
        }
        let inner = open(out, 12);
        for string in &packet.interned_data.as_ref().unwrap().debug_annotation_string_values {
            let entry = open(out, 29);
            uint(out, 1, string.iid());
            bytes(out, 2, string.str());
            close(out, entry);
        }
        close(out, inner);
        close(out, message);
    }

    fn annotation() -> impl Strategy<Value = DebugAnnotation> {
        use debug_annotation::Value as V;
        let value = prop_oneof![
            any::<bool>().prop_map(V::BoolValue),
            any::<u64>().prop_map(V::UintValue),
            any::<i64>().prop_map(V::IntValue),
            ".{0,90}".prop_map(V::StringValue),
            any::<u64>().prop_map(V::StringValueIid),
        ];
        (any::<Option<u64>>(), proptest::option::of(value))
            .prop_map(|(name_iid, value)| DebugAnnotation { name_iid, value })
    }

    prop_compose! {
        fn packet()(
            timestamp in any::<u64>(),
            debug_annotations in proptest::collection::vec(annotation(), 0..6),
            counter in -1e300..1e300f64,
            flow_ids in proptest::collection::vec(any::<u64>(), 0..3),
            strings in proptest::collection::vec((any::<u64>(), proptest::collection::vec(any::<u8>(), 0..20_000)), 0..4),
        ) -> TracePacket {
            let event = TrackEvent { debug_annotations, double_counter_value: Some(counter), flow_ids, ..TrackEvent::default() };
            let strings = strings.into_iter().map(|(iid, str)| InternedString { iid: Some(iid), str: Some(str) });
            TracePacket {
                timestamp: Some(timestamp),
                interned_data: Some(InternedData { debug_annotation_string_values: strings.collect(), ..InternedData::default() }),
                data: Some(trace_packet::Data::TrackEvent(event)),
                ..TracePacket::default()
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn prost_reads_what_was_written_and_writes_no_less(packets in proptest::collection::vec(packet(), 0..4)) {
            let mut out = Vec::new();
            packets.iter().for_each(|packet| write_packet(&mut out, packet));
            let trace = Trace { packet: packets };
            prop_assert_eq!(out.len(), trace.encoded_len());
            prop_assert_eq!(Trace::decode(out.as_slice()).expect("decodes"), trace);
        }
    }

    #[test]
    fn lengths_at_the_edges_of_a_varint() {
        for len in [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let mut out = Vec::new();
            let message = open(&mut out, 1);
            out.resize(out.len() + len, 0xab);
            close(&mut out, message);
            let mut expected = Vec::new();
            bytes(&mut expected, 1, &vec![0xab; len]);
            assert!(out == expected, "a message of {len} bytes");
        }
    }
}
