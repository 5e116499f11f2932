//! Whole texts.

use std::path::Path;
use std::sync::Arc;

use super::super::{CHUNK, open_chunked};
use super::{KERNEL, all, fields, open, records, try_open};
use crate::capture::{Buffer, Clock};
use crate::error::ErrorKind;

#[test]
fn every_line_is_a_record_of_its_cpu() {
    let capture = open(KERNEL);
    assert_eq!(capture.buffers.len(), 1);
    assert_eq!((capture.buffers[0].name.as_str(), &capture.buffers[0].clock), ("", &Clock::X86Tsc));
    let (list, lost) = all(&capture, 0, 0);
    let names: Vec<_> = list.iter().map(|(ts, name, _)| (*ts, name.as_str())).collect();
    assert_eq!(
        names,
        [
            (25_206_022_152, "sched:sched_waking"),
            (29_396_465_660, "raw_syscalls:sys_enter"),
            (29_396_465_670, "raw_syscalls:sys_exit"),
            (29_396_465_680, "sched:sched_stat_runtime"),
            (29_396_465_690, "ftrace:print"),
            (29_396_465_700, "exceptions:page_fault_user"),
            (29_396_465_705, "exceptions:page_fault_user"),
            (29_396_465_710, "kvm:kvm_pvclock_update"),
        ]
    );
    assert_eq!((lost.len(), lost[0].before, lost[0].count), (1, 2, Some(253)));
    assert_eq!(records(&capture, 0, 1).len(), 6);
}

#[test]
fn rendering_gives_the_kernels_text_back() {
    let capture = open(KERNEL);
    let texts: Vec<_> = records(&capture, 0, 1).into_iter().map(|(_, _, text)| text).collect();
    assert_eq!(texts[0], "vec=7 [action=SCHED]");
    assert_eq!(
        texts[1],
        "prev_comm=swapper/1 prev_pid=0 prev_prio=120 prev_state=R ==> next_comm=CPU 0/KVM next_pid=203 next_prio=120"
    );
    assert_eq!(texts[2], "vcpu 0, rip 0xfff0");
    assert_eq!(texts[5], "unload");
    let texts: Vec<_> = records(&capture, 0, 0).into_iter().map(|(_, _, text)| text).collect();
    assert_eq!(texts[1], "NR 33 (b, 1, 189d36f0, 5cee200fa1059dcd, 7, 189d9c20)");
    assert_eq!(texts[3], "comm=CPU 0/KVM pid=203 runtime=1946217 vruntime=4237864923");
    assert_eq!(texts[4], "B|42|a frame: 1");
}

#[test]
fn fields_have_the_kernels_names() {
    let capture = open(KERNEL);
    assert_eq!(
        fields(&capture, "kvm", "kvm_exit"),
        [
            "common_flags=0",
            "common_preempt_count=0",
            "common_pid=203",
            "vcpu_id=0",
            "exit_reason=npf",
            "guest_rip=65520",
            "info1=4294967316",
            "info2=4294967280",
            "intr_info=0",
            "error_code=0",
            "more="
        ]
    );
    assert_eq!(
        fields(&capture, "kvm", "kvm_write_tsc_offset")[3..],
        ["vcpu_id=0", "previous_tsc_offset=0", "next_tsc_offset=18446744050585433974"]
    );
    assert_eq!(
        fields(&capture, "kvm", "kvm_pvclock_update")[3..],
        [
            "vcpu_id=0",
            "version=2",
            "tsc_timestamp=1442",
            "system_time=28",
            "tsc_to_system_mul=3315975589",
            "tsc_shift=-1",
            "flags=1"
        ]
    );
    assert_eq!(fields(&capture, "raw_syscalls", "sys_exit")[3..], ["id=33", "ret=-9"]);
    assert_eq!(
        fields(&capture, "irq", "softirq_raise")[..3],
        ["common_flags=9", "common_preempt_count=1", "common_pid=0"]
    );
    // One address is a symbol: then all are text.
    assert_eq!(
        fields(&capture, "exceptions", "page_fault_user")[3..],
        ["address=139628054163632", "ip=do_it", "error_code=20"]
    );
    let softirq = capture.formats.find("irq", "softirq_raise").and_then(|event| capture.formats.get(event));
    assert!(softirq.expect("the event").symbols("vec").any(|symbol| symbol == (9, "RCU")));
}

