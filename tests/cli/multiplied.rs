//! What the benches measure is right: a capture repeated in time, and side by side, is as good as the original.

use crate::run::{Scratch, fixture, json};
use crate::volume::multiply::{Made, Plan, multiply};

/// Events of `fixtures/two-vm`, and its offset writes, as its README has them.
const EVENTS: u64 = 37_468 + 44_397 + 629_653;
const OFFSET_WRITES: u64 = 24;
const GUEST_EVENTS: u64 = 37_468 + 44_397;

/// The new capture, how many events the program finds in it, and what `check` says about it.
fn multiplied(times: u64, machines: u32) -> (Made, u64, serde_json::Value) {
    let scratch = Scratch::new();
    let to = scratch.path("out");
    let plan = Plan { from: fixture("two-vm").into(), to: to.clone(), times, machines, compression: None, hz: None };
    let made = multiply(&plan).expect("multiplied");
    let to = to.display().to_string();
    let found = json(["inspect", "--json", &to]);
    let buffers =
        found["inputs"].as_array().expect("inputs").iter().flat_map(|i| i["buffers"].as_array().expect("buffers"));
    let events = buffers.map(|b| b["events"].as_u64().expect("a count")).sum();
    (made, events, json(["check", "--json", "--require", "proved", &to]))
}

fn sum(report: &serde_json::Value, key: &str) -> u64 {
    let vms = report["vms"].as_array().expect("vms").iter();
    let vcpus = vms.flat_map(|vm| vm["vcpus"].as_array().expect("vcpus"));
    vcpus.map(|vcpu| vcpu[key].as_u64().expect("a count")).sum()
}

#[test]
fn three_times_in_a_row_all_guest_events_are_inside_run_windows() {
    let (made, found, report) = multiplied(3, 1);
    assert_eq!((made.events, found), (3 * EVENTS - 2 * OFFSET_WRITES, made.events));
    assert_eq!((sum(&report, "inside"), sum(&report, "checked")), (3 * GUEST_EVENTS, 3 * GUEST_EVENTS));
}

#[test]
fn side_by_side_each_vm_is_placed_by_its_own_threads() {
    let (made, found, report) = multiplied(1, 2);
    assert_eq!((made.events, found), (2 * EVENTS, made.events));
    assert_eq!(report["vms"].as_array().map(Vec::len), Some(4));
    assert_eq!((sum(&report, "inside"), sum(&report, "checked")), (2 * GUEST_EVENTS, 2 * GUEST_EVENTS));
}
