//! Arrows of `--flows all`: what is joined, and above all what is not.

use std::collections::HashMap;

use super::bench::{Bench, setup};
use crate::timeline::setup::{Flows, Setup};

fn all() -> Setup {
    let mut setup = setup();
    setup.options.flows = Flows::All;
    setup.vms[0].threads = vec![100, 101];
    setup.host_comms.push((90, "vhost-100".into()));
    setup
}

/// All arrows that these events draw: "row time name -> row time name".
fn arrows(events: &str) -> Vec<String> {
    arrows_of(all(), events)
}

fn arrows_of(setup: Setup, events: &str) -> Vec<String> {
    let mut bench = Bench::new(setup);
    bench.feed(events);
    let (log, ..) = bench.finish();
    let mut tails: HashMap<&str, String> = HashMap::new();
    let mut found = Vec::new();
    for line in log.lines().map(str::trim) {
        let (what, flows) = line.split_once(" ~").unwrap_or((line, ""));
        let (time, rest) = what.split_once(' ').unwrap_or_default();
        let (row, name) = rest.split_once(": + ").unwrap_or_default();
        let end = format!("{row} {time} {}", name.split(" [").next().unwrap_or(""));
        for flow in flows.split(" ~").filter(|flow| !flow.is_empty()) {
            if let Some(tail) = flow.strip_prefix('>').and_then(|flow| tails.get(flow)) {
                found.push(format!("{tail} -> {end}"));
            }
            tails.insert(flow.trim_start_matches('>'), end.clone());
        }
    }
    found
}

const RUNNING: &str = "
    1 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
    2 h1 sched_switch prev_pid=0 next_comm=qemu next_pid=11
    3 h0 kvm_entry pid=10
    4 h1 kvm_entry pid=11
";

#[test]
fn an_injected_vector_leads_to_its_handler_and_no_other() {
    let found = arrows(&format!(
        "{RUNNING}
        10 h0 kvm_exit pid=10 exit_reason=12 isa=1
        11 h0 kvm_inj_virq pid=10 vector=0xec
        12 h0 kvm_entry pid=10
        20 a0 local_timer_entry vector=0xfd
        21 a0 local_timer_exit vector=0xfd
        22 a1 local_timer_entry vector=0xec
        23 a1 local_timer_exit vector=0xec
        30 a0 local_timer_entry vector=0xec
        31 a0 local_timer_exit vector=0xec
        32 a0 local_timer_entry vector=0xec"
    ));
    assert_eq!(found, ["Host state, a vCPU 0 10 HLT -> VM a vCPU 0 30 irq local_timer"]);
}

#[test]
fn an_injection_that_is_made_again_counts_once() {
    let found = arrows(&format!(
        "{RUNNING}
        10 h0 kvm_exit pid=10 exit_reason=12 isa=1
        11 h0 kvm_inj_virq pid=10 vector=0xec
        12 h0 kvm_entry pid=10
        13 h0 kvm_exit pid=10 exit_reason=48 isa=1
        14 h0 kvm_inj_virq pid=10 vector=0xec
        15 h0 kvm_inj_virq pid=10 vector=0xec
        16 h0 kvm_entry pid=10
        30 a0 local_timer_entry vector=0xec"
    ));
    assert_eq!(found, ["Host state, a vCPU 0 13 EPT_VIOLATION -> VM a vCPU 0 30 irq local_timer"]);
}

#[test]
fn an_acknowledged_vector_has_one_more_window_for_its_handler() {
    let events = |windows: &str| {
        format!(
            "{RUNNING}
            10 h0 kvm_exit pid=10 exit_reason=12 isa=1
            11 h0 kvm_inj_virq pid=10 vector=0xec
            12 h0 kvm_entry pid=10
            13 h0 kvm_exit pid=10 exit_reason=48 isa=1
            14 h0 kvm_eoi pid=10 vector=0xec
            15 h0 kvm_entry pid=10
            {windows}
            30 a0 local_timer_entry vector=0xec"
        )
    };
    assert_eq!(arrows(&events("")), ["Host state, a vCPU 0 10 HLT -> VM a vCPU 0 30 irq local_timer"]);
    assert!(arrows(&events("20 h0 kvm_exit pid=10 exit_reason=48 isa=1\n21 h0 kvm_entry pid=10")).is_empty());
}

