//! What a Perfetto file says when it is decoded by the rules of the format, packet by packet.

mod support;

use std::collections::HashMap;

use kvm_timeline::export::perfetto::Perfetto;
use kvm_timeline::export::perfetto::proto::{
    DebugAnnotation, Trace, TracePacket, TrackEvent, debug_annotation, trace_packet, track_event,
};
use kvm_timeline::timeline::drawing::{Arg, Batch, Category, Exporter, Shape};
use proptest::prelude::*;
use prost::Message;
use support::drawn::{self, Draw, EVENTS, Plain, START, Said, VCPU, export, said, story, world};

/// What a reader remembers of a packet sequence.
#[derive(Default)]
struct Sequence {
    strings: HashMap<(u32, u64), String>,
    track: u64,
    /// The default clock is the delta clock.
    delta: bool,
    clock: u64,
}

impl Sequence {
    fn learn(&mut self, packet: &TracePacket) {
        if packet.sequence_flags() & 1 != 0 {
            *self = Self::default();
        }
        if let Some(defaults) = &packet.trace_packet_defaults {
            self.track = defaults.track_event_defaults.as_ref().expect("defaults").track_uuid();
            self.delta = defaults.timestamp_clock_id() == 64;
        }
        if let Some(trace_packet::Data::ClockSnapshot(snapshot)) = &packet.data {
            let [axis, delta] = snapshot.clocks.as_slice() else { panic!("two clocks") };
            assert_eq!((axis.clock_id(), delta.clock_id(), delta.is_incremental()), (6, 64, true));
            assert_eq!(axis.timestamp(), delta.timestamp(), "the delta clock counts on the axis");
            self.clock = delta.timestamp();
        }
        let Some(data) = &packet.interned_data else { return };
        let mut learn = |space: u32, iid: u64, text: &[u8]| {
            let text = String::from_utf8(text.to_vec()).expect("UTF-8");
            assert!(iid != 0 && self.strings.insert((space, iid), text).is_none(), "number {iid} was given out before");
        };
        data.event_categories.iter().for_each(|entry| learn(1, entry.iid(), entry.name().as_bytes()));
        data.event_names.iter().for_each(|entry| learn(2, entry.iid(), entry.name().as_bytes()));
        data.debug_annotation_names.iter().for_each(|entry| learn(3, entry.iid(), entry.name().as_bytes()));
        data.debug_annotation_string_values.iter().for_each(|entry| learn(29, entry.iid(), entry.str()));
        data.correlation_id_str.iter().for_each(|entry| learn(43, entry.iid(), entry.str()));
    }

    fn text(&self, space: u32, iid: u64) -> String {
        self.strings.get(&(space, iid)).unwrap_or_else(|| panic!("number {iid} of {space} is not known")).clone()
    }

    fn arg(&self, annotation: &DebugAnnotation) -> (String, Plain) {
        use debug_annotation::Value;
        let value = match annotation.value.clone().expect("a value") {
            Value::BoolValue(value) => Plain::Bool(value),
            Value::UintValue(value) => Plain::Uint(value),
            Value::IntValue(value) => Plain::Int(value),
            Value::StringValue(text) => Plain::Text(text),
            Value::StringValueIid(iid) => Plain::Text(self.text(29, iid)),
        };
        (self.text(3, annotation.name_iid()), value)
    }

    fn said(&mut self, packet: &TracePacket, event: &TrackEvent) -> Said {
        let ts = match packet.timestamp_clock_id {
            None => {
                assert!(self.delta);
                self.clock += packet.timestamp();
                self.clock
            }
            Some(clock) => {
                assert_eq!(clock, 6);
                packet.timestamp()
            }
        };
        let shape = match event.r#type() {
            track_event::Type::SliceBegin => Shape::Begin,
            track_event::Type::SliceEnd => Shape::End,
            track_event::Type::Instant => Shape::Instant,
            track_event::Type::Counter => Shape::Counter(event.double_counter_value()),
            track_event::Type::Unspecified => panic!("an event without a type"),
        };
        Said {
            ts,
            shape,
            track: (event.track_uuid.unwrap_or(self.track) - 1) as u32,
            name: event.name_iid.map(|iid| self.text(2, iid)),
            category: event.category_iids.first().map(|&iid| self.text(1, iid)),
            correlation: event.correlation_id_str_iid.map(|iid| self.text(43, iid)),
            args: event.debug_annotations.iter().map(|annotation| self.arg(annotation)).collect(),
            flows: event.flow_ids.clone(),
        }
    }
}

