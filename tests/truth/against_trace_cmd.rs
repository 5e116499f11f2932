//! Host/guest sessions as trace-cmd records them, placed by `trace-cmd report` and by us, against the truth.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use kvm_timeline::clock::rate::TscRate;
use kvm_timeline::clock::scaling::Scaling;
use kvm_timeline::time::HostTsc;

use crate::audit::Recorded;
use crate::recording::{MULT, Recorder, SHIFT, guest_path};
use crate::trace_cmd;
use crate::trace_dat_writer::{Compression, ShiftLayout};
use crate::world::{Plan, World};

/// Nanoseconds that `trace-cmd report` gives each guest event, by (CPU, number); `None` where it is not installed.
fn by_trace_cmd(directory: &Path) -> Option<BTreeMap<(u32, u64), u64>> {
    let mut stamps = BTreeMap::new();
    let files = [&*directory.join("host.dat"), &*guest_path(directory, "a", "")];
    let ran = trace_cmd::report(&["-t"], &files, |line| {
        if !line.contains("serial=") {
            return;
        }
        let cpu = line.split('[').nth(1).and_then(|rest| rest.split(']').next()).expect("a CPU");
        let time = line.split(']').nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a time");
        let (seconds, ns) = time.trim_end_matches(':').split_once('.').expect("seconds.nanoseconds");
        let serial = line.split("serial=").nth(1).and_then(|n| n.split_whitespace().next()).expect("a number");
        let at: u64 =
            seconds.parse::<u64>().expect("seconds").wrapping_mul(1_000_000_000) + ns.parse::<u64>().expect("ns");
        stamps.insert((cpu.parse().expect("a CPU"), serial.parse().expect("a number")), at);
    });
    ran.then_some(stamps)
}

/// Of all events of VM a: how many trace-cmd puts at their true nanosecond, and its greatest error in nanoseconds.
#[derive(Debug, PartialEq, Eq)]
struct Compared {
    events: usize,
    right: usize,
    worst_ns: u64,
}

fn compare(name: &str, world: World) -> Option<Compared> {
    let recorder = Recorder {
        time_shift: Some(ShiftLayout::Fractions),
        tsc2nsec: true,
        compression: Compression::None,
        ..Recorder::default()
    };
    let recorded = Recorded::new(world, &recorder);
    let (seen, report) = recorded.prove();
    crate::audit::proved(&report);
    assert_eq!(seen.exact + seen.within + seen.ambiguous, recorded.events());
    let found = by_trace_cmd(recorded.path())?;
    let rate = TscRate::from_mult_shift(MULT, SHIFT).expect("a rate");
    let mut compared = Compared { events: 0, right: 0, worst_ns: 0 };
    for (cpu, vcpu) in (0..).zip(&recorded.world.vms[0].vcpus) {
        for (number, event) in (0..).zip(&vcpu.events) {
            let truth = rate.ns(HostTsc::new(event.truth.get())).get();
            let theirs = found.get(&(cpu, number)).copied().expect("every event is printed");
            compared.events += 1;
            compared.right += usize::from(theirs == truth);
            compared.worst_ns = compared.worst_ns.max(theirs.abs_diff(truth));
        }
    }
    let _ = writeln!(
        std::io::stderr(),
        "{name}: trace-cmd report puts {} of {} events at their true nanosecond, the worst is {} ns off; \
         here {} are exact and {} within the stated range",
        compared.right,
        compared.events,
        compared.worst_ns,
        seen.exact,
        seen.within
    );
    Some(compared)
}

fn plan() -> Plan {
    Plan { vms: 1, vcpus: 2, cpus: 2, ..Plan::default() }
}

#[test]
fn one_offset_without_scaling_is_the_same() {
    let Some(found) = compare("one offset", World::new(1, &plan())) else { return };
    assert_eq!(found.right, found.events, "{found:?}");
}

#[test]
fn a_scaled_guest() {
    // A guest of 2.0 GHz on a host of 2.5 GHz: Intel 48 fraction bits, AMD 32.
    for (name, bits) in [("scaled, 48 bits", 48), ("scaled, 32 bits", 32)] {
        let scaling = Scaling::new((1_u64 << bits) / 5 * 4, bits).expect("a ratio");
        let Some(found) = compare(name, World::new(2, &Plan { scaling, ..plan() })) else { return };
        // Not one event, and not by a little.
        assert!(found.right == 0 && found.worst_ns > 1_000_000_000, "{found:?}");
    }
}

#[test]
fn an_offset_that_changes_between_two_samples() {
    let mut world = World::new(3, &plan());
    let when = world.moment(1, 2);
    world.shift(0, when, 12_500_000);
    let Some(found) = compare("changed by 5 ms", world) else { return };
    assert!(found.right * 10 < found.events * 6 && found.worst_ns.abs_diff(5_000_000) < 2, "{found:?}");
}
