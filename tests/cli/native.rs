//! The native layer says of every machine's scheduler what `print` says, and Perfetto's trace processor understands it.

use std::collections::{BTreeMap, BTreeSet};

use kvm_timeline::export::perfetto::proto::{
    FtraceEventBundle, SystemInfo, Trace, TracePacket, ftrace_event, trace_packet::Data,
};
use prost::Message;

use crate::run::{Scratch, fixture, json, kvm_timeline, succeeds};
use crate::trace_processor::{COMPLAINTS, Rows, queries};

/// A context switch, as far as both forms of it say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Switch {
    machine: u32,
    cpu: u32,
    ts: u64,
    state: String,
    next: (i32, i32, String),
}

/// A wakeup: who and where.
type Waking = (u32, u32, u64, i32, i32, i32, String);

/// What `print` says of both, and of a switch who leaves.
#[derive(Default)]
struct Printed {
    switches: Vec<(Switch, i32)>,
    wakings: Vec<Waking>,
    /// By machine and thread.
    comms: BTreeMap<(u32, i32), BTreeSet<String>>,
}

const MACHINES: [&str; 3] = ["host", "a", "b"];

fn after<'a>(text: &'a str, key: &str) -> &'a str {
    text.split_once(key).unwrap_or_else(|| panic!("no {key} in {text}")).1
}

fn word<T: std::str::FromStr>(text: &str, key: &str) -> T {
    after(text, key).split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{key} of {text}"))
}

fn printed(capture: &str) -> Printed {
    let text = succeeds(["print", capture, "--events", "sched:sched_switch,sched:sched_waking"]).stdout;
    let mut all = Printed::default();
    for line in text.lines() {
        let (name, rest) = line.trim_start().split_once(": ").expect("a machine");
        let machine = MACHINES.iter().position(|&other| other == name).expect("a machine") as u32;
        let (cpu, rest) = after(rest, " [").split_once(']').expect("a CPU");
        let (stamp, rest) = rest.split_once(": ").expect("a stamp");
        let (cpu, ts) = (cpu.parse().expect("a number"), stamp.trim().replace('.', "").parse().expect("a number"));
        let comm = |key: &str, end: &str| after(rest, key).split(end).next().expect("a comm").to_owned();
        if rest.starts_with("sched_switch") {
            let next = (word(rest, "next_pid="), word(rest, "next_prio="), comm("next_comm=", " next_pid="));
            let prev: i32 = word(rest, "prev_pid=");
            all.comms.entry((machine, prev)).or_default().insert(comm("prev_comm=", " prev_pid="));
            all.comms.entry((machine, next.0)).or_default().insert(next.2.clone());
            all.switches.push((Switch { machine, cpu, ts, state: word(rest, "prev_state="), next }, prev));
        } else {
            let (pid, name) = (word(rest, " pid="), comm(" comm=", " pid="));
            all.comms.entry((machine, pid)).or_default().insert(name.clone());
            all.wakings.push((machine, cpu, ts, pid, word(rest, "target_cpu="), word(rest, " prio="), name));
        }
    }
    all
}

/// Letters of `prev_state` since Linux 4.14: TASK_REPORT in the order of its bits, and TASK_REPORT_MAX.
fn letters(state: i64) -> String {
    if state == 0x100 {
        return "R+".to_owned();
    }
    let set = "SDTtXZPI".chars().enumerate().filter(|(bit, _)| state >> bit & 1 == 1);
    let text: String = set.map(|(_, letter)| letter).collect();
    if text.is_empty() { "R".to_owned() } else { text }
}

fn packets(file: &std::path::Path) -> Vec<TracePacket> {
    Trace::decode(&std::fs::read(file).expect("a file")[..]).expect("a trace").packet
}

