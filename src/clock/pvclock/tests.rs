use super::*;

/// An update of the capture kvmclock (host at 2596.1 MHz): worked out with arbitrary-precision arithmetic.
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
