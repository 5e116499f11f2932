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

    /// debugfs `tsc-scaling-ratio` and `tsc-scaling-ratio-frac-bits` (48 on Intel, 32 on AMD). `None` if `ratio` is 0,
    /// `frac_bits` above 63, or the guest 65,536 times faster than the host: no hardware goes there.
    pub fn new(ratio: u64, frac_bits: u8) -> Option<Self> {
        if ratio == 0 || frac_bits > 63 || ratio >> frac_bits > 0xffff {
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

    /// `host * ratio >> frac_bits`, before it is cut to 64 bits.
    #[inline]
    pub(crate) fn scaled(self, host: HostTsc) -> u128 {
        (u128::from(host.get()) * u128::from(self.ratio)) >> self.frac_bits
    }

    /// How many host cycles `cycles` of the guest last, rounded up.
    pub fn host_cycles(self, cycles: u64) -> u64 {
        let host = (u128::from(cycles) << self.frac_bits).div_ceil(u128::from(self.ratio));
        u64::try_from(host).unwrap_or(u64::MAX)
    }

    /// What a guest reads at host time `host`.
    #[inline]
    pub fn guest(self, host: HostTsc, offset: TscOffset) -> GuestTsc {
        GuestTsc::new((self.scaled(host) as u64).wrapping_add(offset.raw()))
    }

    /// All host times within `within` at which a guest reads exactly `guest`: one value unless the guest's TSC is
    /// slower than the host's. `None` if there is none.
    ///
    /// Where the scaled value passed 2^64 the same reading occurs again; `within` tells the occurrences apart, and the
    /// first one in it is returned.
    #[inline]
    pub fn host_range(self, guest: GuestTsc, offset: TscOffset, within: HostRange) -> Option<HostRange> {
        if self.is_none() {
            let host = HostTsc::new(guest.get().wrapping_sub(offset.raw()));
            return within.contains(host).then_some(HostRange::at(host));
        }
        self.host_span(guest, guest, offset, within)
    }

    /// All host times within `within` at which a guest reads a value from `lo` to `hi` (which may lie behind a
    /// wrap-around of 2^64). The first stretch of such times, if `within` is so long that there are several.
    pub fn host_span(self, lo: GuestTsc, hi: GuestTsc, offset: TscOffset, within: HostRange) -> Option<HostRange> {
        const WRAP: u128 = 1 << 64;
        let width = u128::from(hi.get().wrapping_sub(lo.get()));
        let (min, max) = (self.scaled(within.first), self.scaled(within.last));
        // The least value that is congruent to the end of the range and not below what `within` allows.
        let end = u128::from(hi.get().wrapping_sub(offset.raw()));
        let mut end = (min & !(WRAP - 1)) | end;
        if end < min {
            end += WRAP;
        }
        loop {
            let start = end.saturating_sub(width).max(min);
            if start > max {
                return None;
            }
            // Neither shift overflows: both values are at most what the greatest host time gives.
            let first = (start << self.frac_bits).div_ceil(u128::from(self.ratio));
            let last = ((end.min(max) + 1) << self.frac_bits).div_ceil(u128::from(self.ratio)) - 1;
            let first = first.max(u128::from(within.first.get()));
            let last = last.min(u128::from(within.last.get()));
            if first <= last {
                return HostRange::new(HostTsc::new(first as u64), HostTsc::new(last as u64));
            }
            // A faster guest skips readings: this one did not occur in this turn of the counter.
            end += WRAP;
        }
    }
}

impl Default for Scaling {
    fn default() -> Self {
        Self::NONE
    }
}

#[cfg(test)]
mod tests;
