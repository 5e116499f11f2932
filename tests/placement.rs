//! Every guest event is placed at its true host time, or its place is called uncertain, or it is counted as not placed.

mod support {
    pub mod world;
}

use kvm_timeline::clock::history::{EdgeBounds, Evidence, History, join_copies};
use kvm_timeline::clock::place::{PieceKind, Placement, Placer, ZERO_EXTEND, tracks};
use kvm_timeline::clock::scaling::Scaling;
use kvm_timeline::clock::windows::{Windows, WindowsBuilder};
use kvm_timeline::clock::{history, infer};
use kvm_timeline::time::{RawStamp, TscOffset};
use proptest::prelude::*;
use support::world::{Jumps, Plan, Vcpu, World};

/// What the program would know of a vCPU.
fn evidence(world: &World, vcpu: &Vcpu, scaling: Scaling) -> (History, Windows) {
    let changes = join_copies(&vcpu.writes);
    // Two halves of the host records, scanned apart.
    let mut bounds = EdgeBounds::new(&changes, world.known);
    let mut other = bounds.clone();
    let mut builder = WindowsBuilder::new([world.known]);
    for (nth, mark) in vcpu.marks.iter().enumerate() {
        let bounds = if nth % 2 == 0 { &mut bounds } else { &mut other };
        if mark.entry {
            bounds.note_entry(mark.ts);
            builder.entry(mark.ts, mark.cpu);
        } else {
            bounds.note_exit(mark.ts);
            builder.exit(mark.ts, mark.cpu);
        }
    }
    for &(range, cpu) in &world.lost {
        bounds.note_lost(range);
        builder.lost(range, cpu);
    }
    bounds.merge(&other);
    let snapshot = history::Snapshot { offset: vcpu.offsets[0].1, scaling: Some(scaling) };
    let evidence =
        Evidence { changes, ran_before: bounds.ran_before_first(), snapshots: vec![snapshot], ..Evidence::default() };
    let mut history = History::build(&evidence);
    assert_eq!(history.conflicts, []);
    history.tighten(&bounds);
    (history, builder.build())
}

fn place(history: &History, vcpu: &Vcpu, windows: Option<&Windows>) -> Placement {
    let mut placer = Placer::new(tracks(history));
    for event in &vcpu.events {
        placer.push(event.stamp, event.flags);
    }
    let placement = placer.finish().resolve(windows);
    assert_eq!(place_in_chunks(history, vcpu, windows), placement);
    placement
}

/// Looks into a chunk only where its first and last stamp do not say enough.
fn place_in_chunks(history: &History, vcpu: &Vcpu, windows: Option<&Windows>) -> Placement {
    let mut placer = Placer::new(tracks(history));
    for chunk in vcpu.events.chunks(7) {
        let steady = chunk.is_sorted_by_key(|event| event.stamp) && chunk.iter().all(|e| e.flags & ZERO_EXTEND == 0);
        let (first, last) = (chunk[0].stamp, chunk[chunk.len() - 1].stamp);
        if !(steady && placer.pass(first, last, chunk.len() as u64)) {
            chunk.iter().for_each(|event| placer.push(event.stamp, event.flags));
        }
    }
    placer.finish().resolve(windows)
}

/// Checks every event against the truth; returns how many were (plain, repaired, ambiguous, not placed).
fn check(placement: &Placement, vcpu: &Vcpu) -> Result<[u64; 4], TestCaseError> {
    let mut seen = [0; 4];
    for (nth, event) in vcpu.events.iter().enumerate() {
        let piece = &placement.pieces[placement.index_at(nth as u64).expect("a piece")];
        let host = piece.host(event.stamp);
        match piece.kind {
            PieceKind::NotPlaced(_) => {
                prop_assert_eq!(host, None);
                seen[3] += 1;
            }
            PieceKind::Ambiguous => seen[2] += 1,
            PieceKind::Plain | PieceKind::Repaired => {
                let host = host.expect("placed");
                let (first, last) = (host.first.get(), host.last.get());
                let truth = event.truth.get();
                let plain = piece.kind == PieceKind::Plain;
                prop_assert!(
                    first.saturating_sub(piece.uncertainty) <= truth && truth <= last.saturating_add(piece.uncertainty),
                    "event {} at {} placed at {}..{} +- {} by {:?}",
                    nth,
                    truth,
                    first,
                    last,
                    piece.uncertainty,
                    piece
                );
                prop_assert!(!plain || piece.uncertainty == 0);
                seen[usize::from(!plain)] += 1;
            }
        }
    }
    let counts = placement.counts;
    let unplaced = counts.fits_no_segment + counts.clock_went_back + counts.stale;
    prop_assert_eq!([counts.plain, counts.repaired, counts.ambiguous, unplaced], seen);
    Ok(seen)
}

