use proptest::prelude::*;

use super::*;

fn ts(value: u64) -> HostTsc {
    HostTsc::new(value)
}

fn off(value: i64) -> TscOffset {
    TscOffset::from_signed(value)
}

fn write(at: u64, prev: i64, next: i64, buffer: u16) -> Write {
    Write { at: ts(at), prev: off(prev), next: off(next), buffer }
}

fn recorded(writes: &[Write]) -> History {
    History::build(&Evidence { changes: join_copies(writes), ..Evidence::default() })
}

/// `from..to offset` of every segment.
fn picture(history: &History) -> Vec<String> {
    let end = |t: HostTsc| if t == HostTsc::MAX { "end".to_owned() } else { t.to_string() };
    history.segments.iter().map(|s| format!("{}..{} {}", s.from, end(s.to), s.offset)).collect()
}

#[test]
fn copies_in_two_buffers_and_repeats_are_no_changes() {
    // As in the capture tsc-write, shortened: creation, two repeats, a change; each in the main buffer and an instance.
    let history = recorded(&[
        write(100, 0, -500, 0),
        write(110, 0, -500, 1),
        write(200, -500, -500, 0),
        write(209, -500, -500, 1),
        write(300, -500, -500, 0),
        write(303, -500, -500, 1),
        write(400, -500, 70, 0),
        write(407, -500, 70, 1),
    ]);
    assert_eq!(picture(&history), ["100..400 -500", "400..end 70"]);
    assert_eq!(history.conflicts, []);
}

#[test]
fn a_buffer_that_lost_some_writes_adds_nothing_wrong() {
    let all = [(100, 0, 5), (200, 5, 9), (300, 9, 5), (400, 5, 9), (500, 9, 5)];
    let first = all.iter().map(|&(at, prev, next)| write(at, prev, next, 0));
    // The second buffer holds the last three only, 10 later; the third the first and the last, 5 later.
    let second = all[2..].iter().map(|&(at, prev, next)| write(at + 10, prev, next, 1));
    let third = [all[0], all[4]].map(|(at, prev, next)| write(at + 5, prev, next, 2));
    let writes: Vec<Write> = first.chain(second).chain(third).collect();
    assert_eq!(picture(&recorded(&writes)), ["100..200 5", "200..300 9", "300..400 5", "400..500 9", "500..end 5"]);
    assert_eq!(join_copies(&writes).iter().map(|c| c.copies).collect::<Vec<_>>(), [2, 1, 2, 2, 3]);
}

#[test]
fn prev_of_the_first_write_is_the_offset_before_it() {
    assert_eq!(picture(&recorded(&[write(100, -7, 3, 0)])), ["0..100 -7", "100..end 3"]);
    // 0 means that the vCPU was just made, unless it was seen to run.
    assert_eq!(picture(&recorded(&[write(100, 0, 3, 0)])), ["100..end 3"]);
    let seen = Evidence { changes: join_copies(&[write(100, 0, 3, 0)]), ran_before: true, ..Evidence::default() };
    assert_eq!(picture(&History::build(&seen)), ["0..100 0", "100..end 3"]);
}

#[test]
fn a_lost_write_is_reported_and_both_offsets_may_reach_across_the_gap() {
    let history = recorded(&[write(100, 0, 5, 0), write(300, 8, 9, 0)]);
    assert_eq!(picture(&history), ["100..200 5", "200..300 8", "300..end 9"]);
    assert_eq!(
        history.conflicts,
        [Conflict::LostWrite { after: ts(100), before: ts(300), left: off(5), found: off(8) }]
    );
    let ran: Vec<_> = history.segments.iter().map(|s| s.ran.map(|r| (r.first.get(), r.last.get()))).collect();
    assert_eq!(ran, [Some((100, 299)), Some((100, 299)), Some((300, u64::MAX))]);
    assert!(history.segments[0].vague && history.segments[1].vague && !history.segments[2].vague);
    // A `prev` of 0 is a new vCPU in the same thread.
    assert_eq!(recorded(&[write(100, 0, 5, 0), write(300, 0, 9, 0)]).conflicts, []);
}

#[test]
fn the_user_wins_and_is_contradicted() {
    let evidence = Evidence {
        given: Some(Given { offset: Some(off(-41)), scaling: None }),
        changes: join_copies(&[write(100, 0, -40, 0)]),
        snapshots: vec![Snapshot { offset: off(-41), scaling: None }],
        ..Evidence::default()
    };
    let history = History::build(&evidence);
    assert_eq!(picture(&history), ["0..end -41"]);
    assert_eq!(
        history.conflicts,
        [Conflict::Offset { used: (Source::Given, off(-41)), other: (Source::Recorded, off(-40)) }]
    );
}

#[test]
fn lesser_sources_are_compared_but_change_nothing() {
    let scaling = Scaling::new(1 << 47, 48);
    let evidence = Evidence {
        changes: join_copies(&[write(100, 0, -40, 0), write(200, -40, -60, 0)]),
        samples: vec![ShiftSample { at: GuestTsc::new(110), offset: off(-40), scaling: None, measured: false }],
        snapshots: vec![Snapshot { offset: off(-99), scaling }],
        inferred: Some(InferredOffset { offset: off(-50), uncertainty: 12 }),
        ..Evidence::default()
    };
    let history = History::build(&evidence);
    assert_eq!(picture(&history), ["100..200 -40", "200..end -60"]);
    assert_eq!(
        history.conflicts,
        [Conflict::Offset { used: (Source::Recorded, off(-60)), other: (Source::Snapshot, off(-99)) }]
    );
    // Only the snapshot knows the scaling.
    assert!(history.segments.iter().all(|s| Some(s.scaling) == scaling));
}

