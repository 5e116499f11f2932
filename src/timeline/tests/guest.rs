//! Guest rows, and the rows of a host without VMs.

use super::bench::{Bench, assert_log, lone_setup, setup};
use crate::capture::kallsyms::Kallsyms;

#[test]
fn a_syscall_goes_on_when_its_task_runs_again_elsewhere() {
    let mut bench = Bench::new(setup());
    bench.feed(
        "100 a0 sched_switch prev_pid=0 next_comm=dd next_pid=761
         110 a0 sys_enter pid=761 id=0
         120 a0 sched_switch prev_pid=761 prev_state=1 next_pid=0
         130 a1 sched_switch prev_pid=0 next_comm=dd next_pid=761
         140 a1 sys_exit pid=761 id=0
         150 a1 sys_enter pid=761 id=9999
         160 a1 sys_exit pid=761 id=9999
         165 a1 sys_enter pid=761 id=231
         170 a1 sched_switch prev_pid=761 prev_state=0x20 next_pid=0
         180 a0 sched_switch prev_pid=0 next_comm=new next_pid=761
         190 a0 sys_exit pid=761 id=56",
    );
    let (log, outcome, _) = bench.finish();
    assert_log(
        &log,
        "100 a0 sched_switch prev_pid=0 next_comm=dd next_pid=761
           100 VM a vCPU 0: . guest recording starts
           100 VM a vCPU 0: + dd [761] [task]
         110 a0 sys_enter pid=761 id=0
           110 VM a vCPU 0: + read [syscall]
         120 a0 sched_switch prev_pid=761 prev_state=1 next_pid=0
           120 VM a vCPU 0: -
           120 VM a vCPU 0: -
         130 a1 sched_switch prev_pid=0 next_comm=dd next_pid=761
           130 VM a vCPU 1: . guest recording starts
           130 VM a vCPU 1: + dd [761] [task]
           130 VM a vCPU 1: + read [syscall] (continued true)
         140 a1 sys_exit pid=761 id=0
           140 VM a vCPU 1: -
         150 a1 sys_enter pid=761 id=9999
           150 VM a vCPU 1: + syscall 9999 [syscall]
         160 a1 sys_exit pid=761 id=9999
           160 VM a vCPU 1: -
         165 a1 sys_enter pid=761 id=231
           165 VM a vCPU 1: + exit_group [syscall]
         170 a1 sched_switch prev_pid=761 prev_state=0x20 next_pid=0
           170 VM a vCPU 1: -
           170 VM a vCPU 1: -
         180 a0 sched_switch prev_pid=0 next_comm=new next_pid=761
           180 VM a vCPU 0: + new [761] [task]
         190 a0 sys_exit pid=761 id=56
         FINISH
           190 VM a vCPU 0: - (truncated true)
           190 VM a vCPU 0: . guest recording ends
           170 VM a vCPU 1: . guest recording ends",
    );
    assert_eq!(outcome.counts.written[2..4], [5, 6]);
}

#[test]
fn interrupts_nest_and_broken_nesting_is_repaired() {
    let mut setup = setup();
    let symbols = Kallsyms::from_text("ffffffff81000100 t tick_sched_timer\nffffffff81000900 T next\n");
    setup.sources[1].symbols = Some(symbols.into());
    let mut bench = Bench::new(setup);
    bench.feed(
        "100 a0 local_timer_entry pid=0 vector=236
         110 a0 hrtimer_expire_entry pid=0 hrtimer=0xffff888000000010 function=0xffffffff81000100
         120 a0 timer_start pid=0 timer=0xffff888000000020
         130 a0 hrtimer_expire_exit pid=0 hrtimer=0xffff888000000010
         140 a0 local_timer_exit pid=0 vector=236
         150 a0 softirq_entry pid=0 vec=1
         160 a0 irq_handler_entry pid=0 irq=5 name=eth0
         170 a0 softirq_exit pid=0 vec=1
         180 a0 irq_handler_exit pid=0 irq=5
         190 b0 hrtimer_expire_entry pid=0 hrtimer=1 function=0xffffffff81000100",
    );
    let (log, ..) = bench.finish();
    assert_log(
        &log,
        "100 a0 local_timer_entry pid=0 vector=236
           100 VM a vCPU 0: . guest recording starts
           100 VM a vCPU 0: + irq local_timer [irq]
         110 a0 hrtimer_expire_entry pid=0 hrtimer=0xffff888000000010 function=0xffffffff81000100
           110 VM a vCPU 0: + hrtimer tick_sched_timer [irq]
         120 a0 timer_start pid=0 timer=0xffff888000000020
           120 Events, a vCPU 0: . timer_start [event] (timer=18446612682070032416)
         130 a0 hrtimer_expire_exit pid=0 hrtimer=0xffff888000000010
           130 VM a vCPU 0: -
         140 a0 local_timer_exit pid=0 vector=236
           140 VM a vCPU 0: -
         150 a0 softirq_entry pid=0 vec=1
           150 VM a vCPU 0: + softirq TIMER [irq]
         160 a0 irq_handler_entry pid=0 irq=5 name=eth0
           160 VM a vCPU 0: + irq eth0 [irq]
         170 a0 softirq_exit pid=0 vec=1
           170 VM a vCPU 0: -
           170 VM a vCPU 0: -
         180 a0 irq_handler_exit pid=0 irq=5
         190 b0 hrtimer_expire_entry pid=0 hrtimer=1 function=0xffffffff81000100
           190 VM b vCPU 0: . guest recording starts
           190 VM b vCPU 0: + hrtimer 0xffffffff81000100 [irq]
         FINISH
           180 VM a vCPU 0: . guest recording ends
           190 VM b vCPU 0: - (truncated true)
           190 VM b vCPU 0: . guest recording ends",
    );
}

