//! A guest inside a guest: its capture is related to the guest around it, and that to the host.

use kvm_timeline::check::{Verdict, check};
use kvm_timeline::clock::history::Write;
use kvm_timeline::clock::scaling::{HostRange, Scaling};
use kvm_timeline::monitor::Monitor;
use kvm_timeline::session::Session;
use kvm_timeline::session::request::Request;
use kvm_timeline::time::{HostTsc, RawStamp, TscOffset};

use crate::audit::{Recorded, account, reasons};
use crate::recording::{Recorder, Writes};
use crate::trace_dat_writer::ShiftLayout;
use crate::world::{Event, Plan, Random, Vcpu, Vm, Window, World};

const OFFSET: TscOffset = TscOffset::from_signed(-777_000_123);

/// The VM that runs in VM 0 of `world`, one vCPU on each of its vCPUs, as that VM's own kernel sees it: times are its TSC.
/// Only the events' truth is host time.
fn inside(world: &World, scaling: Scaling) -> World {
    let outer = &world.vms[0];
    let random = &mut Random::new(99);
    let vcpu = |(cpu, around): (usize, &Vcpu)| {
        let offset_at = |t: HostTsc| around.offsets.iter().rev().find(|(from, _)| *from <= t).expect("an offset").1;
        let clock = |t: HostTsc| HostTsc::new(outer.scaling.guest(t, offset_at(t)).get());
        let mut windows = Vec::new();
        let mut events = Vec::new();
        for window in around.windows.iter().filter(|w| w.exit.get() - w.entry.get() > 3000) {
            let (first, last) = (window.entry.get() + 700, window.exit.get() - 700);
            windows.push(Window {
                entry: clock(HostTsc::new(first)),
                exit: clock(HostTsc::new(last)),
                cpu: cpu as u32,
            });
            let mut times: Vec<u64> = (0..random.between(0, 20)).map(|_| random.between(first, last)).collect();
            times.sort_unstable();
            for truth in times.into_iter().map(HostTsc::new) {
                let reading = scaling.guest(clock(truth), OFFSET);
                events.push(Event { truth, clock: reading, stamp: RawStamp::new(reading.get()), flags: 0 });
            }
        }
        let born = HostTsc::new(windows[0].entry.get() - 100);
        let write = Write { at: born, prev: TscOffset::default(), next: OFFSET, buffer: 0 };
        Vcpu {
            // The host has threads of the same numbers.
            thread: around.thread,
            vcpu_id: cpu as u32,
            windows,
            offsets: vec![(born, OFFSET)],
            writes: vec![write],
            marks: Vec::new(),
            events,
        }
    };
    let vm =
        Vm { name: "l1/l2".to_owned(), pid: 990, vcpus: outer.vcpus.iter().enumerate().map(vcpu).collect(), scaling };
    World { vms: vec![vm], known: HostRange::ALL, lost: Vec::new() }
}

/// Records the host, VM 0 as a host of its own, and the VM inside it.
fn record(mut world: World, scaling: Scaling, outer: &Recorder, inner: &Recorder) -> (Recorded, Request) {
    world.vms.truncate(1);
    let nested = inside(&world, scaling);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    let write = |name: &str, bytes: Vec<u8>| std::fs::write(path(name), bytes).expect("writable");
    write("host.dat", outer.host(&world));
    write("l1.dat", inner.host(&nested));
    if outer.debugfs {
        // Beside named files only flat text is looked at.
        let line = |v: &Vcpu| {
            let (ratio, frac) = (world.vms[0].scaling.ratio(), world.vms[0].scaling.frac_bits());
            format!(
                "kvm/{}-9/vcpu{} tsc-offset={} ratio={ratio} frac={frac}\n",
                world.vms[0].pid, v.vcpu_id, v.offsets[0].1
            )
        };
        let text: String = world.vms[0].vcpus.iter().map(line).collect();
        std::fs::write(path("offsets.txt"), text).expect("writable");
    }
    write("l2.dat", inner.guest(&nested.vms[0], 5, None));
    let guest = |name: &str, file: &str| format!("{name}={}", path(file).display()).parse().expect("a guest");
    let request = Request {
        hosts: vec![path("host.dat")],
        guests: vec![guest("l1", "l1.dat"), guest("l1/l2", "l2.dat")],
        ..Request::default()
    };
    world.vms[0].name = "l1".to_owned();
    world.vms.extend(nested.vms);
    (Recorded { world, directory }, request)
}