fn decode(bytes: &[u8]) -> Vec<Said> {
    let mut sequence = Sequence::default();
    let mut events = Vec::new();
    for packet in Trace::decode(bytes).expect("protobuf").packet {
        if packet.trusted_packet_sequence_id.is_some() {
            sequence.learn(&packet);
        }
        if let Some(trace_packet::Data::TrackEvent(event)) = &packet.data {
            assert_eq!(packet.trusted_packet_sequence_id, Some(1));
            events.push(sequence.said(&packet, event));
        }
    }
    events
}

fn encode(batch: &Batch, number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    Perfetto.batch(&world(), number, batch, &mut out);
    out
}

#[test]
fn a_story_comes_back_word_for_word() {
    let batches = story();
    let said: Vec<Said> = batches.iter().flat_map(said).collect();
    assert_eq!(decode(&export(&Perfetto, &world(), &batches)), said);
    assert_eq!(said.len(), 21);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_batch_comes_back(a in support::random::batch(), b in support::random::batch()) {
        let bytes = [encode(&a.0, 0), encode(&b.0, 1)].concat();
        let expected: Vec<Said> = [&a.0, &b.0].into_iter().flat_map(said).collect();
        prop_assert_eq!(decode(&bytes), expected);
    }
}

#[test]
fn the_header_settles_clock_and_rows() {
    let mut out = Vec::new();
    Perfetto.header(&world(), &mut out);
    let trace = Trace::decode(out.as_slice()).expect("protobuf");
    let Some(trace_packet::Data::ClockSnapshot(clocks)) = &trace.packet[0].data else { panic!("no clocks first") };
    let read: Vec<_> = clocks.clocks.iter().map(|clock| (clock.clock_id(), clock.timestamp())).collect();
    assert_eq!(read, [(6, START), (1, 1_700_000_000_000_000_000)]);
    assert_eq!(clocks.primary_trace_clock, Some(6));

    let Some(trace_packet::Data::TraceAttributes(attributes)) = &trace.packet[1].data else { panic!("no attributes") };
    let keys: Vec<_> = attributes.attribute.iter().map(|attribute| attribute.key()).collect();
    assert_eq!(keys, ["segments", "tool", "tsc_hz"]);

    let rows: Vec<_> = trace
        .packet
        .iter()
        .filter_map(|packet| match &packet.data {
            Some(trace_packet::Data::TrackDescriptor(row)) => Some(row),
            _ => None,
        })
        .map(|row| {
            assert_eq!(row.sibling_merge_behavior, Some(2), "rows of one name stay apart");
            (row.uuid(), row.parent_uuid(), row.name(), row.child_ordering.unwrap_or(0), row.sibling_order_rank())
        })
        .collect();
    assert_eq!(
        rows,
        [
            (1, 0, "Host", 3, 0),
            (2, 1, "Host CPU 0", 0, 1),
            (3, 0, "VM web vCPU 0", 3, 2),
            (4, 3, "Host state, web vCPU 0", 0, 3),
            (5, 3, "Events, web vCPU 0", 0, 4),
            (6, 3, "TSC offset, web vCPU 0", 0, 5),
            (7, 0, "VM \"db\" vCPU 0", 3, 6),
            (8, 7, "exits per second", 0, 7),
        ]
    );
}

