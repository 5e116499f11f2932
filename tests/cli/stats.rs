//! `stats`: times that exclude each other and add up.

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

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

/// In guest mode, kvm_entry to kvm_exit, in nanoseconds; and of the most costly reason count, sum and maximum, kvm_exit to
/// kvm_entry: `trace-cmd report -t -R -i host.dat` and a script.
const GUEST_NS: [u64; 4] = [27_966_487_717, 24_417_993_037, 26_385_453_931, 24_238_531_074];

fn vcpus(stats: &serde_json::Value) -> Vec<&serde_json::Value> {
    stats["vms"].as_array().expect("vms").iter().flat_map(|vm| vm["vcpus"].as_array().expect("vcpus")).collect()
}

#[test]
fn sums_are_equal_to_those_of_another_program() {
    let stats = json(["stats", "--json", &fixture("two-vm")]);
    let guest: Vec<u64> = vcpus(&stats).iter().map(|v| v["guest_ns"].as_u64().expect("nanoseconds")).collect();
    assert_eq!(guest, GUEST_NS);
    let interrupt = &vcpus(&stats)[0]["exits"][0];
    let number = |key: &str| interrupt[key].as_u64().expect("a number");
    assert_eq!(interrupt["reason"], "interrupt");
    assert_eq!((number("count"), number("total_ns"), number("max_ns")), (8_440, 22_931_185_580, 49_847_805));
    let longest = &stats["longest_stalls"][0];
    assert_eq!(
        (longest["start_ns"].as_u64(), longest["duration_ns"].as_u64()),
        (Some(78_940_520_429), Some(136_416_371))
    );
    assert_eq!(
        longest["cause"],
        "its thread was runnable but lost CPU 0 during exit interrupt: khugepaged [36] ran 128.628 ms, b vCPU 0 ran 7.788 ms"
    );
}

#[test]
fn somebody_ran_instead_for_all_of_the_time() {
    let stats = json(["stats", "--json", &fixture("two-vm")]);
    for v in vcpus(&stats) {
        let ns = |key: &str| v[key].as_u64().expect("nanoseconds");
        let tasks = v["ran_instead"].as_array().expect("tasks");
        let ran: u64 = tasks.iter().map(|t| t["total_ns"].as_u64().expect("nanoseconds")).sum();
        assert_eq!(ran + ns("instead_idle_ns") + ns("instead_unknown_ns"), ns("preempted_ns") + ns("waiting_ns"));
        assert!(ns("instead_unknown_ns") * 1000 < ran, "{v:#}");
    }
    // The two vCPUs of a VM share an overloaded CPU.
    assert_eq!(vcpus(&stats)[0]["ran_instead"][0]["task"], "a vCPU 1");
}

#[test]
fn tasks_got_what_the_guest_believes_less_what_was_taken() {
    let stats = json(["stats", "--json", &fixture("two-vm")]);
    for vm in stats["vms"].as_array().expect("vms") {
        let tasks = vm["tasks"].as_array().expect("tasks");
        assert!(tasks.len() > 100);
        for task in tasks {
            let ns = |key: &str| task[key].as_u64().expect("nanoseconds");
            let got = ns("guest_ns") + ns("exit_ns") + ns("stolen_ns");
            assert!(got <= ns("running_ns"), "{task}");
            // What is left is the guest's own halt in a lock.
            assert!((ns("running_ns") - got) * 10 <= ns("running_ns"), "{task}");
        }
        let wakeups = &vm["task_wakeups"];
        let ns = |key: &str| wakeups[key].as_u64().expect("a number");
        assert!(ns("count") > 1000 && ns("p50_ns") <= ns("p99_ns") && ns("p99_ns") <= ns("max_ns"));
        assert_eq!(ns("mean_ns"), ns("total_ns") / ns("count"));
    }
}

#[test]
fn the_parquet_table_is_the_csv() {
    let dir = tempfile::tempdir().expect("a directory");
    let table = dir.path().join("stats.parquet");
    let capture = fixture("agent");
    let csv = crate::run::succeeds(["stats", "--csv", "--parquet", table.to_str().expect("text"), &capture]).stdout;
    let reader = SerializedFileReader::new(std::fs::File::open(&table).expect("the table")).expect("Parquet");
    let rows: Vec<String> = reader.get_row_iter(None).expect("rows").map(|row| line(&row.expect("a row"))).collect();
    let expected: Vec<String> = csv.lines().skip(1).map(|line| format!("{capture},{line}")).collect();
    assert!(rows.len() > 50, "{}", rows.len());
    assert_eq!(rows, expected);
    let heading: Vec<&str> = reader.metadata().file_metadata().schema().get_fields().iter().map(|f| f.name()).collect();
    assert_eq!(heading.join(","), format!("capture,{}", csv.lines().next().expect("a heading")));
}

/// As CSV; no name of the capture needs quotes.
fn line(row: &parquet::record::Row) -> String {
    let cell = |field: &Field| match field {
        Field::Str(text) => text.clone(),
        Field::Long(number) => number.to_string(),
        Field::Null => String::new(),
        other => panic!("{other:?}"),
    };
    row.get_column_iter().map(|(_, field)| cell(field)).collect::<Vec<_>>().join(",")
}