fn scaling() -> impl Strategy<Value = Scaling> {
    prop_oneof![
        3 => Just(Scaling::NONE),
        1 => (1_u64 << 30..1 << 34).prop_map(|ratio| Scaling::new(ratio, 32).unwrap()),
        1 => (1_u64 << 46..1 << 50).prop_map(|ratio| Scaling::new(ratio, 48).unwrap()),
    ]
}

fn jumps() -> impl Strategy<Value = Jumps> {
    prop_oneof![Just(Jumps::Any), Just(Jumps::StandStill), Just(Jumps::Back), Just(Jumps::Forward)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn one_offset_is_exact(seed in any::<u64>(), scaling in scaling(), losses in 0_u64..20) {
        let world = World::new(seed, &Plan { scaling, losses, ..Plan::default() });
        for vcpu in &world.vms[0].vcpus {
            let (history, _) = evidence(&world, vcpu, scaling);
            let placement = place(&history, vcpu, None);
            let seen = check(&placement, vcpu)?;
            prop_assert_eq!(seen, [vcpu.events.len() as u64, 0, 0, 0]);
            prop_assert_eq!(placement.pieces.len(), 1);
        }
    }

    #[test]
    fn many_offsets_are_never_wrong(
        seed in any::<u64>(), scaling in scaling(), jumps in jumps(), changes in 0_u64..30, losses in 0_u64..20,
        sub_buffer in 1_usize..60, with_windows in any::<bool>(),
    ) {
        let world = World::new(seed, &Plan { scaling, losses, changes, jumps, sub_buffer, ..Plan::default() });
        for vcpu in &world.vms[0].vcpus {
            let (history, windows) = evidence(&world, vcpu, scaling);
            let placement = place(&history, vcpu, with_windows.then_some(&windows));
            check(&placement, vcpu)?;
        }
    }
}

/// Sums over many worlds: hardly anything may be left open or unplaced.
fn totals(plan: &Plan, with_windows: bool) -> [u64; 4] {
    let mut totals = [0; 4];
    for seed in 0..40 {
        let world = World::new(seed, plan);
        for vcpu in &world.vms[0].vcpus {
            let (history, windows) = evidence(&world, vcpu, plan.scaling);
            let placement = place(&history, vcpu, with_windows.then_some(&windows));
            let seen = check(&placement, vcpu).unwrap();
            for (total, seen) in totals.iter_mut().zip(seen) {
                *total += seen;
            }
        }
    }
    totals
}

#[test]
fn rare_jumps_leave_little_open() {
    for jumps in [Jumps::Any, Jumps::StandStill, Jumps::Back, Jumps::Forward] {
        for with_windows in [false, true] {
            let [plain, repaired, ambiguous, unplaced] =
                totals(&Plan { changes: 1, jumps, ..Plan::default() }, with_windows);
            let all = plain + repaired + ambiguous + unplaced;
            assert!(ambiguous * 100 < all && unplaced * 1000 < all, "{jumps:?}: {ambiguous}, {unplaced} of {all}");
        }
    }
}

#[test]
fn a_clock_that_stands_still_while_the_vcpu_is_out_needs_no_windows() {
    // As on a host with an unstable TSC: thousands of small changes.
    let plan = Plan { changes: 60, jumps: Jumps::StandStill, windows: 2000, ..Plan::default() };
    let [plain, repaired, ambiguous, unplaced] = totals(&plan, false);
    assert!(plain > 1_000_000, "{plain}");
    assert_eq!([repaired, unplaced], [0, 0]);
    // Only where an event falls on the very exit and the clock goes on from there.
    assert!(ambiguous * 100_000 < plain, "{ambiguous}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn an_inferred_interval_holds_the_truth(seed in any::<u64>(), scaling in scaling(), losses in 0_u64..8, vcpus in 1_usize..4) {
        let world = World::new(seed, &Plan { scaling, losses, vcpus, vms: 2, ..Plan::default() });
        for vm in &world.vms {
            let known: Vec<(Vec<RawStamp>, Windows)> = vm.vcpus.iter()
                .map(|vcpu| (vcpu.events.iter().map(|e| e.stamp).collect(), evidence(&world, vcpu, scaling).1))
                .collect();
            let sample: Vec<infer::VcpuSample<'_>> =
                known.iter().map(|(stamps, windows)| infer::VcpuSample { stamps, windows }).collect();
            let truth: TscOffset = vm.vcpus[0].offsets[0].1;
            let inference = match infer::infer(&sample, scaling) {
                Ok(inference) => inference,
                // Lost windows may leave too little to go by, but complete ones must do.
                Err(error) => {
                    prop_assert!(losses > 0, "{:?}", error);
                    continue;
                }
            };
            prop_assert!(inference.ranges.iter().any(|range| range.contains(truth)), "{:?} {:?}", inference, truth);
            prop_assert_eq!(inference.inside, inference.checked);
            prop_assert!(losses > 0 || inference.verdict == infer::Verdict::Unique);
        }
    }
}
