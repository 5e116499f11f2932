//! Stall marks: who is blamed, and that they are cut, never crossed.

use super::bench::{Bench, assert_log, setup};
use crate::timeline::setup::Flows;

const MS: u64 = 1_000_000;

/// The lines of a log that a row drew.
fn row(log: &str, row: &str) -> String {
    log.lines().filter(|line| line.contains(&format!(" {row}: "))).collect::<Vec<_>>().join("\n")
}

/// Lines whose leading time is in microseconds.
fn us(lines: &str) -> String {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.split_once(' ').map_or(String::new(), |(us, rest)| format!("{us}000 {rest}\n"))).collect()
}

#[test]
fn the_longest_runner_is_blamed_and_linked() {
    let mut bench = Bench::new(setup());
    bench.feed(&us("1000 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
         1010 h0 kvm_entry pid=10
         2000 h0 kvm_exit pid=10 exit_reason=1 isa=1
         2010 h0 sched_switch prev_pid=10 prev_state=0 next_comm=short next_pid=5
         3010 h0 sched_switch prev_pid=5 prev_state=1 next_comm=backup next_pid=812
         8010 h0 sched_switch prev_pid=812 prev_state=0 next_comm=qemu next_pid=20
         9010 h0 sched_switch prev_pid=20 prev_state=0 next_comm=backup next_pid=812
         10010 h0 sched_switch prev_pid=812 prev_state=0 next_pid=0
         10090 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
         10100 h0 kvm_entry pid=10"));
    let (log, outcome, _) = bench.finish();
    // `backup` ran 5 ms + 1 ms; its first slice, the longest, has the second flow id.
    assert_log(
        &row(&log, "VM a vCPU 0"),
        "2010000 VM a vCPU 0: + preempted by backup [812] [off-cpu] #off-cpu (by backup [812], cpu 0, \
         ran_instead_1 backup [812] 6.000 ms, ran_instead_2 short [5] 1.000 ms, ran_instead_3 b vCPU 0 1.000 ms) ~2
         10090000 VM a vCPU 0: -",
    );
    assert!(log.contains("3010000 Host CPU 0: + backup [812] [host] ~2"), "{log}");
    let stall = &outcome.longest_stalls[0];
    assert_eq!((stall.vm, stall.vcpu, stall.start.get(), stall.length_ns), (0, 0, 2_010_000, 8_080_000));
    assert_eq!(stall.name, "preempted by backup [812]");
    assert_eq!(outcome.vcpus[0].states.preempted, 8_080_000);
    assert_eq!(outcome.vcpus[0].states.exit, 20_000);
}

#[test]
fn an_idle_cpu_is_no_preemptor() {
    let mut bench = Bench::new(setup());
    bench.feed(&us("1010 h0 kvm_entry pid=10
         2000 h0 kvm_exit pid=10 exit_reason=1 isa=1
         2010 h0 sched_switch prev_pid=10 prev_state=0 next_pid=0
         9000 h0 sched_switch prev_pid=0 next_comm=tick next_pid=5
         9010 h0 sched_switch prev_pid=5 prev_state=1 next_comm=qemu next_pid=10"));
    let (log, ..) = bench.finish();
    assert_log(
        &row(&log, "VM a vCPU 0"),
        "2010000 VM a vCPU 0: + preempted, CPU 0 idle [off-cpu] #off-cpu (cpu 0, ran_instead_1 tick [5] 0.010 ms)
         9010000 VM a vCPU 0: -",
    );
}

#[test]
fn long_exits_are_marks_and_halts_are_none() {
    let mut bench = Bench::new(setup());
    bench.feed(&us("1000 h0 kvm_entry pid=10
         2000 h0 kvm_exit pid=10 exit_reason=48 isa=1
         2099 h0 kvm_entry pid=10
         3000 h0 kvm_exit pid=10 exit_reason=48 isa=1
         3100 h0 kvm_entry pid=10
         4000 h0 kvm_exit pid=10 exit_reason=12 isa=1
         4500 h0 sched_switch prev_pid=10 prev_state=1 next_pid=0
         5000 h0 sched_waking pid=10 target_cpu=0
         5000 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
         5200 h0 kvm_entry pid=10
         6000 h0 kvm_exit pid=10 exit_reason=48 isa=1
         6010 h0 sched_switch prev_pid=10 prev_state=2 next_pid=0
         7000 h1 sched_waking pid=10 target_cpu=0 common_pid=70
         7000 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
         7005 h0 kvm_entry pid=10"));
    let (log, outcome, _) = bench.finish();
    assert_log(
        &row(&log, "VM a vCPU 0"),
        "3000000 VM a vCPU 0: + EPT_VIOLATION [exit] (cpu 0)
         3100000 VM a vCPU 0: -
         5000000 VM a vCPU 0: + HLT [exit] (cpu 0)
         5200000 VM a vCPU 0: -
         6010000 VM a vCPU 0: + blocked [off-cpu] #off-cpu (woken_by waker [70], woken_on_cpu 1)
         7000000 VM a vCPU 0: -",
    );
    let names: Vec<_> = outcome.longest_stalls.iter().map(|stall| (&*stall.name, stall.length_ns)).collect();
    assert_eq!(names, [("blocked", 990_000), ("HLT", 200_000), ("EPT_VIOLATION", 100_000)]);
}

#[test]
fn a_wait_for_another_cpu_than_guessed_blames_that_cpu() {
    let mut bench = Bench::new(setup());
    bench.feed(&us("1000 h0 kvm_entry pid=10
         2000 h0 kvm_exit pid=10 exit_reason=12 isa=1
         2010 h0 sched_switch prev_pid=10 prev_state=1 next_comm=left next_pid=5
         2500 h1 sched_switch prev_pid=0 next_comm=right next_pid=6
         3000 h1 sched_waking pid=10 target_cpu=0 common_pid=70
         4000 h1 sched_switch prev_pid=6 next_comm=qemu next_pid=10
         4010 h1 kvm_entry pid=10"));
    let (log, ..) = bench.finish();
    let drawn = row(&log, "VM a vCPU 0");
    assert!(
        drawn.contains(
            "kept waiting by right [6] [off-cpu] #off-cpu (by right [6], cpu 1, ran_instead_1 right [6] 1.000 ms"
        ),
        "{log}"
    );
}

#[test]
fn a_migrated_wait_blames_the_cpu_it_moved_to() {
    let mut bench = Bench::new(setup());
    bench.feed(&us("1000 h0 kvm_entry pid=10
         2000 h0 kvm_exit pid=10 exit_reason=12 isa=1
         2010 h0 sched_switch prev_pid=10 prev_state=1 next_comm=left next_pid=5
         2500 h1 sched_switch prev_pid=0 next_comm=right next_pid=6
         3000 h1 sched_waking pid=10 target_cpu=0 common_pid=70
         3001 h1 sched_migrate_task pid=10 dest_cpu=1
         4000 h1 sched_switch prev_pid=6 next_comm=qemu next_pid=10"));
    let (log, ..) = bench.finish();
    let drawn = row(&log, "VM a vCPU 0");
    assert!(drawn.contains("kept waiting by right [6]") && drawn.contains("ran_instead_1 right [6] 0.999 ms"), "{log}");
    assert!(!drawn.contains("left"), "{log}");
}

#[test]
fn a_guest_event_inside_a_mark_cuts_it() {
    let mut bench = Bench::new(setup());
    bench.feed(&us("900 a0 sched_switch prev_pid=0 next_comm=dd next_pid=761
         1000 h0 kvm_entry pid=10
         2000 h0 kvm_exit pid=10 exit_reason=1 isa=1
         2010 h0 sched_switch prev_pid=10 prev_state=0 next_comm=bash next_pid=5
         3000 a0 sys_enter pid=761 id=1
         3500 a0 timer_start pid=761
         4010 h0 sched_switch prev_pid=5 prev_state=0 next_comm=qemu next_pid=10
         4020 h0 kvm_entry pid=10
         4500 a0 sys_exit pid=761 id=1"));
    let (log, outcome, _) = bench.finish();
    assert_log(
        &row(&log, "VM a vCPU 0"),
        "900000 VM a vCPU 0: . guest recording starts
         900000 VM a vCPU 0: + dd [761] [task]
         2010000 VM a vCPU 0: + preempted by bash [5] [off-cpu] #off-cpu (by bash [5], cpu 0, ran_instead_1 bash [5] 0.990 ms) ~1
         3000000 VM a vCPU 0: -
         3000000 VM a vCPU 0: + write [syscall]
         3000000 VM a vCPU 0: + preempted by bash [5] [off-cpu] #off-cpu (by bash [5], cpu 0, ran_instead_1 bash [5] 2.000 ms) ~1
         4010000 VM a vCPU 0: -
         4500000 VM a vCPU 0: -
         4500000 VM a vCPU 0: - (truncated true)
         4500000 VM a vCPU 0: . guest recording ends",
    );
    assert_eq!(outcome.marks_cut, 1);
    assert_eq!(outcome.longest_stalls.len(), 1);
    assert_eq!(outcome.longest_stalls[0].length_ns, 2 * MS);
}

#[test]
fn flows_can_be_switched_off() {
    let mut setup = setup();
    setup.options.flows = Flows::None;
    let mut bench = Bench::new(setup);
    bench.feed(&us("1000 h0 kvm_entry pid=10
         2000 h0 kvm_exit pid=10 exit_reason=1 isa=1
         2010 h0 sched_switch prev_pid=10 prev_state=0 next_comm=bash next_pid=5
         4010 h0 sched_switch prev_pid=5 prev_state=0 next_comm=qemu next_pid=10"));
    let (log, ..) = bench.finish();
    assert!(log.contains("preempted by bash [5]") && !log.contains('~'), "{log}");
}

#[test]
fn a_mark_that_is_open_at_the_end_is_truncated() {
    let mut bench = Bench::new(setup());
    bench.feed(&us("1000 h0 kvm_entry pid=10
         2000 h0 kvm_exit pid=10 exit_reason=1 isa=1
         2010 h0 sched_switch prev_pid=10 prev_state=0 next_comm=bash next_pid=5
         4010 h0 irq_handler_entry pid=5 irq=1 name=x"));
    let (log, ..) = bench.finish();
    assert_log(
        &row(&log, "VM a vCPU 0"),
        "2010000 VM a vCPU 0: + preempted by bash [5] [off-cpu] #off-cpu (by bash [5], cpu 0, ran_instead_1 bash [5] 2.000 ms) ~1
         4010000 VM a vCPU 0: - (truncated true)",
    );
}

#[test]
fn a_mark_says_which_vm_its_preemptor_belongs_to() {
    let mut setup = setup();
    setup.vms[0].threads = vec![100];
    let mut bench = Bench::new(setup);
    bench.feed(&us("1000 h0 kvm_entry pid=10
         2000 h0 kvm_exit pid=10 exit_reason=1 isa=1
         2010 h0 sched_switch prev_pid=10 prev_state=0 next_comm=qemu next_pid=20
         3010 h0 sched_switch prev_pid=20 prev_state=0 next_comm=qemu next_pid=10
         3020 h0 sched_switch prev_pid=10 prev_state=0 next_comm=qemu-kvm next_pid=100
         4020 h0 sched_switch prev_pid=100 prev_state=0 next_comm=qemu next_pid=10"));
    let (log, ..) = bench.finish();
    let drawn = row(&log, "VM a vCPU 0");
    assert!(drawn.contains("+ preempted by b vCPU 0 [off-cpu] #off-cpu (by b vCPU 0, by_vm b, cpu 0"), "{drawn}");
    assert!(
        drawn.contains("+ preempted by a qemu [100] [off-cpu] #off-cpu (by a qemu [100], by_vm a, cpu 0"),
        "{drawn}"
    );
}