/// What a bundle says, and how many of its events are in columns.
fn unpack(machine: u32, bundle: &FtraceEventBundle, switches: &mut Vec<Switch>, wakings: &mut Vec<Waking>) -> usize {
    let cpu = bundle.cpu();
    for event in &bundle.event {
        let ts = event.timestamp();
        match &event.event {
            Some(ftrace_event::Event::SchedSwitch(s)) => {
                let next = (s.next_pid(), s.next_prio(), s.next_comm().to_owned());
                switches.push(Switch { machine, cpu, ts, state: letters(s.prev_state()), next });
            }
            Some(ftrace_event::Event::SchedWaking(w)) => {
                wakings.push((machine, cpu, ts, w.pid(), w.target_cpu(), w.prio(), w.comm().to_owned()));
            }
            _ => {}
        }
    }
    let Some(c) = &bundle.compact_sched else { return 0 };
    let comm = |index: u32| c.intern_table[index as usize].clone();
    let mut ts = 0;
    for (i, distance) in c.switch_timestamp.iter().enumerate() {
        ts += distance;
        let next = (c.switch_next_pid[i], c.switch_next_prio[i], comm(c.switch_next_comm_index[i]));
        switches.push(Switch { machine, cpu, ts, state: letters(c.switch_prev_state[i]), next });
    }
    let mut ts = 0;
    for (i, distance) in c.waking_timestamp.iter().enumerate() {
        ts += distance;
        let (target, prio) = (c.waking_target_cpu[i], c.waking_prio[i]);
        wakings.push((machine, cpu, ts, c.waking_pid[i], target, prio, comm(c.waking_comm_index[i])));
    }
    c.switch_timestamp.len() + c.waking_timestamp.len()
}

/// The CPUs whose last switch leaves a guest's task running, with that switch's time.
fn left_running(printed: &Printed) -> BTreeMap<(u32, u32), u64> {
    let mut last = BTreeMap::new();
    for (switch, _) in &printed.switches {
        last.insert((switch.machine, switch.cpu), switch);
    }
    last.retain(|(machine, _), switch| *machine != 0 && switch.next.0 != 0);
    last.into_iter().map(|(cpu, switch)| (cpu, switch.ts)).collect()
}

#[test]
fn every_switch_and_waking_is_in_the_file() {
    let (scratch, capture) = (Scratch::new(), fixture("two-vm"));
    succeeds(["convert", &capture, "--span", "all", "--layers", "native", "-o", &scratch.text("o.pftrace")]);
    let mut expected = printed(&capture);
    let left = left_running(&expected);
    assert_eq!(left.len(), 2, "{left:?}");
    let (mut switches, mut wakings, mut columns) = (Vec::new(), Vec::new(), 0);
    let mut names = BTreeMap::new();
    for packet in packets(&scratch.path("o.pftrace")) {
        let machine = packet.machine_id();
        match packet.data {
            Some(Data::FtraceEvents(bundle)) => columns += unpack(machine, &bundle, &mut switches, &mut wakings),
            Some(Data::SystemInfo(SystemInfo { machine_name, utsname, num_cpus })) => {
                names.insert(machine, (machine_name, utsname.expect("a kernel").release, num_cpus));
            }
            Some(Data::TrackEvent(_) | Data::TrackDescriptor(_)) => panic!("the overlay is not wanted"),
            _ => {}
        }
    }
    let release = || Some("6.1.0-56-cloud-amd64".to_owned());
    let machine = |name: Option<&str>| (name.map(str::to_owned), release(), Some(2));
    let machines = [machine(None), machine(Some("a")), machine(Some("b"))];
    assert_eq!(names, (0..).zip(machines).collect::<BTreeMap<u32, _>>());
    // Where a guest's recording ends, its last task goes.
    let is_end = |switch: &Switch| {
        let last = left.get(&(switch.machine, switch.cpu));
        switch.next.0 == 0 && switch.state == "S" && last.is_some_and(|&ts| switch.ts > ts)
    };
    let ends = switches.iter().filter(|switch| is_end(switch)).count();
    switches.retain(|switch| !is_end(switch));
    assert_eq!(ends, left.len());
    switches.sort();
    expected.switches.sort();
    assert!(switches.iter().eq(expected.switches.iter().map(|(switch, _)| switch)), "other switches");
    assert_eq!(switches.len(), 28_858);
    wakings.sort();
    expected.wakings.sort();
    assert!(wakings == expected.wakings, "other wakings");
    let all = switches.len() + wakings.len();
    assert!(columns * 100 > all * 99, "{columns} of {all} in columns");
}

