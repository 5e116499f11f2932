//! kvm-clock: nanoseconds as a guest computes them from its TSC, exactly.

use crate::clock::history::{History, Segment};
use crate::clock::infer::{Effort, Inference, Undecided, VcpuSample, infer_within};
use crate::clock::mapping::Step;
use crate::clock::place::Track;
use crate::clock::scaling::{HostRange, Scaling};
use crate::clock::windows::Windows;
use crate::time::{GuestTsc, HostTsc};

/// What a `kvm_pvclock_update` event tells: `ns = system_time + (((tsc - tsc_timestamp) << shift) * mul >> 32)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// `tsc_timestamp`, in guest TSC cycles.
    pub tsc_timestamp: GuestTsc,
    /// `system_time` in nanoseconds.
    pub system_time: u64,
    /// `tsc_to_system_mul`.
    pub mul: u32,
    /// `tsc_shift`: a signed byte; negative shifts right. The tracepoint prints 255 for -1.
    pub shift: i8,
}

/// An update of one vCPU's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// Host time of the event; the parameters hold from the next kvm_entry on.
    pub at: HostTsc,
    /// The parameters.
    pub params: Params,
}

impl Params {
    /// A clock that counts nanoseconds from TSC 0 on at `hz` cycles per second, to a few parts in 10^10. `None` for a rate
    /// that no TSC has.
    pub fn at_rate(hz: u64) -> Option<Self> {
        let shift = (0..16)
            .find(|shift| (1_000_000_000_u128 << 32) / (u128::from(hz.max(1)) << shift) <= u128::from(u32::MAX))?;
        let hz = u128::from(hz) << shift;
        let mul = ((1_000_000_000_u128 << 32) + hz / 2).checked_div(hz)?;
        let mul = u32::try_from(mul).ok().filter(|&mul| mul > 0)?;
        Some(Self { tsc_timestamp: GuestTsc::MIN, system_time: 0, mul, shift })
    }

    /// kvm-clock at `tsc`, modulo 2^64. A TSC before `tsc_timestamp` is a huge distance, for the guest as well.
    pub fn ns(&self, tsc: GuestTsc) -> u64 {
        let distance = tsc.get().wrapping_sub(self.tsc_timestamp.get());
        let bits = u32::from(self.shift.unsigned_abs());
        let distance = if self.shift < 0 { distance.checked_shr(bits) } else { distance.checked_shl(bits) };
        let product = u128::from(distance.unwrap_or(0)) * u128::from(self.mul);
        self.system_time.wrapping_add((product >> 32) as u64)
    }

    /// The first and last guest TSC at which kvm-clock shows `ns`, if it ever does: several cycles share a nanosecond.
    pub fn guest_range(&self, ns: u64) -> Option<(GuestTsc, GuestTsc)> {
        self.guest_span(ns, ns)
    }

    /// The first and last guest TSC at which kvm-clock shows a value from `lo` to `hi`. A `lo` before `system_time` is
    /// taken as `system_time`: the parameters hold from there on only.
    pub(crate) fn guest_span(&self, lo: u64, hi: u64) -> Option<(GuestTsc, GuestTsc)> {
        if self.mul == 0 {
            return None;
        }
        let after = |ns: u64| ns.wrapping_sub(self.system_time).cast_signed();
        let (lo, hi) = (after(lo).max(0).cast_unsigned(), u64::try_from(after(hi)).ok()?);
        let mul = u128::from(self.mul);
        // The distance after the shift.
        let first = (u128::from(lo) << 32).div_ceil(mul);
        let last = ((u128::from(hi) + 1) << 32).div_ceil(mul) - 1;
        let bits = u32::from(self.shift.unsigned_abs());
        let (first, last) = if self.shift >= 0 {
            (first.div_ceil(1_u128.checked_shl(bits)?), last.checked_shr(bits)?)
        } else {
            // At most 2^97 here, so shifts of up to 30 bits are exact; real ones are 0 to 2.
            if bits > 30 {
                return None;
            }
            (first << bits, ((last + 1) << bits) - 1)
        };
        let first = u64::try_from(first).ok()?;
        let last = u64::try_from(last).unwrap_or(u64::MAX);
        let at = |distance: u64| self.tsc_timestamp.get().checked_add(distance).map(GuestTsc::new);
        (first <= last).then_some(())?;
        Some((at(first)?, at(last).unwrap_or(GuestTsc::MAX)))
    }

    /// The guest's TSC rate as the kernel knows it, in Hz: a whole number of kHz. `None` if the parameters are absurd.
    pub fn hz(&self) -> Option<u64> {
        let bits = u32::from(self.shift.unsigned_abs());
        if self.mul == 0 || bits > 30 {
            return None;
        }
        let mul = u128::from(self.mul);
        let khz = |numerator: u128, divisor: u128| (numerator + divisor / 2) / divisor;
        let numerator = 1_000_000_u128 << 32;
        let khz = if self.shift >= 0 { khz(numerator, mul << bits) } else { khz(numerator << bits, mul) };
        u64::try_from(khz).ok()?.checked_mul(1000)
    }
}