#[test]
fn an_ipi_waits_for_its_own_injection() {
    // It is accepted while the handler of the one before is about to begin.
    let found = arrows(&format!(
        "{RUNNING}
        10 h1 kvm_exit pid=11 exit_reason=12 isa=1
        11 h1 kvm_inj_virq pid=11 vector=0xfd
        12 h1 kvm_entry pid=11
        20 h0 kvm_exit pid=10 exit_reason=48 isa=1
        21 h0 kvm_apic_accept_irq pid=10 apicid=1 vec=0xfd
        22 h0 kvm_apic_accept_irq pid=10 apicid=1 vec=0xfd
        23 h0 kvm_apic_accept_irq pid=10 apicid=1 dm=0x600 vec=0xfd
        24 h0 kvm_apic_accept_irq pid=10 apicid=7 vec=0xfd
        30 a1 local_timer_entry vector=0xfd
        31 a1 local_timer_exit vector=0xfd
        40 h1 kvm_exit pid=11 exit_reason=12 isa=1
        41 h1 kvm_inj_virq pid=11 vector=0xfd
        42 h1 kvm_entry pid=11
        50 a1 local_timer_entry vector=0xfd"
    ));
    assert_eq!(
        found,
        [
            "Host state, a vCPU 1 10 HLT -> VM a vCPU 1 30 irq local_timer",
            "Host state, a vCPU 0 20 EPT_VIOLATION -> VM a vCPU 1 50 irq local_timer",
            "Host state, a vCPU 1 40 HLT -> VM a vCPU 1 50 irq local_timer",
        ]
    );
}

#[test]
fn an_exit_that_sends_two_has_two_arrows() {
    let found = arrows(&format!(
        "{RUNNING}
        20 h0 kvm_exit pid=10 exit_reason=48 isa=1
        21 h0 kvm_apic_accept_irq pid=10 apicid=1 vec=0xfd
        22 h0 kvm_apic_accept_irq pid=10 apicid=0 vec=0xfb
        23 h0 kvm_entry pid=10
        30 a0 local_timer_entry vector=0xfb
        31 a1 local_timer_entry vector=0xfd"
    ));
    assert_eq!(
        found,
        [
            "Host state, a vCPU 0 22 sends 0xfb to a vCPU 0 -> VM a vCPU 0 30 irq local_timer",
            "Host state, a vCPU 0 20 EPT_VIOLATION -> VM a vCPU 1 31 irq local_timer",
        ],
        "posted interrupts: no injection was ever seen"
    );
}

#[test]
fn an_interrupt_of_unknown_origin_goes_to_no_vm() {
    // Both VMs have a vCPU 0, only a has a vCPU 1. Thread 101 is of a's process.
    let found = arrows(&format!(
        "{RUNNING}
        10 h0 kvm_apic_accept_irq pid=10 common_flags=8 apicid=0 vec=0x25
        11 h0 kvm_apic_accept_irq pid=10 common_flags=8 apicid=1 vec=0x25
        12 h1 kvm_apic_accept_irq pid=101 apicid=0 vec=0x26
        20 a0 local_timer_entry vector=0x25
        21 a1 local_timer_entry vector=0x25
        22 a0 local_timer_entry vector=0x26
        23 b0 local_timer_entry vector=0x26"
    ));
    let found: Vec<_> = found.iter().map(String::as_str).collect();
    assert!(!found.iter().any(|arrow| arrow.ends_with("VM a vCPU 0 20 irq local_timer")), "{found:?}");
    assert!(found[0].contains("11 sends 0x25 to a vCPU 1 -> VM a vCPU 1 21"), "{found:?}");
    assert!(found[1].contains("12 sends 0x26 to a vCPU 0 -> VM a vCPU 0 22"), "{found:?}");
    assert_eq!(found.len(), 2);
}

