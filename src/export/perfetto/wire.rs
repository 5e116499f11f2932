//! Protobuf's wire format, field by field into a byte buffer.
//!
//! For packets that are written by the million: no message structs, no second pass for lengths, and no question of
//! capacity per byte. A nested message gets one byte for its length, which nearly always suffices; where it does not,
//! its bytes move up. The result is the shortest encoding.

/// Where a nested message begins; [`Out::close`] wants it back.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open(usize);

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;

/// How much room is made at once, beyond what is needed.
const STEP: usize = 4 << 10;

/// What has been written. There is always room behind it, so that eight bytes can be stored where only some of them
/// count.
#[derive(Debug, Default)]
pub(crate) struct Out {
    bytes: Vec<u8>,
    len: usize,
}

impl From<Vec<u8>> for Out {
    /// Goes on behind what is there.
    fn from(bytes: Vec<u8>) -> Self {
        Self { len: bytes.len(), bytes }
    }
}

impl From<Out> for Vec<u8> {
    fn from(out: Out) -> Self {
        let mut bytes = out.bytes;
        bytes.truncate(out.len);
        bytes
    }
}

impl Out {
    /// What was written.
    pub(crate) fn written(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets what was written, and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends the lowest `len` bytes of `word`, of which there are eight at most.
    #[inline(always)]
    fn put(&mut self, word: u64, len: usize) {
        if let Some(place) = self.bytes.get_mut(self.len..).and_then(|room| room.first_chunk_mut()) {
            *place = word.to_le_bytes();
            self.len += len;
        } else {
            self.make_room(8);
            self.raw(word.to_le_bytes().get(..len).unwrap_or(&[]));
        }
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self, more: usize) {
        // Little at a time: what was just zeroed is in the cache when it is written to.
        self.bytes.resize(self.len + more + STEP, 0);
    }

    /// Appends bytes as they are.
    #[inline]
    pub(crate) fn raw(&mut self, value: &[u8]) {
        if self.bytes.len() - self.len < value.len() {
            self.make_room(value.len());
        }
        let end = self.len + value.len();
        self.bytes[self.len..end].copy_from_slice(value);
        self.len = end;
    }

    /// Appends `value` in groups of 7 bits, lowest first.
    #[inline(always)]
    pub(crate) fn varint(&mut self, value: u64) {
        if value < 0x80 {
            self.put(value, 1);
        } else {
            self.varint_long(value);
        }
    }

    #[inline(never)]
    fn varint_long(&mut self, value: u64) {
        let len = varint_len(value);
        if len > 8 {
            return self.varint_longest(value);
        }
        let goes_on = CONTINUES & ((1 << (8 * (len - 1))) - 1);
        self.put(spread(value) | goes_on, len);
    }

    /// Nine and ten bytes.
    #[cold]
    fn varint_longest(&mut self, value: u64) {
        self.put(spread(value & LOW_56) | CONTINUES, 8);
        // What is left has eight bits: as it stands it continues exactly where the eighth is set.
        let high = value >> 56;
        self.put(high | high >> 7 << 8, if high < 0x80 { 1 } else { 2 });
    }

    /// Field numbers are constants, and so is what this appends.
    #[inline(always)]
    fn tag(&mut self, field: u32, wire_type: u32) {
        let (tag, len) = tag(field, wire_type);
        self.put(tag, len);
    }

    /// A `uint64`, `uint32`, `bool` or enum field.
    #[inline(always)]
    pub(crate) fn uint(&mut self, field: u32, value: u64) {
        let (tag, len) = tag(field, VARINT);
        if value < 0x80 {
            self.put(tag | value << (8 * len), len + 1);
        } else {
            self.put(tag, len);
            self.varint_long(value);
        }
    }

    /// A nested message of two numbers: `first` in its field 1, `second` in another. What most arguments are.
    #[inline(always)]
    pub(crate) fn pair(&mut self, field: u32, first: u64, (number, second): (u32, u64)) {
        let ((outer, 1), 0..0x80) = (tag(field, LENGTH_DELIMITED), first) else {
            let message = self.open(field);
            self.uint(1, first);
            self.uint(number, second);
            return self.close(message);
        };
        // No longer than 2 + 5 + 10 bytes: its length takes one.
        let length = (2 + tag(number, VARINT).1 + varint_len(second)) as u64;
        self.put(outer | length << 8 | tag(1, VARINT).0 << 16 | first << 24, 4);
        self.uint(number, second);
    }

    /// An `int64` or `int32` field: negative values take ten bytes.
    #[inline]
    pub(crate) fn int(&mut self, field: u32, value: i64) {
        self.uint(field, value as u64);
    }

    /// A `fixed64` field.
    #[inline]
    pub(crate) fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, FIXED64);
        self.put(value, 8);
    }

    /// A `double` field.
    #[inline]
    pub(crate) fn double(&mut self, field: u32, value: f64) {
        self.fixed64(field, value.to_bits());
    }

    /// A `bytes` or `string` field, or a message that is encoded already.
    #[inline]
    pub(crate) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.tag(field, LENGTH_DELIMITED);
        self.varint(value.len() as u64);
        self.raw(value);
    }

    /// Begins a nested message.
    #[inline(always)]
    pub(crate) fn open(&mut self, field: u32) -> Open {
        let (tag, len) = tag(field, LENGTH_DELIMITED);
        self.put(tag, len + 1);
        Open(self.len)
    }

    /// Ends the nested message that began at `message`; nothing that began inside it may still be open.
    #[inline(always)]
    pub(crate) fn close(&mut self, message: Open) {
        let Open(start) = message;
        let len = self.len - start;
        if len < 0x80 {
            self.bytes[start - 1] = len as u8;
        } else {
            self.close_long(start, len);
        }
    }

    #[cold]
    fn close_long(&mut self, start: usize, len: usize) {
        // The length goes to the end first, which makes just enough room for it.
        let end = self.len;
        self.varint(len as u64);
        let extra = self.len - end - 1;
        let mut length = [0; 10];
        length[..=extra].copy_from_slice(&self.bytes[end..self.len]);
        self.len = end + extra;
        self.bytes.copy_within(start..end, start + extra);
        self.bytes[start - 1..start + extra].copy_from_slice(&length[..=extra]);
    }
}

