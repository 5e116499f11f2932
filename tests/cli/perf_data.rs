//! perf.data: the same recording gives the same picture as through trace.dat; `perf script` sees the same events.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::Command;

use kvm_timeline::capture::{self, Capture, Chunk, Clock};
use serde_json::Value;

use crate::perf_data_writer::{Mode, PerfData, Sample, tracing_data_of};
use crate::run::{Scratch, fixture, json, kvm_timeline, succeeds};

/// What a kernel on a TSC of 2596.116 MHz would use.
const SHIFT: u32 = 31;
const MULT: u64 = (1_000_000_000 << SHIFT) / 2_596_116_000;
/// The clock was set to zero somewhere.
const ZERO: u64 = 1_234_567;
/// Cycles of one nanosecond, rounded up.
const STEP: u64 = 3;

fn ns(tsc: u64) -> u64 {
    ZERO + ((u128::from(tsc) * u128::from(MULT)) >> SHIFT) as u64
}

/// Per CPU: (stamp, name, payload) of the main buffer, and how much was lost before which event.
type Events = BTreeMap<u32, Vec<(u64, String, Vec<u8>)>>;

fn events(capture: &Capture) -> Events {
    let mut events = Events::new();
    let mut chunk = Chunk::default();
    for stream in &capture.buffers[0].streams {
        let list = events.entry(stream.cpu).or_default();
        for index in 0..stream.source.chunks() {
            stream.source.read(index, &mut chunk).expect("readable");
            list.extend(chunk.records.iter().map(|record| {
                let format = capture.formats.get(record.event).expect("a format");
                (record.ts, format.name.to_string(), chunk.payload(record).to_vec())
            }));
        }
    }
    events
}

/// The main buffer of a trace.dat as a perf.data.
fn as_perf_data(path: &str) -> PerfData {
    let capture = capture::open(path).expect("a capture");
    let mut file = PerfData::new();
    file.tracing_data = tracing_data_of(&fs::read(path).expect("readable"));
    let mut seen = BTreeMap::new();
    for (cpu, list) in events(&capture) {
        for (stamp, name, raw) in list {
            let id = u16::from_le_bytes([raw[0], raw[1]]);
            let tid = i32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]]);
            seen.entry(id).or_insert(name);
            file.samples.push(Sample { cpu, time: ns(stamp), tid, raw });
        }
    }
    // ftrace's own events are no tracepoints of perf.
    file.events = seen.into_iter().map(|(id, name)| (id, format!("{}:{name}", system(&capture, id)))).collect();
    // The captures' READMEs name the processes of the vCPU threads.
    let process = |tid: i32| match tid {
        205 | 206 => 197,
        218 | 219 => 210,
        other => other,
    };
    file.comms = capture.info.cmdlines.iter().map(|(tid, comm)| (process(*tid), *tid, comm.to_string())).collect();
    file.time_conv = Some((u64::from(SHIFT), MULT, ZERO));
    file
}

fn system(capture: &Capture, id: u16) -> String {
    let index = capture.formats.index_of_id(id).expect("an index");
    capture.formats.get(index).expect("a format").system.to_string()
}

fn write(scratch: &Scratch, name: &str, file: &PerfData) -> String {
    let path = scratch.text(name);
    fs::write(&path, file.to_bytes()).expect("written");
    path
}

/// The same events, in the same order, each stamp the first cycle of its nanosecond.
fn same(path: &str, original: &str) {
    let capture = capture::open(path).expect("a capture");
    assert_eq!(capture.info.damaged, Vec::<String>::new());
    assert_eq!(capture.info.warnings, Vec::<String>::new());
    assert_eq!(capture.buffers[0].clock, Clock::X86Tsc);
    assert_eq!(capture.info.stamp_cycles, STEP);
    let (ours, theirs) = (events(&capture), events(&capture::open(original).expect("a capture")));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (cpu, list) in &ours {
        assert_eq!(list.len(), theirs[cpu].len(), "CPU {cpu}");
        for (ours, theirs) in list.iter().zip(&theirs[cpu]) {
            assert!(ours.0 <= theirs.0 && theirs.0 - ours.0 < STEP, "CPU {cpu}: {ours:?} {theirs:?}");
            assert_eq!(ours.1, theirs.1);
            assert!(ours.2.starts_with(&theirs.2) && ours.2.len() - theirs.2.len() < 8, "{ours:?} {theirs:?}");
        }
    }
}

