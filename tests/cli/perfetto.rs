//! A Perfetto trace as one side: the same recording gives the same picture as through trace.dat, and its own packets go
//! into the output as they are.

use std::fs;
use std::path::Path;

use kvm_timeline::capture::{self, Capture, Chunk, Clock};

use crate::perf_data::{same_numbers, vcpus};
use crate::perfetto_writer::{Kvm, Pack, Perfetto, STRANGER, bytes, message, uint};
use crate::run::{Scratch, fixture, json, kvm_timeline, succeeds};
use crate::trace_processor::{COMPLAINTS, queries};

/// The TSC of the captures.
const HZ: u128 = 2_596_116_000;
/// BOOTTIME when the TSC was zero: the machine had slept.
const SLEPT: u64 = 3_000_000_000;

/// The main buffer of a trace.dat as a Perfetto trace, whose BOOTTIME was `zero` when the TSC was zero.
fn as_perfetto(capture: &Capture, zero: u64) -> Perfetto {
    let ns = |tsc: u64| zero + (u128::from(tsc) * 1_000_000_000 / HZ) as u64;
    let mut trace = Perfetto::new();
    let mut chunk = Chunk::default();
    let (mut first, mut last) = (u64::MAX, 0);
    for stream in &capture.buffers[0].streams {
        let list = trace.events.entry(stream.cpu).or_default();
        for index in 0..stream.source.chunks() {
            stream.source.read(index, &mut chunk).expect("readable");
            for record in &chunk.records {
                list.push((ns(record.ts), record.event, chunk.payload(record).to_vec()));
                (first, last) = (first.min(record.ts), last.max(record.ts));
            }
        }
    }
    let step = (HZ / 2) as u64;
    let readings = (first..last).step_by(step as usize).chain([last]);
    trace.snapshots = readings.map(|tsc| (ns(tsc), tsc)).collect();
    // The captures' READMEs name the processes of the vCPU threads.
    for (pid, threads) in [(197, [205, 206]), (210, [218, 219])] {
        trace.threads.push((pid, pid, "qemu-system-x86_64".to_owned()));
        trace.threads.extend((0..).zip(threads).map(|(cpu, tid)| (pid, tid, format!("CPU {cpu}/KVM"))));
    }
    trace
}

fn write(path: impl AsRef<Path>, trace: &Perfetto, capture: &Capture) {
    fs::write(path, trace.to_bytes(capture)).expect("written");
}

/// A directory with the guests of two-vm and its host as a Perfetto trace.
fn beside(scratch: &Scratch, name: &str, trace: &Perfetto, host: &Capture) -> String {
    let dir = scratch.path(name);
    fs::create_dir(&dir).expect("created");
    for name in ["guest-a.dat", "guest-b.dat", "pids.txt"] {
        fs::copy(fixture(&format!("two-vm/{name}")), dir.join(name)).expect("copied");
    }
    write(dir.join("host.pftrace"), trace, host);
    dir.display().to_string()
}

#[test]
fn guests_are_placed_on_a_host_recorded_by_perfetto() {
    let scratch = Scratch::new();
    let host = capture::open(fixture("two-vm/host.dat")).expect("a capture");
    let original = json(["check", "--json", &fixture("two-vm")]);
    let mut trace = as_perfetto(&host, 0);
    for (kvm, pack, compact) in [(Kvm::Real, Pack::Plain, true), (Kvm::Generic, Pack::Deflate, false)] {
        (trace.kvm, trace.pack, trace.compact) = (kvm, pack, compact);
        let dir = beside(&scratch, &format!("{kvm:?}"), &trace, &host);
        let report = json(["check", "--json", &dir]);
        assert_eq!(vcpus(&report), vcpus(&original), "{kvm:?}");
        assert_eq!(report["verdict"], original["verdict"], "{kvm:?}");
        let info = capture::open(format!("{dir}/host.pftrace")).expect("a capture").info;
        assert!(info.kind.contains(", boot made TSC cycles by "), "{}", info.kind);
        assert!(info.stamp_cycles <= 8, "{} cycles", info.stamp_cycles);
    }
    // Perfetto's messages of kvm_exit have no place for the reasons of x86, all else has.
    let dir = scratch.text("Generic");
    same_numbers(&succeeds(["stats", &dir]).stdout, &succeeds(["stats", &fixture("two-vm")]).stdout);
    let real = succeeds(["stats", &scratch.text("Real")]).stdout;
    assert!(real.contains("reason not recorded"), "{real}");
    assert!(!real.contains("slept in the host"), "{real}");
}

