//! How far an event's place can be believed.

use crate::clock::history::Source;

/// How an event got its place on the host's time line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placed {
    /// It is the host's: its stamp is host time.
    Host,
    /// By its own stamp and its vCPU's offset.
    Stamp,
    /// Its stamp was stale behind a guest clock that went backwards, and was repaired by the run windows.
    Repaired,
    /// Two offsets fit its stamp and nothing tells which is right: recording order chose.
    Ambiguous,
}

impl Placed {
    /// The word in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Stamp => "stamp",
            Self::Repaired => "repaired",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// How far an event's place can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certainty {
    /// How it got its place.
    pub placed: Placed,
    /// Where the offset is known from; `None` for the host's own events.
    pub source: Option<Source>,
    /// How far the true time may lie from the one given on either side, in nanoseconds rounded up, because the offset is
    /// not exact; 0 where it is. What one reading of the guest's clock lasts comes on top
    /// ([`VcpuClock::reading_cycles`](crate::VcpuClock::reading_cycles)).
    pub uncertainty_ns: u64,
}