#[test]
fn a_file_a_pipe_and_a_compressed_file_hold_what_trace_dat_held() {
    let scratch = Scratch::new();
    let original = fixture("unstable/guest-a.dat");
    let mut file = as_perf_data(&original);
    for (mode, name) in [(Mode::File, "file"), (Mode::Pipe, "pipe"), (Mode::Zstd, "zstd")] {
        file.mode = mode;
        same(&write(&scratch, name, &file), &original);
    }
    // As recordings of threads have it: what is together in time need not be together in the file.
    file.mode = Mode::File;
    file.samples.reverse();
    for round in [1, 1_000_000_000_000] {
        file.round = round;
        let samples = file.samples.len();
        assert_eq!(capture::open(write(&scratch, "mixed", &file)).map(|c| count(&c)).expect("a capture"), samples);
    }
}

fn count(capture: &Capture) -> usize {
    let events = events(capture);
    assert!(events.values().all(|list| list.is_sorted_by_key(|event| event.0)));
    events.values().map(Vec::len).sum()
}

/// What `check --json` says of each vCPU: VM, number, checked, inside, offsets, verdict.
pub(crate) fn vcpus(report: &Value) -> Vec<String> {
    let vms = report["vms"].as_array().expect("vms").iter();
    let vcpus = vms.flat_map(|vm| vm["vcpus"].as_array().expect("vCPUs").iter().map(move |vcpu| (vm, vcpu)));
    let words = |(vm, v): (&Value, &Value)| {
        let offsets: Vec<&Value> =
            v["segments"].as_array().expect("a list").iter().map(|segment| &segment["offset"]).collect();
        format!("{} {} {} {} {offsets:?} {}", vm["name"], v["id"], v["checked"], v["inside"], v["verdict"])
    };
    vcpus.map(words).collect()
}

#[test]
fn guests_are_placed_on_a_host_recorded_by_perf() {
    let scratch = Scratch::new();
    let dir = scratch.path("mixed");
    fs::create_dir(&dir).expect("created");
    write(&scratch, "mixed/host.data", &as_perf_data(&fixture("two-vm/host.dat")));
    for name in ["guest-a.dat", "pids.txt"] {
        fs::copy(fixture(&format!("two-vm/{name}")), dir.join(name)).expect("copied");
    }
    write(&scratch, "mixed/guest-b.data", &as_perf_data(&fixture("two-vm/guest-b.dat")));
    let dir = dir.display().to_string();
    let report = json(["check", "--json", &dir]);
    let original = json(["check", "--json", &fixture("two-vm")]);
    assert_eq!(vcpus(&report), vcpus(&original));
    assert_eq!(report["verdict"], original["verdict"]);
    let out = scratch.text("o.pftrace");
    let done = succeeds(["convert", &dir, "-o", &out]);
    for words in ["37468 of 37468 guest events inside", "44397 of 44397 guest events inside"] {
        assert!(done.stderr.contains(words), "{}", done.stderr);
    }
    assert!(done.stderr.contains("(TIME_CONV of perf.data)"), "{}", done.stderr);
    // Without the copies of 12 events that an instance of the trace.dat holds.
    assert!(done.stderr.contains("711506 events read: 142037 written"), "{}", done.stderr);
    let by_trace_dat = succeeds(["convert", &fixture("two-vm"), "-o", &scratch.text("p.pftrace")]);
    assert!(by_trace_dat.stderr.contains("711518 events read: 142037 written"), "{}", by_trace_dat.stderr);
    same_numbers(&succeeds(["stats", &dir]).stdout, &succeeds(["stats", &fixture("two-vm")]).stdout);
    let found = succeeds(["inspect", &dir]);
    assert!(found.stdout.contains("made TSC cycles by TIME_CONV (up to 2 early)"), "{}", found.stdout);
}