fn number(cell: &str) -> u64 {
    cell.parse().expect("a number")
}

#[test]
fn the_trace_processor_schedules_every_machine() {
    let (scratch, capture) = (Scratch::new(), fixture("two-vm"));
    let out = scratch.path("o.pftrace");
    succeeds(["convert", &capture, "--span", "all", "--layers", "overlay,native", "-o", &scratch.text("o.pftrace")]);
    // The host is NULL in older versions.
    let sql = [
        COMPLAINTS,
        "SELECT raw_id, sysname, release, arch, num_cpus FROM machine ORDER BY raw_id",
        "SELECT ifnull(c.machine_id, 0), c.cpu, ts, tid FROM sched JOIN cpu c USING(ucpu) JOIN thread USING(utid) \
         ORDER BY 1, 2, 3",
        "SELECT ifnull(machine_id, 0), end_state, count(*) FROM sched JOIN thread USING(utid) GROUP BY 1, 2",
        "SELECT ifnull(machine_id, 0), tid, name FROM thread WHERE name IS NOT NULL",
        "SELECT ifnull(p.machine_id, 0), p.pid, p.name, t.tid FROM process p JOIN thread t USING(upid) \
         WHERE p.pid != 0 AND t.tid != p.pid ORDER BY 2, 4",
        "SELECT state, count(*), count(waker_utid) FROM thread_state JOIN thread USING(utid) \
         WHERE ifnull(machine_id, 0) != 0 GROUP BY 1",
        "SELECT tid, sum(dur) FROM sched JOIN thread USING(utid) WHERE machine_id = 1 AND tid != 0 GROUP BY tid",
        "INCLUDE PERFETTO MODULE sched.latency",
        "SELECT ifnull(machine_id, 0), count(*) FROM sched_latency_for_running_interval JOIN thread USING(utid) \
         GROUP BY 1",
        "SELECT count(*) FROM slice JOIN track ON track.id = track_id WHERE track.name GLOB 'VM * vCPU *'",
    ];
    let Some(answers) = queries(&out, &sql) else { return };
    let answers: [Rows; 11] = answers.try_into().expect("an answer to each");
    let [complaints, machines, slices, states, names, kin, waits, running, _, latency, overlay] = answers;
    assert!(complaints.is_empty(), "{complaints:?}");
    let machine = |id: &str| [id, "Linux", "6.1.0-56-cloud-amd64", "x86_64", "2"].map(str::to_owned).to_vec();
    assert_eq!(machines, ["0", "1", "2"].map(machine));

    let mut printed = printed(&capture);
    let left = left_running(&printed);
    // Each switch begins a slice where and when `print` says, and each end of a guest's recording one of the idle task.
    let mut expected: Vec<[u64; 4]> =
        (printed.switches.iter()).map(|(s, _)| [s.machine.into(), s.cpu.into(), s.ts, s.next.0 as u64]).collect();
    expected.sort_unstable();
    let mut slices: Vec<[u64; 4]> =
        slices.iter().map(|row| [0, 1, 2, 3].map(|cell: usize| number(&row[cell]))).collect();
    let all = slices.len();
    slices.retain(|&[machine, cpu, ts, tid]| {
        tid != 0 || left.get(&(machine as u32, cpu as u32)).is_none_or(|&last| ts <= last)
    });
    assert_eq!(all - slices.len(), left.len());
    assert!(slices == expected, "other slices than switches");

    // The letters are those of the kernels; the first switch of a CPU ends no slice.
    let mut letters: BTreeMap<(u64, String), u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    printed.switches.sort_by_key(|(s, _)| s.ts);
    for (switch, _) in &printed.switches {
        if !seen.insert((switch.machine, switch.cpu)) {
            *letters.entry((switch.machine.into(), switch.state.clone())).or_default() += 1;
        }
    }
    left.keys().for_each(|&(machine, _)| *letters.entry((machine.into(), "S".to_owned())).or_default() += 1);
    let states = states.iter().filter(|row| row[1] != "[NULL]");
    let states = states.map(|row| ((number(&row[0]), row[1].clone()), number(&row[2])));
    assert_eq!(states.collect::<BTreeMap<_, _>>(), letters);

    for row in &names {
        let thread = (number(&row[0]) as u32, number(&row[1]) as i32);
        let known = printed.comms.get(&thread).is_some_and(|comms| comms.contains(&row[2]));
        // Threads that only ever were awake somewhere else have their name from elsewhere.
        assert!(known || thread.1 == 0 && row[2] == "swapper", "{row:?}");
    }
    assert!(names.len() > 300);
    let kin: Vec<[&str; 4]> = kin.iter().map(|row| [0, 1, 2, 3].map(|cell: usize| &*row[cell])).collect();
    let qemu = |pid, tid| ["0", pid, "qemu-system-x86", tid];
    assert_eq!(kin, [qemu("197", "205"), qemu("197", "206"), qemu("210", "218"), qemu("210", "219")]);

    let guests = |state: &str| waits.iter().find(|row| row[0] == state).unwrap_or_else(|| panic!("no {state}"));
    for state in ["R", "R+", "Running", "S", "D", "I"] {
        assert!(number(&guests(state)[1]) > 0, "{state}");
    }
    assert!(number(&guests("R")[2]) > 2000, "guest tasks are woken by someone");
    assert!(latency.len() == 3 && latency.iter().all(|row| number(&row[1]) > 2000), "{latency:?}");
    assert!(number(&overlay[0][0]) > 50_000, "the overlay is there too");
    tasks_ran_as_long_as_stats_says(&running, &json(["stats", "--json", &capture]));
}

