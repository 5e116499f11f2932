//! What stands before the first batch about the machines of the native layer.

use super::generic::{self, GenericIds};
use super::header::packet;
use super::proto::process_tree::{Process, Thread};
use super::proto::trace_packet::Data;
use super::proto::{FtraceEventBundle, ProcessTree, SystemInfo, TracePacket, Utsname};
use crate::capture::event_format::{EventFormat, FieldKind};
use crate::timeline::drawing::World;
use crate::timeline::native::{self, Kernel, Machine};

/// The kernel from which on `prev_state` means what it means today; the trace processor assumes an older one where it is
/// told nothing.
const MODERN: &str = "4.14";

/// Names, kernels, threads and events of the machines.
pub(super) fn packets(world: &World) -> Vec<TracePacket> {
    let Some(native) = &world.native else { return Vec::new() };
    let ids = native.all.then(|| GenericIds::new(world, native));
    let mut packets = Vec::new();
    for (number, machine) in (0_u32..).zip(&native.machines) {
        let cpu = native.cpus.iter().find(|cpu| cpu.machine == number).map(|cpu| cpu.number);
        // A machine of which nothing was recorded is none.
        if number != 0 && cpu.is_none() {
            continue;
        }
        let mut add = |data| {
            packets.push(TracePacket {
                machine_id: (number != 0).then_some(number),
                timestamp: Some(world.start.get()),
                ..packet(data)
            });
        };
        add(Data::SystemInfo(system_info(world, machine)));
        if !machine.threads.is_empty() {
            add(Data::ProcessTree(process_tree(machine)));
        }
        if let (Some(ids), Some(_)) = (&ids, cpu) {
            let generic_event_descriptors = generic::descriptors(world, ids, machine);
            add(Data::FtraceEvents(FtraceEventBundle { cpu, generic_event_descriptors, ..Default::default() }));
        }
    }
    packets
}

fn system_info(world: &World, machine: &Machine) -> SystemInfo {
    let Kernel { system, release, machine: architecture } = &machine.kernel;
    let known = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    // Letters are written in the numbers of a modern kernel, whatever the kernel was.
    let modern = release.is_empty() || has_letters(world, machine) && !is_modern(release);
    let release = if modern { MODERN } else { release };
    SystemInfo {
        utsname: Some(Utsname {
            sysname: Some(known(system).unwrap_or_else(|| "Linux".to_owned())),
            version: None,
            release: Some(release.to_owned()),
            machine: known(architecture),
        }),
        num_cpus: (machine.cpu_count > 0).then_some(machine.cpu_count),
        machine_name: machine.name.clone(),
    }
}

/// Whether the machine's `prev_state` is letters: ftrace text.
fn has_letters(world: &World, machine: &Machine) -> bool {
    let letters = |format: &EventFormat| {
        let text = |kind| matches!(kind, FieldKind::Text | FieldKind::DynamicText | FieldKind::RelativeText);
        format.field("prev_state").is_some_and(|field| text(field.kind))
    };
    machine.sources.iter().any(|source| {
        world.sources.get(usize::from(source.source)).is_some_and(|source| source.formats.events().iter().any(letters))
    })
}

fn is_modern(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (4, 14)
}

fn process_tree(machine: &Machine) -> ProcessTree {
    let comm = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let (leaders, others): (Vec<_>, Vec<_>) = machine.threads.iter().partition(|thread| thread.tid == thread.process);
    let process = |leader: &&native::Thread| Process {
        pid: Some(leader.process),
        ppid: None,
        cmdline: comm(&leader.comm).into_iter().collect(),
    };
    let thread = |thread: &&native::Thread| Thread {
        tid: Some(thread.tid),
        name: comm(&thread.comm),
        tgid: Some(thread.process),
    };
    ProcessTree { processes: leaders.iter().map(process).collect(), threads: others.iter().map(thread).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_modern_from_4_14_on() {
        for (release, modern) in [("6.8.0-31-generic", true), ("4.14.336", true), ("4.9.0", false), ("3.10", false)] {
            assert_eq!(is_modern(release), modern, "{release}");
        }
    }
}