/// The same words; numbers with a point (milliseconds, microseconds, shares) agree to 10 in their last digit.
pub(crate) fn same_numbers(ours: &str, theirs: &str) {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(ours).len(), words(theirs).len());
    for (a, b) in words(ours).iter().zip(&words(theirs)) {
        match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(x), Ok(y)) if a.contains('.') => assert!((x - y).abs() <= 0.0101, "{a} {b}"),
            _ => assert_eq!(a, b),
        }
    }
}

#[test]
fn other_clocks_are_drawn_alone_and_refused_with_guests() {
    let scratch = Scratch::new();
    let mut host = as_perf_data(&fixture("unstable/host.dat"));
    host.clockid = Some(1);
    host.time_conv = None;
    let path = write(&scratch, "host.data", &host);
    assert_eq!(capture::open(&path).expect("a capture").buffers[0].clock, Clock::Other("mono".into()));
    let out = scratch.text("o.pftrace");
    let done = succeeds(["convert", &path, "-o", &out]);
    assert!(done.stderr.contains("the host's clock `mono` counts nanoseconds"), "{}", done.stderr);
    let guest = format!("a={}", fixture("unstable/guest-a.dat"));
    let done = kvm_timeline(["convert", "--host", &path, "--guest", &guest, "-o", &scratch.text("p.pftrace")]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("the host recorded with the clock `mono`, the guest"), "{}", done.stderr);
    assert!(done.stderr.contains("without -k"), "{}", done.stderr);
}

#[test]
fn lost_events_are_counted() {
    let scratch = Scratch::new();
    let mut file = as_perf_data(&fixture("unstable/guest-a.dat"));
    let middle = file.samples[1000].clone();
    file.lost = vec![(middle.cpu, middle.time, 77)];
    let capture = capture::open(write(&scratch, "lost.data", &file)).expect("a capture");
    let mut chunk = Chunk::default();
    let mut found = Vec::new();
    for stream in &capture.buffers[0].streams {
        for index in 0..stream.source.chunks() {
            stream.source.read(index, &mut chunk).expect("readable");
            found.extend(chunk.lost.iter().map(|lost| (stream.cpu, chunk.records[lost.before].ts, lost.count)));
        }
    }
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0, ns(found[0].1), found[0].2), (middle.cpu, middle.time, Some(77)));
}

/// What `perf script` prints: (CPU, microseconds, name); `None` where perf is not installed, which CI does not forgive.
fn perf_script(file: &str) -> Option<Vec<(u32, u64, String)>> {
    let output = Command::new("perf").args(["script", "--ns", "-F", "cpu,time,event", "-i", file]).output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "no perf, and CI is set: {error}");
            let _ = writeln!(std::io::stderr(), "SKIPPED a check against perf script: {error}");
            return None;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line = |line: &str| {
        let (cpu, rest) = line.trim_start().strip_prefix('[')?.split_once(']')?;
        let (time, name) = rest.trim_start().split_once(": ")?;
        let time = time.replace('.', "").parse().ok()?;
        Some((cpu.parse().ok()?, time, name.trim().trim_end_matches(':').to_owned()))
    };
    Some(String::from_utf8_lossy(&output.stdout).lines().filter_map(line).collect())
}

/// Both read the same events at the same nanoseconds.
fn agrees_with_perf(path: &str, nanoseconds: impl Fn(u64) -> u64) {
    let Some(mut theirs) = perf_script(path) else { return };
    let capture = capture::open(path).expect("a capture");
    let mut ours = Vec::new();
    let mut chunk = Chunk::default();
    for stream in &capture.buffers[0].streams {
        for index in 0..stream.source.chunks() {
            stream.source.read(index, &mut chunk).expect("readable");
            ours.extend(chunk.records.iter().map(|record| {
                let format = capture.formats.get(record.event).expect("a format");
                (stream.cpu, nanoseconds(record.ts), format!("{}:{}", format.system, format.name))
            }));
        }
    }
    // Samples that are no tracepoints have no system in their names.
    theirs.retain(|(.., name)| name.contains(':'));
    ours.sort();
    theirs.sort();
    let first = ours.iter().zip(&theirs).find(|(a, b)| a != b);
    assert!(first.is_none() && ours.len() == theirs.len(), "{path}: {first:?}, {} {}", ours.len(), theirs.len());
}