/// An update with the host times in which it is in force, and the offset segment there.
struct Force<'a> {
    params: Params,
    segment: usize,
    of: &'a Segment,
    within: HostRange,
}

/// Each update from its own time to the next one's, cut at the offset changes. An update that repeats the last one's
/// parameters is none.
fn in_force<'a>(history: &'a History, updates: &'a [Update]) -> impl Iterator<Item = Force<'a>> {
    let mut distinct: Vec<Update> = Vec::new();
    for update in updates {
        if distinct.last().is_none_or(|last| last.params != update.params) {
            distinct.push(*update);
        }
    }
    let ends: Vec<HostTsc> = distinct.iter().skip(1).map(|next| next.at).collect();
    distinct.into_iter().enumerate().flat_map(move |(index, update)| {
        let last = ends.get(index).map_or(HostTsc::MAX, |end| HostTsc::new(end.get().saturating_sub(1)));
        let within = HostRange::new(update.at, last);
        history.segments.iter().enumerate().filter_map(move |(segment, of)| {
            let within = within?.intersect(of.ran?)?;
            Some(Force { params: update.params, segment, of, within })
        })
    })
}

/// The tracks of a guest CPU that recorded kvm-clock less `constant` nanoseconds: one per update and offset segment.
///
/// An update holds from the next kvm_entry on, and the vCPU is in the host when it is made: so in terms of guest events
/// it holds from its own time to that of the next update.
pub fn tracks(history: &History, updates: &[Update], constant: i64) -> Vec<Track> {
    let track = |force: Force<'_>| Track {
        within: force.within,
        mapping: force.of.mapping().then(Step::PvClock { params: force.params, constant }),
        segment: force.segment,
        uncertainty: force.of.scaling.host_cycles(force.of.uncertainty),
    };
    in_force(history, updates).map(track).collect()
}

/// One vCPU of a guest whose constant is sought.
#[derive(Clone, Copy, Debug)]
pub struct ClockSample<'a> {
    /// Stamps in nanoseconds, and the run windows in host TSC.
    pub sample: VcpuSample<'a>,
    /// The vCPU's updates, by host time.
    pub updates: &'a [Update],
    /// The vCPU's offset history.
    pub history: &'a History,
}

/// Finds `kvm-clock - stamp`, in nanoseconds: the `constant` of [`tracks`]. The ranges of the [`Inference`] are of the
/// opposite sign (`stamp = kvm_clock + offset`).
///
/// # Errors
///
/// As [`crate::clock::infer::infer`].
pub fn infer_constant(samples: &[ClockSample<'_>], effort: &Effort) -> Result<(i64, Inference), Undecided> {
    let windows: Vec<Windows> = samples.iter().map(|s| windows_in_ns(s.sample.windows, s.updates, s.history)).collect();
    let samples: Vec<VcpuSample<'_>> =
        samples.iter().zip(&windows).map(|(s, windows)| VcpuSample { stamps: s.sample.stamps, windows }).collect();
    let inference = infer_within(&samples, Scaling::NONE, effort)?;
    Ok((inference.estimate.signed().wrapping_neg(), inference))
}

/// Run windows in kvm-clock nanoseconds instead of host TSC. Times without an update are left out, that is, unknown.
pub fn windows_in_ns(windows: &Windows, updates: &[Update], history: &History) -> Windows {
    let mut inside = Vec::new();
    let mut certain = Vec::new();
    let gaps = windows.gaps();
    for force in in_force(history, updates) {
        let mapping = force.of.mapping().then(Step::PvClock { params: force.params, constant: 0 });
        let convert = |range: HostRange| {
            let at = |host: HostTsc| HostTsc::new(mapping.stamp(host).get());
            HostRange::new(at(range.first), at(range.last))
        };
        for (list, out) in [(windows.windows(), &mut inside), (gaps.as_slice(), &mut certain)] {
            let from = list.partition_point(|range| range.last < force.within.first);
            let within = list.iter().skip(from).map_while(|range| range.intersect(force.within));
            out.extend(within.filter_map(convert));
        }
    }
    // Updates are not exactly continuous: the clock may repeat some nanoseconds. A gap must not reach into a window.
    inside.sort_by_key(|range| range.first);
    let mut joined: Vec<HostRange> = Vec::new();
    for range in inside {
        match joined.last_mut() {
            Some(last) if range.first <= last.last => last.last = last.last.max(range.last),
            _ => joined.push(range),
        }
    }
    Windows::from_certain(joined, certain)
}

#[cfg(test)]
mod tests;
