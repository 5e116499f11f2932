use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Capture, Event, Gap, Placed};
use crate::capture::Chunk;
use crate::clock::history::Source;
use crate::convert::ConvertOptions;
use crate::error::ErrorKind;
use crate::export::Format;
use crate::filter::Filter;
use crate::pipeline::Limits;

fn open(name: &str) -> Capture {
    Capture::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).unwrap()
}

fn filter(events: &str) -> Filter {
    Filter { events: vec![events.parse().unwrap()], ..Filter::default() }
}

#[test]
fn a_capture_can_be_shared_and_its_events_can_move_to_another_thread() {
    fn shared<T: Send + Sync>() {}
    fn moved<T: Send>() {}
    shared::<Capture>();
    shared::<Event<'static>>();
    moved::<super::Events<'static>>();
}

/// By VM and vCPU.
type ByVcpu<T> = BTreeMap<(String, u32), T>;

/// Each guest CPU's stamps as they stand in the file.
fn stamps(capture: &Capture) -> ByVcpu<Vec<u64>> {
    let mut found: ByVcpu<Vec<u64>> = BTreeMap::new();
    let session = capture.session();
    for stream in &session.streams {
        let recorded = &session.inputs[stream.input].capture.buffers[stream.buffer].streams[stream.stream];
        let vm = &session.vms[stream.vm];
        let number = vm.vcpus[stream.vcpu.unwrap()].number;
        let list = found.entry((vm.name.clone(), number)).or_default();
        let mut chunk = Chunk::default();
        for index in 0..recorded.source.chunks() {
            chunk.clear();
            recorded.source.read(index, &mut chunk).unwrap();
            list.extend(chunk.records.iter().map(|r| r.ts));
        }
    }
    found.values_mut().for_each(|list| list.sort_unstable());
    found
}

/// The guest TSC of each event that was placed by its own stamp, and how many were placed otherwise.
fn guest_tscs(capture: &Capture) -> (ByVcpu<Vec<u64>>, ByVcpu<u64>) {
    let (mut plain, mut other) = (BTreeMap::new(), BTreeMap::new());
    for event in capture.events().unwrap() {
        let event = event.unwrap();
        let Some(tsc) = event.guest_tsc() else {
            assert!(event.is_host() && event.certainty().placed == Placed::Host);
            continue;
        };
        let key = (event.vm().unwrap().to_owned(), event.vcpu().unwrap());
        match event.certainty().placed {
            Placed::Repaired => *other.entry(key).or_insert(0) += 1,
            _ => plain.entry(key).or_insert_with(Vec::new).push(tsc.get()),
        }
    }
    plain.values_mut().for_each(|list: &mut Vec<u64>| list.sort_unstable());
    (plain, other)
}

#[test]
fn the_guest_tsc_of_an_event_is_the_stamp_that_the_guest_recorded() {
    // One offset per VM; and an offset that jumps thousands of times, so that each event needs the right one.
    for name in ["two-vm", "unstable"] {
        let capture = open(name);
        assert_eq!(guest_tscs(&capture), (stamps(&capture), BTreeMap::new()), "{name}");
    }
}

#[test]
fn repaired_events_are_told_apart_one_by_one() {
    let capture = open("tsc-write");
    let (plain, repaired) = guest_tscs(&capture);
    // 22 stale events on CPU 0, 24 on CPU 1: see the capture's README.
    assert_eq!(repaired.values().copied().collect::<Vec<_>>(), [22, 24]);
    for (key, recorded) in stamps(&capture) {
        let plain = &plain[&key];
        assert_eq!(plain.len() as u64 + repaired[&key], recorded.len() as u64);
        assert!(plain.iter().all(|tsc| recorded.binary_search(tsc).is_ok()), "{key:?}");
    }
}

/// As `print` writes it, without who ran.
fn line(event: &Event<'_>) -> String {
    let ns = event.time().get();
    let (s, ns) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let fields = event.to_string().replace('\t', " ").replace('\n', "\\n");
    format!("{} [{:03}] {s}.{ns:09} {} {fields}", event.machine(), event.cpu(), event.name()).trim_end().to_owned()
}

/// The same of a line of `print`; a loss is its count.
fn printed(text: &str) -> String {
    let (machine, rest) = text.split_once(": ").unwrap();
    let (_, rest) = rest.split_once(" [").unwrap();
    let (cpu, rest) = rest.split_once("] ").unwrap();
    let (time, rest) = rest.trim_start().split_once(": ").unwrap();
    if rest.starts_with('[') {
        return rest.to_owned();
    }
    let (name, fields) = rest.split_once(':').unwrap();
    format!("{machine} [{cpu}] {time} {name} {}", fields.trim_start()).trim_end().to_owned()
}

