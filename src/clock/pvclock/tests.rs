use super::*;
use crate::clock::history::Source;
use crate::clock::windows::WindowsBuilder;
use crate::time::RawStamp;

#[test]
fn kvm_clock_is_computed_as_the_guest_does() {
    let params = Params { tsc_timestamp: GuestTsc::new(1000), system_time: 500, mul: 0x8000_0000, shift: -1 };
    // 2001 - 1000 = 1001, shifted right: 500, times one half: 250.
    assert_eq!(params.ns(GuestTsc::new(2001)), 750);
    // 249.. of the halved distance 500 or 501: distances 1000 to 1003.
    assert_eq!(params.guest_range(750), Some((GuestTsc::new(2000), GuestTsc::new(2003))));
    assert_eq!(params.guest_range(499), None);
    assert_eq!(params.hz(), Some(4_000_000_000));
    let up = Params { shift: 2, mul: 0x4000_0000, ..params };
    // 3 cycles, times four, times a quarter.
    assert_eq!(up.ns(GuestTsc::new(1003)), 503);
    assert_eq!(up.guest_range(503), Some((GuestTsc::new(1003), GuestTsc::new(1003))));
    assert_eq!(Params { mul: 0, ..params }.hz(), None);
    assert_eq!(Params { shift: -128, ..params }.ns(GuestTsc::new(5000)), 500);
}

fn range(first: u64, last: u64) -> HostRange {
    HostRange::new(HostTsc::new(first), HostTsc::new(last)).expect("ordered")
}

/// Two nanoseconds per cycle; guest TSC = host TSC - 1000.
fn clock() -> (History, [Update; 3]) {
    let params = |tsc, system_time| Params { tsc_timestamp: GuestTsc::new(tsc), system_time, mul: 1 << 31, shift: 2 };
    let update = |at, params| Update { at: HostTsc::new(at), params };
    let history = History::constant(crate::time::TscOffset::from_signed(-1000), Scaling::NONE, Source::Recorded, 0);
    // The second repeats the first; the third is 5 ns ahead of where the first would be.
    (history, [update(1500, params(400, 800)), update(1700, params(400, 800)), update(2000, params(990, 1985))])
}

#[test]
fn each_update_holds_until_the_next_one() {
    let (history, updates) = clock();
    let tracks = tracks(&history, &updates, 100);
    assert_eq!(tracks.iter().map(|t| t.within).collect::<Vec<_>>(), [range(1500, 1999), range(2000, u64::MAX)]);
    // Guest TSC 600: 800 + 2 * 200 - 100; guest TSC 1010: 1985 + 2 * 20 - 100.
    let stamp = |track: usize, host| tracks[track].mapping.stamp(HostTsc::new(host)).get();
    assert_eq!((stamp(0, 1600), stamp(1, 2010)), (1100, 1925));
    let host = |track: usize, stamp| tracks[track].mapping.host(RawStamp::new(stamp), tracks[track].within);
    assert_eq!((host(0, 1100), host(1, 1925)), (Some(range(1600, 1600)), Some(range(2010, 2010))));
}

#[test]
fn windows_become_nanoseconds_and_the_constant_is_found() {
    let (history, updates) = clock();
    let mut builder = WindowsBuilder::new([range(1000, 2300)]);
    for (entry, exit) in [(1600, 1610), (1640, 1660), (1710, 1730), (1990, 1995), (2010, 2100)] {
        builder.entry(HostTsc::new(entry), 0);
        builder.exit(HostTsc::new(exit), 0);
    }
    let windows = builder.build();
    let ns = windows_in_ns(&windows, &updates, &history);
    assert_eq!(ns.windows()[0], range(1200, 1220));
    assert_eq!(ns.windows()[4], range(2025, 2205));

    let mapping = |host| if host < 2000 { 2 * (host - 1400) + 800 } else { 2 * (host - 1990) + 1985 };
    let stamps: Vec<RawStamp> =
        [1601_u64, 1609, 1641, 1650, 1729, 1993, 2012, 2099].map(|host| RawStamp::new(mapping(host) - 700)).to_vec();
    let sample = VcpuSample { stamps: &stamps, windows: &windows };
    let (constant, inference) =
        infer_constant(&[ClockSample { sample, updates: &updates, history: &history }], &Effort::default()).unwrap();
    // One cycle behind an entry and before an exit each: two nanoseconds either way, and the odd one that no cycle shows.
    assert_eq!(inference.ranges.len(), 1);
    assert_eq!((constant, inference.hull.width()), (700, 6));
}
