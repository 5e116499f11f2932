//! What programs mark, counters, requests; and what is drawn where context switches are missing.

use super::bench::{Bench, assert_log, setup};

/// What the events drew, without the events themselves.
fn drawn(lines: &str) -> String {
    let mut bench = Bench::new(setup());
    bench.feed(lines);
    let (log, outcome, _) = bench.finish();
    let read = lines.lines().filter(|line| !line.contains("LOST") && !line.contains("ENDS")).count() as u64;
    let count = |of: &[u64]| of.iter().sum::<u64>();
    assert_eq!(count(&outcome.counts.written) + count(&outcome.counts.filtered), read, "the account is closed");
    let items = log.lines().map(str::trim).filter(|line| {
        let second = line.split(' ').nth(1).unwrap_or("");
        !matches!(second, "a0" | "a1" | "h0" | "h1") && !line.contains("recording") && *line != "FINISH"
    });
    items.map(|line| line.replace("VM a vCPU ", "")).collect::<Vec<_>>().join("\n")
}

#[test]
fn marked_slices_are_around_the_syscalls_that_write_them() {
    assert_log(
        &drawn(
            "100 a0 sched_switch prev_pid=0 next_comm=app next_pid=7
             110 a0 sys_enter pid=7 id=1
             120 a0 print pid=7 buf=B|7|outer
             130 a0 sys_exit pid=7 id=1
             140 a0 print pid=7 buf=B|7|inner
             150 a0 sched_switch prev_pid=7 next_pid=0
             160 a1 sched_switch prev_pid=0 next_comm=app next_pid=7
             170 a1 sys_enter pid=7 id=1
             180 a1 print pid=7 buf=E|7
             190 a1 sys_exit pid=7 id=1
             200 a1 print pid=7 buf=E
             210 a1 print pid=7 buf=E|7",
        ),
        "100 0: + app [7] [task]
         110 0: + write [syscall]
         120 0: -
         120 0: + outer [marker]
         120 0: + write [syscall] (continued true)
         130 0: -
         140 0: + inner [marker]
         150 0: -
         150 0: -
         150 0: -
         160 1: + app [7] [task]
         160 1: + outer [marker] (continued true)
         160 1: + inner [marker] (continued true)
         170 1: + write [syscall]
         180 1: -
         180 1: -
         180 1: + write [syscall] (continued true)
         190 1: -
         200 1: -
         210 1: - (truncated true)",
    );
}

#[test]
fn counters_have_a_row_per_process_and_name() {
    assert_log(
        &drawn(
            "100 a0 print pid=7 buf=C|7|depth|3
             110 a1 print pid=8 buf=C|8|depth|-1.5
             120 a1 print pid=7 buf=C|7|depth|4
             130 a1 print pid=7 buf=C|7|depth|many
             140 a0 print pid=7 buf=I|7|vsync",
        ),
        "ROW VM a, all vCPUs in
         ROW depth in VM a, all vCPUs
         100 depth: = 3
         ROW depth in VM a, all vCPUs
         110 depth: = -1.5
         120 depth: = 4
         130 Events, a vCPU 1: . C|7|depth|many [event] (ip=0 buf=Some(Text([67, 124, 55, 124, 100, 101, 112, 116, 104, 124, 109, 97, 110, 121])))
         140 Events, a vCPU 0: . vsync [event] (ip=0 buf=Some(Text([73, 124, 55, 124, 118, 115, 121, 110, 99])))",
    );
}