#[test]
fn events_are_those_that_print_writes_in_the_same_order_with_the_same_losses() {
    let capture = open("overwritten");
    let mut text = Vec::new();
    let account = capture.view().print(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut losses: Vec<String> = Vec::new();
    let mut events = capture.events().unwrap();
    let mut lines = text.lines().map(printed);
    let mut lost = 0;
    for event in events.by_ref() {
        let event = event.unwrap();
        let gap = match event.lost_before() {
            Gap::None => None,
            Gap::Events(count) => Some(format!("[{count} events lost]")),
            Gap::Uncounted => Some("[events lost]".to_owned()),
        };
        if let Some(gap) = gap {
            lost += 1;
            losses.push(gap);
        }
        let mut expected = lines.next().unwrap();
        while expected.starts_with('[') {
            assert_eq!(losses.pop(), Some(expected));
            expected = lines.next().unwrap();
        }
        assert_eq!(line(&event), expected);
    }
    assert!(lost > 0, "the kernel overwrote events in this capture");
    assert_eq!((lines.next(), losses.len()), (None, 0));
    assert_eq!(format!("{:?}", events.account()), format!("{account:?}"));
    assert!(events.next().is_none());
}

#[test]
fn little_memory_gives_the_same_events() {
    let capture = open("unstable");
    let few = ConvertOptions { limits: Limits { memory: 1 << 20 }, ..ConvertOptions::default() };
    let few = capture.view().options(few).events().unwrap().map(|e| line(&e.unwrap()));
    assert!(few.eq(capture.events().unwrap().map(|e| line(&e.unwrap()))));
}

#[test]
fn inferred_places_say_so_and_how_far_they_may_be_off() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/two-vm");
    let capture = Capture::builder().path(path).infer().open().unwrap();
    let report = capture.check().unwrap();
    let cycles = |vm: &str, number: u32| {
        let vm = report.vms.iter().find(|v| v.name == vm).unwrap();
        vm.vcpus.iter().find(|v| v.id == number).unwrap().uncertainty
    };
    let mut seen = 0;
    for event in capture.view().filter(filter("sched:sched_process_exec")).events().unwrap() {
        let event = event.unwrap();
        if event.is_host() {
            continue;
        }
        let certainty = event.certainty();
        let bound = cycles(event.vm().unwrap(), event.vcpu().unwrap()) as f64 / 2.596_116;
        assert_eq!((certainty.placed, certainty.source), (Placed::Stamp, Some(Source::Inferred)));
        assert!((0.0..=1.5).contains(&(certainty.uncertainty_ns as f64 - bound)), "{certainty:?}, {bound}");
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn fields_are_read_by_name() {
    let capture = open("two-vm");
    let switch = capture.view().filter(filter("host/sched:sched_switch")).events().unwrap().next().unwrap().unwrap();
    assert_eq!(switch.number("prev_pid").map(|pid| pid as i32), switch.pid());
    let comm = switch.text("next_comm").unwrap();
    assert!(switch.to_string().contains(&*comm));
    assert_eq!(switch.fields().map(|(name, _)| name).collect::<Vec<_>>()[..2], ["prev_comm", "prev_pid"]);
    assert!(switch.number("prev_comm").is_none() && switch.field("no_such_field").is_none());
    let exit = capture.view().filter(filter("host/kvm:kvm_exit")).events().unwrap().next().unwrap().unwrap();
    let reason = exit.symbol("exit_reason").unwrap();
    assert!(exit.to_string().contains(reason), "{reason}: {exit}");
    let thread = exit.pid().unwrap();
    assert_eq!(capture.vcpu_of_thread(thread), Some((exit.vm().unwrap(), exit.vcpu().unwrap())));
}

#[test]
fn the_stop_flag_ends_the_events() {
    let stop = Arc::new(AtomicBool::new(false));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/two-vm");
    let capture = Capture::builder().path(path).stop_flag(Arc::clone(&stop)).open().unwrap();
    let mut events = capture.events().unwrap();
    assert!(events.next().unwrap().is_ok());
    stop.store(true, Ordering::Relaxed);
    let error = events.by_ref().find_map(Result::err).unwrap();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(events.next().is_none());
}

#[test]
fn a_file_is_what_a_writer_gets_and_appears_only_when_whole() {
    let capture = open("agent");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.json");
    capture.view().convert_file(&path).unwrap();
    let options = ConvertOptions { format: Format::ChromeJson, ..ConvertOptions::default() };
    let mut bytes = Vec::new();
    capture.view().options(options).convert(&mut bytes).unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes);
    let error = capture.view().convert_file(dir.path().join("out.txt")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    assert_eq!(capture.convert(Full).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn nothing_named_is_an_error_with_a_hint() {
    let error = Capture::builder().open().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.hint_text().is_some());
}
