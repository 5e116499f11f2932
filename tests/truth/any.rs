//! Any world, recorded in any way that keeps the evidence: no placed event is wrong, and nothing gets lost on the way.

use kvm_timeline::capture::Endian;
use kvm_timeline::check::Verdict;
use kvm_timeline::clock::scaling::Scaling;
use proptest::prelude::*;

use crate::audit::{Recorded, reasons};
use crate::recording::{Recorder, Writer, Writes};
use crate::ring_pages::Layout;
use crate::trace_dat_writer::Compression;
use crate::world::{Jumps, Plan, World};

fn recorders() -> impl Strategy<Value = Recorder> {
    let writer = prop_oneof![Just(Writer::Vcpu), Just(Writer::SomeByProcess), Just(Writer::Process)];
    let endian = prop_oneof![Just(Endian::Little), Just(Endian::Big)];
    let page = prop_oneof![Just(4096_usize), Just(16384)];
    (writer, endian, page, any::<bool>(), any::<bool>()).prop_map(|(writer, endian, sub_buffer, old, forks)| Recorder {
        version: if old { 6 } else { 7 },
        compression: if old { Compression::None } else { Compression::Zstd },
        layout: Layout { endian, sub_buffer, ..Layout::X86_64 },
        writer,
        forks,
        // Offset writes in a buffer of their own are not lost with the rest.
        writes: Writes::Instance,
        debugfs: true,
        ..Recorder::default()
    })
}

fn scaling() -> impl Strategy<Value = Scaling> {
    prop_oneof![
        2 => Just(Scaling::NONE),
        1 => (1_u64 << 30..1 << 34).prop_map(|ratio| Scaling::new(ratio, 32).expect("a ratio")),
        1 => (1_u64 << 46..1 << 50).prop_map(|ratio| Scaling::new(ratio, 48).expect("a ratio")),
    ]
}

fn jumps() -> impl Strategy<Value = Jumps> {
    prop_oneof![Just(Jumps::Any), Just(Jumps::StandStill), Just(Jumps::Back), Just(Jumps::Forward)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_placed_event_is_wrong(
        seed in any::<u64>(), recorder in recorders(), scaling in scaling(), jumps in jumps(), changes in 0_u64..4,
        losses in 0_u64..5, vms in 1_usize..3, vcpus in 1_usize..4,
    ) {
        let plan = Plan { vms, vcpus, cpus: 2, windows: 200, scaling, jumps, changes, losses, ..Plan::default() };
        let recorded = Recorded::new(World::new(seed, &plan), &recorder);
        let (seen, report) = recorded.prove();
        let all = seen.exact + seen.within + seen.ambiguous + seen.unplaced();
        prop_assert_eq!(all, recorded.events());
        prop_assert!(report.verdict > Some(Verdict::Wrong), "{}{:?}", reasons(&report), report.warnings);
        prop_assert!(changes > 0 || seen.ambiguous + seen.unplaced() == 0, "{:?}", seen);
    }
}
