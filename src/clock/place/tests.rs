use super::*;
use crate::capture::Record;
use crate::clock::history::{Change, Evidence, Source};
use crate::clock::windows::{Windows, WindowsBuilder};
use crate::time::TscOffset;

fn range(first: u64, last: u64) -> HostRange {
    HostRange::new(HostTsc::new(first), HostTsc::new(last)).expect("ordered")
}

/// Tracks from (first, last, offset).
fn along(segments: &[(u64, u64, i64)]) -> Placer {
    let track = |(segment, &(first, last, offset)): (usize, &(u64, u64, i64))| Track {
        within: range(first, last),
        mapping: Mapping::tsc(TscOffset::from_signed(offset), Scaling::NONE),
        segment,
        uncertainty: 0,
    };
    Placer::new(segments.iter().enumerate().map(track).collect())
}

fn windows(pairs: &[(u64, u64)]) -> Windows {
    let mut builder = WindowsBuilder::new([HostRange::ALL]);
    for &(entry, exit) in pairs {
        builder.entry(HostTsc::new(entry), 0);
        builder.exit(HostTsc::new(exit), 0);
    }
    builder.build()
}

fn push(placer: &mut Placer, stamps: &[u64]) {
    for &stamp in stamps {
        placer.push(RawStamp::new(stamp), 0);
    }
}

/// `start kind segment` of every piece.
fn picture(placement: &Placement) -> Vec<String> {
    let line = |p: &Piece| match p.kind {
        PieceKind::NotPlaced(reason) => format!("{} {reason:?}", p.start),
        kind => format!("{} {kind:?} {}", p.start, p.segment),
    };
    placement.pieces.iter().map(line).collect()
}

fn host(placement: &Placement, event: u64, stamp: u64) -> Option<u64> {
    let piece = placement.pieces.get(placement.index_at(event)?)?;
    piece.host(RawStamp::new(stamp)).map(|range| range.first.get())
}

#[test]
fn flags_are_those_of_records() {
    assert_eq!((FIRST, ZERO_EXTEND), (Record::FIRST, Record::ZERO_EXTEND));
}

#[test]
fn a_forward_jump_needs_no_windows() {
    let mut placer = along(&[(1000, 1500, -1000), (1600, 9000, -500)]);
    push(&mut placer, &[10, 500, 1100, 1200]);
    let placing = placer.finish();
    assert_eq!(placing.needs(), []);
    let placement = placing.resolve(None);
    assert_eq!(picture(&placement), ["0 Plain 0", "2 Plain 1"]);
    assert_eq!((host(&placement, 1, 500), host(&placement, 2, 1100)), (Some(1500), Some(1600)));
}

#[test]
fn a_step_back_at_a_sub_buffer_tells_where_the_offset_fell() {
    let mut placer = along(&[(1000, 1500, -1000), (1600, 9000, -1550)]);
    push(&mut placer, &[10, 100, 400]);
    placer.push(RawStamp::new(60), FIRST);
    push(&mut placer, &[90, 300]);
    let placement = placer.finish().resolve(None);
    // Stamps from 50 on fit both, but only one way goes forward in time; the first could not be told without the step.
    assert_eq!(picture(&placement), ["0 Plain 0", "3 Plain 1"]);
    assert_eq!(host(&placement, 3, 60), Some(1610));
}

#[test]
fn windows_decide_where_a_jump_back_left_no_step() {
    let segments = [(1000, 1500, -1000), (1600, 9000, -1550)];
    let mut placer = along(&segments);
    push(&mut placer, &[10, 100, 200, 300]);
    let placing = placer.finish();
    assert_eq!(placing.needs(), [range(1100, 1300), range(1650, 1850)]);
    // 100 at 1100 or 1650, 200 at 1200 or 1750, 300 at 1300 or 1850.
    let placement = placing.resolve(Some(&windows(&[(1005, 1105), (1745, 1900)])));
    assert_eq!(picture(&placement), ["0 Plain 0", "2 Plain 1"]);

    let mut placer = along(&segments);
    push(&mut placer, &[10, 100, 200, 300]);
    let placement = placer.finish().resolve(None);
    assert_eq!(picture(&placement), ["0 Plain 0", "1 Ambiguous 0"]);
    assert_eq!(placement.counts, Counts { plain: 1, ambiguous: 3, ..Counts::default() });
}