#[test]
fn requests_that_overlap_lie_in_rows_of_one_name() {
    assert_log(
        &drawn(
            "100 a0 block_rq_issue pid=7 dev=8 sector=100 rwbs=R
             110 a0 block_rq_issue pid=7 dev=9 sector=100 rwbs=W
             120 a1 block_rq_complete pid=0 dev=8 sector=100
             130 a1 block_rq_issue pid=7 dev=8 sector=200 rwbs=R
             140 a0 print pid=7 buf=S|7|frame|1
             150 a1 print pid=8 buf=F|7|frame|1
             160 a1 block_rq_complete pid=0 dev=9 sector=100
             170 a1 block_rq_complete pid=0 dev=9 sector=100
             180 a0 LOST",
        ),
        "ROW VM a, all vCPUs in
         ROW block requests, a in VM a, all vCPUs
         100 block requests, a: + block R [event] (dev=8 sector=100 rwbs=Some(Text([82])))
         ROW block requests, a in VM a, all vCPUs
         110 block requests, a: + block W [event] (dev=9 sector=100 rwbs=Some(Text([87])))
         120 block requests, a: -
         130 block requests, a: + block R [event] (dev=8 sector=200 rwbs=Some(Text([82])))
         ROW frame in VM a, all vCPUs
         140 frame: + frame [marker]
         150 frame: -
         160 block requests, a: -
         170 Events, a vCPU 1: . block_rq_complete [event] (dev=9 sector=100)
         140 block requests, a: - (events_lost true)",
    );
}

#[test]
fn without_context_switches_syscalls_and_interrupts_are_right() {
    assert_log(
        &drawn(
            "100 a0 sys_enter pid=7 id=0
             110 a0 softirq_entry pid=7 vec=1
             115 a0 timer_expire_entry pid=7 timer=1 function=2
             117 a0 timer_expire_exit pid=7 timer=1
             120 a0 softirq_exit pid=7 vec=1
             130 a0 sys_enter pid=8 id=1
             140 a0 sys_exit pid=8 id=1
             150 a1 sys_enter pid=9 id=202
             160 a1 sys_exit pid=7 id=0
             170 a1 sys_exit pid=9 id=202
             180 a0 softirq_entry pid=0 vec=3
             190 a0 softirq_exit pid=0 vec=3",
        ),
        // Task 7 left vCPU 0 unseen before 130 and came to vCPU 1 unseen before 160, while task 9 slept.
        "100 0: + read [syscall]
         110 0: + softirq TIMER [irq]
         115 0: + timer 0x2 [irq]
         117 0: -
         120 0: -
         130 0: -
         130 0: + write [syscall]
         140 0: -
         150 1: + futex [syscall]
         160 1: -
         160 1: + read [syscall] (continued true)
         160 1: -
         170 1: + futex [syscall] (continued true)
         170 1: -
         180 0: + softirq NET_RX [irq]
         190 0: -",
    );
}

#[test]
fn what_began_before_the_recording_ends_without_a_trace() {
    assert_log(
        &drawn(
            "100 a0 sys_exit pid=7 id=0
             110 a0 softirq_exit pid=7 vec=1
             120 a0 local_timer_exit pid=7 vector=236
             130 a0 workqueue_execute_end pid=7 work=1
             140 a0 funcgraph_exit pid=7 func=1 depth=3
             150 a0 print pid=7 buf=E|7
             160 a0 print pid=7 buf=F|7|frame|1
             170 a0 sched_switch prev_pid=7 next_comm=dd next_pid=8
             180 a0 sched_switch prev_pid=8 next_pid=0",
        ),
        "170 0: + dd [8] [task]
         180 0: -",
    );
}

#[test]
fn lost_events_end_what_waits_too() {
    assert_log(
        &drawn(
            "100 a0 sched_switch prev_pid=0 next_comm=dd next_pid=7
             110 a0 sys_enter pid=7 id=0
             120 a0 sched_switch prev_pid=7 prev_state=1 next_pid=0
             130 a1 LOST 3
             140 a0 sched_switch prev_pid=0 next_comm=dd next_pid=7
             150 a0 sys_exit pid=7 id=0
             160 a0 sched_switch prev_pid=7 next_pid=0",
        ),
        // The read may have ended on vCPU 1, unseen.
        "100 0: + dd [7] [task]
         110 0: + read [syscall]
         120 0: -
         120 0: -
         140 0: + dd [7] [task]
         160 0: -",
    );
}