/// The same events, at the nanosecond of the first cycle that it has.
#[test]
fn every_event_is_there() {
    let scratch = Scratch::new();
    let original = capture::open(fixture("unstable/host.dat")).expect("a capture");
    let mut trace = as_perfetto(&original, SLEPT);
    trace.kvm = Kvm::Described;
    for (compact, pack) in [(true, Pack::Zstd), (false, Pack::Plain)] {
        (trace.compact, trace.pack) = (compact, pack);
        write(scratch.path("host.pftrace"), &trace, &original);
        let read = capture::open(scratch.path("host.pftrace")).expect("a capture");
        assert_eq!((&read.info.damaged, &read.info.warnings), (&Vec::new(), &Vec::new()));
        assert_eq!(read.buffers[0].clock, Clock::X86Tsc);
        assert_eq!(read.info.uname.as_deref(), Some("Linux ? 6.1.0-56-cloud-amd64 x86_64"));
        let line = read.info.perfetto.as_ref().and_then(|native| native.line.clone()).expect("a line");
        let mut chunk = Chunk::default();
        for stream in &read.buffers[0].streams {
            let expected = &trace.events[&stream.cpu];
            let (mut at, mut running) = (0, None);
            for index in 0..stream.source.chunks() {
                stream.source.read(index, &mut chunk).expect("readable");
                for record in &chunk.records {
                    let (time, event, payload) = &expected[at];
                    let (ours, theirs) =
                        (read.formats.get(record.event).unwrap(), original.formats.get(*event).unwrap());
                    assert_eq!((&ours.system, &ours.name), (&theirs.system, &theirs.name), "{at}");
                    assert_eq!(line.ns(record.ts), *time);
                    let record = chunk.payload(record);
                    for field in theirs.fields.iter().chain(theirs.field("common_pid")) {
                        // What recorders of Perfetto leave out.
                        let Some(known) = ours.field(&field.name) else { continue };
                        // Columns say who comes, not who leaves: whether its name or priority changed is not known.
                        let changed = ["prev_comm", "prev_prio"].contains(&&*field.name);
                        let unknown = running.is_none() && ["prev_pid", "common_pid"].contains(&&*field.name);
                        if compact && (changed || unknown) {
                            continue;
                        }
                        let values = (known.value(record, read.endian), field.value(payload, original.endian));
                        assert_eq!(
                            format!("{:?}", values.0),
                            format!("{:?}", values.1).replace("Pointer", "Uint"),
                            "{} {}",
                            theirs.name,
                            field.name
                        );
                    }
                    running = Some(()).filter(|()| running.is_some() || &*ours.name == "sched_switch");
                    at += 1;
                }
            }
            assert_eq!(at, expected.len());
        }
    }
}