#[test]
fn without_a_known_wall_clock_none_is_claimed() {
    let mut world = world();
    for wall_clock in [None, Some((world.start, 0)), Some((kvm_timeline::time::TraceNs::new(START + 10), 9))] {
        world.wall_clock = wall_clock;
        let mut out = Vec::new();
        Perfetto.header(&world, &mut out);
        let trace = Trace::decode(out.as_slice()).expect("protobuf");
        let Some(trace_packet::Data::ClockSnapshot(clocks)) = &trace.packet[0].data else { panic!("no clocks first") };
        assert_eq!(clocks.clocks.len(), if wall_clock == Some((world.start, 0)) { 2 } else { 1 }, "{wall_clock:?}");
    }
}

#[test]
fn a_batch_does_not_depend_on_its_number_or_neighbours() {
    let [a, b] = story();
    assert_eq!(encode(&a, 0), encode(&a, 99));
    let all = export(&Perfetto, &world(), &[a, Batch::default(), b]);
    let [a, b] = story();
    assert!(all.ends_with(&[encode(&a, 5), encode(&b, 7)].concat()));
}

#[test]
fn fields_of_a_record_become_typed_arguments() {
    let mut draw = Draw::default();
    for at in 0..3 {
        draw.item(at, EVENTS, Shape::Instant, Category::Event, "sample");
        let payload = draw.bytes(&drawn::sample_record());
        draw.arg(Arg::Fields { source: 0, event: 0, payload });
    }
    let text = |text: &str| Plain::Text(text.to_owned());
    let expected = [
        ("number".to_owned(), Plain::Uint(3_000_000_000)),
        ("signed".to_owned(), Plain::Int(-5)),
        ("address".to_owned(), text("0xffffffff81000010")),
        ("comm".to_owned(), text("kworker/0:1")),
    ];
    for said in decode(&encode(&draw.batch, 0)) {
        assert_eq!(said.args, expected);
    }
}

#[test]
fn numbers_out_of_range_cost_only_themselves() {
    let mut draw = Draw::default();
    draw.begin(0, VCPU, Category::Task, "task");
    let key = draw.string("key");
    draw.arg(Arg::Text(key, 7..9));
    draw.arg(Arg::Fields { source: 9, event: 0, payload: 0..0 });
    draw.arg(Arg::Fields { source: 0, event: 9, payload: 0..u32::MAX });
    draw.arg(Arg::Rendered { key, source: 9, event: 9, payload: 3..9 });
    draw.arg(Arg::Uint(kvm_timeline::timeline::drawing::StringId(u32::MAX), 1));
    draw.end(1, kvm_timeline::timeline::drawing::TrackId(u32::MAX));
    draw.end(1, VCPU);
    draw.batch.items[2].args = 5..700;
    draw.batch.items[2].flows = 2..8;
    let said = decode(&encode(&draw.batch, 0));
    assert_eq!(said[0].args, [("key".to_owned(), Plain::Text(String::new()))]);
    assert_eq!(said.iter().map(|said| said.track).collect::<Vec<_>>(), [2, u32::MAX, 2]);
}

/// Most events of a capture: exits of a vCPU with a few repeating arguments.
#[test]
fn an_event_takes_about_thirty_bytes() {
    let mut draw = Draw::default();
    let keys = ["rip", "info1", "info2", "cpu"].map(|key| draw.string(key));
    for round in 0..5_000 {
        let at = round * 12_345;
        draw.begin(at, VCPU, Category::Exit, ["MSR_WRITE", "HLT", "EXTERNAL_INTERRUPT"][round as usize % 3]);
        draw.arg(Arg::Hex(keys[0], 0xffff_ffff_8100_0000 + round as u64 % 50 * 0x31));
        draw.arg(Arg::Uint(keys[1], 0));
        draw.arg(Arg::Uint(keys[2], 0x8000_00ec));
        draw.arg(Arg::Uint(keys[3], 1));
        draw.end(at + 4_321, VCPU);
    }
    let per_item = encode(&draw.batch, 0).len() / draw.batch.items.len();
    assert!(per_item <= 32, "{per_item} bytes");
}