#[test]
fn a_stale_run_is_moved_to_where_all_its_events_are_inside() {
    // The offset falls by 3000 between 1500 and 1600. The clock shows 480, then 60 65 95: recorded as 480 485 515.
    let mut placer = along(&[(1000, 1500, -1000), (1600, 9000, -1550)]);
    push(&mut placer, &[10, 480]);
    placer.push(RawStamp::new(480), ZERO_EXTEND);
    push(&mut placer, &[485, 515]);
    placer.push(RawStamp::new(140), FIRST);
    let placing = placer.finish();
    assert_eq!(placing.needs(), [range(1600, 1690)]);
    let placement = placing.resolve(Some(&windows(&[(1002, 1495), (1604, 1618), (1640, 1650), (1686, 1700)])));
    assert_eq!(picture(&placement), ["0 Plain 0", "2 Repaired 1", "5 Plain 1"]);
    // Starts 1604..=1613 keep the first two in the first window; of these 1605..=1613 put the third into the second.
    assert_eq!(placement.pieces[1].uncertainty, 4);
    assert_eq!([480, 485, 515].map(|stamp| host(&placement, 2, stamp)), [Some(1609), Some(1614), Some(1644)]);
}

#[test]
fn what_cannot_be_placed_is_counted_with_its_reason() {
    let mut placer = along(&[(1000, 1500, -1000)]);
    push(&mut placer, &[700, 710]);
    placer.push(RawStamp::new(100), FIRST);
    push(&mut placer, &[200, 300]);
    placer.push(RawStamp::new(300), ZERO_EXTEND);
    push(&mut placer, &[301]);
    placer.push(RawStamp::new(150), FIRST);
    let placement = placer.finish().resolve(None);
    assert_eq!(picture(&placement), ["0 FitsNoSegment", "2 Plain 0", "5 StaleRun", "7 ClockWentBack"]);
    let counts = Counts { plain: 3, fits_no_segment: 2, clock_went_back: 1, stale: 2, ..Counts::default() };
    assert_eq!(placement.counts, counts);
    assert_eq!(host(&placement, 0, 700), None);
    assert_eq!(placement.index_at(8), None);
}

#[test]
fn no_history_places_nothing_and_an_empty_stream_has_no_pieces() {
    let mut placer = Placer::new(Vec::new());
    push(&mut placer, &[1, 2, 3]);
    assert_eq!(picture(&placer.finish().resolve(None)), ["0 FitsNoSegment"]);
    assert_eq!(Placer::new(Vec::new()).finish().resolve(None).pieces, []);
}

#[test]
fn a_million_events_that_fit_two_boots_are_settled_by_windows() {
    // Two boots of one VM: all stamps fit both.
    let mut placer = along(&[(0, 99_999_999, 0), (100_000_000, 300_000_000, -100_000_000)]);
    for nth in 0..1_000_000 {
        placer.push(RawStamp::new(1_000 + nth * 90), 0);
    }
    let run: Vec<(u64, u64)> = (0..1000).map(|n| (n * 200_000, n * 200_000 + 80_000)).collect();
    let second: Vec<(u64, u64)> =
        run.iter().copied().filter(|w| w.0 < 100_000_000).chain([(100_000_500, 199_000_000)]).collect();
    let placement = placer.finish().resolve(Some(&windows(&second)));
    assert_eq!(placement.counts.plain + placement.counts.ambiguous, 1_000_000);
    // But for the first few, which are inside in both.
    assert!(placement.counts.ambiguous < 1000, "{:?}", placement.counts);
    assert!(placement.pieces.iter().all(|piece| piece.segment == 1));
}

#[test]
fn tracks_leave_out_segments_in_which_the_vcpu_did_not_run() {
    let mut history = History::constant(TscOffset::from_signed(-5), Scaling::NONE, Source::Snapshot, 3);
    assert_eq!(tracks(&history).iter().map(|t| t.uncertainty).collect::<Vec<_>>(), [3]);
    history.segments[0].ran = None;
    assert_eq!(tracks(&history), []);
}

#[test]
fn a_guest_in_a_guest_is_placed_along_both_histories() {
    let change = |at, prev, next| Change {
        at: HostTsc::new(at),
        prev: TscOffset::from_signed(prev),
        next: TscOffset::from_signed(next),
        copies: 1,
    };
    let build = |changes| History::build(&Evidence { changes, ..Evidence::default() });
    // On the host: -1000, from 5000 on -1500. In the guest, by its own TSC: -300, from 3700 on -200.
    let outer = build(vec![change(1000, 0, -1000), change(5000, -1000, -1500)]);
    let inner = build(vec![change(300, 0, -300), change(3700, -300, -200)]);
    let mut placer = Placer::new(nested_tracks(&outer, &inner));
    // Host 1400, 4600, 4800, 5300 (guest 400, 3600, 3800, 3800): nested 100, 3300, 3600, 3600.
    push(&mut placer, &[100, 3300, 3600]);
    placer.push(RawStamp::new(3600), FIRST);
    let placement = placer.finish().resolve(Some(&windows(&[(1390, 1410), (4590, 4820), (5290, 5300)])));
    assert_eq!(host(&placement, 0, 100), Some(1400));
    assert_eq!(host(&placement, 1, 3300), Some(4600));
    assert_eq!(placement.pieces.first().map(|p| p.segment), Some(0));
    assert_eq!(host(&placement, 2, 3600), Some(4800));
}
