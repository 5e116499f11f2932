//! The statements in `sql/`, run by Perfetto's own trace processor, against what is known from elsewhere.

use crate::run::{Scratch, fixture, json, succeeds};
use crate::trace_processor::{COMPLAINTS, Rows, queries};

fn statement(name: &str) -> String {
    let path = format!("{}/sql/{name}.sql", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("a statement")
}

/// Milliseconds with three decimals, as the statements round them.
fn ms(ns: u64) -> f64 {
    (ns as f64 / 1e3).round() / 1e3
}

fn number(cell: &str) -> f64 {
    cell.parse().expect("a number")
}

#[test]
fn the_pack() {
    let scratch = Scratch::new();
    let out = scratch.path("o.pftrace.gz");
    succeeds(["convert", &fixture("two-vm"), "--span", "all", "--flows", "all", "-o", &out.display().to_string()]);
    let names = ["exits_by_reason", "steal_by_guest_task", "stalls", "irq_injection_latency"];
    let mut all: Vec<String> = names.map(statement).into();
    let sums = "SELECT substr(track.name, 13), sum(iif(slice.name = 'guest', dur, 0)), \
                sum(iif(category = 'exit', dur, 0)), sum(iif(category = 'exit', 1, 0)), \
                sum(iif(slice.name = 'waiting for CPU', dur, 0)) \
                FROM slice JOIN track ON track.id = track_id WHERE track.name GLOB 'Host state, *' GROUP BY 1 ORDER BY 1";
    all.extend([sums.to_owned(), COMPLAINTS.to_owned()]);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let Some(answers) = queries(&out, &all) else { return };
    let [exits, steal, stalls, latency, sums, complaints] = answers.try_into().expect("six answers");
    assert!(complaints.is_empty(), "{complaints:?}");
    let stats = json(["stats", "--json", &fixture("two-vm")]);
    the_sums_are_those_of_stats(&sums, &stats);
    exits_are_those_of_trace_cmd(&exits);
    steal_is_that_of_stats(&steal, &stats);
    the_longest_stall_is_first(&stalls);
    injections_are_followed_by_the_timer(&latency);
}

fn the_sums_are_those_of_stats(rows: &Rows, stats: &serde_json::Value) {
    let mut expected = Vec::new();
    for vm in stats["vms"].as_array().expect("vms") {
        for v in vm["vcpus"].as_array().expect("vcpus") {
            let exits = v["exits"].as_array().expect("exits");
            let sum = |key: &str| exits.iter().filter_map(|e| e[key].as_u64()).sum::<u64>().to_string();
            expected.push(vec![
                format!("{} vCPU {}", vm["name"].as_str().expect("a name"), v["id"]),
                v["guest_ns"].to_string(),
                sum("total_ns"),
                sum("count"),
                v["wakeups"]["total_ns"].to_string(),
            ]);
        }
    }
    assert_eq!(*rows, expected);
}

/// Counts and sums from `trace-cmd report -t -R -i host.dat` by a script: kvm_exit to the thread's next kvm_entry.
fn exits_are_those_of_trace_cmd(rows: &Rows) {
    let of = |vcpu: &str| rows.iter().filter(|row| row[0] == vcpu).map(|row| number(&row[2])).sum::<f64>();
    assert_eq!(["a vCPU 0", "a vCPU 1", "b vCPU 0", "b vCPU 1"].map(of), [30_846.0, 23_818.0, 25_789.0, 22_510.0]);
    assert_eq!(rows[0][..4], ["a vCPU 0", "interrupt", "8440", "22931.186"]);
    let msr = rows.iter().find(|row| row[0] == "a vCPU 0" && row[1] == "msr").expect("msr exits");
    assert_eq!(msr[2..4], ["10551", "6340.435"]);
    for row in rows {
        assert!(number(&row[6]) <= number(&row[3]), "off the CPU longer than in the exit: {row:?}");
    }
}

fn steal_is_that_of_stats(rows: &Rows, stats: &serde_json::Value) {
    assert!(rows.len() > 300);
    for vm in stats["vms"].as_array().expect("vms") {
        let tasks = vm["tasks"].as_array().expect("tasks");
        assert_eq!(rows.iter().filter(|row| row[0] == vm["name"].as_str().expect("a name")).count(), tasks.len());
        for task in tasks {
            let is =
                |row: &&Vec<String>| row[0] == vm["name"].as_str().unwrap() && row[1] == task["task"].as_str().unwrap();
            let row = rows.iter().find(is).expect("the same task");
            let close = |cell: &str, ns: u64| (number(cell) - ms(ns)).abs() < 0.0015;
            assert!(close(&row[2], task["running_ns"].as_u64().unwrap()), "{row:?} {task}");
            assert!(close(&row[3], task["stolen_ns"].as_u64().unwrap()), "{row:?} {task}");
        }
    }
}

/// Thread 219 lost CPU 1 at 78.940520429 s for 136,416,371 ns: `trace-cmd report -t -R -i host.dat` and a script.
fn the_longest_stall_is_first(rows: &Rows) {
    assert_eq!(rows[0][..4], ["b vCPU 1", "78940520429", "136.416", "preempted by khugepaged [36]"]);
    assert!(rows.iter().all(|row| number(&row[2]) >= 10.0));
    assert!(rows.iter().any(|row| row[4] != "[NULL]"), "some interrupt a guest task");
}

fn injections_are_followed_by_the_timer(rows: &Rows) {
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert_eq!(row[5], "hrtimer tick_sched_timer");
        assert!(number(&row[1]) > 300.0, "{row:?}");
        // From kvm_entry on; before it lies what the host did.
        assert!(0.0 < number(&row[2]) && number(&row[2]) < number(&row[4]), "{row:?}");
    }
}
