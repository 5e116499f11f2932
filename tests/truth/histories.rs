//! Offsets that change: with all the evidence, with some of it, with none.

use kvm_timeline::check::Verdict;
use kvm_timeline::clock::history::Source;
use kvm_timeline::monitor::Monitor;
use kvm_timeline::session::Session;
use kvm_timeline::session::request::Request;

use crate::audit::{Recorded, proved, reasons, verdicts};
use crate::recording::{GuestClock, HOST_HZ, Recorder, Writes};
use crate::world::{Plan, World};

fn plan() -> Plan {
    Plan { vms: 2, vcpus: 2, cpus: 2, ..Plan::default() }
}

#[test]
fn a_reboot_in_one_process_with_a_file_per_boot() {
    let mut world = World::new(1, &plan());
    let when = world.moment(1, 2);
    for vm in 0..2 {
        // The guest's TSC starts again near 0.
        let clock = world.vms[vm].vcpus[0].events.iter().rev().find(|e| e.truth < when).expect("an event").clock;
        world.shift(vm, when, -(clock.get() as i64 - 1000));
    }
    let recorded = Recorded::new(world, &Recorder { split: Some(when), ..Recorder::default() });
    let (seen, report) = recorded.prove();
    assert_eq!(seen.unplaced(), 0);
    assert!(seen.ambiguous * 500 < recorded.events(), "{seen:?}");
    proved(&report);
}

#[test]
fn prev_of_the_first_write_alone() {
    let mut world = World::new(2, &plan());
    let when = world.moment(1, 2);
    (0..2).for_each(|vm| world.shift(vm, when, 5_000_000));
    // The recording began after the VMs were made.
    world.forget(|w| w.at < when);
    let recorded = Recorded::new(world, &Recorder::default());
    let session = recorded.open().expect("opens");
    assert_eq!(session.vms[0].vcpus[0].history.segments[0].source, Source::RecordedPrev);
    let (seen, report) = recorded.prove();
    assert_eq!(seen.exact + seen.ambiguous, recorded.events(), "{seen:?}");
    proved(&report);
}

#[test]
fn a_withheld_change_is_noticed() {
    for (part, cycles) in [(1, 3_000_000), (1, -3_000_000), (9, 400_000), (5, -70_000_000)] {
        let mut world = World::new(3, &plan());
        let when = world.moment(part, 10);
        world.shift(0, when, cycles);
        world.vms[0].vcpus.iter_mut().for_each(|v| {
            v.writes.pop();
        });
        let recorded = Recorded::new(world, &Recorder::default());
        let session = recorded.open().expect("opens");
        let report = kvm_timeline::check::check(&session, &Monitor::silent()).expect("checks");
        let found = verdicts(&report);
        assert!(found[..2].iter().all(|v| *v < Verdict::Consistent), "{cycles}: {found:?}\n{}", reasons(&report));
        assert_eq!(found[2..], [Verdict::Proved; 2]);
    }
}

#[test]
fn a_withheld_change_that_the_next_one_betrays() {
    let mut world = World::new(4, &plan());
    let (first, second) = (world.moment(1, 3), world.moment(2, 3));
    world.shift(0, first, 8_000_000);
    world.shift(0, second, 900_000);
    world.vms[0].vcpus.iter_mut().for_each(|v| {
        let at = v.writes.len() - 2;
        v.writes.remove(at);
    });
    let recorded = Recorded::new(world, &Recorder::default());
    let (_, report) = recorded.prove();
    assert!(verdicts(&report)[..2].iter().all(|v| *v <= Verdict::Consistent), "{}", reasons(&report));
    assert!(reasons(&report).contains("an offset write is missing between"), "{}", reasons(&report));
    assert!(report.warnings.iter().any(|w| w.contains("an offset write is missing")), "{:?}", report.warnings);
}

#[test]
fn an_error_of_50_us_is_caught_and_both_values_are_named() {
    let recorded = Recorded::new(World::new(5, &plan()), &Recorder::default());
    let truth = recorded.world.vms[0].vcpus[0].offsets[0].1;
    let planted = truth.signed() + (HOST_HZ / 20_000) as i64;
    let request = Request { offsets: vec![format!("a={planted}").parse().expect("an offset")], ..recorded.request() };
    let session = Session::open(&request, &Monitor::silent()).expect("opens");
    let report = kvm_timeline::check::check(&session, &Monitor::silent()).expect("checks");
    assert!(verdicts(&report)[..2].iter().all(|v| *v < Verdict::Consistent), "{}", reasons(&report));
    let said = format!("given by the user says offset {planted}, kvm_write_tsc_offset says {truth}");
    assert!(report.warnings.iter().any(|w| w.contains(&said)), "{:?}", report.warnings);
    assert_eq!(report.vms[0].vcpus[0].segments[0].offset, planted);
}

#[test]
fn guests_on_kvm_clock() {
    for constant in [0, 1_574_135_000, -7_000_000] {
        let recorder = Recorder { guest_clock: GuestClock::Local(constant), ..Recorder::default() };
        let recorded = Recorded::new(World::new(6, &plan()), &recorder);
        let (seen, report) = recorded.prove();
        assert_eq!(seen.within, recorded.events(), "{seen:?}");
        assert_eq!(report.verdict, Some(Verdict::Consistent), "{}", reasons(&report));
    }
}

#[test]
fn stamps_that_are_not_in_the_clock_that_the_file_names() {
    let recorder = Recorder { guest_clock: GuestClock::FalseTsc, tsc2nsec: true, ..Recorder::default() };
    let recorded = Recorded::new(World::new(7, &Plan { vms: 1, ..plan() }), &recorder);
    let session = recorded.open().expect("opens");
    let report = kvm_timeline::check::check(&session, &Monitor::silent()).expect("checks");
    assert_eq!(report.verdict, Some(Verdict::Wrong));
    assert!(reasons(&report).contains("the stamps are nanoseconds"), "{}", reasons(&report));

    let recorder = Recorder { guest_clock: GuestClock::FalseLocal, ..Recorder::default() };
    let recorded = Recorded::new(World::new(8, &Plan { vms: 1, ..plan() }), &recorder);
    let error = recorded.open().err().expect("cannot be placed");
    assert!(error.to_string().contains("its stamps are TSC cycles"), "{error}");
}

#[test]
fn the_best_rate_is_used_and_a_flag_that_loses_is_told() {
    let hz = |tsc2nsec: bool, flag: Option<u64>| {
        let recorded = Recorded::new(World::new(9, &plan()), &Recorder { tsc2nsec, ..Recorder::default() });
        let session =
            Session::open(&Request { tsc_hz: flag, ..recorded.request() }, &Monitor::silent()).expect("opens");
        (session.rate.hz, session.all_warnings())
    };
    assert_eq!(hz(false, Some(2_000_000_000)), (Some(2_000_000_000), Vec::new()));
    let (rate, warnings) = hz(true, Some(2_500_250_000));
    // 10^9 * 2^25 / 13,421,773.
    assert_eq!(rate, Some(2_499_999_963));
    assert!(warnings[0].contains("--tsc-hz is not used") && warnings[0].contains("100 ppm"), "{warnings:?}");
    assert_eq!(hz(false, None).0, None);
}

#[test]
fn debugfs_alone_is_believed() {
    let recorder = Recorder { writes: Writes::Withheld, debugfs: true, ..Recorder::default() };
    let recorded = Recorded::new(World::new(10, &plan()), &recorder);
    let (seen, report) = recorded.prove();
    assert_eq!(seen.exact, recorded.events(), "{seen:?}");
    proved(&report);
}