#[test]
fn samples_that_agree_are_one_offset_and_those_that_do_not_are_vague() {
    let sample =
        |at, offset| ShiftSample { at: GuestTsc::new(at), offset: off(offset), scaling: None, measured: false };
    let build = |samples| History::build(&Evidence { samples, ..Evidence::default() });
    assert_eq!(picture(&build(vec![sample(50, -50), sample(900, -50)])), ["0..end -50"]);
    // Host times 100 and 960.
    let changed = build(vec![sample(50, -50), sample(900, -60)]);
    assert_eq!(picture(&changed), ["0..530 -50", "530..end -60"]);
    let ran: Vec<_> = changed.segments.iter().map(|s| s.ran.map(|r| (r.first.get(), r.last.get()))).collect();
    assert_eq!(ran, [Some((0, 959)), Some((100, u64::MAX))]);
    let noisy = [-50, -53, -48].map(|offset| ShiftSample { measured: true, ..sample(50, offset) });
    let noisy = build(noisy.to_vec());
    assert_eq!(picture(&noisy), ["0..end -50"]);
    assert_eq!(noisy.segments[0].uncertainty, 3);
}

#[test]
fn nothing_known_is_no_history() {
    assert_eq!(History::build(&Evidence::default()), History::default());
}

fn ran(history: &History) -> Vec<Option<(u64, u64)>> {
    history.segments.iter().map(|s| s.ran.map(|r| (r.first.get(), r.last.get()))).collect()
}

#[test]
fn segments_are_tightened_to_when_the_vcpu_ran() {
    let changes = join_copies(&[
        write(100, -1, -2, 0),
        write(200, -2, -3, 0),
        write(250, -3, -3, 0),
        write(300, -3, -4, 0),
        write(400, -4, -5, 0),
    ]);
    let build = || History::build(&Evidence { changes: changes.clone(), ..Evidence::default() });
    let known = HostRange::new(ts(10), ts(490)).unwrap();
    let mut bounds = EdgeBounds::new(&changes, known);
    let mut other = bounds.clone();
    for (entry, exit) in [(150, 160), (210, 220), (260, 261), (420, 430)] {
        // Two scans, each of which sees a part.
        bounds.note_entry(ts(entry));
        other.note_exit(ts(exit));
    }
    bounds.note_entry(ts(170));
    other.note_exit(ts(180));
    bounds.merge(&other);
    assert!(!bounds.ran_before_first());
    let mut history = build();
    history.tighten(&bounds);
    // Before the first write: only the time before the recording. Between 300 and 400 it did not run.
    assert_eq!(ran(&history), [Some((0, 9)), Some((150, 180)), Some((210, 261)), None, Some((420, u64::MAX))]);

    // A hole: it may have run in it.
    bounds.note_lost(HostRange::new(ts(350), ts(410)).unwrap());
    let mut history = build();
    history.tighten(&bounds);
    assert_eq!(ran(&history)[3..], [Some((350, 399)), Some((400, u64::MAX))]);

    // No kvm events at all prove nothing.
    let mut history = build();
    history.tighten(&EdgeBounds::new(&changes, known));
    assert_eq!(history, build());
}

#[test]
fn an_entry_without_its_exit_leaves_the_end_open() {
    let changes = join_copies(&[write(100, 0, -2, 0), write(200, -2, -3, 0)]);
    let mut bounds = EdgeBounds::new(&changes, HostRange::ALL);
    bounds.note_entry(ts(150));
    bounds.note_exit(ts(210));
    let mut history = History::build(&Evidence { changes, ..Evidence::default() });
    history.tighten(&bounds);
    assert_eq!(ran(&history), [Some((150, 199)), Some((200, 210))]);
}

proptest! {
    #[test]
    fn a_history_is_what_the_writes_say_at_every_moment(
        steps in prop::collection::vec((2_u64..50, -3_i64..3), 1..40), copies in prop::collection::vec(any::<bool>(), 40),
    ) {
        let (mut at, mut prev) = (0, 0);
        let mut writes = Vec::new();
        let mut truth = Vec::new();
        for (&(wait, next), &copy) in steps.iter().zip(&copies) {
            at += wait;
            writes.push(write(at, prev, next, 0));
            if copy {
                // The other buffer's stamp is later, but before the next write.
                writes.push(write(at + 1, prev, next, 1));
            }
            truth.push((at, next));
            prev = next;
        }
        let history = recorded(&writes);
        prop_assert!(history.conflicts.is_empty());
        for t in truth[0].0..at + 10 {
            let expected = truth.iter().rev().find(|&&(from, _)| from <= t).map(|&(_, next)| off(next));
            let found = history.at(ts(t)).map(|s| s.offset);
            // A vCPU made with offset 0 again and again has no segment until its offset is another one; `at` is exact.
            prop_assert_eq!(found, expected, "at {}", t);
        }
        for pair in history.segments.windows(2) {
            prop_assert_eq!(pair[0].to, pair[1].from);
            prop_assert_ne!(pair[0].offset, pair[1].offset);
        }
    }
}