#[test]
fn perf_script_reads_what_the_tests_write() {
    let scratch = Scratch::new();
    let mut file = as_perf_data(&fixture("unstable/guest-a.dat"));
    for mode in [Mode::File, Mode::Zstd] {
        file.mode = mode;
        agrees_with_perf(&write(&scratch, "written.data", &file), ns);
    }
}

/// The real recordings: counts by `perf script`, and every event at the same nanosecond.
#[test]
fn perf_agrees_on_its_own_recordings() {
    for (name, count) in [("sched", 44), ("zstd", 115), ("pipe", 553)] {
        let path = fixture(&format!("perf/{name}.data"));
        let capture = capture::open(&path).expect("a capture");
        assert_eq!(self::count(&capture), count, "{name}");
        assert_eq!(capture.info.damaged, Vec::<String>::new());
        assert_eq!(capture.info.uname.as_deref(), Some("Linux vm 6.18.44-fc-v782 x86_64"));
        assert_eq!(capture.buffers[0].clock, Clock::Other("perf_clock".into()));
        agrees_with_perf(&path, |ns| ns);
        let scratch = Scratch::new();
        let done = succeeds(["convert", &path, "-o", &scratch.text("o.pftrace")]);
        assert!(done.stderr.contains(&format!("{count} events read: {count} written")), "{}", done.stderr);
    }
}

#[test]
fn software_events_are_told_to_be_no_tracepoints() {
    let done = succeeds(["inspect", &fixture("perf/software.data")]);
    let expected = "samples of context-switches, cpu-clock are no tracepoints and are not drawn";
    assert!(done.stderr.contains(expected), "{}", done.stderr);
    assert!(done.stderr.contains("perf record -a -e 'sched:*' -e 'kvm:*'"), "{}", done.stderr);
}

#[test]
fn what_only_looks_like_a_recording_is_refused() {
    let scratch = Scratch::new();
    let whole = fs::read(fixture("perf/sched.data")).expect("readable");
    let refused = |name: &str, bytes: &[u8], expected: &str| {
        fs::write(scratch.path(name), bytes).expect("written");
        let done = kvm_timeline(["convert", &scratch.text(name), "-o", &scratch.text("o.pftrace")]);
        assert_eq!(done.code, 1, "{name}: {}", done.stderr);
        assert!(done.stderr.contains(&format!("{name}: {expected}")), "{name}: {}", done.stderr);
        assert!(done.stderr.contains("hint: "), "{}", done.stderr);
        assert!(!scratch.path("o.pftrace").exists());
    };
    refused("old", b"PERFFILE\x68\0\0\0\0\0\0\0", "is a perf.data file of the format's first version");
    let garbage = [b"PERFILE2", &[0xa5; 4096][..]].concat();
    refused("garbage", &garbage, "at byte 0x8: a file header of 11936128518282651045 bytes, expected 104");
    refused("mark", b"PERFILE2", "at byte 0x8: the size of the file header needs 8 bytes, only 0 are left");
    refused("head", &whole[..60], "at byte 0x38: the place of the event types needs 8 bytes, only 4 are left");
    // Cut within the records: what describes them stood behind.
    refused("cut", &whole[..60_000], "at byte 0xf5e0: does not describe its ");
    let mut formats = whole.clone();
    let mark = formats.windows(10).position(|w| w == b"\x17\x08\x44tracing").expect("a mark");
    formats[mark + 10] = b'9';
    refused("formats", &formats, &format!("at byte {:#x}: tracing data of version \"9.6\"", mark + 10));
}