fn tasks_ran_as_long_as_stats_says(rows: &Rows, stats: &serde_json::Value) {
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for task in stats["vms"][0]["tasks"].as_array().expect("tasks") {
        let name = task["task"].as_str().expect("a name");
        let tid = name.rsplit_once('[').expect("a thread").1.trim_end_matches(']').to_owned();
        *expected.entry(tid).or_default() += task["running_ns"].as_u64().expect("a time");
    }
    // Nobody ran on until the end of the trace: that would be a length of -1.
    let mut actual: BTreeMap<String, u64> = BTreeMap::new();
    rows.iter().for_each(|row| *actual.entry(row[0].clone()).or_default() += number(&row[1]));
    actual.retain(|tid, _| expected.contains_key(tid));
    assert!(actual.len() > 100);
    assert_eq!(actual, expected);
}

/// All events of the native layer are in the table of ftrace events, and the report counts each once.
#[test]
fn the_account_is_closed() {
    let (scratch, capture) = (Scratch::new(), fixture("two-vm"));
    let convert = |layers: &str| {
        let (out, report) = (scratch.text(&format!("{layers}.pftrace")), scratch.text("r.json"));
        succeeds(["convert", &capture, "--layers", layers, "--report", &report, "-o", &out]);
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).expect("a report")).unwrap();
        let events = &report["events"];
        let [read, written, filtered] = ["read", "written", "filtered"].map(|key| events[key].as_u64().expect(key));
        assert_eq!(read, written + filtered, "{events}");
        written
    };
    let [overlay, native, all, both, both_all] =
        ["overlay", "native", "native-all", "overlay,native", "overlay,native-all"].map(convert);
    assert!(native < all && overlay < both && both < overlay + native);
    assert_eq!(both_all, all, "the overlay shows nothing that is no event");
    let arguments = "SELECT extract_arg(arg_set_id, 'exit_reason'), extract_arg(arg_set_id, 'guest_rip'), \
                     extract_arg(arg_set_id, 'isa') FROM ftrace_event WHERE name = 'kvm_exit' ORDER BY ts LIMIT 1";
    let sql = [COMPLAINTS, "SELECT count(*) FROM ftrace_event", arguments];
    // Both guests leave a task running.
    for (layers, rows) in [("native", native + 2), ("native-all", all + 2)] {
        let Some(answers) = queries(&scratch.path(&format!("{layers}.pftrace")), &sql) else { return };
        assert!(answers[0].is_empty(), "{:?}", answers[0]);
        assert_eq!(number(&answers[1][0][0]), rows, "{layers}");
        assert_eq!(answers[2].is_empty(), layers == "native");
        for exit in &answers[2] {
            // The first exit is from the guest's kernel; SVM is 2.
            assert!(number(&exit[0]) < 0x500 && exit[1].starts_with("0xffff") && exit[2] == "2", "{exit:?}");
        }
    }
}