#[test]
fn a_syscall_recorded_by_two_events_is_drawn_once() {
    let mut bench = Bench::new(setup());
    bench.feed(
        "100 a0 sched_switch prev_pid=0 next_comm=dd next_pid=7
         110 a0 sys_enter pid=7 id=257
         111 a0 sys_enter_openat pid=7
         120 a0 sys_exit_openat pid=7
         121 a0 sys_exit pid=7 id=257
         130 a0 workqueue_execute_start pid=7 work=1 function=2
         140 a0 workqueue_execute_end pid=7 work=1
         150 a0 LOST
         160 a0 ENDS
         170 a0 ENDS",
    );
    let (log, ..) = bench.finish();
    let from = log.find("110 a0").unwrap();
    assert_log(
        &log[from..],
        "110 a0 sys_enter pid=7 id=257
           110 VM a vCPU 0: + openat [syscall]
         111 a0 sys_enter_openat pid=7
         120 a0 sys_exit_openat pid=7
           120 VM a vCPU 0: -
         121 a0 sys_exit pid=7 id=257
         130 a0 workqueue_execute_start pid=7 work=1 function=2
           130 VM a vCPU 0: + work 0x2 [event] (work=1 function=2)
         140 a0 workqueue_execute_end pid=7 work=1
           140 VM a vCPU 0: -
         150 a0 LOST
           140 VM a vCPU 0: - (events_lost true)
         160 a0 ENDS
           160 VM a vCPU 0: . guest recording ends
         170 a0 ENDS
         FINISH",
    );
}

#[test]
fn a_host_without_vms_is_drawn_like_a_guest() {
    let mut bench = Bench::new(lone_setup());
    bench.feed(
        "100 h0 sched_switch prev_pid=0 next_comm=dd next_pid=7
         110 h0 sys_enter pid=7 id=1
         120 h0 timer_start pid=7 timer=3
         130 h0 sched_switch prev_pid=7 next_pid=0
         140 h1 sched_switch prev_pid=0 next_comm=dd next_pid=7",
    );
    let (log, outcome, _) = bench.finish();
    assert_log(
        &log,
        "100 h0 sched_switch prev_pid=0 next_comm=dd next_pid=7
           100 Host CPU 0: + dd [7] [host]
         110 h0 sys_enter pid=7 id=1
           110 Host CPU 0: + write [host]
         120 h0 timer_start pid=7 timer=3
           120 Events, CPU 0: . timer_start [host] (timer=3)
         130 h0 sched_switch prev_pid=7 next_pid=0
           130 Host CPU 0: -
           130 Host CPU 0: -
         140 h1 sched_switch prev_pid=0 next_comm=dd next_pid=7
           140 Host CPU 1: + dd [7] [host]
           140 Host CPU 1: + write [host] (continued true)
         FINISH
           140 Host CPU 1: - (truncated true)
           140 Host CPU 1: - (truncated true)",
    );
    assert_eq!(outcome.counts.written, [4, 1]);
}
