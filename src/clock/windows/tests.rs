use super::*;

fn ts(value: u64) -> HostTsc {
    HostTsc::new(value)
}

fn range(first: u64, last: u64) -> HostRange {
    HostRange::new(ts(first), ts(last)).expect("ordered")
}

/// One letter per moment 0, 1, 2, ...: `i`nside, `o`utside, `?`.
fn picture(windows: &Windows, moments: u64) -> String {
    let letter = |t| match windows.state(ts(t)) {
        State::Inside => 'i',
        State::Outside(_) => 'o',
        State::Unknown => '?',
    };
    (0..moments).map(letter).collect()
}

#[test]
fn entries_and_exits_make_windows() {
    let mut builder = WindowsBuilder::new([range(2, 17)]);
    for (entry, exit) in [(10, 12), (4, 6)] {
        builder.exit(ts(exit), 0);
        builder.entry(ts(entry), 0);
    }
    let windows = builder.build();
    assert_eq!(picture(&windows, 20), "??ooiiioooiiiooooo??");
    assert_eq!(windows.state(ts(8)), State::Outside(2));
    assert_eq!(windows.windows(), [range(4, 6), range(10, 12)]);
    assert_eq!(windows.gaps(), [range(2, 3), range(7, 9), range(13, 17)]);
}

#[test]
fn running_at_the_edges_of_what_is_known() {
    let mut builder = WindowsBuilder::new([range(2, 9)]);
    builder.exit(ts(4), 0);
    builder.entry(ts(7), 0);
    assert_eq!(picture(&builder.build(), 12), "??iiiooiii??");
}

#[test]
fn a_missing_partner_makes_the_time_unknown() {
    let mut builder = WindowsBuilder::new([range(0, 19)]);
    builder.entry(ts(2), 0);
    builder.entry(ts(6), 0);
    builder.exit(ts(8), 0);
    builder.exit(ts(12), 0);
    assert_eq!(picture(&builder.build(), 16), "oo????iii????ooo");
}

#[test]
fn lost_events_make_holes_except_where_a_pair_on_another_cpu_stands() {
    let build = |lost_cpu| {
        let mut builder = WindowsBuilder::new([range(0, 19)]);
        builder.entry(ts(2), 1);
        builder.exit(ts(8), 1);
        builder.entry(ts(12), 1);
        builder.exit(ts(14), 1);
        builder.lost(range(4, 5), lost_cpu);
        builder.lost(range(10, 10), lost_cpu);
        builder.build()
    };
    assert_eq!(picture(&build(1), 16), "ooii??iiio?oiiio");
    assert_eq!(picture(&build(0), 16), "ooiiiiiiio?oiiio");
}

#[test]
fn several_known_spans_leave_the_rest_unknown() {
    let mut builder = WindowsBuilder::new([range(10, 14), range(2, 5), range(4, 6)]);
    for t in [3, 8, 12] {
        builder.entry(ts(t), 0);
        builder.exit(ts(t + 1), 0);
    }
    let windows = builder.build();
    assert_eq!(picture(&windows, 17), "??oiioo???ooiio??");
    assert_eq!(windows.unknown(), [range(0, 1), range(7, 9), range(15, u64::MAX)]);
}

#[test]
fn nothing_is_known_without_a_span() {
    assert_eq!(picture(&WindowsBuilder::new([]).build(), 3), "???");
    // Within a span but without any event: the thread may have run all the time.
    assert_eq!(picture(&WindowsBuilder::new([range(0, 9)]).build(), 3), "???");
}
