//! `stats`: times that exclude each other and add up.

use crate::run::{fixture, json};

#[test]
fn six_times_add_up_to_the_span() {
    let stats = json(["stats", "--json", &fixture("two-vm")]);
    for vm in stats["vms"].as_array().expect("vms") {
        for vcpu in vm["vcpus"].as_array().expect("vcpus") {
            let ns = |key: &str| vcpu[key].as_u64().expect("nanoseconds");
            let six = ["guest_ns", "exit_ns", "preempted_ns", "waiting_ns", "halted_ns", "blocked_ns"];
            assert_eq!(six.into_iter().map(ns).sum::<u64>(), ns("span_ns"));
            let exits = vcpu["exits"].as_array().expect("exits");
            let exits_ns: u64 = exits.iter().map(|e| e["total_ns"].as_u64().expect("nanoseconds")).sum();
            // An exit's total has the thread's time off the CPU in it.
            assert_eq!(exits_ns + ns("guest_ns"), ns("span_ns"), "{vcpu:#}");
        }
    }
}

#[test]
fn exits_are_counted_as_trace_cmd_counts_them() {
    let stats = json(["stats", "--json", &fixture("two-vm")]);
    let counts: Vec<u64> = stats["vms"]
        .as_array()
        .expect("vms")
        .iter()
        .flat_map(|vm| vm["vcpus"].as_array().expect("vcpus"))
        .map(|v| v["exits"].as_array().expect("exits").iter().map(|e| e["count"].as_u64().expect("a count")).sum())
        .collect();
    assert_eq!(counts, KVM_EXITS);
}

/// kvm_exit events of threads 205, 206, 218 and 219: `trace-cmd report -t -i host.dat`, one line each.
const KVM_EXITS: [u64; 4] = [30_846, 23_818, 25_789, 22_510];
