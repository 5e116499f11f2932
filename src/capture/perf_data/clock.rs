//! The clock of a recording's stamps: nanoseconds, which TIME_CONV turns back into TSC cycles.

use crate::capture::Endian;
use crate::capture::bytes::Cursor;
use crate::error::Result;

/// How the kernel makes nanoseconds of TSC cycles, modulo 2^64: `zero + (cycles * mult >> shift)`
/// (`struct perf_event_mmap_page`, saved in a TIME_CONV record).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeConv {
    pub(super) mult: u32,
    pub(super) shift: u32,
    pub(super) zero: u64,
}

impl TimeConv {
    /// Reads the body of a TIME_CONV record; `None` where it says that it does not hold.
    pub(super) fn parse(body: &[u8], at: u64, endian: Endian) -> Result<Option<Self>> {
        let mut cursor = Cursor::new(body, at, endian);
        let (shift, mult) = (cursor.u64("the shift of TIME_CONV")?, cursor.u64("the factor of TIME_CONV")?);
        let zero = cursor.u64("the zero of TIME_CONV")?;
        // Since Linux 5.10 two numbers of short counters follow, and two flags: whether `zero` holds, and whether the
        // counter is a short one, which x86's is not.
        let flags = cursor.rest().get(16..18).unwrap_or(&[1, 0]);
        let mult = u32::try_from(mult).ok().filter(|&mult| mult != 0);
        let shift = u32::try_from(shift).ok().filter(|&shift| shift < 64);
        Ok(mult.zip(shift).filter(|_| flags == [1, 0]).map(|(mult, shift)| Self { mult, shift, zero }))
    }

    /// The first cycle of which the kernel makes this stamp; `None` for stamps before cycle 0.
    #[inline]
    pub(super) fn cycles(self, ns: u64) -> Option<u64> {
        let since = ns.wrapping_sub(self.zero);
        if since.cast_signed() < 0 {
            return None;
        }
        u64::try_from((u128::from(since) << self.shift).div_ceil(u128::from(self.mult))).ok()
    }

    /// How many cycles have the same stamp, at most.
    pub(super) fn step(self) -> u64 {
        (1_u64 << self.shift).div_ceil(u64::from(self.mult))
    }
}

/// The name of a clock that the user chose, as ftrace calls the same one.
pub(super) fn name(clockid: Option<i32>) -> String {
    match clockid {
        None => "perf_clock".into(),
        Some(0) => "realtime".into(),
        Some(1) => "mono".into(),
        Some(4) => "mono_raw".into(),
        Some(7) => "boot".into(),
        Some(11) => "tai".into(),
        Some(other) => format!("clockid {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_the_first_of_their_nanosecond() {
        // 2.6 GHz, and a clock that was set back: its zero is "negative".
        for zero in [0, 5_000, 1_u64.wrapping_neg() << 20] {
            let conv = TimeConv { mult: 412_977_217, shift: 30, zero };
            let ns = |tsc: u64| zero.wrapping_add(((u128::from(tsc) * u128::from(conv.mult)) >> conv.shift) as u64);
            assert_eq!(conv.step(), 3);
            for tsc in [10_000_000, 10_000_001, 10_000_002, 987_654_321_098] {
                let first = conv.cycles(ns(tsc)).unwrap();
                assert!(first <= tsc && tsc - first < conv.step(), "{tsc} {first}");
                assert_eq!(ns(first), ns(tsc));
                assert_ne!(ns(first - 1), ns(tsc));
            }
        }
        assert_eq!(TimeConv { mult: 1, shift: 0, zero: 100 }.cycles(99), None);
        assert_eq!(TimeConv { mult: 1, shift: 63, zero: 0 }.cycles(u64::MAX / 2), None);
    }

    #[test]
    fn what_a_record_says() {
        let words = |words: &[u64]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
        let parse = |bytes: &[u8]| TimeConv::parse(bytes, 0, Endian::Little).unwrap();
        let conv = Some(TimeConv { mult: 5, shift: 10, zero: 7 });
        assert_eq!(parse(&words(&[10, 5, 7])), conv);
        assert_eq!(parse(&words(&[10, 5, 7, 0, 0, 1])), conv);
        assert_eq!(parse(&words(&[10, 5, 7, 0, 0, 0])), None);
        assert_eq!(parse(&words(&[10, 5, 7, 0, 0, 0x101])), None);
        assert_eq!(parse(&words(&[64, 5, 7])), None);
        assert_eq!(parse(&words(&[10, 0, 7])), None);
        assert!(TimeConv::parse(&[0; 23], 0, Endian::Little).is_err());
    }
}
