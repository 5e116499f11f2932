//! `trace-cmd report` reads the same files: the same events, on the same CPUs, at the same raw stamps.

use std::collections::BTreeMap;

use kvm_timeline::capture::{self, Chunk};

use crate::run::fixture;
use crate::trace_cmd::{self, EventLine};

/// Per buffer and CPU: (stamp, event name) in file order.
type Events = BTreeMap<(String, u32), Vec<(u64, String)>>;

/// What `trace-cmd report` prints; `None` where it is not installed.
fn theirs(file: &str) -> Option<Events> {
    let mut events = Events::new();
    let ran = trace_cmd::report(&["-t", "-R", "-N", "--raw-ts"], &[file.as_ref()], |line| {
        if let Some(EventLine { place, stamp, name, .. }) = trace_cmd::event(line) {
            events.entry(place).or_default().push((stamp, name.to_owned()));
        }
    });
    ran.then_some(events)
}

fn ours(file: &str) -> Events {
    let capture = capture::open(file).expect("a capture");
    let mut events = Events::new();
    let mut chunk = Chunk::default();
    for buffer in &capture.buffers {
        for stream in &buffer.streams {
            let list = events.entry((buffer.name.clone(), stream.cpu)).or_default();
            for index in 0..stream.source.chunks() {
                chunk.clear();
                stream.source.read(index, &mut chunk).expect("readable");
                list.extend(chunk.records.iter().map(|record| {
                    let format = capture.formats.get(record.event).expect("a format");
                    (record.ts, format.name.to_string())
                }));
            }
        }
    }
    events
}

fn agree(name: &str, total: usize) {
    let file = fixture(name);
    let Some(theirs) = theirs(&file) else { return };
    let ours = ours(&file);
    assert_eq!(ours.values().map(Vec::len).sum::<usize>(), total, "{name}");
    let keys = |events: &Events| events.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&ours), keys(&theirs), "{name}");
    for (key, list) in &ours {
        let other = &theirs[key];
        let first = list.iter().zip(other).position(|(a, b)| a != b);
        assert!(first.is_none() && list.len() == other.len(), "{name} {key:?}: {first:?} {}", list.len());
    }
}

#[test]
fn a_host_with_an_instance() {
    agree("two-vm/host.dat", 629_653);
}

#[test]
fn guests() {
    agree("two-vm/guest-a.dat", 37_468);
    agree("unstable/guest-a.dat", 24_647);
}

#[test]
fn a_clock_that_jumps_back() {
    agree("tsc-write/guest-a.dat", 185_146);
}

#[test]
fn a_host_with_lost_events() {
    agree("overwritten/host.dat", 108_681);
}

/// A session as trace.dat, and as the texts that `trace-cmd report` makes of it: times and counts are the same.
#[test]
fn a_session_by_its_reports_is_the_session() {
    let scratch = crate::run::Scratch::new();
    // Only host's and guest's own buffers, without what trace-cmd alone knows: the offset is given.
    for (file, text) in [("agent/host.dat", "host.txt"), ("agent/host-a.dat", "a.txt")] {
        let mut lines = String::new();
        let each = |line: &str| lines.extend([line, "\n"]);
        if !trace_cmd::report(&["-t", "--raw-ts"], &[fixture(file).as_ref()], each) {
            return;
        }
        std::fs::write(scratch.path(text), lines).expect("written");
    }
    let stats = |host: &str, guest: &str| {
        let guest = format!("a={guest}");
        let offset = ["--offset", "a=-16868608747", "--tsc-hz", "2596000000"];
        let args = ["stats", "--json", "--host", host, "--guest", &guest];
        crate::run::json(args.iter().chain(&offset))
    };
    let recorded = stats(&fixture("agent/host.dat"), &fixture("agent/host-a.dat"));
    let by_text = stats(&scratch.text("host.txt"), &scratch.text("a.txt"));
    let vcpus = |stats: &serde_json::Value| stats["vms"][0]["vcpus"].as_array().expect("vCPUs").clone();
    assert_eq!(vcpus(&recorded).len(), 2);
    for (dat, text) in vcpus(&recorded).iter().zip(&vcpus(&by_text)) {
        for key in
            ["guest_events", "span_ns", "guest_ns", "exit_ns", "preempted_ns", "waiting_ns", "halted_ns", "blocked_ns"]
        {
            assert_eq!(dat[key], text[key], "{key}");
        }
        // trace-cmd has names of its own for exits: `EXIT_HLT` for `hlt`.
        assert_eq!(unnamed(dat), unnamed(text));
    }
    assert_eq!(recorded["vms"][0]["tasks"], by_text["vms"][0]["tasks"]);
}

/// A vCPU's exits without their reasons' names.
fn unnamed(vcpu: &serde_json::Value) -> Vec<serde_json::Value> {
    let mut exits = vcpu["exits"].as_array().expect("exits").clone();
    exits.iter_mut().for_each(|exit| exit["reason"] = serde_json::Value::Null);
    exits
}