#[test]
fn metadata() {
    let info = open(KERNEL).info;
    assert_eq!(info.kind, "ftrace text");
    assert_eq!(info.cmdlines, [(1, "init".into()), (203, "CPU 0/KVM".into())]);
    assert!(info.warnings[0].starts_with("the kernel overwrote 6 events"), "{:?}", info.warnings);
    assert!(info.damaged.is_empty());
    let report = open("cpus=4\n  sh-5  (  3) [002]  1.5: kvm_fpu: load\n");
    assert_eq!((report.info.kind.as_str(), report.info.cpu_count), ("trace-cmd report text", 4));
    assert_eq!(report.info.tgids, [(5, 3)]);
    assert_eq!(report.buffers[0].clock, Clock::Other("unknown".into()));
    assert_eq!(records(&report, 0, 2)[0].0, 1_500_000_000);
}

#[test]
fn damage_is_told_and_costs_its_line() {
    let mut text = KERNEL.to_string();
    text.push_str("garbage in the file\n            init-1       [000] .....  12.5: kvm_fpu: load\nmore garbage");
    let capture = open(&text);
    assert_eq!(records(&capture, 0, 0).len(), 8);
    let damaged = capture.info.damaged;
    assert_eq!(damaged[0], "1 events have times of another kind than the rest and were left out");
    let offset = text.find("garbage").expect("it is there");
    let expected = format!("2 lines are no events; the first, at byte {offset:#x}: \"garbage in the file\"");
    assert_eq!(damaged[1], expected);
}

#[test]
fn instances_are_buffers() {
    let text =
        "cpus=2\n          <idle>-0     [000] 5: kvm_fpu: load\ntsc:           <idle>-0     [001] 6: kvm_fpu: unload\n";
    let capture = open(text);
    let names: Vec<_> = capture.buffers.iter().map(|buffer| buffer.name.as_str()).collect();
    assert_eq!(names, ["", "tsc"]);
    assert_eq!(records(&capture, 0, 0)[0].2, "load");
    assert_eq!(records(&capture, 1, 1)[0].2, "unload");
}

#[test]
fn instances_that_look_alike_are_two() {
    let line = |prefix: &[u8], cpu: u32| {
        [prefix, format!(":           <idle>-0     [00{cpu}] 5: kvm_fpu: load\n").as_bytes()].concat()
    };
    let text = [b"cpus=2\n".to_vec(), line(b"a\xfe", 1), line(b"a\xff", 0)].concat();
    let capture = open_chunked(Path::new("trace.txt"), Arc::new(text), None, CHUNK).expect("a text");
    let cpus = |buffer: &Buffer| buffer.streams.iter().map(|stream| stream.cpu).collect::<Vec<_>>();
    assert_eq!(capture.buffers.iter().map(cpus).collect::<Vec<_>>(), [[1], [0]]);
}

#[test]
fn what_cannot_be_read_is_refused_with_the_way_out() {
    let error = |text: &str| match try_open(text, 1 << 18) {
        Ok(_) => panic!("{text} was opened"),
        Err(error) => error,
    };
    let merged = "  a.dat: cpus=2\n  b.dat: cpus=2\n  a.dat:        sh-5     [000] 5: kvm_fpu: load\n";
    let refused = error(merged);
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.to_string().contains("(a.dat, b.dat)") && refused.hint_text().is_some(), "{refused}");
    let graph = "# tracer: function_graph\n#\n 0)   1.2 us    |  vfs_read();\n";
    assert!(error(graph).to_string().contains("function_graph"));
    assert_eq!(error("hello\n").kind(), ErrorKind::Format);
    assert_eq!(error("").kind(), ErrorKind::Format);
    let one = open("  a.dat: cpus=2\n  a.dat:        sh-5     [000] 5: kvm_fpu: load\n");
    assert_eq!(records(&one, 0, 0).len(), 1);
    assert!(open("# tracer: nop\n#\n").buffers.is_empty(), "a trace without events is one");
}
