//! Functions and calls of a kernel, as slices.

use super::bench::{Bench, assert_log, setup};
use crate::capture::kallsyms::Kallsyms;
use crate::timeline::setup::Setup;

/// Guest a knows its functions.
fn known() -> Setup {
    let mut setup = setup();
    let text =
        "1000 T do_syscall_64\n2000 T ksys_read\n3000 T vfs_read\n4000 T do_softirq\n5000 T exit_work\n6000 T end\n";
    setup.sources[1].symbols = Some(Kallsyms::from_text(text).into());
    setup
}

/// What the events drew, without the events themselves and without the rows' names.
fn drawn(lines: &str) -> String {
    let mut bench = Bench::new(known());
    bench.feed(lines);
    let (log, ..) = bench.finish();
    let items = log.lines().filter(|line| line.contains(" vCPU ") && !line.contains("recording"));
    items.map(|line| line.trim().replace("VM a vCPU ", "")).collect::<Vec<_>>().join("\n")
}

#[test]
fn functions_nest_with_syscalls_that_they_overlap() {
    assert_log(
        &drawn(
            "100 a0 sched_switch prev_pid=0 next_comm=dd next_pid=7
             110 a0 funcgraph_entry pid=7 func=0x1000 depth=0
             120 a0 sys_enter pid=7 id=0
             130 a0 funcgraph_entry pid=7 func=0x2000 depth=1
             140 a0 funcgraph_exit pid=7 func=0x2000 depth=1 calltime=1000 rettime=1009
             150 a0 funcgraph_entry pid=7 func=0x5000 depth=1
             160 a0 sys_exit pid=7 id=0
             170 a0 funcgraph_exit pid=7 func=0x5000 depth=1 calltime=5 rettime=4
             180 a0 funcgraph_exit pid=7 func=0x1000 depth=0 calltime=1 rettime=71
             190 a0 funcgraph_entry pid=7 func=0x5000 depth=0
             200 a0 sys_enter pid=7 id=1
             210 a0 funcgraph_exit pid=7 func=0x5000 depth=0
             220 a0 sys_exit pid=7 id=1
             230 a0 sched_switch prev_pid=7 next_pid=0",
        ),
        // The way out of the syscall lasts longer than the syscall; the way into the next one ends inside it.
        "100 0: + dd [7] [task]
         110 0: + do_syscall_64 [function]
         120 0: + read [syscall]
         130 0: + ksys_read [function]
         140 0: - (function_ns 9)
         150 0: + exit_work [function]
         160 0: -
         160 0: -
         160 0: + exit_work [function] (continued true)
         170 0: -
         180 0: - (function_ns 70)
         190 0: + exit_work [function]
         200 0: + write [syscall]
         210 0: -
         210 0: - (function_ns 0)
         210 0: + write [syscall] (continued true)
         220 0: -
         230 0: -",
    );
}

#[test]
fn functions_go_on_with_their_task_on_another_vcpu() {
    assert_log(
        &drawn(
            "100 a0 sched_switch prev_pid=0 next_comm=dd next_pid=7
             110 a0 sys_enter pid=7 id=0
             120 a0 funcgraph_entry pid=7 func=0x3000 depth=0
             125 a0 local_timer_entry pid=7 vector=236
             126 a0 funcgraph_entry pid=7 func=0x4000 depth=1
             130 a0 sched_switch prev_pid=7 prev_state=1 next_comm=x next_pid=8
             132 a0 funcgraph_entry pid=7 func=0x5000 depth=1
             134 a0 funcgraph_exit pid=7 func=0x5000 depth=1
             140 a1 sched_switch prev_pid=0 next_comm=dd next_pid=7
             150 a1 funcgraph_exit pid=7 func=0x3000 depth=0
             160 a1 sys_exit pid=7 id=0
             170 a0 funcgraph_exit pid=8 func=0x3000 depth=0",
        ),
        // What interrupted the task is over when another one runs. The old task's last function is drawn where it ran, and
        // a return without a call is of before the recording.
        "100 0: + dd [7] [task]
         110 0: + read [syscall]
         120 0: + vfs_read [function]
         125 0: + irq local_timer [irq]
         126 0: + do_softirq [function]
         130 0: -
         130 0: -
         130 0: -
         130 0: -
         130 0: -
         130 0: + x [8] [task]
         132 0: + exit_work [function]
         134 0: - (function_ns 0)
         140 1: + dd [7] [task]
         140 1: + read [syscall] (continued true)
         140 1: + vfs_read [function] (continued true)
         150 1: - (function_ns 0)
         160 1: -
         170 0: - (truncated true)
         160 1: - (truncated true)",
    );
}

