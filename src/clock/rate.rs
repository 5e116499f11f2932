//! Host TSC to nanoseconds, in integers.

use crate::time::{HostTsc, TraceNs};

/// `ns = cycles * mult >> shift`, with a 128-bit product, as the kernel computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TscRate {
    mult: u64,
    shift: u32,
}

impl TscRate {
    /// One cycle is shown as one nanosecond: what is left when nothing tells the rate.
    pub const UNKNOWN: Self = Self { mult: 1, shift: 0 };

    /// The kernel's own multiplier and shift (TSC2NSEC). `None` if `mult` is 0 or `shift` is above 63.
    pub fn from_mult_shift(mult: u32, shift: u32) -> Option<Self> {
        (mult != 0 && shift <= 63).then_some(Self { mult: u64::from(mult), shift })
    }

    /// From a frequency. `None` for 0.
    pub fn from_hz(hz: u64) -> Option<Self> {
        if hz == 0 {
            return None;
        }
        let mut shift = 63;
        loop {
            let mult = (1_000_000_000_u128 << shift) / u128::from(hz);
            if let Ok(mult) = u64::try_from(mult) {
                return (mult != 0).then_some(Self { mult, shift });
            }
            shift -= 1;
        }
    }

    /// The frequency in Hz, rounded.
    pub fn hz(self) -> u64 {
        let mult = u128::from(self.mult);
        (((1_000_000_000_u128 << self.shift) + mult / 2) / mult) as u64
    }

    /// Nanoseconds since host TSC 0, saturating.
    #[inline]
    pub fn ns(self, tsc: HostTsc) -> TraceNs {
        let ns = (u128::from(tsc.get()) * u128::from(self.mult)) >> self.shift;
        TraceNs::new(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}
