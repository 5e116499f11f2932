//! A chain of clock conversions from host TSC to the stamp in a guest's ring buffer, and its inverse.

use crate::clock::pvclock::Params;
use crate::clock::scaling::{HostRange, Scaling};
use crate::time::{GuestTsc, HostTsc, RawStamp, TscOffset};

/// One conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// TSC of one level to TSC of the level above it: `(tsc * ratio >> frac_bits) + offset`.
    Tsc {
        /// TSC scaling.
        scaling: Scaling,
        /// TSC offset.
        offset: TscOffset,
    },
    /// Guest TSC to kvm-clock nanoseconds less a constant: `kvm_clock(tsc) - constant`.
    PvClock {
        /// The parameters of the `kvm_pvclock_update` in force.
        params: Params,
        /// kvm-clock minus the recorded stamp, in nanoseconds.
        constant: i64,
    },
}

/// Host TSC to recorded stamp, through one or more [`Step`]s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    steps: Vec<Step>,
}

impl Mapping {
    /// A guest that records x86-tsc.
    pub fn tsc(offset: TscOffset, scaling: Scaling) -> Self {
        Self { steps: vec![Step::Tsc { scaling, offset }] }
    }

    /// The same with one more conversion behind it: a nested guest's TSC, or kvm-clock on top of the TSC.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The conversions, from the host's TSC outwards.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether a step of the host's TSC may be more or less than one of the stamp.
    pub(crate) fn rounds(&self) -> bool {
        self.steps.iter().any(|step| !matches!(step, Step::Tsc { scaling, .. } if scaling.is_none()))
    }

    /// The stamp recorded at host time `host`.
    pub fn stamp(&self, host: HostTsc) -> RawStamp {
        RawStamp::new(self.steps.iter().fold(host.get(), |value, step| step.forward(value)))
    }

    /// What the guest's TSC reads at host time `host`: where the stamps are kvm-clock's, what lies before that step.
    #[inline]
    pub fn guest_tsc(&self, host: HostTsc) -> GuestTsc {
        let steps = self.steps.iter().take_while(|step| matches!(step, Step::Tsc { .. }));
        GuestTsc::new(steps.fold(host.get(), |value, step| step.forward(value)))
    }

    /// The host times within `within` at which `stamp` is recorded, if any.
    #[inline]
    pub fn host(&self, stamp: RawStamp, within: HostRange) -> Option<HostRange> {
        match self.steps.as_slice() {
            [Step::Tsc { scaling, offset }] => scaling.host_range(GuestTsc::new(stamp.get()), *offset, within),
            steps => backward(steps, stamp.get(), stamp.get(), within),
        }
    }

    /// The host times within `within` at which a stamp from `lo` to `hi` is recorded, if any.
    pub fn host_span(&self, lo: RawStamp, hi: RawStamp, within: HostRange) -> Option<HostRange> {
        backward(&self.steps, lo.get(), hi.get(), within)
    }

    /// The stamps recorded in `within`, as the first one and how far they reach beyond it (modulo 2^64). `None` if that
    /// is all of them.
    pub(crate) fn image(&self, within: HostRange) -> Option<(u64, u64)> {
        let mut image = (within.first.get(), within.width());
        for step in &self.steps {
            image = step.image(image)?;
        }
        Some(image)
    }
}

impl Step {
    fn forward(&self, value: u64) -> u64 {
        match self {
            Self::Tsc { scaling, offset } => scaling.guest(HostTsc::new(value), *offset).get(),
            Self::PvClock { params, constant } => {
                params.ns(GuestTsc::new(value)).wrapping_sub(constant.cast_unsigned())
            }
        }
    }

    /// What becomes of the range of `width` above `lo`. `None` if that is every value.
    fn image(&self, (lo, width): (u64, u64)) -> Option<(u64, u64)> {
        // A range that wraps around below a further conversion is not worth following: take everything.
        let hi = lo.checked_add(width)?;
        match self {
            Self::Tsc { scaling, .. } => {
                let reach = scaling.scaled(HostTsc::new(hi)) - scaling.scaled(HostTsc::new(lo));
                let reach = u64::try_from(reach).ok().filter(|&reach| reach != u64::MAX)?;
                Some((self.forward(lo), reach))
            }
            Self::PvClock { params, .. } => {
                // Before its time stamp an update says nothing.
                let lo = lo.max(params.tsc_timestamp.get());
                let hi = hi.max(lo);
                Some((self.forward(lo), self.forward(hi).wrapping_sub(self.forward(lo))))
            }
        }
    }
}

/// Goes from a range of recorded stamps back through `steps` to host time.
fn backward(steps: &[Step], lo: u64, hi: u64, within: HostRange) -> Option<HostRange> {
    let Some((last, before)) = steps.split_last() else {
        return HostRange::new(HostTsc::new(lo), HostTsc::new(hi))?.intersect(within);
    };
    // What `within` becomes below the last step: there wrap-around is resolved.
    let mut below = Some((within.first.get(), within.width()));
    for step in before {
        below = below.and_then(|range| step.image(range));
    }
    let below = below
        .and_then(|(lo, width)| HostRange::new(HostTsc::new(lo), HostTsc::new(lo.checked_add(width)?)))
        .unwrap_or(HostRange::ALL);
    let range = match last {
        Step::Tsc { scaling, offset } => scaling.host_span(GuestTsc::new(lo), GuestTsc::new(hi), *offset, below)?,
        Step::PvClock { params, constant } => {
            let constant = constant.cast_unsigned();
            let (first, last) = params.guest_span(lo.wrapping_add(constant), hi.wrapping_add(constant))?;
            HostRange::new(HostTsc::new(first.get()), HostTsc::new(last.get()))?.intersect(below)?
        }
    };
    if before.is_empty() { Some(range) } else { backward(before, range.first.get(), range.last.get(), within) }
}

#[cfg(test)]
mod tests;
