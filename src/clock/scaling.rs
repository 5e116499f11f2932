//! What the hardware does to the TSC a guest reads, and its exact inverse.

use crate::time::{GuestTsc, HostTsc, TscOffset};

/// A closed range of host times, in TSC cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostRange {
    /// The earliest host time.
    pub first: HostTsc,
    /// The latest host time, inclusive; never before `first`.
    pub last: HostTsc,
}

impl HostRange {
    /// All host times.
    pub const ALL: Self = Self { first: HostTsc::MIN, last: HostTsc::MAX };

    /// From `first` to `last`, both inclusive. `None` if `last` is before `first`.
    pub fn new(first: HostTsc, last: HostTsc) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// One moment.
    pub const fn at(ts: HostTsc) -> Self {
        Self { first: ts, last: ts }
    }

    /// `last - first` in cycles: 0 where the time is exact.
    pub fn width(self) -> u64 {
        self.last.get() - self.first.get()
    }

    /// Whether `ts` lies in the range.
    pub fn contains(self, ts: HostTsc) -> bool {
        self.first <= ts && ts <= self.last
    }

    /// The common part, if any.
    pub fn intersect(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }
}

/// TSC scaling: `guest = (host * ratio >> frac_bits) + offset`, modulo 2^64, with a 128-bit product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scaling {
    ratio: u64,
    frac_bits: u8,
}

impl Scaling {
    /// No scaling.
    pub const NONE: Self = Self { ratio: 1, frac_bits: 0 };

    /// debugfs `tsc-scaling-ratio` and `tsc-scaling-ratio-frac-bits` (48 on Intel, 32 on AMD). `None` if `ratio` is 0
    /// or `frac_bits` above 63.
    pub fn new(ratio: u64, frac_bits: u8) -> Option<Self> {
        if ratio == 0 || frac_bits > 63 {
            return None;
        }
        Some(if ratio == 1 << frac_bits { Self::NONE } else { Self { ratio, frac_bits } })
    }

    /// Whether the guest's TSC runs at the host's rate.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The multiplier.
    pub fn ratio(self) -> u64 {
        self.ratio
    }

    /// How many bits of [`Scaling::ratio`] are its fraction.
    pub fn frac_bits(self) -> u8 {
        self.frac_bits
    }

    /// What a guest reads at host time `host`.
    #[inline]
    pub fn guest(self, host: HostTsc, offset: TscOffset) -> GuestTsc {
        let _ = (host, offset);
        todo!()
    }

    /// All host times within `within` at which a guest reads exactly `guest`: one value unless the guest's TSC is
    /// slower than the host's. `None` if there is none.
    ///
    /// Where the scaled value passed 2^64 the same reading occurs again; `within` tells the occurrences apart, and the
    /// first one in it is returned.
    #[inline]
    pub fn host_range(self, guest: GuestTsc, offset: TscOffset, within: HostRange) -> Option<HostRange> {
        let _ = (guest, offset, within);
        todo!()
    }
}

impl Default for Scaling {
    fn default() -> Self {
        Self::NONE
    }
}
