//! What statistics need beyond the picture, computed by hand.

use super::bench::{Bench, setup};
use crate::timeline::{RanInstead, TaskTimes};

#[test]
fn a_task_gets_what_its_vcpu_gets() {
    let mut bench = Bench::new(setup());
    bench.timeline.keep_durations();
    bench.feed(
        "100 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
         110 h0 kvm_entry pid=10
         120 a1 sched_waking pid=50
         200 a0 sched_switch prev_pid=0 next_comm=job next_pid=50
         250 a0 sched_waking pid=50
         300 h0 kvm_exit pid=10 exit_reason=1 isa=1
         310 h0 sched_switch prev_pid=10 prev_state=0 next_comm=hog next_pid=5
         390 h0 sched_switch prev_pid=5 prev_state=0 next_comm=elf next_pid=6
         410 h0 sched_switch prev_pid=6 prev_state=0 next_comm=qemu next_pid=10
         420 h0 kvm_entry pid=10
         500 a0 sched_switch prev_pid=50 prev_state=1 next_pid=0
         520 h0 kvm_exit pid=10 exit_reason=12 isa=1
         530 h0 sched_switch prev_pid=10 prev_state=1 next_pid=0
         600 h1 sched_wakeup pid=10 target_cpu=0
         650 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
         660 h0 kvm_entry pid=10
         700 a0 sched_switch prev_pid=0 next_comm=job next_pid=50",
    );
    let (_, outcome, _) = bench.finish();
    // In the guest from 200 to 300 and from 420 to 500; in the host from 300 to 310 and from 410 to 420. The wakeup at 250
    // was before it slept.
    let job = TaskTimes { vm: 0, task: "job [50]".into(), running_ns: 300, guest_ns: 180, exit_ns: 20, stolen_ns: 100 };
    assert_eq!(outcome.tasks, [job]);
    assert_eq!(outcome.guest_waits, [vec![80], vec![]]);
    let vcpu = &outcome.vcpus[0];
    let ran = |task: &str, count, total_ns| RanInstead { task: task.into(), count, total_ns };
    assert_eq!(vcpu.ran_instead, [ran("hog [5]", 1, 80), ran("elf [6]", 0, 20)]);
    assert_eq!((vcpu.instead_idle_ns, vcpu.instead_unknown_ns), (50, 0));
    assert_eq!((vcpu.states.preempted, vcpu.states.waiting), (100, 50));
    assert_eq!(vcpu.waits, [50]);
    let causes: Vec<&str> = outcome.longest_stalls.iter().map(|stall| &*stall.cause).collect();
    assert_eq!(
        causes,
        [
            "its thread was runnable but lost CPU 0 during exit EXTERNAL_INTERRUPT: hog [5] ran 0.000 ms, \
             elf [6] ran 0.000 ms",
            "its thread was runnable, woken by swapper on CPU 1, but did not get CPU 0: it was idle for 0.000 ms",
        ]
    );
}

#[test]
fn a_loss_ends_what_is_known_of_a_task() {
    let mut bench = Bench::new(setup());
    bench.timeline.keep_durations();
    bench.feed(
        "110 h0 kvm_entry pid=10
         150 a0 sched_waking pid=51
         200 a0 sched_switch prev_pid=0 next_comm=job next_pid=50
         300 a0 sys_enter pid=50 id=0
         900 a0 LOST 7
         950 a0 sched_switch prev_pid=50 prev_state=1 next_comm=other next_pid=51
         990 a0 sched_switch prev_pid=51 prev_state=1 next_pid=0",
    );
    let (_, outcome, _) = bench.finish();
    let times: Vec<(&str, u64, u64)> =
        outcome.tasks.iter().map(|task| (&*task.task, task.running_ns, task.guest_ns)).collect();
    assert_eq!(times, [("job [50]", 100, 100), ("other [51]", 40, 40)]);
    assert!(outcome.guest_waits[0].is_empty());
}

#[test]
fn nothing_crosses_a_pause() {
    let mut setup = setup();
    setup.options.whole_recordings = false;
    let mut bench = Bench::new(setup);
    bench.timeline.keep_durations();
    bench.feed(
        "100 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
         110 h0 kvm_entry pid=10
         200 a0 sched_switch prev_pid=0 next_comm=job next_pid=50",
    );
    bench.timeline.pause(crate::time::HostTsc::new(250));
    bench.feed("1000 h0 kvm_exit pid=10 exit_reason=1 isa=1\n1100 h0 kvm_entry pid=10");
    let (log, outcome, items) = bench.finish();
    assert_eq!(outcome.vcpus[0].states.guest, 140);
    assert_eq!(outcome.vcpus[0].states.exit, 100);
    assert_eq!((outcome.tasks[0].running_ns, outcome.tasks[0].guest_ns), (50, 50));
    let ends = items.iter().filter(|item| item.ts.get() == 250).count();
    assert_eq!(ends, 3, "the task on the CPU, the guest state and the guest's task end: {log}");
}
