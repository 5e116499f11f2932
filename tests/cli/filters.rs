//! Filters: what is asked for is what comes, and the account stays closed.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde_json::Value;

use crate::run::{Scratch, fixture, kvm_timeline, succeeds};

fn print(args: &[&str]) -> Vec<String> {
    let capture = fixture("two-vm");
    let mut all = vec!["print", &capture];
    all.extend(args);
    succeeds(all).stdout.lines().map(str::to_owned).collect()
}

/// Lines without comms: who runs is known from the context switches that are printed, so filters change it.
fn bare(lines: &[String]) -> Vec<String> {
    let bare = |line: &String| {
        let (task, rest) = line.split_once(" [").expect("a line");
        let (machine, task) = task.split_once(": ").expect("a machine");
        format!("{machine} {} {rest}", task.trim_end().rsplit_once('-').expect("a pid").1)
    };
    lines.iter().map(bare).collect()
}

/// The same lines but for the comms; says how many differ rather than which.
fn same(found: &[String], wanted: &[String]) {
    assert_eq!(found.len(), wanted.len());
    assert_eq!(bare(found).iter().zip(&bare(wanted)).find(|(a, b)| a != b), None);
}

/// Every line.
fn everything() -> &'static [String] {
    static ALL: OnceLock<Vec<String>> = OnceLock::new();
    ALL.get_or_init(|| print(&[]))
}

/// Nanoseconds of a line.
fn time(line: &str) -> u64 {
    let stamp = line.split("] ").nth(1).and_then(|rest| rest.trim_start().split(": ").next()).expect("a stamp");
    stamp.replace('.', "").parse().expect("nanoseconds")
}

#[test]
fn events_of_one_vcpu() {
    // As many as `trace-cmd report -t -i host.dat` has lines of thread 206 with kvm_exit.
    let exits = print(&["--events", "kvm:kvm_exit", "--vm", "a", "--vcpu", "1"]);
    assert_eq!(exits.len(), 23_818);
    assert!(exits.iter().all(|line| line.contains("KVM-206 ")));
    assert_eq!(print(&["--events", "kvm_exit", "--vcpu", "a/1"]), exits);
    // `trace-cmd report -t -i guest-b.dat` has 44,397 events in all.
    assert_eq!(print(&["--events", "b/*"]).len(), 44_397);
}

#[test]
fn events_are_taken_or_left() {
    let all = everything();
    let sched: Vec<String> = print(&["--events", "sched"]);
    let rest: Vec<String> = print(&["--exclude", "sched:*"]);
    assert!(!sched.is_empty() && !rest.is_empty());
    assert!(sched.iter().all(|line| line.contains(": sched_")));
    assert!(!rest.iter().any(|line| line.contains(": sched_")));
    assert_eq!(sched.len() + rest.len(), all.len());
    let both = print(&["--events", "sched,kvm", "--exclude", "kvm:kvm_exit,host/*"]);
    assert!(both.iter().all(|line| line.contains(": sched_") && !line.starts_with("host:")));
}

#[test]
fn times_cut_host_and_guests_alike() {
    let all = everything();
    let within = |from: u64, to: u64| -> Vec<String> {
        all.iter().filter(|line| (from..=to).contains(&time(line))).cloned().collect()
    };
    // VM a's recording ends at 51.271 s, VM b's begins at 51.635 s.
    let wanted = within(51_200_000_000, 51_700_000_000);
    assert!(["host:", "a:", "b:"].iter().all(|m| wanted.iter().any(|line| line.starts_with(m))));
    same(&print(&["--from", "51.2", "--to", "51.7s"]), &wanted);
    same(&print(&["--from", "51200ms", "--to", "51700000us"]), &wanted);
    let start = time(&all[0]);
    let wanted = within(start + 1_500_000_000, start + 2_000_000_000);
    same(&print(&["--from", "+1.5s", "--to", "+2s"]), &wanted);
}

#[test]
fn a_guests_own_clock_names_a_moment() {
    // guest TSC = host TSC - 39157969642 in VM b: offsets-debugfs.txt beside the capture.
    let by_guest = print(&["--from", "b:95840000000", "--to", "b/1:96340000000"]);
    let by_host = print(&["--from", "host:134997969642", "--to", "host:135497969642"]);
    same(&by_guest, &by_host);
    assert!(by_guest.iter().any(|line| line.starts_with("b:")));
}

#[test]
fn windows_around_an_event() {
    let all = everything();
    let writes: Vec<u64> = all.iter().filter(|l| l.contains(" kvm_write_tsc_offset:")).map(|l| time(l)).collect();
    assert_eq!(writes.len(), 12);
    let near = |line: &&String| writes.iter().any(|write| write.abs_diff(time(line)) <= 1_000_000);
    let wanted: Vec<String> = all.iter().filter(near).cloned().collect();
    same(&print(&["--around", "kvm:kvm_write_tsc_offset,1ms"]), &wanted);
}

fn json(args: &[&str]) -> (Value, Value) {
    let scratch = Scratch::new();
    let (out, report) = (scratch.text("o.json"), scratch.text("r.json"));
    let capture = fixture("two-vm");
    let mut all = vec!["convert", &capture, "-o", &out, "--report", &report];
    all.extend(args);
    succeeds(all);
    let read = |path| serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON");
    (read(out), read(report))
}

fn rows(trace: &Value) -> BTreeSet<String> {
    let events = trace["traceEvents"].as_array().expect("events").iter();
    events
        .filter(|e| e["name"] == "thread_name")
        .filter_map(|e| e["args"]["name"].as_str())
        .map(str::to_owned)
        .collect()
}

