//! Recorded offsets: every event at exactly its true time, and the audit believes it.

use kvm_timeline::capture::Endian;
use kvm_timeline::check::Verdict;
use kvm_timeline::clock::scaling::Scaling;

use crate::audit::{Recorded, proved, reasons};
use crate::recording::{Recorder, Writer, Writes};
use crate::ring_pages::Layout;
use crate::trace_dat_writer::{Compression, ShiftLayout};
use crate::world::{Jumps, Plan, World};

fn plan() -> Plan {
    Plan { vms: 2, vcpus: 3, cpus: 2, ..Plan::default() }
}

/// All events exact, and proved.
#[track_caller]
fn exact(world: World, recorder: &Recorder) {
    let recorded = Recorded::new(world, recorder);
    let (seen, report) = recorded.prove();
    proved(&report);
    assert_eq!(seen.exact, recorded.events(), "{seen:?}");
}

#[test]
fn one_offset() {
    exact(World::new(1, &plan()), &Recorder::default());
}

#[test]
fn every_way_to_record() {
    let base = Recorder::default();
    let big = Layout { endian: Endian::Big, ..Layout::X86_64 };
    let recorders = [
        Recorder { version: 6, compression: Compression::None, ..base },
        Recorder { layout: big, ..base },
        Recorder { layout: Layout { sub_buffer: 65536, ..Layout::X86_64 }, compression: Compression::Zlib, ..base },
        Recorder { writes: Writes::Instance, ..base },
        Recorder { writer: Writer::Process, ..base },
        Recorder { writer: Writer::SomeByProcess, ..base },
        Recorder { writer: Writer::Process, forks: false, ..base },
        Recorder { writer: Writer::SomeByProcess, forks: false, ..base },
        Recorder { debugfs: true, ..base },
        Recorder { time_shift: Some(ShiftLayout::Fractions), ..base },
        Recorder { time_shift: Some(ShiftLayout::Fractions), writes: Writes::Withheld, ..base },
    ];
    for (seed, recorder) in (10..).zip(recorders) {
        exact(World::new(seed, &plan()), &recorder);
    }
}

#[test]
fn lost_host_events() {
    exact(World::new(2, &Plan { losses: 10, ..plan() }), &Recorder::default());
}

#[test]
fn scaled_guests() {
    // 48 fraction bits as Intel, 32 as AMD; faster and slower than the host.
    for (ratio, bits) in [(3 << 47, 48), (5 << 45, 48), (3 << 31, 32), (0x0c00_0000, 32)] {
        let scaling = Scaling::new(ratio, bits).expect("a ratio");
        let base = Recorder { time_shift: Some(ShiftLayout::Fractions), ..Recorder::default() };
        for recorder in [
            Recorder { debugfs: true, ..Recorder::default() },
            base,
            Recorder { writes: Writes::Withheld, ..base },
            Recorder { debugfs: true, ..base },
        ] {
            let recorded = Recorded::new(World::new(ratio, &Plan { scaling, ..plan() }), &recorder);
            let (seen, report) = recorded.prove();
            assert_eq!(seen.exact + seen.within, recorded.events(), "{seen:?}");
            assert_eq!(seen.within == 0, ratio >> bits >= 1);
            proved(&report);
        }
    }
}

#[test]
fn jumps() {
    for jumps in [Jumps::Any, Jumps::StandStill, Jumps::Back, Jumps::Forward] {
        for writer in [Writer::Vcpu, Writer::SomeByProcess, Writer::Process] {
            let world = World::new(3, &Plan { jumps, changes: 2, ..plan() });
            let recorded = Recorded::new(world, &Recorder { writer, padding: 80, ..Recorder::default() });
            let (seen, report) = recorded.prove();
            assert!(seen.ambiguous * 100 < recorded.events() && seen.unplaced() * 200 < recorded.events(), "{seen:?}");
            assert!(report.verdict >= Some(Verdict::Proved), "{jumps:?} {writer:?} {seen:?} {}", reasons(&report));
        }
    }
}
