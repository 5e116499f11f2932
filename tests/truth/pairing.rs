//! Who is who, where nothing but the run windows says so.

use kvm_timeline::check::Verdict;
use kvm_timeline::monitor::Monitor;
use kvm_timeline::session::Session;
use kvm_timeline::session::request::Request;
use kvm_timeline::time::HostTsc;

use crate::audit::{Recorded, proved, reasons, verdicts};
use crate::recording::{Recorder, Writes, guest_path};
use crate::world::{Plan, World};

fn plan() -> Plan {
    Plan { vms: 2, vcpus: 3, cpus: 2, ..Plan::default() }
}

/// Two VMs started at once: their threads alternate.
fn interleave(world: &mut World) {
    for (v, vm) in world.vms.iter_mut().enumerate() {
        for (c, vcpu) in vm.vcpus.iter_mut().enumerate() {
            vcpu.thread = 1000 + (2 * c + v) as i32;
        }
    }
}

/// (vcpu_id, thread) of VM `name`, by guest CPU.
fn vcpus(session: &Session, name: &str) -> Vec<(u32, i32)> {
    let vm = session.vms.iter().find(|vm| vm.name == name).expect("the VM");
    vm.vcpus.iter().map(|v| (v.vcpu_id.expect("known"), v.thread.expect("known"))).collect()
}

/// Every VM has its own threads, in the order of the guest's CPUs.
#[track_caller]
fn grouped(recorded: &Recorded, session: &Session) {
    for vm in &recorded.world.vms {
        let truth: Vec<(u32, i32)> = vm.vcpus.iter().map(|v| (v.vcpu_id, v.thread)).collect();
        assert_eq!(vcpus(session, &vm.name), truth, "VM {}", vm.name);
    }
}

#[test]
fn forks_tell_interleaved_threads_apart() {
    let mut world = World::new(1, &plan());
    interleave(&mut world);
    let recorded = Recorded::new(world, &Recorder::default());
    grouped(&recorded, &recorded.open().expect("opens"));
    proved(&recorded.prove().1);
}

#[test]
fn run_windows_tell_interleaved_threads_apart() {
    for writes in [Writes::AsMade, Writes::Withheld] {
        let mut world = World::new(2, &plan());
        interleave(&mut world);
        let recorded = Recorded::new(world, &Recorder { writes, forks: false, ..Recorder::default() });
        let session = recorded.open().expect("opens");
        grouped(&recorded, &session);
        let (seen, report) = recorded.prove();
        assert_eq!(seen.unplaced(), 0);
        if writes == Writes::Withheld {
            assert_eq!(report.verdict, Some(Verdict::Consistent), "{}", reasons(&report));
            assert_eq!(seen.exact + seen.within, recorded.events());
        } else {
            proved(&report);
        }
    }
}

#[test]
fn offsets_are_inferred_for_one_and_two_vms() {
    for vms in [1, 2] {
        let world = World::new(3, &Plan { vms, ..plan() });
        let recorded = Recorded::new(world, &Recorder { writes: Writes::Withheld, ..Recorder::default() });
        let (seen, report) = recorded.prove();
        assert_eq!(seen.exact + seen.within, recorded.events());
        assert_eq!(report.verdict, Some(Verdict::Consistent), "{}", reasons(&report));
        // The same as when the user asks for it.
        let world = World::new(3, &Plan { vms, ..plan() });
        let recorded = Recorded::new(world, &Recorder::default());
        let request = Request { ignore_recorded_offsets: true, ..recorded.request() };
        assert_eq!(recorded.prove_with(&request).0, seen);
    }
}

#[test]
fn apic_ids_with_gaps() {
    let mut world = World::new(4, &Plan { vcpus: 6, ..plan() });
    for vm in &mut world.vms {
        for (vcpu, id) in vm.vcpus.iter_mut().zip([0, 1, 2, 4, 5, 6]) {
            vcpu.vcpu_id = id;
        }
    }
    let recorded = Recorded::new(world, &Recorder::default());
    grouped(&recorded, &recorded.open().expect("opens"));
    let (seen, report) = recorded.prove();
    assert_eq!(seen.exact, recorded.events());
    proved(&report);
}