#[test]
fn its_packets_are_in_the_output_as_they_are() {
    let scratch = Scratch::new();
    let host = capture::open(fixture("two-vm/host.dat")).expect("a capture");
    let mut trace = as_perfetto(&host, SLEPT);
    for (name, pack) in [("plain", Pack::Plain), ("packed", Pack::Deflate)] {
        trace.pack = pack;
        let dir = beside(&scratch, name, &trace, &host);
        let out = scratch.path(&format!("{name}.pftrace"));
        let done = succeeds(["convert", &dir, "--span", "all", "-o", &out.display().to_string()]);
        assert!(done.stderr.contains("are in the output as they are"), "{}", done.stderr);
        assert!(done.stderr.contains("(clock snapshots of the Perfetto trace)"), "{}", done.stderr);
        // In two parts: up to the first clock snapshot, and the rest.
        let (input, output) = (trace.to_bytes(&host), fs::read(&out).expect("an output"));
        let start = input.iter().zip(&output).take_while(|(a, b)| a == b).count();
        let rest = (0..=start).rev().find(|&start| output.ends_with(&input[start..]));
        assert!(rest.is_some_and(|rest| rest <= start && rest > 0), "{start} {rest:?}");
        let sql = [
            COMPLAINTS,
            "SELECT count(*), min(ts), max(ts) FROM sched",
            // Each slice of ours of who runs on the CPU begins with one of the input's, at the same nanosecond.
            "SELECT count(*) FROM slice s JOIN track t ON t.id = track_id \
             WHERE t.name GLOB 'Host CPU 0*' AND s.name NOT GLOB 'softirq *'",
            "SELECT count(*) FROM slice s JOIN track t ON t.id = track_id \
             JOIN (SELECT DISTINCT ts FROM sched WHERE cpu = 0) other USING(ts) \
             WHERE t.name GLOB 'Host CPU 0*' AND s.name NOT GLOB 'softirq *'",
            "SELECT t.name, s.name, s.dur FROM slice s JOIN track t ON t.id = track_id WHERE s.name GLOB 'a slice of*'",
            "SELECT count(*) FROM slice s JOIN track t ON t.id = track_id WHERE t.name GLOB 'VM a vCPU 0*'",
        ];
        let Some(answers) = queries(&out, &sql) else { return };
        let number = |answer: usize, cell: usize| answers[answer][0][cell].parse::<u64>().expect("a number");
        assert!(answers[0].is_empty(), "{:?}", answers[0]);
        assert!(number(1, 0) > 10_000, "{:?}", answers[1]);
        assert!(number(2, 0) > 1_000);
        // The first switch of a CPU makes no slice of the input's.
        assert!(number(2, 0) - number(3, 0) <= 1, "{:?} {:?}", answers[2], answers[3]);
        assert_eq!(answers[4], [["somebody else", STRANGER, "1000"].map(str::to_owned)]);
        assert!(number(5, 0) > 10_000, "{:?}", answers[5]);
    }
    // Guests as machines beside it; the host's events are there once.
    let out = scratch.path("n.pftrace");
    let dir = scratch.text("plain");
    succeeds(["convert", &dir, "--span", "all", "--layers", "overlay,native", "-o", &scratch.text("n.pftrace")]);
    let sql = [
        COMPLAINTS,
        "SELECT ifnull(machine_id, 0), count(*) FROM sched JOIN thread USING(utid) GROUP BY 1",
        "SELECT count(*) FROM sched",
    ];
    let alone = queries(&scratch.path("plain.pftrace"), &sql).expect("answers");
    let answers = queries(&out, &sql).expect("answers");
    assert!(answers[0].is_empty(), "{:?}", answers[0]);
    assert_eq!(answers[1].len(), 3, "{:?}", answers[1]);
    assert_eq!(answers[1][0], alone[1][0]);
}

#[test]
fn a_guest_recorded_by_perfetto() {
    let scratch = Scratch::new();
    let dir = scratch.path("dir");
    fs::create_dir(&dir).expect("created");
    for name in ["host.dat", "guest-b.dat", "pids.txt"] {
        fs::copy(fixture(&format!("two-vm/{name}")), dir.join(name)).expect("copied");
    }
    let guest = capture::open(fixture("two-vm/guest-a.dat")).expect("a capture");
    let mut trace = as_perfetto(&guest, SLEPT);
    trace.threads.clear();
    write(dir.join("guest-a.pftrace"), &trace, &guest);
    let dir = dir.display().to_string();
    let (report, original) = (json(["check", "--json", &dir]), json(["check", "--json", &fixture("two-vm")]));
    assert_eq!(vcpus(&report), vcpus(&original));
    let out = scratch.text("o.pftrace");
    let done = succeeds(["convert", &dir, "-o", &out]);
    assert!(done.stderr.contains("guest-a.pftrace: its packets are not in the output as they are"), "{}", done.stderr);
    let bytes = fs::read(&out).expect("an output");
    assert!(!bytes.windows(STRANGER.len()).any(|window| window == STRANGER.as_bytes()));
    // The native layer has its events in the host's time.
    succeeds(["convert", &dir, "--layers", "native", "-o", &out]);
    let sql = [COMPLAINTS, "SELECT count(*) FROM sched JOIN thread USING(utid) WHERE machine_id = 1"];
    let Some(answers) = queries(Path::new(&out), &sql) else { return };
    assert!(answers[0].is_empty() && answers[1][0][0].parse::<u64>().expect("a number") > 1_000, "{answers:?}");
}