#[test]
fn what_is_filtered_is_not_in_it() {
    let (scratch, capture) = (Scratch::new(), fixture("two-vm"));
    let out = scratch.path("o.pftrace");
    let answers = |options: &[&str], sql: &str| {
        let file = scratch.text("o.pftrace");
        let args = ["convert", &capture, "--layers", "native-all", "-o", &file];
        succeeds(args.iter().chain(options));
        let answers = queries(&out, &[COMPLAINTS, sql])?;
        assert!(answers[0].is_empty(), "{options:?} {:?}", answers[0]);
        Some(answers[1].clone())
    };
    let names = "SELECT DISTINCT name FROM ftrace_event";
    let Some(rows) = answers(&["--events", "sched:sched_waking,kvm:kvm_exit", "--vm", "a"], names) else { return };
    assert_eq!(
        rows.into_iter().flatten().collect::<BTreeSet<_>>(),
        ["kvm_exit", "sched_waking"].map(str::to_owned).into()
    );
    // Between two windows no task is drawn.
    let options = ["--around", "sched:sched_process_exec,5ms"];
    let spans = "SELECT count(*), max(dur) FROM sched JOIN thread USING(utid) WHERE tid != 0 AND dur >= 0";
    let rows = answers(&options, spans).expect("a trace processor");
    assert!(number(&rows[0][0]) >= 10 && number(&rows[0][1]) <= 10_000_000, "{rows:?}");
}

/// Numbers from a text's letters, and a recording with holes: the trace processor has no complaint about either.
#[test]
fn text_and_holes() {
    let scratch = Scratch::new();
    for (capture, lost) in [("text", false), ("overwritten", true)] {
        let out = scratch.path("o.pftrace");
        let args = ["convert", &fixture(capture), "--span", "all", "--layers", "native", "-o"];
        let done = succeeds(args.iter().copied().chain([&*scratch.text("o.pftrace")]));
        assert_eq!(done.stderr.contains("events lost"), lost, "{}", done.stderr);
        let letters = "SELECT DISTINCT state FROM thread_state JOIN thread USING(utid) WHERE machine_id = 1";
        let Some(answers) = queries(&out, &[COMPLAINTS, letters]) else { return };
        assert!(answers[0].is_empty(), "{capture}: {:?}", answers[0]);
        let letters: BTreeSet<&str> = answers[1].iter().map(|row| &*row[0]).collect();
        for state in ["D", "I", "R", "R+", "Running", "S", "X", "Z"] {
            assert!(letters.contains(state), "{capture}: {letters:?}");
        }
    }
}

#[test]
fn chrome_json_has_no_native_layer() {
    let scratch = Scratch::new();
    for layers in ["native", "overlay,native-all"] {
        let out = scratch.text("o.json");
        let done = kvm_timeline(["convert", &fixture("two-vm"), "--layers", layers, "-o", &out]);
        assert_eq!(done.code, 2, "{}", done.stderr);
        assert!(done.stderr.contains("Chrome JSON has no native layer"), "{}", done.stderr);
        assert!(scratch.names().is_empty());
    }
}
