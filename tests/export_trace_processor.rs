//! What Perfetto's trace processor makes of both formats.

mod support;

use std::path::PathBuf;

use kvm_timeline::export::chrome_json::ChromeJson;
use kvm_timeline::export::perfetto::Perfetto;
use kvm_timeline::timeline::drawing::{Batch, Category, Exporter, Shape};
use support::drawn::{Draw, HOST_CPU, OTHER_VCPU, START, STATE, VCPU, export, story, world};
use support::trace_processor::{COMPLAINTS, Rows, queries};

struct Trace {
    file: PathBuf,
    _folder: tempfile::TempDir,
}

fn trace(exporter: &dyn Exporter, batches: &[Batch]) -> Trace {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("trace");
    std::fs::write(&file, export(exporter, &world(), batches)).expect("a written file");
    Trace { file, _folder: folder }
}

fn rows(text: &str) -> Rows {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(cells).collect()
}

#[test]
fn perfetto_draws_the_story() {
    let trace = trace(&Perfetto, &story());
    let sql = [
        COMPLAINTS,
        &format!(
            "SELECT t.name, p.name, s.name, s.category, s.ts - {START}, s.dur, s.depth
             FROM slice s JOIN track t ON t.id = s.track_id LEFT JOIN track p ON p.id = t.parent_id ORDER BY s.ts, s.id"
        ),
        &format!("SELECT t.name, c.ts - {START}, c.value FROM counter c JOIN track t ON t.id = c.track_id ORDER BY c.ts"),
        "SELECT s.name, a.key, a.value_type, a.display_value FROM args a JOIN slice s USING (arg_set_id)
         WHERE a.key GLOB 'debug.*' ORDER BY s.ts, s.id, a.key",
        "SELECT o.name, i.name FROM flow f JOIN slice o ON o.id = f.slice_out JOIN slice i ON i.id = f.slice_in",
        "SELECT s.name, a.display_value FROM args a JOIN slice s USING (arg_set_id) WHERE a.key = 'correlation_id'",
        &format!("SELECT to_realtime({})", START + 7),
        "SELECT name, extract_arg(source_arg_set_id, 'child_ordering'), extract_arg(source_arg_set_id, 'sibling_order_rank'),
         extract_arg(source_arg_set_id, 'description') FROM track ORDER BY 3",
    ];
    let Some(answers) = queries(&trace.file, &sql) else { return };
    let [complaints, slices, counters, args, flows, correlations, realtime, order] = answers.as_slice() else {
        panic!()
    };
    assert_eq!(*complaints, rows(""));
    assert_eq!(
        *slices,
        rows(
            "Host state, web vCPU 0  | VM web vCPU 0  | guest                   | guest   | 0    | 1999 | 0
             VM web vCPU 0           | [NULL]         | nginx [812]             | task    | 0    | 4000 | 0
             TSC offset, web vCPU 0  | VM web vCPU 0  | offset -33610754878     | offset  | 0    | 6000 | 0
             VM web vCPU 0           | [NULL]         | read                    | syscall | 1001 | 2499 | 1
             VM \"db\" vCPU 0        | [NULL]         | irq eth0                | irq     | 1200 | 100  | 0
             Events, web vCPU 0      | VM web vCPU 0  | sched_waking            | event   | 1500 | 0    | 0
             Host state, web vCPU 0  | VM web vCPU 0  | EPT_MISCONFIG           | exit    | 1999 | 1001 | 0
             Host state, web vCPU 0  | VM web vCPU 0  | preempted               | off-cpu | 2000 | 999  | 1
             Host CPU 0              | Host           | backup-daemon [812]     | host    | 2100 | 850  | 0
             Host state, web vCPU 0  | VM web vCPU 0  | guest                   | guest   | 3000 | 2000 | 0"
        )
    );
    assert_eq!(*counters, rows("exits per second | 2500 | 1.25\nexits per second | 6000 | -3"));
    assert_eq!(
        *args,
        rows(
            "read          | debug.fd     | uint   | 7
             read          | debug.max    | string | 0xffffffffffffffff
             read          | debug.min    | int    | -9007199254740993
             read          | debug.result | string | EAGAIN
             sched_waking  | debug.comm   | string | bad \u{fffd} \"quote\" \u{1}
             EPT_MISCONFIG | debug.rip    | string | 0xffffffff81c00000
             EPT_MISCONFIG | debug.user   | bool   | true"
        )
    );
    assert_eq!(*flows, rows("preempted | backup-daemon [812]"));
    assert_eq!(*correlations, rows("preempted | off-cpu"));
    assert_eq!(*realtime, rows("1700000000000000007"));
    let ranked: Vec<_> = order.iter().map(|row| (row[0].as_str(), row[1].as_str(), row[3].as_str())).collect();
    assert_eq!(ranked[0], ("Host", "explicit", "[NULL]"));
    assert!(ranked.contains(&("VM web vCPU 0", "explicit", "help for VM web vCPU 0")), "{ranked:?}");
}