const CONTINUES: u64 = 0x8080_8080_8080_8080;
const LOW_56: u64 = (1 << 56) - 1;

/// How many bytes `value` takes.
#[inline(always)]
pub(crate) fn varint_len(value: u64) -> usize {
    // Ceil of a seventh of the bits; right for 1 to 64.
    ((64 - (value | 1).leading_zeros() as usize) * 37 + 222) >> 8
}

/// Spreads 56 bits over eight bytes, seven in each.
#[inline(always)]
fn spread(value: u64) -> u64 {
    let value = (value & 0x00ff_ffff_f000_0000) << 4 | value & 0x0fff_ffff;
    let value = (value & 0x0fff_c000_0fff_c000) << 2 | value & 0x0000_3fff_0000_3fff;
    (value & 0x3f80_3f80_3f80_3f80) << 1 | value & 0x007f_007f_007f_007f
}

/// A tag and how many bytes it takes. Field numbers have 29 bits at most.
#[inline(always)]
const fn tag(field: u32, wire_type: u32) -> (u64, usize) {
    let tag = (field as u64) << 3 | wire_type as u64;
    if tag < 0x80 {
        (tag, 1)
    } else if tag < 0x4000 {
        (tag & 0x7f | 0x80 | tag >> 7 << 8, 2)
    } else if tag < 0x20_0000 {
        (tag & 0x7f | 0x80 | (tag >> 7 & 0x7f | 0x80) << 8 | tag >> 14 << 16, 3)
    } else {
        let low = tag & 0x7f | 0x80 | (tag >> 7 & 0x7f | 0x80) << 8 | (tag >> 14 & 0x7f | 0x80) << 16;
        let high = tag >> 21;
        if high < 0x80 { (low | high << 24, 4) } else { (low | (high & 0x7f | 0x80) << 24 | high >> 7 << 32, 5) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::export::perfetto::proto::{
        DebugAnnotation, InternedData, InternedString, Trace, TracePacket, TrackEvent, debug_annotation, trace_packet,
    };

    fn write_annotation(out: &mut Out, annotation: &DebugAnnotation) {
        let message = out.open(4);
        if let Some(iid) = annotation.name_iid {
            out.uint(1, iid);
        }
        match &annotation.value {
            Some(debug_annotation::Value::BoolValue(value)) => out.uint(2, u64::from(*value)),
            Some(debug_annotation::Value::UintValue(value)) => out.uint(3, *value),
            Some(debug_annotation::Value::IntValue(value)) => out.int(4, *value),
            Some(debug_annotation::Value::StringValue(value)) => out.bytes(6, value.as_bytes()),
            Some(debug_annotation::Value::StringValueIid(value)) => out.uint(17, *value),
            None => {}
        }
        out.close(message);
    }

    fn write_packet(out: &mut Out, packet: &TracePacket) {
        let message = out.open(1);
        out.uint(8, packet.timestamp());
        if let Some(trace_packet::Data::TrackEvent(event)) = &packet.data {
            let inner = out.open(11);
            event.debug_annotations.iter().for_each(|annotation| write_annotation(out, annotation));
            out.double(44, event.double_counter_value());
            event.flow_ids.iter().for_each(|&id| out.fixed64(47, id));
            out.close(inner);
        }
        let inner = out.open(12);
        for string in &packet.interned_data.as_ref().unwrap().debug_annotation_string_values {
            let entry = out.open(29);
            out.uint(1, string.iid());
            out.bytes(2, string.str());
            out.close(entry);
        }
        out.close(inner);
        out.close(message);
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
            let mut out = Out::default();
            packets.iter().for_each(|packet| write_packet(&mut out, packet));
            let trace = Trace { packet: packets };
            prop_assert_eq!(out.written().len(), trace.encoded_len());
            prop_assert_eq!(Trace::decode(out.written()).expect("decodes"), trace);
        }
    }

    #[test]
    fn every_length_of_a_varint() {
        let edges = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) | 0x55]).chain([u64::MAX]);
        for value in edges {
            let mut expected = Vec::new();
            prost::encoding::encode_varint(value, &mut expected);
            let mut out = Out::default();
            out.varint(value);
            assert_eq!(out.written(), expected, "{value:#x}");
            assert_eq!(varint_len(value), expected.len(), "{value:#x}");
        }
    }

    #[test]
    fn every_length_of_a_tag() {
        for field in [1, 15, 16, 2047, 2048, 262_143, 262_144, 33_554_431, 33_554_432, (1 << 29) - 1] {
            let mut expected = Vec::new();
            prost::encoding::uint64::encode(field, &300, &mut expected);
            let mut out = Out::default();
            out.uint(field, 300);
            assert_eq!(out.written(), expected, "field {field}");
        }
    }

    #[test]
    fn a_pair_is_a_message() {
        for (first, second) in [(0, 0), (1, 127), (127, 128), (128, 1), (u64::MAX, 5), (3, u64::MAX)] {
            for number in [2, 17, 2048] {
                let mut out = Out::default();
                out.pair(4, first, (number, second));
                let mut expected = Out::default();
                let message = expected.open(4);
                expected.uint(1, first);
                expected.uint(number, second);
                expected.close(message);
                assert_eq!(out.written(), expected.written(), "{first} {number} {second}");
            }
        }
    }

    #[test]
    fn goes_on_behind_what_is_there() {
        let mut out = Out::from(b"before".to_vec());
        out.uint(1, 2);
        assert_eq!(Vec::from(out), b"before\x08\x02");
    }

    #[test]
    fn lengths_at_the_edges_of_a_varint() {
        for len in [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let mut out = Out::default();
            let message = out.open(1);
            out.raw(&vec![0xab; len]);
            out.close(message);
            let mut expected = Out::default();
            expected.bytes(1, &vec![0xab; len]);
            assert!(out.written() == expected.written(), "a message of {len} bytes");
        }
    }
}
