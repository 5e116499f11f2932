use super::*;
use crate::clock::windows::WindowsBuilder;

fn range(first: u64, last: u64) -> HostRange {
    HostRange::new(HostTsc::new(first), HostTsc::new(last)).expect("ordered")
}

fn off(value: i64) -> TscOffset {
    TscOffset::from_signed(value)
}

/// Windows with gaps of 30, 50 and 70 between them.
fn windows() -> Windows {
    let mut builder = WindowsBuilder::new([range(1000, 2000)]);
    for (entry, exit) in [(1100, 1110), (1140, 1160), (1210, 1230), (1300, 1400)] {
        builder.entry(HostTsc::new(entry), 0);
        builder.exit(HostTsc::new(exit), 0);
    }
    builder.build()
}

fn stamps(host: &[u64], offset: i64) -> Vec<RawStamp> {
    host.iter().map(|h| RawStamp::new(h.wrapping_add_signed(offset))).collect()
}

#[test]
fn the_interval_is_worked_out_by_hand() {
    let windows = windows();
    // Three cycles behind the entry at 1140 at the earliest, two before the exits at 1110 and 1230 at the latest.
    let host = [1104, 1108, 1143, 1150, 1214, 1228, 1304, 1390];
    // Also with a guest whose clock is ahead, and one whose clock passes 2^64 between two events.
    for offset in [-900, 5_000_000_000, -1200] {
        let stamps = stamps(&host, offset);
        let found = infer(&[VcpuSample { stamps: &stamps, windows: &windows }], Scaling::NONE).unwrap();
        let expected = OffsetRange { lo: off(offset - 2), hi: off(offset + 3) };
        assert_eq!(found.ranges, [expected]);
        assert_eq!((found.hull, found.verdict), (expected, Verdict::Unique));
        assert_eq!((found.estimate, found.inside, found.checked), (off(offset), 8, 8));
    }
}

#[test]
fn nothing_fits_or_nothing_is_there() {
    let windows = windows();
    let sample = |stamps| [VcpuSample { stamps, windows: &windows }];
    assert_eq!(infer(&sample(&[]), Scaling::NONE), Err(Undecided::NoData));
    assert_eq!(infer(&[], Scaling::NONE), Err(Undecided::NoData));
    // An event every 5 cycles: no gap is that short.
    let dense: Vec<RawStamp> = (0..80).map(|n| RawStamp::new(n * 5)).collect();
    assert_eq!(infer(&sample(&dense), Scaling::NONE), Err(Undecided::NothingFits));
}

#[test]
fn vcpus_that_share_no_offset_are_inferred_apart() {
    let windows = windows();
    let host = [1104, 1108, 1143, 1150, 1214, 1228, 1304, 1390];
    let (one, two) = (stamps(&host, -100), stamps(&host, -777));
    let sample = [&one, &two].map(|stamps| VcpuSample { stamps, windows: &windows });
    let found: Vec<TscOffset> =
        infer_vm(&sample, Scaling::NONE, &Effort::default()).into_iter().map(|found| found.unwrap().estimate).collect();
    assert_eq!(found, [off(-100), off(-777)]);
}

#[test]
fn ranges_intersect_across_zero() {
    let a = OffsetRange { lo: off(-5), hi: off(10) };
    let b = OffsetRange { lo: off(-9), hi: off(2) };
    assert_eq!(a.intersect(b), Some(OffsetRange { lo: off(-5), hi: off(2) }));
    assert_eq!(b.intersect(a), a.intersect(b));
    assert_eq!(a.intersect(OffsetRange { lo: off(11), hi: off(12) }), None);
    assert_eq!((a.width(), a.middle()), (15, off(2)));
}

#[test]
fn causes_and_effects_narrow_a_range() {
    let range = OffsetRange { lo: off(-5), hi: off(10) };
    let narrow = |causes: &[(u64, Order, u64)]| {
        let causes: Vec<_> = causes.iter().map(|&(g, o, h)| (GuestTsc::new(g), o, HostTsc::new(h))).collect();
        constrain(range, Scaling::NONE, &causes)
    };
    // Guest 103 not before host 100: an offset of 4 would make it 99.
    assert_eq!(narrow(&[(103, Order::NotBefore, 100)]), Some(OffsetRange { lo: off(-5), hi: off(3) }));
    assert_eq!(narrow(&[(98, Order::NotAfter, 100)]), Some(OffsetRange { lo: off(-2), hi: off(10) }));
    assert_eq!(narrow(&[(98, Order::NotAfter, 100), (97, Order::NotBefore, 100)]), None);
    assert_eq!(narrow(&[]), Some(range));
}

#[test]
fn a_score_counts_what_can_be_known() {
    let windows = windows();
    let stamps = stamps(&[500, 1105, 1120, 1399], -70);
    let sample = VcpuSample { stamps: &stamps, windows: &windows };
    assert_eq!(score(off(-70), Scaling::NONE, sample), Score { inside: 2, checked: 3, stamps: 4 });
}

#[test]
fn readings_of_the_guests_clock_sharpen_an_estimate() {
    let windows = windows();
    let host = [1104, 1108, 1143, 1150, 1214, 1228, 1304, 1390];
    let stamps = stamps(&host, -900);
    let found = infer(&[VcpuSample { stamps: &stamps, windows: &windows }], Scaling::NONE).unwrap();
    assert_eq!(found.hull, OffsetRange { lo: off(-902), hi: off(-897) });
    // Read one or two cycles before the stamp, never after it.
    let reading = |late: u64| (GuestTsc::new(1200_u64.wrapping_add_signed(-900) - late), HostTsc::new(1200));
    let readings: Vec<_> = (0..20).map(|n| reading(1 + n % 2)).collect();
    let sharper = found.clone().with_readings(Scaling::NONE, &readings);
    assert_eq!((sharper.estimate, sharper.hull.lo, sharper.hull.hi), (off(-901), off(-901), off(-897)));
    assert_eq!(sharper.ranges, [sharper.hull]);
    // A reading that no offset of the hull explains is of another deadline.
    let mistaken: Vec<_> = readings.iter().copied().chain([(GuestTsc::new(1190), HostTsc::new(1200))]).collect();
    assert_eq!(found.clone().with_readings(Scaling::NONE, &mistaken), sharper);
    // Few say nothing.
    assert_eq!(found.clone().with_readings(Scaling::NONE, &readings[..15]), found);
}