/// Every event of the nested guest is placed, and the audit says `verdict`.
fn placed(recorded: &Recorded, request: &Request, verdict: Verdict) {
    let session = Session::open(request, &Monitor::silent()).expect("opens");
    let seen = recorded.hold(&session);
    let all: usize = recorded.world.vms[1].vcpus.iter().map(|v| v.events.len()).sum();
    assert_eq!(seen.exact + seen.within, all as u64, "{seen:?}");
    account(&session);
    let report = check(&session, &Monitor::silent()).expect("checks");
    let vm = report.vms.iter().find(|vm| vm.name == "l1/l2").expect("a VM of its own");
    let words = reasons(&report);
    assert!(vm.vcpus.iter().all(|v| v.verdict == Some(verdict) && v.inside == v.events), "{words}{:#?}", vm.vcpus);
}

fn plan() -> Plan {
    Plan { vms: 1, vcpus: 2, cpus: 2, ..Plan::default() }
}

#[test]
fn one_offset_on_each_level() {
    let (recorded, request) = record(World::new(1, &plan()), Scaling::NONE, &Recorder::default(), &Recorder::default());
    placed(&recorded, &request, Verdict::Proved);
}

#[test]
fn a_scaled_guest_inside_a_scaled_guest() {
    // The host's debugfs tells the outer scaling, TIME_SHIFT in the nested guest's file the inner one.
    let outer = Recorder { debugfs: true, ..Recorder::default() };
    let inner = Recorder { time_shift: Some(ShiftLayout::Fractions), ..Recorder::default() };
    for (a, b) in [(3 << 47, 5 << 46), (5 << 46, 3 << 46), (7 << 45, 3 << 47)] {
        let ratio = |ratio: u64| Scaling::new(ratio, 48).expect("a ratio");
        let world = World::new(2, &Plan { scaling: ratio(a), ..plan() });
        let (recorded, request) = record(world, ratio(b), &outer, &inner);
        placed(&recorded, &request, Verdict::Proved);
    }
}

#[test]
fn the_guest_around_changes_its_offset() {
    let mut world = World::new(3, &plan());
    let when = world.moment(1, 2);
    world.shift(0, when, 40_000_000);
    let (recorded, request) = record(world, Scaling::NONE, &Recorder::default(), &Recorder::default());
    placed(&recorded, &request, Verdict::Proved);
}

#[test]
fn the_vcpus_around_have_different_offsets() {
    let mut world = World::new(4, &plan());
    let late = &mut world.vms[0].vcpus[1];
    for write in &mut late.writes {
        let other = TscOffset::from_raw(write.next.raw().wrapping_add(123_456_789));
        (write.prev, write.next) = (if write.prev == TscOffset::default() { write.prev } else { other }, other);
    }
    late.offsets.iter_mut().for_each(|(_, o)| *o = TscOffset::from_raw(o.raw().wrapping_add(123_456_789)));
    let (recorded, request) = record(world, Scaling::NONE, &Recorder::default(), &Recorder::default());
    placed(&recorded, &request, Verdict::Proved);
}

#[test]
fn the_inner_offset_is_inferred() {
    let inner = Recorder { writes: Writes::Withheld, ..Recorder::default() };
    let (recorded, request) = record(World::new(5, &plan()), Scaling::NONE, &Recorder::default(), &inner);
    placed(&recorded, &request, Verdict::Consistent);
}

#[test]
fn a_guest_around_without_run_windows_is_an_error() {
    let (recorded, mut request) =
        record(World::new(6, &plan()), Scaling::NONE, &Recorder::default(), &Recorder::default());
    request.guests[0].path = recorded.path().join("l2.dat");
    let error = Session::open(&request, &Monitor::silent()).err().expect("cannot be placed");
    assert!(error.to_string().contains("its capture shows no kvm_entry"), "{error}");
}
