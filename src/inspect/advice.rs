//! What is missing for a good merge, and how to record it next time.

use serde::Serialize;

use super::is_inferred;
use crate::capture::{Capture, Clock};
use crate::session::survey::Survey;
use crate::session::{Role, Session};

/// One thing that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// What, and what follows from it.
    pub what: String,
    /// How to record it.
    pub how: String,
}

fn advice(what: impl Into<String>, how: impl Into<String>) -> Advice {
    Advice { what: what.into(), how: how.into() }
}

/// What can be said without knowing whose capture it is.
pub(super) fn of_capture(capture: &Capture, survey: &Survey) -> Vec<Advice> {
    let mut missing = Vec::new();
    let path = capture.path.display();
    let lost: u64 = survey.streams.iter().map(|s| s.lost).fold(0, u64::saturating_add);
    let places: u64 = survey.streams.iter().map(|s| s.lost_unknown).sum();
    let overwritten: u64 =
        capture.info.cpu_stats.iter().map(|s| s.overrun.saturating_add(s.dropped)).fold(0, u64::saturating_add);
    if lost > 0 || places > 0 || overwritten > 0 {
        let counted = if lost > 0 { format!(", {lost} within the recording") } else { String::new() };
        missing.push(advice(
            format!("{path}: events were lost ({overwritten} by the kernel's counters{counted})"),
            "larger buffers: trace-cmd record -b 65536, or buffer_size_kb; and fewer events",
        ));
    }
    if survey.events() == 0 {
        let how = "was tracing_on 1, and were events enabled, while it recorded?";
        missing.push(advice(format!("{path}: there is no event in it"), how));
    }
    if survey.unknown > 0 {
        missing.push(advice(
            format!("{path}: {} events have no description, and no name", survey.unknown),
            "copy events/*/*/format of the same boot",
        ));
    }
    missing
}

/// What can be said when it is known who is who.
pub(super) fn of_session(session: &Session) -> Vec<Advice> {
    let mut missing = Vec::new();
    for input in &session.inputs {
        missing.extend(of_capture(&input.capture, &input.survey));
        match input.role {
            Role::Host => host(session, &input.capture, &input.survey, &mut missing),
            Role::Guest(_) => guest(&input.capture, &input.survey, &mut missing),
            Role::Offsets | Role::Nobody => {}
        }
    }
    for (index, vm) in session.vms.iter().enumerate() {
        let with_capture = session.inputs.iter().any(|i| i.role == Role::Guest(index));
        if !with_capture {
            missing.push(advice(
                format!("VM {}: no guest's capture belongs to it, only the host's view is drawn", vm.name),
                "in the guest: trace-cmd record -C x86-tsc -e sched -e irq -e syscalls",
            ));
            continue;
        }
        let sources = vm.vcpus.iter().flat_map(|v| &v.history.segments).map(|s| s.source);
        let none = vm.vcpus.iter().any(|v| v.history.segments.is_empty());
        if none || sources.into_iter().any(is_inferred) {
            missing.push(advice(
                format!("VM {}: its TSC offsets were not recorded", vm.name),
                "before the VM starts, on the host: an ftrace instance with the clock x86-tsc and the event \
                 kvm:kvm_write_tsc_offset; for a VM that runs: grep . /sys/kernel/debug/kvm/*/vcpu*/tsc-offset > \
                 offsets-debugfs.txt",
            ));
        }
        if vm.pid.is_none() {
            missing.push(advice(
                format!("VM {}: its process is not known", vm.name),
                "a file pids.txt beside the captures with NAME=PID",
            ));
        }
    }
    if session.rate.hz.is_none() {
        missing.push(advice(
            "the TSC rate is not known: one cycle is shown as one nanosecond",
            "dmesg > host-dmesg.txt on the host, or --tsc-hz",
        ));
    }
    missing
}

fn has(capture: &Capture, survey: &Survey, system: &str, event: &str) -> bool {
    let index = capture.formats.find(system, event);
    index.and_then(|i| survey.counts.get(usize::from(i))).is_some_and(|&count| count > 0)
}

fn host(session: &Session, capture: &Capture, survey: &Survey, missing: &mut Vec<Advice>) {
    let path = capture.path.display();
    let kvm = [("kvm", "kvm_entry"), ("kvm", "kvm_exit")];
    if let Some((_, event)) = kvm.into_iter().find(|(system, event)| !has(capture, survey, system, event)) {
        missing.push(advice(
            format!("{path}: the host recorded no {event}: nothing shows when a vCPU runs"),
            "on the host: trace-cmd record -C x86-tsc -e kvm -e sched",
        ));
    }
    if !has(capture, survey, "sched", "sched_switch") {
        missing.push(advice(
            format!("{path}: the host recorded no sched_switch: what keeps a vCPU waiting is not shown"),
            "on the host: trace-cmd record -C x86-tsc -e kvm -e sched",
        ));
    }
    if capture.buffers.iter().all(|buffer| buffer.clock != Clock::X86Tsc) && !session.vms.is_empty() {
        missing.push(advice(
            format!("{path}: the host did not use the clock x86-tsc: guests cannot be placed"),
            "on the host: trace-cmd record -C x86-tsc, or echo x86-tsc > trace_clock",
        ));
    }
}

fn guest(capture: &Capture, survey: &Survey, missing: &mut Vec<Advice>) {
    let path = capture.path.display();
    let other = capture.buffers.iter().find_map(|buffer| match &buffer.clock {
        Clock::Other(name) if !buffer.streams.is_empty() => Some(name),
        _ => None,
    });
    if let Some(clock) = other {
        missing.push(advice(
            format!("{path}: the guest used the clock {clock}: it is placed by inference"),
            "in the guest: trace-cmd record -C x86-tsc, or echo x86-tsc > trace_clock",
        ));
    }
    if !has(capture, survey, "sched", "sched_switch") {
        missing.push(advice(
            format!("{path}: the guest recorded no sched_switch: its tasks are not shown"),
            "in the guest: trace-cmd record -C x86-tsc -e sched",
        ));
    }
}