#[test]
fn guest_cpus_in_another_order() {
    for writes in [Writes::AsMade, Writes::Withheld] {
        let mut world = World::new(5, &Plan { vcpus: 4, ..plan() });
        for vm in &mut world.vms {
            for (vcpu, id) in vm.vcpus.iter_mut().zip([2, 0, 3, 1]) {
                vcpu.vcpu_id = id;
            }
        }
        let recorded = Recorded::new(world, &Recorder { writes, ..Recorder::default() });
        grouped(&recorded, &recorded.open().expect("opens"));
        let (seen, report) = recorded.prove();
        assert_eq!(seen.exact + seen.within, recorded.events());
        let least = if writes == Writes::AsMade { Verdict::Proved } else { Verdict::Consistent };
        assert_eq!(report.verdict, Some(least), "{}", reasons(&report));
    }
}

#[test]
fn a_vcpu_that_never_ran_leaves_a_gap() {
    let mut world = World::new(6, &plan());
    for vm in &mut world.vms {
        let idle = &mut vm.vcpus[1];
        (idle.windows, idle.events, idle.writes) = Default::default();
    }
    let recorded = Recorded::new(world, &Recorder::default());
    let (seen, report) = recorded.prove();
    assert_eq!(seen.exact, recorded.events(), "{seen:?}");
    proved(&report);
    let ids: Vec<u32> = report.vms[0].vcpus.iter().map(|v| v.id).collect();
    assert_eq!(ids, [0, 2]);
}

#[test]
fn a_vcpu_that_is_plugged_in_later() {
    let mut world = World::new(7, &plan());
    let when = world.moment(1, 2);
    for vm in &mut world.vms {
        let late = &mut vm.vcpus[2];
        late.windows.retain(|w| w.entry > when);
        late.events.retain(|e| e.truth > when);
        for (nth, write) in (0..).zip(&mut late.writes) {
            write.at = HostTsc::new(write.at.get().max(when.get() - 90 + nth));
        }
    }
    let recorded = Recorded::new(world, &Recorder::default());
    let (seen, report) = recorded.prove();
    assert_eq!(seen.exact, recorded.events());
    proved(&report);
}

#[test]
fn one_guest_of_two() {
    let recorded = Recorded::new(World::new(8, &plan()), &Recorder::default());
    std::fs::remove_file(guest_path(recorded.path(), "a", "")).expect("there");
    let (seen, report) = recorded.prove();
    assert!(seen.exact > 0 && seen.unplaced() == 0);
    proved(&report);
    let b = report.vms.iter().find(|vm| vm.name == "b").expect("VM b");
    assert!(b.vcpus.iter().all(|v| v.verdict == Some(Verdict::Proved)));
}

#[test]
fn a_guest_of_another_vm_is_wrong() {
    let world = World::new(9, &plan());
    let recorded = Recorded::new(World::new(9, &plan()), &Recorder::default());
    // A host that ran only VM a, and the file of a guest that ran elsewhere.
    let alone = World { vms: world.vms.into_iter().take(1).collect(), known: world.known, lost: Vec::new() };
    std::fs::write(recorded.path().join("host.dat"), Recorder::default().host(&alone)).expect("writable");
    std::fs::remove_file(guest_path(recorded.path(), "a", "")).expect("there");
    let session = recorded.open().expect("opens");
    let report = kvm_timeline::check::check(&session, &Monitor::silent()).expect("checks");
    assert!(verdicts(&report).iter().all(|v| *v <= Verdict::Doubtful), "{report:#?}");
}

#[test]
fn swapped_guests_are_wrong_and_the_right_vm_is_named() {
    let recorded = Recorded::new(World::new(10, &plan()), &Recorder::default());
    let guest = |name: &str, pid: i32, of: &str| {
        let path = guest_path(recorded.path(), of, "");
        format!("{name},pid={pid}={}", path.display()).parse().expect("a guest")
    };
    let request = Request {
        hosts: vec![recorded.path().join("host.dat")],
        guests: vec![guest("x", 951, "a"), guest("y", 950, "b")],
        ..Request::default()
    };
    let session = Session::open(&request, &Monitor::silent()).expect("opens");
    let report = kvm_timeline::check::check(&session, &Monitor::silent()).expect("checks");
    assert!(verdicts(&report).iter().all(|v| *v == Verdict::Wrong), "{report:#?}");
    let words = reasons(&report);
    assert!(words.contains("VM x vCPU 0: the run windows of VM y fit better: 100.000 %"), "{words}");
    assert!(words.contains("VM y vCPU 0: the run windows of VM x fit better: 100.000 %"), "{words}");
}