#[test]
fn a_return_that_was_not_seen_does_not_break_nesting() {
    assert_log(
        &drawn(
            "100 a0 sched_switch prev_pid=0 next_comm=dd next_pid=7
             110 a0 funcgraph_entry pid=7 func=0x1000 depth=0
             120 a0 funcgraph_entry pid=7 func=0x2000 depth=1
             130 a0 funcgraph_entry pid=7 func=0x3000 depth=2
             140 a0 funcgraph_entry pid=7 func=0x5000 depth=1
             150 a0 funcgraph_exit pid=7 func=0x2000 depth=1
             160 a0 funcgraph_exit pid=7 func=0x1000 depth=0
             170 a0 funcgraph_entry pid=7 func=0x1000 depth=0
             180 a0 funcgraph_entry pid=7 func=0x2000 depth=1
             185 a1 sched_switch prev_pid=9 prev_state=1 next_pid=0
             190 a0 LOST 5
             200 a0 funcgraph_exit pid=7 func=0x1000 depth=0
             210 a0 funcgraph_entry pid=7 func=0x3000 depth=3
             220 a0 funcgraph_exit pid=7 func=0x3000 depth=3",
        ),
        "100 0: + dd [7] [task]
         110 0: + do_syscall_64 [function]
         120 0: + ksys_read [function]
         130 0: + vfs_read [function]
         140 0: -
         140 0: -
         140 0: + exit_work [function]
         160 0: -
         160 0: - (function_ns 0)
         170 0: + do_syscall_64 [function]
         180 0: + ksys_read [function]
         180 0: - (events_lost 5)
         180 0: - (events_lost 5)
         180 0: - (events_lost 5)
         210 0: + vfs_read [function]
         220 0: - (function_ns 0)",
    );
}

#[test]
fn calls_last_as_long_as_they_are_known_to_be_active() {
    assert_log(
        &drawn(
            "100 a0 sched_switch prev_pid=0 next_comm=dd next_pid=7
             110 a0 function pid=7 ip=0x1004 parent_ip=0x9000
             120 a0 function pid=7 ip=0x2004 parent_ip=0x1050
             130 a0 function pid=7 ip=0x3004 parent_ip=0x2050
             140 a0 function pid=7 ip=0x5004 parent_ip=0x1060
             150 a0 function pid=7 ip=0x1004 parent_ip=0x9000
             160 a0 local_timer_entry pid=7 vector=236
             170 a0 function pid=7 ip=0x4004 parent_ip=0x1070
             180 a0 local_timer_exit pid=7 vector=236
             190 a0 sched_switch prev_pid=7 next_pid=0",
        ),
        // ksys_read ends at its last known call, do_syscall_64 at its own. A call whose caller is not open is by itself.
        "100 0: + dd [7] [task]
         110 0: + do_syscall_64 [function] (parent end)
         120 0: + ksys_read [function] (parent do_syscall_64)
         130 0: + vfs_read [function] (parent ksys_read)
         130 0: -
         130 0: -
         140 0: + exit_work [function] (parent do_syscall_64)
         140 0: -
         140 0: -
         150 0: + do_syscall_64 [function] (parent end)
         150 0: -
         160 0: + irq local_timer [irq]
         170 0: + do_softirq [function] (parent do_syscall_64)
         170 0: -
         180 0: -
         190 0: -",
    );
}

#[test]
fn a_host_with_vms_shows_its_functions_in_its_cpus() {
    let mut setup = known();
    setup.sources[0] = setup.sources[1].clone();
    let mut bench = Bench::new(setup);
    bench.feed(
        "100 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
         110 h0 funcgraph_entry pid=10 func=0x3000 depth=0
         115 h0 timer_start pid=10
         120 h0 print pid=10 buf=note
         130 h0 sched_switch prev_pid=10 prev_state=1 next_pid=0
         140 h1 sched_switch prev_pid=0 next_comm=qemu next_pid=10
         150 h1 funcgraph_exit pid=10 func=0x3000 depth=0 rettime=7",
    );
    let (log, outcome, _) = bench.finish();
    let host: Vec<&str> = log.lines().filter(|line| line.contains("Host CPU")).map(str::trim).collect();
    assert_log(
        &host.join("\n"),
        "100 Host CPU 0: + a vCPU 0 [host]
         110 Host CPU 0: + vfs_read [host]
         120 Host CPU 0: . note [host] (ip=0 buf=Some(Text([110, 111, 116, 101])))
         130 Host CPU 0: -
         130 Host CPU 0: -
         140 Host CPU 1: + a vCPU 0 [host]
         140 Host CPU 1: + vfs_read [host] (continued true)
         150 Host CPU 1: - (function_ns 7)
         150 Host CPU 1: - (truncated true)",
    );
    assert_eq!((&outcome.counts.written[..2], &outcome.counts.filtered[..2]), (&[4, 2][..], &[1, 0][..]));
}