#[test]
fn chrome_json_draws_the_same_but_offsets() {
    let trace = trace(&ChromeJson, &story());
    let sql = [
        COMPLAINTS,
        "SELECT thread.name, process.name, s.name, s.category, s.ts, s.dur, s.depth
         FROM slice s JOIN thread_track t ON t.id = s.track_id JOIN thread USING (utid) JOIN process USING (upid)
         ORDER BY s.ts, s.id",
        "SELECT s.name, a.key, a.display_value FROM args a JOIN slice s USING (arg_set_id)
         WHERE a.key GLOB 'args.*' ORDER BY s.ts, s.id, a.key",
        "SELECT o.name, i.name FROM flow f JOIN slice o ON o.id = f.slice_out JOIN slice i ON i.id = f.slice_in",
        "SELECT t.name, c.ts, c.value FROM counter c JOIN track t ON t.id = c.track_id ORDER BY c.ts",
    ];
    let Some(answers) = queries(&trace.file, &sql) else { return };
    let [complaints, slices, args, flows, counters] = answers.as_slice() else { panic!() };
    assert_eq!(*complaints, rows(""));
    assert_eq!(
        *slices,
        rows(
            "Host state, web vCPU 0  | VM web    | guest                   | guest   | 0    | 1999 | 0
             VM web vCPU 0           | VM web    | nginx [812]             | task    | 0    | 4000 | 0
             VM web vCPU 0           | VM web    | read                    | syscall | 1001 | 2499 | 1
             VM \"db\" vCPU 0        | VM \"db\" | irq eth0                | irq     | 1200 | 100  | 0
             Events, web vCPU 0      | VM web    | sched_waking            | event   | 1500 | 0    | 0
             Host state, web vCPU 0  | VM web    | EPT_MISCONFIG           | exit    | 1999 | 1001 | 0
             Host state, web vCPU 0  | VM web    | preempted               | off-cpu | 2000 | 999  | 1
             Host CPU 0              | Host      | backup-daemon [812]     | host    | 2100 | 850  | 0
             Host state, web vCPU 0  | VM web    | guest                   | guest   | 3000 | 2000 | 0"
        )
    );
    assert_eq!(
        *args,
        rows(
            "read          | args.fd     | 7
             read          | args.max    | 0xffffffffffffffff
             read          | args.min    | -9007199254740993
             read          | args.result | EAGAIN
             sched_waking  | args.comm   | bad \u{fffd} \"quote\" \u{1}
             EPT_MISCONFIG | args.rip    | 0xffffffff81c00000
             EPT_MISCONFIG | args.user   | true"
        )
    );
    assert_eq!(*flows, rows("preempted | backup-daemon [812]"));
    assert_eq!(*counters, rows("exits per second value | 2500 | 1.25\nexits per second value | 6000 | -3"));
}

/// Many batches whose times overlap and jump back, over months of uptime: not a nanosecond may be lost.
#[test]
fn late_slices_are_exact_to_the_nanosecond() {
    let mut batches = Vec::new();
    let mut expected = Rows::new();
    for number in 0..40_i64 {
        let mut draw = Draw::default();
        for round in 0..50_i64 {
            let at = number * 700_001 + round * 20_011 + (number + round) % 7;
            let name = format!("task [{}]", round % 5);
            draw.begin(at, if number % 2 == 0 { VCPU } else { OTHER_VCPU }, Category::Task, &name);
            draw.end(at + 13_337, if number % 2 == 0 { VCPU } else { OTHER_VCPU });
            expected.push(vec![(START as i64 + at).to_string(), "13337".into(), name]);
            // Handed over late, before everything else of its batch.
            let late = number * 700_001 + round;
            draw.item(late, STATE, Shape::Instant, Category::Exit, "HLT");
            expected.push(vec![(START as i64 + late).to_string(), "0".into(), "HLT".into()]);
        }
        batches.push(draw.batch);
    }
    expected.sort_by_key(|row| (row[0].parse::<u64>().expect("a time"), row[2].clone()));
    let slices = "SELECT ts, dur, name FROM slice ORDER BY ts, name";
    let trace = trace(&Perfetto, &batches);
    let Some(answers) = queries(&trace.file, &[COMPLAINTS, slices]) else { return };
    assert_eq!(answers[0], rows(""));
    // Slices of 13 us that begin every 20 us on two rows: none is lost, none is nested.
    assert_eq!(answers[1].len(), expected.len());
    assert_eq!(answers[1], expected);
}

/// A slice may learn of its arrow only when it ends.
#[test]
fn a_flow_on_an_end_belongs_to_the_slice_that_ends() {
    let mut draw = Draw::default();
    draw.begin(0, VCPU, Category::Task, "outer");
    draw.begin(100, VCPU, Category::OffCpu, "preempted by b [2]");
    draw.begin(150, HOST_CPU, Category::Host, "b [2]");
    draw.end(170, HOST_CPU);
    draw.flow(9);
    draw.end(200, VCPU);
    draw.flow(9);
    draw.end(300, VCPU);
    let flows =
        "SELECT o.name, i.name FROM flow f JOIN slice o ON o.id = f.slice_out JOIN slice i ON i.id = f.slice_in";
    let batches = [draw.batch];
    for exporter in [&Perfetto as &dyn Exporter, &ChromeJson] {
        let trace = trace(exporter, &batches);
        let Some(answers) = queries(&trace.file, &[COMPLAINTS, flows]) else { return };
        assert_eq!(answers, [rows(""), rows("preempted by b [2] | b [2]")]);
    }
}
