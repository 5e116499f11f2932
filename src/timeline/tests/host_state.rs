//! The Host CPU rows and the Host state rows.

use super::bench::{Bench, assert_log, setup};
use crate::timeline::StateTimes;

#[test]
fn a_vcpu_runs_exits_halts_is_woken_and_runs() {
    let mut bench = Bench::new(setup());
    bench.feed(
        "100 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
         110 h0 kvm_entry pid=10
         200 h0 kvm_exit pid=10 exit_reason=12 isa=1 guest_rip=0x10 info1=1 info2=2
         210 h0 kvm_inj_virq pid=10 vector=0xec
         220 h0 kvm_inj_virq pid=10 vector=0xed
         230 h0 sched_switch prev_pid=10 prev_state=1 next_pid=0
         300 h1 sched_waking pid=10 target_cpu=0 common_pid=70
         330 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
         350 h0 kvm_entry pid=10
         400 h0 kvm_exit pid=10 exit_reason=48 isa=1",
    );
    let (log, outcome, _) = bench.finish();
    assert_log(
        &log,
        "100 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
           100 Host CPU 0: + a vCPU 0 [host]
         110 h0 kvm_entry pid=10
           110 Host state, a vCPU 0: + guest [guest]
         200 h0 kvm_exit pid=10 exit_reason=12 isa=1 guest_rip=0x10 info1=1 info2=2
           200 Host state, a vCPU 0: -
           200 Host state, a vCPU 0: + HLT [exit] (rip 0x10, info1 0x1, info2 0x2, cpu 0)
         210 h0 kvm_inj_virq pid=10 vector=0xec
         220 h0 kvm_inj_virq pid=10 vector=0xed
         230 h0 sched_switch prev_pid=10 prev_state=1 next_pid=0
           230 Host state, a vCPU 0: + halted [off-cpu] #halted
           230 Host CPU 0: -
         300 h1 sched_waking pid=10 target_cpu=0 common_pid=70
           300 Host state, a vCPU 0: -
           300 Host state, a vCPU 0: + waiting for CPU [off-cpu] #off-cpu
         330 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
           300 VM a vCPU 0: + kept waiting, CPU 0 idle [off-cpu] #off-cpu (cpu 0, woken_by waker [70], woken_on_cpu 1)
           330 VM a vCPU 0: -
           330 Host state, a vCPU 0: -
           330 Host CPU 0: + a vCPU 0 [host]
         350 h0 kvm_entry pid=10
           350 Host state, a vCPU 0: - (kvm_inj_virq: IRQ 0xec, kvm_inj_virq_2: IRQ 0xed)
           350 Host state, a vCPU 0: + guest [guest]
         400 h0 kvm_exit pid=10 exit_reason=48 isa=1
           400 Host state, a vCPU 0: -
           400 Host state, a vCPU 0: + EPT_VIOLATION [exit] (rip 0x0, info1 0x0, info2 0x0, cpu 0)
         FINISH
           400 Host state, a vCPU 0: - (truncated true)
           400 Host CPU 0: - (truncated true)",
    );
    let states = outcome.vcpus[0].states;
    let expected = StateTimes { guest: 140, exit: 50, halted: 70, waiting: 30, ..StateTimes::default() };
    assert_eq!(states, expected);
    assert_eq!(states.total(), 400 - 110);
    let halts = &outcome.vcpus[0].exits[0];
    assert_eq!((&*halts.reason, halts.count, halts.total_ns, halts.on_cpu_ns), ("HLT", 1, 150, 50));
    assert_eq!(outcome.counts.written, [9, 1, 0, 0, 0]);
}