/// Host and guest without TSC, on clocks of the same name: an offset, found by the run windows.
#[test]
fn clocks_of_one_name_are_related_and_others_refused() {
    let scratch = Scratch::new();
    let host = capture::open(fixture("agent/host.dat")).expect("a capture");
    let guest = capture::open(fixture("agent/host-a.dat")).expect("a capture");
    let mut trace = as_perfetto(&host, SLEPT);
    (trace.tsc, trace.threads) = (false, vec![(194, 204, "CPU 0/KVM".to_owned()), (194, 205, "CPU 1/KVM".to_owned())]);
    write(scratch.path("host.pftrace"), &trace, &host);
    let mut other = as_perfetto(&guest, SLEPT);
    (other.tsc, other.threads) = (false, Vec::new());
    write(scratch.path("guest.pftrace"), &other, &guest);
    let arguments = |guest: String| {
        [
            "check".to_owned(),
            "--json".to_owned(),
            "--host".to_owned(),
            scratch.text("host.pftrace"),
            "--guest".to_owned(),
            format!("a={guest}"),
        ]
    };
    let report = json(arguments(scratch.text("guest.pftrace")));
    assert_eq!(report["verdict"], "consistent", "{report}");
    let inferred: Vec<_> =
        report["vms"][0]["vcpus"].as_array().expect("vCPUs").iter().map(|v| &v["segments"][0]["source"]).collect();
    assert!(inferred.iter().all(|source| *source == "inferred from run windows"), "{inferred:?}");
    let out = scratch.text("o.pftrace");
    let done = succeeds(["convert", &scratch.text("host.pftrace"), "-o", &out]);
    assert!(done.stderr.contains("the host's clock `boot` counts nanoseconds"), "{}", done.stderr);
    assert!(done.stderr.contains("are in the output as they are"), "{}", done.stderr);
    let done = kvm_timeline(arguments(fixture("agent/host-a.dat")));
    assert_eq!(done.code, 1, "{}", done.stderr);
    let words = [
        "the host recorded with the clock `boot`, the guest",
        "with `x86-tsc`: nothing relates",
        "trace-cmd record -C boot",
    ];
    assert!(words.iter().all(|words| done.stderr.contains(words)), "{}", done.stderr);
    other.clock = (4, 5);
    write(scratch.path("raw.pftrace"), &other, &guest);
    let done = kvm_timeline(arguments(scratch.text("raw.pftrace")));
    assert!(done.stderr.contains("`boot`, the guest") && done.stderr.contains("with `mono_raw`"), "{}", done.stderr);
    // The packets name the clock that the input has.
    (trace.clock, trace.tsc) = ((4, 5), true);
    write(scratch.path("host.pftrace"), &trace, &host);
    let done = succeeds(["convert", &scratch.text("host.pftrace"), "-o", &out]);
    assert!(done.stderr.contains("are in the output as they are"), "{}", done.stderr);
    let ends = "SELECT count(*) FROM slice s JOIN track t ON t.id = track_id \
                JOIN (SELECT DISTINCT ts FROM sched WHERE cpu = 0) other USING(ts) WHERE t.name GLOB 'Host CPU 0*'";
    let Some(answers) = queries(Path::new(&out), &[COMPLAINTS, ends]) else { return };
    assert!(answers[0].is_empty() && answers[1][0][0].parse::<u64>().expect("a number") > 500, "{answers:?}");
}

