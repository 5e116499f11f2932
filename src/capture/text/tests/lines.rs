//! Single lines.

use crate::capture::text::body::{Body, system_of};
use crate::capture::text::is_ftrace_text;
use crate::capture::text::line::{Line, Other, Stamp};

fn line(text: &str) -> Line<'_> {
    Line::parse(text.as_bytes()).unwrap_or_else(|| panic!("no event: {text}"))
}

#[test]
fn columns_of_the_kernel() {
    let parsed = line("       CPU 0/KVM-203     [001] d.s32  28935120954: softirq_exit: vec=9 [action=RCU]");
    assert_eq!(
        parsed,
        Line {
            prefix: b"",
            comm: b"CPU 0/KVM",
            pid: 203,
            tgid: None,
            cpu: 1,
            flags: 1 | 16,
            preempt: 0x23,
            stamp: Stamp::Count(28_935_120_954),
            body: b"softirq_exit: vec=9 [action=RCU]",
        }
    );
    // Kernels before 5.17 have four flags; the thread group is an option.
    let parsed = line("     kworker/0:1-12    (   12) [000] dNh3   100.000042: sched_waking: x");
    assert_eq!((parsed.comm, parsed.tgid), (&b"kworker/0:1"[..], Some(12)));
    assert_eq!((parsed.flags, parsed.preempt), (1 | 4 | 32 | 8, 3));
    assert_eq!(parsed.stamp, Stamp::Nanoseconds(100_000_042_000));
    let parsed = line(" <...>-7 (-----) [127] .....  1: a: b");
    assert_eq!((parsed.comm, parsed.tgid, parsed.cpu), (&b"<...>"[..], None, 127));
}

#[test]
fn columns_of_the_report() {
    let parsed = line("           sleep-749   [001]    12.822789123: sys_exit:             NR 1 = 1");
    assert_eq!((parsed.comm, parsed.pid, parsed.cpu, parsed.flags), (&b"sleep"[..], 749, 1, 0));
    assert_eq!(parsed.stamp, Stamp::Nanoseconds(12_822_789_123));
    let parsed = line("            CPU 0/KV-205     1d.H1. 35012723394: kvm_entry:             vcpu 0 rip 0xeaba4");
    assert_eq!((parsed.comm, parsed.cpu, parsed.flags, parsed.preempt), (&b"CPU 0/KV"[..], 1, 1 | 8 | 16, 1));
    let parsed =
        line("host-a.dat:            <...>-888   [000] 70383424885: softirq_entry:        vec=1 [action=TIMER]");
    assert_eq!((parsed.prefix, parsed.comm, parsed.pid), (&b"host-a.dat"[..], &b"<...>"[..], 888));
}

#[test]
fn odd_thread_names() {
    for comm in ["a: b", "x-1 [000]", "12: 34", "(sd-pam)", "a(b)", "[kthread]", "-", "1: [002] 3", "ü"] {
        let text = format!("{comm:>16}-99      [003] .....  5: kvm_fpu: load");
        let parsed = line(&text);
        assert_eq!((String::from_utf8_lossy(parsed.comm).trim(), parsed.pid, parsed.cpu), (comm, 99, 3), "{text}");
    }
}

#[test]
fn lines_that_are_no_events() {
    for text in [
        "",
        "# a: b",
        " => vfs_read",
        "   1: x",
        "init-1 5: x",
        "init-1 [0a0] 5: x",
        "a-1 [000] 5.: x",
        "init-x [000] ..... 5: x",
    ] {
        assert_eq!(Line::parse(text.as_bytes()), None, "{text}");
    }
    let other = |text: &'static str| Other::parse(text.as_bytes());
    assert_eq!(other("CPU:3 [LOST 253 EVENTS]"), Other::Lost { prefix: b"", cpu: 3, count: Some(253) });
    assert_eq!(other("CPU:3 [LOST EVENTS]"), Other::Lost { prefix: b"", cpu: 3, count: None });
    assert_eq!(other("a.dat: CPU:0 [12 EVENTS DROPPED]"), Other::Lost { prefix: b"a.dat", cpu: 0, count: Some(12) });
    assert_eq!(other("  host.dat: cpus=2"), Other::Cpus { prefix: b"host.dat", count: 2 });
    assert_eq!(other("cpus=16"), Other::Cpus { prefix: b"", count: 16 });
    assert_eq!(other("# tracer: function_graph"), Other::Tracer(b"function_graph"));
    let entries = Other::Entries { left: 6, written: 9 };
    assert_eq!(other("# entries-in-buffer/entries-written: 6/9   #P:2"), entries);
    for text in ["#", "", "CPU 1 is empty", " => do_syscall_64", "##### CPU 1 buffer started ####"] {
        assert_eq!(Other::parse(text.as_bytes()), Other::Nothing, "{text}");
    }
    assert_eq!(other("hello, world"), Other::Unknown);
    assert_eq!(other("CPU 0/KVM-5 [000] what"), Other::Unknown, "an event that is not understood is not passed over");
}

#[test]
fn bodies_name_events() {
    let parse = |text: &'static str| {
        let body = Body::parse(text.as_bytes());
        let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (part(body.system), format!("{}{}", body.prefix, part(body.event)), part(body.text))
    };
    let cases = [
        ("kvm_fpu:              load", "", "kvm_fpu", "load"),
        ("kvm:kvm_fpu: load", "", "kvm_fpu", "load"),
        ("sys_openat(dfd: ffffff9c, mode: 0)", "", "sys_enter_openat", "dfd: ffffff9c, mode: 0"),
        ("sys_openat -> 0x3", "", "sys_exit_openat", "0x3"),
        ("tracing_mark_write: hello: x", "", "print", "hello: x"),
        ("print:                tracing_mark_write: hello", "", "print", "hello"),
        ("vfs_open <-do_open", "", "function", "vfs_open <-do_open"),
        ("<stack trace>", "", "kernel_stack", ""),
        ("no name here", "", "line", "no name here"),
        ("", "", "line", ""),
    ];
    for (text, system, event, rest) in cases {
        let system = if text.starts_with("kvm:") { "kvm" } else { system };
        assert_eq!(parse(text), (system.into(), event.into(), rest.into()), "{text}");
    }
}

#[test]
fn systems_by_name() {
    let cases = [
        ("sched_switch", "sched"),
        ("sys_enter", "raw_syscalls"),
        ("sys_enter_openat", "syscalls"),
        ("kvm_exit", "kvm"),
        ("kvm_mmu_get_page", "kvmmmu"),
        ("local_timer_entry", "irq_vectors"),
        ("page_fault_user", "exceptions"),
        ("block_rq_issue", "block"),
        ("my_own_event", "text"),
    ];
    for (event, system) in cases {
        assert_eq!(system_of(event), system, "{event}");
    }
}

#[test]
fn text_is_recognised() {
    assert!(is_ftrace_text(super::KERNEL.as_bytes()));
    assert!(is_ftrace_text(b"cpus=2\n"));
    assert!(is_ftrace_text(b"            init-1       [000] .....  5: a: b"));
    assert!(!is_ftrace_text(b"\x17\x08\x44tracing6\0"));
    assert!(!is_ftrace_text(b"hello\nworld\n"));
    assert!(!is_ftrace_text(b""));
}

#[test]
fn latency_columns_of_a_raw_report() {
    let parsed = line("        trace-cm-687     1-0x9 88750981398: sched_wakeup:          comm=x pid=7");
    assert_eq!((parsed.comm, parsed.pid, parsed.cpu), (&b"trace-cm"[..], 687, 1));
    assert_eq!(parsed.stamp, Stamp::Count(88_750_981_398));
}
