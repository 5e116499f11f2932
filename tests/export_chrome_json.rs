//! What a Chrome JSON file says to a JSON parser.

mod support;

use std::collections::BTreeMap;

use kvm_timeline::export::chrome_json::ChromeJson;
use kvm_timeline::timeline::drawing::{Arg, Batch, Category, Shape, VmInfo};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::drawn::{self, Draw, EVENTS, OFFSET, Plain, START, Said, VCPU, export, said, story, world};

fn parse(batches: &[Batch]) -> Value {
    let bytes = export(&ChromeJson, &world(), batches);
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)))
}

/// All events but metadata and arrows.
fn events(trace: &Value) -> Vec<&Value> {
    let events = trace["traceEvents"].as_array().expect("events");
    events.iter().filter(|event| "BEiC".contains(event["ph"].as_str().expect("a phase"))).collect()
}

const PIDS: [u32; 8] = [1, 1, 4711, 4711, 4711, 4711, (1 << 22) + 2, (1 << 22) + 2];

/// An item as an event; an object's keys are unique, the last value counts.
fn event(said: &Said) -> Value {
    let value = |value: &Plain| match value {
        Plain::Uint(value) if *value > 1 << 53 => json!(value.to_string()),
        Plain::Int(value) if value.unsigned_abs() > 1 << 53 => json!(value.to_string()),
        Plain::Uint(value) => json!(value),
        Plain::Int(value) => json!(value),
        Plain::Bool(value) => json!(value),
        Plain::Text(text) => json!(text),
    };
    let mut event = json!({
        "ph": match said.shape { Shape::Begin => "B", Shape::End => "E", Shape::Instant => "i", Shape::Counter(_) => "C" },
        "ts": (i128::from(said.ts) - i128::from(START)) as f64 / 1000.0,
        "pid": PIDS[said.track as usize],
        "tid": said.track + 1,
    });
    if said.shape == Shape::Instant {
        event["s"] = json!("t");
    }
    if let Some(name) = &said.name {
        event["name"] = json!(name);
    }
    if let Some(category) = &said.category {
        event["cat"] = json!(category);
    }
    let args: BTreeMap<_, _> = said.args.iter().map(|(key, plain)| (key, value(plain))).collect();
    if !args.is_empty() {
        event["args"] = json!(args);
    }
    if let Shape::Counter(value) = said.shape {
        event["name"] = json!(world().tracks[said.track as usize].name);
        event["args"] = json!({ "value": value });
    }
    event
}

fn expected(batches: &[Batch]) -> Vec<Value> {
    let shown = |said: &Said| said.track != 0 && said.track != OFFSET.0;
    let mut events: Vec<Value> = batches.iter().flat_map(said).filter(shown).map(|said| event(&said)).collect();
    events.iter_mut().for_each(normalise);
    events
}

/// Undoes freedom of notation: 3 or 3.0 for a counter's value, and a parser that is off by the last bit of a double.
fn normalise(event: &mut Value) {
    event["ts"] = json!((event["ts"].as_f64().expect("a time") * 1000.0).round() as i64);
    if event["ph"] == "C" {
        event["args"]["value"] = json!(event["args"]["value"].as_f64());
    }
}

fn normalised(trace: &Value) -> Vec<Value> {
    let mut events: Vec<Value> = events(trace).into_iter().cloned().collect();
    events.iter_mut().for_each(normalise);
    events
}

#[test]
fn a_story_comes_back_word_for_word() {
    let batches = story();
    let trace = parse(&batches);
    assert_eq!(normalised(&trace), expected(&batches));
    assert_eq!(trace["displayTimeUnit"], "ns");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_batches_come_back(batches in proptest::collection::vec(support::random::batch(), 0..3)) {
        let batches: Vec<Batch> = batches.into_iter().map(|drawn| drawn.0).collect();
        prop_assert_eq!(normalised(&parse(&batches)), expected(&batches));
    }
}

