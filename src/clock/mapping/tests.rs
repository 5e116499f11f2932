use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn a_nested_guest_is_mapped_back_to_a_range_around_the_truth(
        host in 1_u64 << 40..1 << 50, ratio_1 in 1_u64 << 46..1 << 50, ratio_2 in 1_u64 << 46..1 << 50,
        offset_1 in -1_i64 << 40..1 << 40, offset_2 in -1_i64 << 40..1 << 40,
    ) {
        let scaling = |ratio| Scaling::new(ratio, 48).unwrap();
        let mapping = Mapping::tsc(TscOffset::from_signed(offset_1), scaling(ratio_1))
            .then(Step::Tsc { scaling: scaling(ratio_2), offset: TscOffset::from_signed(offset_2) });
        let host = HostTsc::new(host);
        let stamp = mapping.stamp(host);
        let within = HostRange { first: HostTsc::new(host.get() - (1 << 30)), last: HostTsc::new(host.get() + (1 << 30)) };
        let range = mapping.host(stamp, within).expect("it did occur");
        prop_assert!(range.contains(host));
        for edge in [range.first, range.last] {
            prop_assert_eq!(mapping.stamp(edge), stamp);
        }
    }

    #[test]
    fn a_kvm_clock_stamp_is_mapped_back_to_a_range_around_the_truth(
        host in 1_u64 << 40..1 << 50, mul in 1_u32 << 28..u32::MAX, shift in -3_i8..3, constant in -1_i64 << 40..1 << 40,
        ago in 0_u64..1 << 34,
    ) {
        let offset = TscOffset::from_signed(-123_456_789_012);
        let host = HostTsc::new(host);
        let now = Scaling::NONE.guest(host, offset);
        let params = Params { tsc_timestamp: GuestTsc::new(now.get() - ago), system_time: 77_000_000_000, mul, shift };
        let mapping = Mapping::tsc(offset, Scaling::NONE).then(Step::PvClock { params, constant });
        let stamp = mapping.stamp(host);
        let within = HostRange { first: HostTsc::new(host.get() - (1 << 35)), last: HostTsc::new(host.get() + (1 << 35)) };
        let range = mapping.host(stamp, within).expect("it did occur");
        prop_assert!(range.contains(host), "{:?} {:?}", range, host);
        for edge in [range.first, range.last] {
            prop_assert_eq!(mapping.stamp(edge), stamp);
        }
    }
}

#[test]
fn images_tell_what_can_be_recorded() {
    let mapping = Mapping::tsc(TscOffset::from_signed(-10), Scaling::NONE);
    let within = HostRange::new(HostTsc::new(4), HostTsc::new(20)).unwrap();
    assert_eq!(mapping.image(within), Some((6_u64.wrapping_neg(), 16)));
    assert_eq!(mapping.image(HostRange::ALL), None);
}