#[test]
fn without_vectors_timers_and_devices_are_matched_only_where_that_is_sure() {
    let events = |injected: &str| {
        format!(
            "{RUNNING}
            10 h0 kvm_exit pid=10 exit_reason=12 isa=1
            {injected}
            19 h0 kvm_entry pid=10
            20 a0 hrtimer_expire_entry hrtimer=1
            21 a0 hrtimer_expire_exit hrtimer=1
            22 a0 softirq_entry vec=1
            23 a0 softirq_exit vec=1
            24 a0 irq_handler_entry irq=5 name=eth0"
        )
    };
    let inject = |vectors: &[&str]| {
        let lines = vectors.iter().map(|vector| format!("11 h0 kvm_inj_virq pid=10 vector={vector}"));
        arrows(&events(&lines.collect::<Vec<_>>().join("\n")))
    };
    assert_eq!(inject(&["0x25"]), ["Host state, a vCPU 0 10 HLT -> VM a vCPU 0 24 irq eth0"]);
    assert_eq!(inject(&["0xec"]), ["Host state, a vCPU 0 10 HLT -> VM a vCPU 0 20 hrtimer 0x0"]);
    assert!(inject(&["0xfd"]).is_empty());
    assert!(inject(&["0x25", "0x26"]).is_empty(), "either may be eth0's");
}

#[test]
fn a_kick_leads_to_the_threads_next_slice() {
    let found = arrows(&format!(
        "{RUNNING}
        10 h0 kvm_exit pid=10 exit_reason=48 isa=1
        11 h0 sched_waking pid=90 target_cpu=1 common_pid=10
        12 h0 kvm_mmio pid=10 type=1
        13 h0 sched_waking pid=90 target_cpu=1 common_pid=10
        14 h0 kvm_mmio pid=10 type=2
        15 h0 sched_waking pid=5 target_cpu=1 common_pid=10
        16 h0 sched_waking pid=101 target_cpu=1 common_pid=10 common_flags=8
        17 h0 sched_waking pid=90 target_cpu=1 common_pid=10
        18 h0 kvm_entry pid=10
        30 h1 sched_switch prev_pid=11 next_comm=vhost-100 next_pid=90
        31 h1 sched_switch prev_pid=90 prev_state=1 next_comm=qemu next_pid=101
        32 h1 sched_switch prev_pid=101 prev_state=1 next_comm=other next_pid=5
        33 h1 sched_switch prev_pid=5 prev_state=1 next_comm=vhost-100 next_pid=90"
    ));
    let kicks: Vec<_> = found.iter().filter(|arrow| !arrow.contains("guest")).collect();
    assert_eq!(kicks, ["Host state, a vCPU 0 10 EPT_VIOLATION -> Host CPU 1 30 a vhost"]);
}

#[test]
fn who_runs_already_is_not_kicked_and_a_loss_forgets() {
    let kick = "10 h0 kvm_exit pid=10 exit_reason=48 isa=1
        14 h0 kvm_mmio pid=10 type=2
        17 h0 sched_waking pid=101 target_cpu=1 common_pid=10
        18 h0 kvm_entry pid=10";
    let runs = format!(
        "{RUNNING}
        5 h1 sched_switch prev_pid=11 prev_state=0 next_comm=qemu next_pid=101
        {kick}
        31 h1 sched_switch prev_pid=101 prev_state=1 next_comm=other next_pid=5
        32 h1 sched_switch prev_pid=5 prev_state=1 next_comm=qemu next_pid=101"
    );
    assert!(!arrows(&runs).iter().any(|arrow| arrow.contains("a qemu [101]")));
    let lost = format!(
        "{RUNNING}
        {kick}
        30 h1 LOST
        31 h1 sched_switch prev_pid=0 next_comm=qemu next_pid=101"
    );
    assert!(!arrows(&lost).iter().any(|arrow| arrow.contains("a qemu [101]")));
}