#[test]
fn times_are_exact_text() {
    let mut draw = Draw::default();
    draw.begin(1_234_567_890_123, VCPU, Category::Task, "task");
    let bytes = export(&ChromeJson, &world(), &[draw.batch]);
    assert!(String::from_utf8(bytes).unwrap().contains(r#"{"ph":"B","ts":1234567890.123,"pid":4711,"tid":3,"#));
}

#[test]
fn rows_are_named_and_ordered() {
    let trace = parse(&[]);
    let named = |what: &str| -> Vec<(u64, u64, Value)> {
        let events = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["name"] == what);
        let number = |event: &Value, key: &str| event[key].as_u64().unwrap_or(0);
        events.map(|event| (number(event, "pid"), number(event, "tid"), event["args"].clone())).collect()
    };
    let other = (1 << 22) + 2;
    assert_eq!(
        named("process_name"),
        [
            (1, 0, json!({ "name": "Host" })),
            (4711, 0, json!({ "name": "VM web" })),
            (other, 0, json!({ "name": "VM \"db\"" })),
        ]
    );
    assert_eq!(
        named("thread_name"),
        [
            (1, 2, json!({ "name": "Host CPU 0" })),
            (4711, 3, json!({ "name": "VM web vCPU 0" })),
            (4711, 4, json!({ "name": "Host state, web vCPU 0" })),
            (4711, 5, json!({ "name": "Events, web vCPU 0" })),
            (other, 7, json!({ "name": "VM \"db\" vCPU 0" })),
        ]
    );
    let order: Vec<_> =
        named("thread_sort_index").into_iter().map(|(_, tid, args)| (tid, args["sort_index"].clone())).collect();
    assert!(order.len() == 5 && order.iter().all(|(tid, index)| *index == json!(tid)));
}

#[test]
fn process_ids_are_unique() {
    let mut world = world();
    world.vms = [Some(10), Some(10), Some(1), Some(0), None, Some(u32::MAX)]
        .map(|pid| VmInfo { name: "vm".into(), pid })
        .to_vec();
    let bytes = export(&ChromeJson, &world, &[]);
    let trace: Value = serde_json::from_slice(&bytes).unwrap();
    let names = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["name"] == "process_name");
    let pids: Vec<_> = names.map(|event| event["pid"].as_u64().unwrap()).collect();
    let unused = |vm: u64| (1 << 22) + 1 + vm;
    assert_eq!(pids, [1, 10, unused(1), unused(2), unused(3), unused(4), unused(5)]);
}

#[test]
fn metadata_tells_the_start() {
    let metadata = &parse(&[])["metadata"];
    assert_eq!(metadata["start_ns"], START);
    assert_eq!(metadata["wall_clock"], json!({ "at_ns": START + 5_000, "unix_ns": "1700000000000005000" }));
    assert_eq!(metadata["tool"], "kvm-timeline");
    assert_eq!(metadata["segments"], json!([1, 2]));
}

#[test]
fn arrows_lead_from_the_earlier_slice() {
    let trace = parse(&story());
    let arrows: Vec<_> = trace["traceEvents"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["cat"] == "flow")
        .map(|event| {
            (event["ph"].as_str().unwrap(), event["ts"].as_f64().unwrap(), event["id"].as_str().unwrap(), &event["bp"])
        })
        .collect();
    let id = "0x7eed000000000001";
    assert_eq!(arrows, [("s", 2.0, id, &Value::Null), ("f", 2.1, id, &json!("e"))]);
}

#[test]
fn fields_of_a_record_become_arguments() {
    let mut draw = Draw::default();
    draw.item(0, EVENTS, Shape::Instant, Category::Event, "sample");
    let payload = draw.bytes(&drawn::sample_record());
    draw.arg(Arg::Fields { source: 0, event: 0, payload });
    let trace = parse(&[draw.batch]);
    assert_eq!(
        events(&trace)[0]["args"],
        json!({ "number": 3_000_000_000_u32, "signed": -5, "address": "0xffffffff81000010", "comm": "kworker/0:1" })
    );
}
