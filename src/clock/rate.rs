//! Host TSC to nanoseconds, in integers.

use crate::clock::line::ClockLine;
use crate::clock::scaling::Scaling;
use crate::time::{HostTsc, TraceNs};

/// `ns = cycles * mult >> shift`, with a 128-bit product, as the kernel computes it; or along a line that leads to the
/// nanoseconds of a clock of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TscRate {
    mult: u64,
    shift: u32,
    line: Option<ClockLine>,
}

impl TscRate {
    /// One cycle is shown as one nanosecond: what is left when nothing tells the rate.
    pub const UNKNOWN: Self = Self { mult: 1, shift: 0, line: None };

    /// The kernel's own multiplier and shift (TSC2NSEC). `None` if `mult` is 0 or `shift` is above 63.
    pub fn from_mult_shift(mult: u32, shift: u32) -> Option<Self> {
        (mult != 0 && shift <= 63).then_some(Self { mult: u64::from(mult), shift, line: None })
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
                return (mult != 0).then_some(Self { mult, shift, line: None });
            }
            shift -= 1;
        }
    }

    /// Along a line: the axis is its clock's.
    pub fn along(line: ClockLine) -> Option<Self> {
        Some(Self { line: Some(line.clone()), ..Self::from_hz(line.hz())? })
    }

    /// The line, where the axis is another clock's.
    pub fn line(&self) -> Option<&ClockLine> {
        self.line.as_ref()
    }

    /// The frequency in Hz, rounded.
    pub fn hz(&self) -> u64 {
        let mult = u128::from(self.mult);
        (((1_000_000_000_u128 << self.shift) + mult / 2) / mult) as u64
    }

    /// When it is on the axis, whose zero is host TSC 0 except along a line. Saturating.
    #[inline]
    pub fn ns(&self, tsc: HostTsc) -> TraceNs {
        TraceNs::new(match &self.line {
            None => self.duration(tsc.get()),
            Some(line) => line.ns(tsc.get()),
        })
    }

    /// How many nanoseconds so many cycles last, saturating.
    #[inline]
    pub fn duration(&self, cycles: u64) -> u64 {
        let ns = (u128::from(cycles) * u128::from(self.mult)) >> self.shift;
        u64::try_from(ns).unwrap_or(u64::MAX)
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    let best = candidates.iter().enumerate().min_by_key(|(_, candidate)| candidate.source);
    let Some((index, best)) = best else {
        return Chosen { rate: TscRate::UNKNOWN, source: RateSource::Unknown, deviations: Vec::new() };
    };
    let reference = i128::from(best.rate.hz().max(1));
    let deviation = |rate: &TscRate| {
        let parts = (i128::from(rate.hz()) - reference) * 1_000_000 / reference;
        i64::try_from(parts).unwrap_or(i64::MAX)
    };
    let others = candidates.iter().enumerate().filter(|&(i, _)| i != index);
    let deviations = others.map(|(_, candidate)| (candidate.source, deviation(&candidate.rate))).collect();
    Chosen { rate: best.rate.clone(), source: best.source, deviations }
}

/// The host's rate in Hz from a guest's: `guest_hz` divided by the scaling ratio, rounded.
pub fn host_hz(guest_hz: u64, scaling: Scaling) -> Option<u64> {
    let ratio = u128::from(scaling.ratio());
    u64::try_from(((u128::from(guest_hz) << scaling.frac_bits()) + ratio / 2) / ratio).ok()
}

/// The rate in Hz of a line through pairs of (TSC, nanoseconds) taken at the same moments, such as the stamp and `now=`
/// of `hrtimer_expire_entry`. `None` with fewer than two distinct values or a line that does not rise.
///
/// Such a stamp is taken some time *after* the nanosecond clock was read, now and then long after. The line through the
/// smallest delays of the first and of the last third is what the clocks do; a mean would follow the delays.
pub fn hz_from_pairs(pairs: &[(HostTsc, u64)]) -> Option<u64> {
    let mut pairs: Vec<(i128, i128)> = pairs.iter().map(|&(tsc, ns)| (i128::from(tsc.get()), i128::from(ns))).collect();
    pairs.sort_unstable();
    let (first, last) = (*pairs.first()?, *pairs.last()?);
    let (mut run, mut rise) = (last.0 - first.0, last.1 - first.1);
    let third = pairs.len().div_ceil(3);
    // Twice: with the slope of the first round the delays are known well enough.
    for _ in 0..2 {
        if run <= 0 || rise <= 0 {
            return None;
        }
        // The TSC runs ahead of the line by the delay: compare `tsc - ns * run / rise`, multiplied by `rise`.
        let delay = |&(tsc, ns): &(i128, i128)| {
            ((tsc - first.0).saturating_mul(rise)).saturating_sub((ns - first.1).saturating_mul(run))
        };
        let early = *pairs.get(..third)?.iter().min_by_key(|pair| delay(pair))?;
        let late = *pairs.get(pairs.len() - third..)?.iter().min_by_key(|pair| delay(pair))?;
        (run, rise) = (late.0 - early.0, late.1 - early.1);
    }
    if run <= 0 || rise <= 0 {
        return None;
    }
    u64::try_from((run.checked_mul(1_000_000_000)? + rise / 2) / rise).ok()
}

/// The rate in Hz from a kernel log: the refined calibration where there is one, else the detected frequency.
pub fn hz_from_kernel_log(log: &str) -> Option<u64> {
    let find = |before: &str| {
        log.lines().find_map(|line| {
            let value = line.split_once(before)?.1.trim_start().split_once(" MHz")?.0;
            let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
            let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
            if whole.is_empty() || whole.len() > 9 || fraction.len() > 6 || !digits(whole) || !digits(fraction) {
                return None;
            }
            format!("{whole}{fraction:0<6}").parse().ok().filter(|&hz| hz != 0)
        })
    };
    find("tsc: Refined TSC clocksource calibration:").or_else(|| find("tsc: Detected "))
}

#[cfg(test)]
mod tests;
