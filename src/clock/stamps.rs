//! What pass 2 needs of a clock: a host time for each event of a stream, or the reason why there is none.

use crate::time::HostTsc;

/// Why an event could not be given a host time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotPlaced {
    /// Its id has no format in the file.
    NoFormat,
    /// No offset segment can hold its stamp.
    NoSegment,
    /// Its stamp is known to be wrong, and the run windows do not say by how much.
    StaleStamp,
    /// Its CPU could not be matched to a vCPU.
    NoVcpu,
    /// Its buffer recorded with a clock that cannot be related to the host's.
    OtherClock,
}

impl NotPlaced {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoFormat => "no_format",
            Self::NoSegment => "no_offset_segment",
            Self::StaleStamp => "stale_stamp",
            Self::NoVcpu => "no_vcpu",
            Self::OtherClock => "other_clock",
        }
    }
}

/// Turns a stream's raw stamps into host time.
pub trait MapStamps: Send + Sync {
    /// The host time of event number `event` of the stream, or why there is none.
    fn map(&self, event: u64, raw: u64) -> Result<HostTsc, NotPlaced>;
}

/// The host's own stamps.
pub struct HostStamps;

impl MapStamps for HostStamps {
    #[inline]
    fn map(&self, _event: u64, raw: u64) -> Result<HostTsc, NotPlaced> {
        Ok(HostTsc::new(raw))
    }
}

/// A buffer whose clock cannot be related to the host's.
pub struct UnrelatedStamps;

impl MapStamps for UnrelatedStamps {
    fn map(&self, _event: u64, _raw: u64) -> Result<HostTsc, NotPlaced> {
        Err(NotPlaced::OtherClock)
    }
}