#[test]
fn a_wakeup_leads_to_the_run_and_on_to_the_entry() {
    let events = |again: &str| {
        format!(
            "{RUNNING}
            10 h0 kvm_exit pid=10 exit_reason=12 isa=1
            11 h0 sched_switch prev_pid=10 prev_state=1 next_pid=0
            20 h1 sched_waking pid=10 target_cpu=0 common_pid=11
            21 h1 sched_wakeup pid=10 target_cpu=0 common_pid=11
            30 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
            {again}
            50 h0 kvm_entry pid=10"
        )
    };
    let run = "Host CPU 1 20 wakes a vCPU 0 -> Host CPU 0 30 a vCPU 0";
    assert_eq!(arrows(&events("")), [run, "Host CPU 0 30 a vCPU 0 -> Host state, a vCPU 0 50 guest"]);
    // Preempted on the way, it still goes on because of the wakeup.
    let preempted = "31 h0 sched_switch prev_pid=10 prev_state=0 next_pid=0
        32 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10";
    assert_eq!(arrows(&events(preempted)).len(), 2);
    // Asleep again, it does not.
    let asleep = "31 h0 sched_switch prev_pid=10 prev_state=1 next_pid=0
        32 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10";
    assert_eq!(arrows(&events(asleep)), [run]);
}

#[test]
fn host_work_is_a_path_from_the_exit_to_the_entry() {
    let found = arrows(&format!(
        "{RUNNING}
        10 h0 kvm_exit pid=10 exit_reason=1 isa=1
        11 h0 irq_handler_entry pid=10 irq=1 name=x
        12 h0 irq_handler_entry pid=10 irq=2 name=y
        13 h0 irq_handler_exit pid=10 irq=2
        14 h0 irq_handler_exit pid=10 irq=1
        15 h0 irq_handler_entry pid=10 irq=3 name=z
        16 h0 irq_handler_exit pid=10 irq=3
        17 h0 kvm_entry pid=10
        20 h0 kvm_exit pid=10 exit_reason=48 isa=1
        21 h0 irq_handler_entry pid=10 irq=1 name=x
        22 h0 irq_handler_exit pid=10 irq=1
        23 h0 kvm_entry pid=10
        30 h0 irq_handler_entry pid=10 irq=1 name=x
        31 h0 irq_handler_exit pid=10 irq=1
        32 h0 kvm_exit pid=10 exit_reason=1 isa=1"
    ));
    assert_eq!(
        found,
        [
            "Host state, a vCPU 0 10 EXTERNAL_INTERRUPT -> Host CPU 0 11 irq x",
            "Host CPU 0 11 irq x -> Host CPU 0 15 irq z",
            "Host CPU 0 15 irq z -> Host state, a vCPU 0 17 guest",
            // Recorded before the exit that it is the reason for.
            "Host CPU 0 30 irq x -> Host state, a vCPU 0 32 EXTERNAL_INTERRUPT",
        ]
    );
}

#[test]
fn the_default_draws_none_of_them() {
    let mut setup = all();
    setup.options.flows = Flows::Stalls;
    let found = arrows_of(
        setup,
        &format!(
            "{RUNNING}
        10 h0 kvm_exit pid=10 exit_reason=12 isa=1
        11 h0 sched_switch prev_pid=10 prev_state=1 next_pid=0
        20 h1 sched_waking pid=10 target_cpu=0 common_pid=11
        30 h0 sched_switch prev_pid=0 next_comm=qemu next_pid=10
        31 h0 kvm_inj_virq pid=10 vector=0xec
        40 h0 kvm_entry pid=10
        50 a0 local_timer_entry vector=0xec"
        ),
    );
    assert!(found.is_empty(), "{found:?}");
}
