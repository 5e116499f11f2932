//! The library and the command line say the same.

use kvm_timeline::Capture;

use crate::longest_stalls::longest_stalls;
use crate::run::{Scratch, fixture, json, succeeds};

#[test]
fn the_stalls_that_the_example_finds_are_those_of_stats() {
    let capture = Capture::open(fixture("two-vm")).expect("a capture");
    let found = longest_stalls(&capture, 100).expect("stalls");
    assert!(found.is_sorted_by(|a, b| a.length_ns >= b.length_ns));
    let stats = json(["stats", "--json", &fixture("two-vm")]);
    let mut compared = 0;
    for stall in stats["longest_stalls"].as_array().expect("stalls") {
        let name = stall["name"].as_str().expect("a name");
        let why = match name {
            _ if name.starts_with("preempted") => "preempted",
            _ if name.starts_with("kept waiting") => "woken, and kept waiting",
            // An exit is one stall to the example, and several to the picture if its thread was off the CPU meanwhile.
            _ => continue,
        };
        let (length, start) = (stall["duration_ns"].as_u64(), stall["start_ns"].as_u64());
        let (length, start) = (length.expect("a length"), start.expect("a start"));
        let same = found.iter().find(|s| {
            let vcpu = stall["vm"] == s.vm.as_str() && stall["vcpu"] == s.vcpu && s.why == why;
            vcpu && s.start_ns.abs_diff(start) <= 2_000 && s.length_ns.abs_diff(length) <= 2_000
        });
        assert!(same.is_some(), "{stall:#}\n{found:#?}");
        compared += 1;
    }
    assert!(compared >= 5, "{stats:#}");
}

#[test]
fn a_capture_converts_to_the_bytes_of_the_command_line() {
    let scratch = Scratch::new();
    succeeds(["convert", &fixture("arrows"), "-o", &scratch.text("out.pftrace")]);
    let mut bytes = Vec::new();
    Capture::open(fixture("arrows")).expect("a capture").convert(&mut bytes).expect("a trace");
    assert!(std::fs::read(scratch.path("out.pftrace")).expect("the output") == bytes);
}
