//! Host TSC to nanoseconds, in integers.

use crate::clock::scaling::Scaling;
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

/// Where a rate is known from, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RateSource {
    /// The TSC2NSEC option of trace.dat.
    Tsc2Nsec,
    /// `--tsc-hz` or the manifest.
    Given,
    /// `kvm_pvclock_update`: the guest's rate divided by the TSC scaling.
    PvClock,
    /// A line through events that carry a nanosecond clock beside their TSC stamp.
    ClockPairs,
    /// A kernel log in the capture.
    KernelLog,
    /// Nothing: one cycle is shown as one nanosecond.
    Unknown,
}

/// A rate that one source names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is known from.
    pub source: RateSource,
    /// The rate.
    pub rate: TscRate,
}

/// The rate that is used, and what the other sources say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The best source's rate.
    pub rate: TscRate,
    /// Its source.
    pub source: RateSource,
    /// How far each other candidate deviates, in parts per million of the chosen rate (positive: faster).
    pub deviations: Vec<(RateSource, i64)>,
}

/// Takes the best of `candidates` ([`TscRate::UNKNOWN`] if there is none) and compares the others with it.
pub fn choose(candidates: &[Candidate]) -> Chosen {
    let _ = candidates;
    todo!()
}

/// The host's rate in Hz from a guest's: `guest_hz` divided by the scaling ratio, rounded.
pub fn host_hz(guest_hz: u64, scaling: Scaling) -> Option<u64> {
    let _ = (guest_hz, scaling);
    todo!()
}

/// The rate in Hz of a line through pairs of (TSC, nanoseconds) taken at the same moments, such as the stamp and `now=`
/// of `hrtimer_expire_entry`. `None` with fewer than two distinct TSC values or a line that does not rise.
pub fn hz_from_pairs(pairs: &[(HostTsc, u64)]) -> Option<u64> {
    let _ = pairs;
    todo!()
}

/// The rate in Hz from a kernel log: the refined calibration where there is one, else the detected frequency.
pub fn hz_from_kernel_log(log: &str) -> Option<u64> {
    let _ = log;
    todo!()
}
