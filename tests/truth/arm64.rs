//! Machines without a TSC: run windows from kvm events of another shape, and guests whose clock differs from the host's by
//! the virtual counter offset.

use kvm_timeline::check::Verdict;
use kvm_timeline::error::ErrorKind;
use kvm_timeline::monitor::Monitor;
use kvm_timeline::selection::{Selection, Span};
use kvm_timeline::session::Session;
use kvm_timeline::session::request::{OffsetSpec, Request};
use kvm_timeline::stats::stats;
use kvm_timeline::time::TscOffset;

use crate::audit::Recorded;
use crate::recording::{Machine, Recorder, Writes};
use crate::ring_pages::Layout;
use crate::world::{Plan, World};

fn recorded(seed: u64, host: &'static str, guest: &'static str) -> Recorded {
    let recorder = Recorder {
        machine: Machine::Arm64(host, guest),
        writes: Writes::Withheld,
        layout: Layout { sub_buffer: 65_536, ..Layout::X86_64 },
        // Of another machine, or of an emulator: not this clock's.
        debugfs: true,
        ..Recorder::default()
    };
    Recorded::new(World::new(seed, &Plan { vms: 2, vcpus: 2, cpus: 2, ..Plan::default() }), &recorder)
}

/// CNTVOFF of each vCPU, as a flag gives it.
fn cntvoff(recorded: &Recorded) -> Vec<OffsetSpec> {
    let of_vm = |vm: &crate::world::Vm| {
        let spec = |(number, vcpu): (u32, &crate::world::Vcpu)| {
            let cntvoff = TscOffset::from_raw(vcpu.offsets[0].1.raw().wrapping_neg());
            OffsetSpec { vm: vm.name.clone(), vcpu: Some(number), offset: cntvoff }.from_cntvoff()
        };
        (0..).zip(&vm.vcpus).map(spec).collect::<Vec<_>>()
    };
    recorded.world.vms.iter().flat_map(of_vm).collect()
}

#[test]
fn a_given_cntvoff_is_exact() {
    let recorded = recorded(31, "boot", "boot");
    let request = Request { offsets: cntvoff(&recorded), ..recorded.request() };
    let (seen, report) = recorded.prove_with(&request);
    assert_eq!(seen.exact, recorded.events(), "{seen:?}");
    assert_eq!(report.verdict, Some(Verdict::Consistent), "{report:#?}");
}

#[test]
fn without_it_run_windows_tell() {
    let recorded = recorded(32, "mono_raw", "mono_raw");
    let (seen, report) = recorded.prove();
    assert_eq!(seen.exact + seen.within, recorded.events(), "{seen:?}");
    assert_eq!(report.verdict, Some(Verdict::Consistent), "{report:#?}");
    assert!(report.vms.iter().flat_map(|vm| &vm.vcpus).all(|v| v.inside == v.checked && v.checked > 0));
}

#[test]
fn clocks_of_two_kinds_are_refused() {
    let recorded = recorded(33, "boot", "mono");
    let Err(error) = recorded.open() else { panic!("nothing relates boot and mono") };
    assert_eq!(error.kind(), ErrorKind::Evidence);
    let text = error.to_string();
    assert!(text.contains("`boot`") && text.contains("`mono`"), "{text}");
}

#[test]
fn exits_have_the_names_that_the_kernel_gives_them() {
    let recorded = recorded(34, "boot", "boot");
    let session = Session::open(&recorded.request(), &Monitor::silent()).expect("opens");
    let stats = stats(&session, &Selection::all(&session, Span::All), &Monitor::silent()).expect("sums up");
    let mut found = std::collections::BTreeMap::new();
    for exit in stats.vms.iter().flat_map(|vm| &vm.vcpus).flat_map(|v| &v.exits) {
        *found.entry(exit.reason.as_str()).or_insert(0) += exit.count;
    }
    // The thread stays on its CPU through short gaps, as after a trap; else it was interrupted.
    let mut expected = std::collections::BTreeMap::from([("IRQ", 0), ("WFx", 0)]);
    for vcpu in recorded.world.vms.iter().flat_map(|vm| &vm.vcpus) {
        let mut before: Option<&crate::world::Window> = None;
        // How long the last one takes is not known.
        for window in &vcpu.windows[..vcpu.windows.len() - 1] {
            let stays = before.is_some_and(|b| b.cpu == window.cpu && window.entry.get() - b.exit.get() < 1000);
            *expected.get_mut(if stays { "WFx" } else { "IRQ" }).expect("known") += 1;
            before = Some(window);
        }
    }
    assert_eq!(found, expected);
}