fn balances(report: &Value) -> bool {
    let events = &report["events"];
    let number = |v: &Value| v.as_u64().expect("a number");
    let not_placed: u64 = events["not_placed"].as_object().expect("a map").values().map(number).sum();
    number(&events["read"]) == number(&events["written"]) + number(&events["filtered"]) + not_placed
}

#[test]
fn the_account_is_closed_whatever_is_filtered() {
    for args in [
        &["--events", "sched:*"][..],
        &["--exclude", "kvm_exit,b/*"],
        &["--vm", "b"],
        &["--vcpu", "0"],
        &["--from", "+1s", "--to", "+2s"],
        &["--around", "sched:sched_process_exec,5ms", "--vm", "a"],
    ] {
        let (_, report) = json(args);
        assert!(balances(&report), "{args:?}: {report:#}");
        assert_eq!(report["events"]["read"], 711_518);
        assert!(report["events"]["written"].as_u64().expect("a count") > 100, "{args:?}");
    }
}

#[test]
fn a_vcpu_that_is_not_wanted_has_no_rows_but_keeps_its_name() {
    let (trace, _) = json(&["--vcpu", "b/1"]);
    let vcpus: Vec<String> = rows(&trace).into_iter().filter(|row| row.contains("vCPU")).collect();
    assert_eq!(vcpus, ["Events, b vCPU 1", "Host state, b vCPU 1", "VM b vCPU 1"]);
    let names = trace["traceEvents"].as_array().expect("events").iter().filter_map(|e| e["name"].as_str());
    let names: BTreeSet<&str> = names.collect();
    assert!(names.contains("preempted by b vCPU 0"));
}

#[test]
fn nothing_is_drawn_across_what_was_left_out() {
    let windows: Vec<(u64, u64)> = print(&["--events", "kvm:kvm_write_tsc_offset"])
        .iter()
        .map(|line| (time(line) - 1_000_000, time(line) + 1_000_000))
        .collect();
    let (trace, _) = json(&["--around", "kvm:kvm_write_tsc_offset,1ms"]);
    let start: u64 = match &trace["metadata"]["start_ns"] {
        Value::String(text) => text.parse().expect("a number"),
        number => number.as_u64().expect("a number"),
    };
    let ns = |ts: &Value| start + (ts.as_f64().expect("microseconds") * 1000.0).round() as u64;
    let mut open = std::collections::BTreeMap::<_, Vec<u64>>::new();
    let mut slices = 0;
    for event in trace["traceEvents"].as_array().expect("events") {
        let row = open.entry((event["pid"].as_u64(), event["tid"].as_u64())).or_default();
        let (begin, end) = match event["ph"].as_str() {
            Some("B") => {
                row.push(ns(&event["ts"]));
                continue;
            }
            Some("E") => (row.pop().expect("it began"), ns(&event["ts"])),
            Some("X") => (ns(&event["ts"]), ns(&event["ts"]) + (event["dur"].as_f64().unwrap_or(0.0) * 1000.0) as u64),
            _ => continue,
        };
        slices += 1;
        // Windows that touch are one.
        let mut reach = begin;
        for &(from, to) in &windows {
            if from <= reach + 2 && reach < to {
                reach = to;
            }
        }
        assert!(end <= reach + 2, "{begin}..{end} crosses the end of a window at {reach}");
    }
    assert!(slices > 50, "{slices}");
}

/// Where a window begins, vCPUs run already: that is no reason to call events misplaced, or a vCPU new.
#[test]
fn a_window_in_the_middle_of_a_recording() {
    let (trace, report) = json(&["--from", "+1s", "--to", "+2s"]);
    let checked = |key: &str| -> u64 {
        let vcpus = report["vms"].as_array().expect("VMs").iter().flat_map(|vm| vm["vcpus"].as_array().expect("vCPUs"));
        vcpus.map(|vcpu| vcpu[key].as_u64().expect("a number")).sum()
    };
    assert!(checked("checked") > 5_000, "{report:#}");
    assert_eq!(checked("inside"), checked("checked"));
    let events = trace["traceEvents"].as_array().expect("events");
    assert!(events.iter().all(|event| event["name"] != "before first entry"));
}

#[test]
fn stats_are_filtered_too() {
    let capture = fixture("two-vm");
    let stats = crate::run::json(["stats", "--json", &capture, "--from", "50", "--to", "51"]);
    let span = stats["vms"][0]["vcpus"][0]["span_ns"].as_u64().expect("nanoseconds");
    assert!((900_000_000..=1_000_000_000).contains(&span), "{span}");
}

#[test]
fn what_does_not_exist_is_wrong_usage() {
    let capture = fixture("two-vm");
    for (args, words) in [
        (&["--vm", "c"][..], "no VM is called `c`\nhint: there is a, b"),
        (&["--vcpu", "7"], "no VM that is wanted has a vCPU 7"),
        (&["--events", "sched:sched_swich"], "no event of the captures matches `sched:sched_swich`"),
        (&["--from", "3s", "--to", "2s"], "the time of --to lies before that of --from"),
        (&["--from", "c:12"], "no VM is called `c`"),
        (&["--around", "sched:sched_switch,soon"], "window `soon`"),
        (&["--from", "noon"], "time `noon`"),
    ] {
        let mut all = vec!["print", &capture];
        all.extend(args);
        let done = kvm_timeline(all);
        assert_eq!(done.code, 2, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{args:?}: {}", done.stderr);
    }
}
