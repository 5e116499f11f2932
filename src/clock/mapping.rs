//! A chain of clock conversions from host TSC to the stamp in a guest's ring buffer, and its inverse.

use crate::clock::pvclock::Params;
use crate::clock::scaling::{HostRange, Scaling};
use crate::time::{HostTsc, RawStamp, TscOffset};

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

    /// The stamp recorded at host time `host`.
    pub fn stamp(&self, host: HostTsc) -> RawStamp {
        let _ = host;
        todo!()
    }

    /// The host times within `within` at which `stamp` is recorded, if any.
    pub fn host(&self, stamp: RawStamp, within: HostRange) -> Option<HostRange> {
        let _ = (stamp, within);
        todo!()
    }
}