/// What this program writes, it reads.
#[test]
fn the_native_layer_is_an_input() {
    let scratch = Scratch::new();
    let out = scratch.text("host.pftrace");
    succeeds(["convert", &fixture("two-vm/host.dat"), "--span", "all", "--layers", "native-all", "-o", &out]);
    let report = |paths: &[&str], name: &str| {
        let (file, report) = (scratch.text("o.pftrace"), scratch.text(name));
        let arguments = ["convert", "--span", "all", "--report", &report, "-o", &file];
        let done = succeeds(arguments.iter().chain(paths));
        let report: serde_json::Value = serde_json::from_slice(&fs::read(report).expect("a report")).expect("JSON");
        (report["events"].clone(), done.stderr)
    };
    let (theirs, _) = report(&[&fixture("two-vm/host.dat")], "a.json");
    let (ours, stderr) = report(&[&out], "b.json");
    assert!(stderr.contains("the host's clock `boot` counts nanoseconds"), "{stderr}");
    // Second copies of 12 events are not in the layer, and each CPU of the host is left idle at the end.
    assert_eq!(ours["written"], theirs["written"]);
    assert!(ours["read"].as_u64() > Some(600_000), "{ours} {theirs}");
    // Beside the captures that it was made of it is nobody's recording.
    let dir = scratch.path("dir");
    fs::create_dir(&dir).expect("created");
    for name in ["host.dat", "guest-a.dat"] {
        fs::copy(fixture(&format!("two-vm/{name}")), dir.join(name)).expect("copied");
    }
    fs::copy(&out, dir.join("native.pftrace")).expect("copied");
    let dir = dir.display().to_string();
    succeeds(["convert", &dir, "-o", &format!("{dir}/overlay.pftrace")]);
    let found = succeeds(["inspect", &dir]);
    assert!(found.stdout.contains("wrote it"), "{}", found.stdout);
    assert!(found.stdout.contains("is a timeline that kvm-timeline wrote, without ftrace events"), "{}", found.stdout);
}

#[test]
fn what_only_looks_like_a_trace_is_refused() {
    let scratch = Scratch::new();
    let refused = |name: &str, content: &[u8], expected: &str| {
        fs::write(scratch.path(name), content).expect("written");
        let done = kvm_timeline(["convert", &scratch.text(name), "-o", &scratch.text("o.pftrace")]);
        assert_eq!(done.code, 1, "{name}: {}", done.stderr);
        assert!(done.stderr.contains(&format!("{name}: {expected}")), "{name}: {}", done.stderr);
        assert!(done.stderr.contains("hint: "), "{}", done.stderr);
        assert!(!scratch.path("o.pftrace").exists());
    };
    refused("newlines", b"\n\n\n\n# notes\n", "is no capture: it starts with");
    refused("one", b"\x0a", "is no capture: it starts with");
    refused("garbage", &[b"\x0a\x7f", &[0xa5; 4096][..]].concat(), "is no capture: it starts with");
    // A message of another program that begins with a text, as many do.
    let other = message(|out| {
        bytes(out, 1, b"a name");
        uint(out, 2, 5);
    });
    refused("message", &other, "is no capture: it starts with");
    refused("words", b"packet {\n  timestamp: 5\n}\n", "is a Perfetto trace in words (textproto)");
    let empty = message(|out| {
        let packet = message(|out| {
            uint(out, 8, 5);
            uint(out, 10, 1);
        });
        bytes(out, 1, &packet);
    });
    refused("empty", &empty, "is a Perfetto trace without ftrace events");
    refused(
        "cut",
        &empty[..4],
        "is a Perfetto trace without ftrace events; the packet at byte 0x0 needs 6 bytes, 4 are left",
    );
    let host = capture::open(fixture("unstable/host.dat")).expect("a capture");
    let mut trace = as_perfetto(&host, SLEPT);
    trace.machine = 7;
    refused("machine", &trace.to_bytes(&host), "is a Perfetto trace without ftrace events");
}
