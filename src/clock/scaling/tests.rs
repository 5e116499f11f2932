use proptest::prelude::*;

use super::*;

const ALL: HostRange = HostRange::ALL;

fn scaling() -> impl Strategy<Value = Scaling> {
    let ratio = |bits: u8| {
        prop_oneof![
            Just(1_u64 << bits),
            (1_u64 << (bits - 2))..(4_u64 << bits),
            (1_u64 << bits).saturating_sub(1000).max(1)..((1_u64 << bits) + 1000),
            1_u64..1000,
        ]
        .prop_map(move |ratio| Scaling::new(ratio, bits).expect("valid"))
    };
    prop_oneof![ratio(48), ratio(32), ratio(3), Just(Scaling::NONE)]
}

proptest! {
    #[test]
    fn host_times_of_a_reading_are_exactly_those_that_give_it(
        scaling in scaling(), host in any::<u64>(), offset in any::<u64>(), reach in 0_u64..5_000_000_000,
    ) {
        let (host, offset) = (HostTsc::new(host), TscOffset::from_raw(offset));
        let guest = scaling.guest(host, offset);
        let within = HostRange {
            first: HostTsc::new(host.get().saturating_sub(reach)),
            last: HostTsc::new(host.get().saturating_add(reach)),
        };
        let range = scaling.host_range(guest, offset, within).expect("it did occur");
        prop_assert!(range.contains(host), "{range:?}");
        prop_assert!(within.contains(range.first) && within.contains(range.last));
        for edge in [range.first, range.last] {
            prop_assert_eq!(scaling.guest(edge, offset), guest);
        }
        for beyond in [range.first.get().checked_sub(1), range.last.get().checked_add(1)].into_iter().flatten() {
            let beyond = HostTsc::new(beyond);
            prop_assert!(!within.contains(beyond) || scaling.guest(beyond, offset) != guest);
        }
        if scaling.ratio() >> scaling.frac_bits() >= 1 {
            prop_assert_eq!(range.width(), 0);
        } else {
            prop_assert!(u128::from(range.width()) < (1_u128 << scaling.frac_bits()).div_ceil(scaling.ratio().into()));
        }
    }

    #[test]
    fn any_reading_is_inverted_or_did_not_occur(scaling in scaling(), guest in any::<u64>(), first in any::<u64>(), width in 0_u64..300) {
        let within = HostRange { first: HostTsc::new(first), last: HostTsc::new(first.saturating_add(width)) };
        let offset = TscOffset::from_raw(0);
        // Make a hit likely: readings near the middle of `within`.
        let guest = GuestTsc::new(scaling.guest(within.first, offset).get().wrapping_add(guest % 64));
        let all: Vec<HostTsc> = (within.first.get()..=within.last.get())
            .map(HostTsc::new).filter(|&h| scaling.guest(h, offset) == guest).collect();
        match scaling.host_range(guest, offset, within) {
            Some(range) => {
                prop_assert_eq!(Some(&range.first), all.first());
                prop_assert_eq!(Some(&range.last), all.last());
            }
            None => prop_assert!(all.is_empty()),
        }
    }

    #[test]
    fn a_span_of_readings_covers_each_of_them(scaling in scaling(), first in any::<u64>(), width in 0_u64..200, lo in 0_u64..100, more in 0_u64..100) {
        let within = HostRange { first: HostTsc::new(first), last: HostTsc::new(first.saturating_add(width)) };
        let offset = TscOffset::from_raw(u64::MAX - 17);
        let lo = GuestTsc::new(scaling.guest(within.first, offset).get().wrapping_add(lo).wrapping_sub(20));
        let hi = GuestTsc::new(lo.get().wrapping_add(more));
        let hits = |h: &HostTsc| scaling.guest(*h, offset).get().wrapping_sub(lo.get()) <= more;
        let all: Vec<HostTsc> = (within.first.get()..=within.last.get()).map(HostTsc::new).filter(hits).collect();
        let span = scaling.host_span(lo, hi, offset, within);
        prop_assert_eq!(span.map(|s| s.first), all.first().copied());
        prop_assert_eq!(span.map(|s| s.last), all.last().copied());
    }
}

#[test]
fn values_worked_out_by_hand() {
    // Half speed: 32 fraction bits, ratio 2^31. Host 10 and 11 both read 5.
    let half = Scaling::new(1 << 31, 32).unwrap();
    assert_eq!(half.guest(HostTsc::new(11), TscOffset::from_signed(-3)), GuestTsc::new(2));
    let range = half.host_range(GuestTsc::new(2), TscOffset::from_signed(-3), ALL).unwrap();
    assert_eq!((range.first.get(), range.last.get()), (10, 11));
    // One and a half times: host 0 1 2 3 4 read 0 1 3 4 6, so nobody ever reads 2 without wrapping around.
    let faster = Scaling::new(3 << 47, 48).unwrap();
    let within = HostRange::new(HostTsc::new(0), HostTsc::new(1 << 40)).unwrap();
    assert_eq!(faster.host_range(GuestTsc::new(2), TscOffset::from_raw(0), within), None);
    assert_eq!(
        faster.host_range(GuestTsc::new(4), TscOffset::from_raw(0), within),
        Some(HostRange::at(HostTsc::new(3)))
    );
    // Twice as fast: beyond host 2^63 the reading starts over.
    let double = Scaling::new(2, 0).unwrap();
    let late = HostRange::new(HostTsc::new(1 << 63), HostTsc::MAX).unwrap();
    assert_eq!(double.host_range(GuestTsc::new(6), TscOffset::from_raw(0), ALL), Some(HostRange::at(HostTsc::new(3))));
    assert_eq!(
        double.host_range(GuestTsc::new(6), TscOffset::from_raw(0), late),
        Some(HostRange::at(HostTsc::new((1 << 63) + 3)))
    );
    // The capture two-vm: guest 88750981398 with offset -33610754878.
    let host = Scaling::NONE.host_range(GuestTsc::new(88_750_981_398), TscOffset::from_signed(-33_610_754_878), ALL);
    assert_eq!(host, Some(HostRange::at(HostTsc::new(122_361_736_276))));
}

#[test]
fn absurd_ratios_are_refused() {
    assert_eq!(Scaling::new(0, 48), None);
    assert_eq!(Scaling::new(1, 64), None);
    assert_eq!(Scaling::new(u64::MAX, 0), None);
    assert!(Scaling::new(1 << 48, 48).unwrap().is_none());
}