#[test]
fn kvm_events_before_the_first_entry_and_a_missing_exit() {
    let mut bench = Bench::new(setup());
    bench.feed(
        "100 h0 kvm_inj_virq pid=10 vector=1
         120 h0 kvm_inj_virq pid=10 vector=2
         150 h0 kvm_entry pid=10
         160 h0 sched_switch prev_pid=10 prev_state=0x100 next_comm=bash next_pid=5
         190 h0 sched_switch prev_pid=5 prev_state=1 next_comm=qemu next_pid=10
         200 h0 kvm_entry pid=10
         210 h0 kvm_exit pid=10 exit_reason=99 isa=1
         215 h0 sched_switch prev_pid=10 prev_state=0x10 next_pid=0",
    );
    let (log, outcome, _) = bench.finish();
    assert_log(
        &log,
        "100 h0 kvm_inj_virq pid=10 vector=1
           100 Host state, a vCPU 0: + before first entry [off-cpu]
         120 h0 kvm_inj_virq pid=10 vector=2
         150 h0 kvm_entry pid=10
           150 Host state, a vCPU 0: -
           150 Host state, a vCPU 0: + guest [guest]
         160 h0 sched_switch prev_pid=10 prev_state=0x100 next_comm=bash next_pid=5
           160 Host state, a vCPU 0: -
           160 Host state, a vCPU 0: + exit not recorded [exit] (cpu 0)
           160 Host state, a vCPU 0: + preempted [off-cpu] #off-cpu
           160 Host CPU 0: + bash [5] [host] ~1
         190 h0 sched_switch prev_pid=5 prev_state=1 next_comm=qemu next_pid=10
           160 VM a vCPU 0: + preempted by bash [5] [off-cpu] #off-cpu (by bash [5], cpu 0, ran_instead_1 bash [5] 0.000 ms) ~1
           190 VM a vCPU 0: -
           190 Host state, a vCPU 0: -
           190 Host CPU 0: -
           190 Host CPU 0: + a vCPU 0 [host]
         200 h0 kvm_entry pid=10
           200 Host state, a vCPU 0: -
           200 Host state, a vCPU 0: + guest [guest]
         210 h0 kvm_exit pid=10 exit_reason=99 isa=1
           210 Host state, a vCPU 0: -
           210 Host state, a vCPU 0: + exit 0x63 [exit] (rip 0x0, info1 0x0, info2 0x0, cpu 0)
         215 h0 sched_switch prev_pid=10 prev_state=0x10 next_pid=0
           215 Host state, a vCPU 0: -
           215 Host CPU 0: -
         FINISH",
    );
    let states = outcome.vcpus[0].states;
    assert_eq!((states.before_first_entry, states.guest, states.exit, states.preempted), (50, 20, 15, 30));
}

#[test]
fn lost_host_events_end_what_was_known() {
    let mut bench = Bench::new(setup());
    bench.feed(
        "100 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
         110 h0 kvm_entry pid=10
         120 h1 sched_switch prev_pid=0 next_comm=qemu next_pid=11
         130 h1 kvm_entry pid=11
         500 h0 LOST 7
         510 h0 kvm_inj_virq pid=10 vector=1
         520 h0 kvm_entry pid=10
         600 h1 LOST",
    );
    let (log, outcome, _) = bench.finish();
    assert_log(
        &log,
        "100 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
           100 Host CPU 0: + a vCPU 0 [host]
         110 h0 kvm_entry pid=10
           110 Host state, a vCPU 0: + guest [guest]
         120 h1 sched_switch prev_pid=0 next_comm=qemu next_pid=11
           120 Host CPU 1: + a vCPU 1 [host]
         130 h1 kvm_entry pid=11
           130 Host state, a vCPU 1: + guest [guest]
         500 h0 LOST 7
           110 Host state, a vCPU 0: - (events_lost 7)
           110 Host CPU 0: - (events_lost 7)
         510 h0 kvm_inj_virq pid=10 vector=1
           510 Host state, a vCPU 0: + exit not recorded [exit] (cpu 0)
         520 h0 kvm_entry pid=10
           520 Host state, a vCPU 0: - (kvm_inj_virq: IRQ 0x1)
           520 Host state, a vCPU 0: + guest [guest]
         600 h1 LOST
           130 Host state, a vCPU 1: - (events_lost true)
           130 Host CPU 1: - (events_lost true)
         FINISH
           520 Host state, a vCPU 0: - (truncated true)",
    );
    assert_eq!(outcome.vcpus[0].states.total(), 10);
}

