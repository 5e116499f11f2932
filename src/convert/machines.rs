//! The machines of a session, for the native layer.

use std::collections::{BTreeMap, BTreeSet};

use crate::session::{Input, Role, Session};
use crate::timeline::native::{Kernel, Machine, MachineSource, Thread};
use crate::timeline::setup::NativeEvents;

/// The host, then the VMs; nothing where there is no native layer.
pub(super) fn machines(session: &Session, native: NativeEvents) -> Vec<Machine> {
    if native == NativeEvents::None {
        return Vec::new();
    }
    let host = machine(session, None, |role| matches!(role, Role::Host | Role::Offsets));
    let guests = (0..session.vms.len()).map(|vm| machine(session, Some(vm), |role| role == Role::Guest(vm)));
    std::iter::once(host).chain(guests).collect()
}

fn machine(session: &Session, vm: Option<usize>, is: impl Fn(Role) -> bool) -> Machine {
    let inputs: Vec<(usize, &Input)> = session.inputs.iter().enumerate().filter(|(_, i)| is(i.role)).collect();
    let uname = inputs.iter().find_map(|(_, input)| input.capture.info.uname.as_deref());
    let sources = inputs.iter().map(|(index, input)| MachineSource {
        source: *index as u16,
        recorded: input.survey.counts.iter().map(|&count| count > 0).collect(),
    });
    Machine {
        name: vm.and_then(|vm| session.vms.get(vm)).map(|vm| vm.name.clone()),
        kernel: uname.map(kernel).unwrap_or_default(),
        cpu_count: cpu_count(&inputs),
        threads: threads(session, vm, &inputs),
        sources: sources.collect(),
    }
}

/// `Linux nodename release machine`.
fn kernel(uname: &str) -> Kernel {
    let mut words = uname.split_ascii_whitespace().map(str::to_owned);
    let mut next = || words.next().unwrap_or_default();
    let (system, _, release, machine) = (next(), next(), next(), next());
    Kernel { system, release, machine }
}

fn cpu_count(inputs: &[(usize, &Input)]) -> u32 {
    let of = |input: &Input| {
        let recorded = input.survey.streams.iter().map(|stream| stream.cpu.saturating_add(1)).max();
        input.capture.info.cpu_count.max(recorded.unwrap_or(0))
    };
    inputs.iter().map(|(_, input)| of(input)).max().unwrap_or(0)
}

/// Threads whose process is known: from what the kernel has saved, and on the host from who the vCPUs are.
fn threads(session: &Session, vm: Option<usize>, inputs: &[(usize, &Input)]) -> Vec<Thread> {
    let mut processes: BTreeMap<i32, i32> = BTreeMap::new();
    if vm.is_none() {
        for vm in session.vms.iter().filter(|vm| vm.outer.is_none()) {
            let Some(pid) = vm.pid.and_then(|pid| i32::try_from(pid).ok()) else { continue };
            processes.extend(vm.vcpus.iter().filter_map(|vcpu| vcpu.thread).map(|thread| (thread, pid)));
        }
    }
    for (_, input) in inputs {
        processes.extend(input.capture.info.tgids.iter().copied().filter(|&(tid, pid)| tid > 0 && pid > 0));
    }
    let leaders: BTreeSet<i32> = processes.values().copied().collect();
    processes.extend(leaders.into_iter().map(|leader| (leader, leader)));
    let mut comms: BTreeMap<i32, &str> = BTreeMap::new();
    for (_, input) in inputs {
        comms.extend(input.capture.info.cmdlines.iter().map(|(tid, comm)| (*tid, &**comm)));
    }
    let comm = |tid: i32| comms.get(&tid).copied().unwrap_or("").into();
    processes.into_iter().map(|(tid, process)| Thread { tid, process, comm: comm(tid) }).collect()
}