#[test]
fn interrupts_nest_in_tasks_and_name_who_woke() {
    let mut bench = Bench::new(setup());
    bench.feed(
        "100 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
         110 h0 kvm_entry pid=10
         120 h0 kvm_exit pid=10 exit_reason=12 isa=1
         130 h0 sched_switch prev_pid=10 prev_state=1 next_comm=bash next_pid=5
         140 h0 irq_handler_entry pid=5 irq=24 name=virtio0
         145 h0 sched_waking pid=10 target_cpu=0 common_pid=5 common_flags=8
         150 h0 irq_handler_exit pid=5 irq=24
         155 h0 timer_start pid=5
         160 h0 sched_switch prev_pid=5 next_comm=qemu next_pid=10",
    );
    let (log, outcome, _) = bench.finish();
    let from = log.find("140 h0").unwrap();
    assert_log(
        &log[from..],
        "140 h0 irq_handler_entry pid=5 irq=24 name=virtio0
           140 Host CPU 0: + irq virtio0 [host]
         145 h0 sched_waking pid=10 target_cpu=0 common_pid=5 common_flags=8
           145 Host state, a vCPU 0: -
           145 Host state, a vCPU 0: + waiting for CPU [off-cpu] #off-cpu
         150 h0 irq_handler_exit pid=5 irq=24
           150 Host CPU 0: -
         155 h0 timer_start pid=5
         160 h0 sched_switch prev_pid=5 next_comm=qemu next_pid=10
           145 VM a vCPU 0: + kept waiting by bash [5] [off-cpu] #off-cpu (by bash [5], cpu 0, ran_instead_1 bash [5] 0.000 ms, woken_by irq virtio0, woken_on_cpu 0) ~1
           160 VM a vCPU 0: -
           160 Host state, a vCPU 0: -
           160 Host CPU 0: -
           160 Host CPU 0: + a vCPU 0 [host]
         FINISH
           160 Host state, a vCPU 0: - (truncated true)
           160 Host CPU 0: - (truncated true)",
    );
    // The timer_start is not drawn beside VMs.
    assert_eq!((outcome.counts.written[0], outcome.counts.filtered[0]), (8, 1));
}

#[test]
fn the_hosts_own_syscalls_and_work_are_drawn_and_go_on_after_a_switch() {
    let mut setup = setup();
    setup.sources[0] = setup.sources[1].clone();
    let mut bench = Bench::new(setup);
    bench.feed(
        "100 h0 sched_switch prev_pid=0 next_comm=bash next_pid=5
         110 h0 sys_enter pid=5 id=1
         120 h0 sched_switch prev_pid=5 prev_state=0 next_comm=kworker/0:0 next_pid=7
         130 h0 workqueue_execute_start pid=7 work=1 function=2
         140 h0 workqueue_execute_end pid=7 work=1
         150 h0 sched_switch prev_pid=7 prev_state=1 next_comm=bash next_pid=5
         160 h0 sys_exit pid=5 id=1
         170 h0 sys_enter pid=5 id=60
         180 h0 sched_switch prev_pid=5 prev_state=0x20 next_pid=0
         190 h0 sched_switch prev_pid=0 next_comm=new next_pid=5",
    );
    let (log, ..) = bench.finish();
    let drawn: Vec<_> = log.lines().filter(|line| line.contains("Host CPU 0: ")).map(str::trim).collect();
    assert_eq!(
        drawn,
        [
            "100 Host CPU 0: + bash [5] [host]",
            "110 Host CPU 0: + write [host]",
            "120 Host CPU 0: -",
            "120 Host CPU 0: -",
            "120 Host CPU 0: + kworker/0:0 [7] [host]",
            "130 Host CPU 0: + work 0x2 [host] (work=1 function=2)",
            "140 Host CPU 0: -",
            "150 Host CPU 0: -",
            "150 Host CPU 0: + bash [5] [host]",
            "150 Host CPU 0: + write [host] (continued true)",
            "160 Host CPU 0: -",
            "170 Host CPU 0: + exit [host]",
            "180 Host CPU 0: -",
            "180 Host CPU 0: -",
            "190 Host CPU 0: + new [5] [host]",
            "190 Host CPU 0: - (truncated true)",
        ]
    );
}

#[test]
fn threads_of_a_vms_process_go_by_its_name() {
    let mut setup = setup();
    setup.vms[0].threads = vec![100, 101, 102];
    setup.vms[1].pid = Some(200);
    let mut bench = Bench::new(setup);
    bench.feed(
        "100 h0 sched_switch prev_pid=0 next_comm=qemu-system-x86 next_pid=100
         110 h0 sched_switch prev_pid=100 next_comm=iothread next_pid=101
         120 h0 sched_switch prev_pid=101 next_comm=worker next_pid=102
         130 h0 sched_switch prev_pid=102 next_comm=vhost-200 next_pid=61
         140 h0 sched_switch prev_pid=61 next_comm=vhost-300 next_pid=62
         150 h0 sched_switch prev_pid=62 next_comm=kvm-pit/100 next_pid=63
         160 h0 sched_switch prev_pid=63 next_comm=worker next_pid=64",
    );
    let (log, ..) = bench.finish();
    let names: Vec<_> =
        log.lines().filter_map(|line| line.split_once("Host CPU 0: + ")).map(|(_, name)| name).collect();
    assert_eq!(
        names,
        [
            "a qemu [100] [host]",
            "a iothread [101] [host]",
            "a worker [102] [host]",
            "b vhost [61] [host]",
            "vhost-300 [62] [host]",
            "a kvm-pit [63] [host]",
            "worker [64] [host]",
        ]
    );
}
