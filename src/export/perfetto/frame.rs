//! What our packets must not get in the way of, where they share a file with somebody else's.

use crate::timeline::drawing::TrackId;

/// Numbers and clock of our packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// All batches are stretches of this sequence: each clears what the one before left behind. One small number for the
    /// whole file takes one byte per packet.
    pub(super) sequence: u32,
    /// The number before that of the first row.
    pub(super) tracks: u64,
    /// What is added to the numbers of arrows.
    pub(super) flows: u64,
    /// The number before that of the first VM as a machine.
    pub(super) machines: u32,
    /// The clock that packets name; `None`: our own of distances, settled by our own header.
    pub(super) clock: Option<u32>,
    /// Whether the host's native layer and the clock's settings are somebody else's.
    pub(super) host_is_there: bool,
}

impl Frame {
    /// A row's number in the file: small, as every event of another row than its batch's busiest carries it, and not 0.
    #[inline]
    pub(super) const fn uuid(&self, track: TrackId) -> u64 {
        self.tracks + track.0 as u64 + 1
    }

    /// Where all packets are ours.
    pub(super) const ALONE: Self =
        Self { sequence: 1, tracks: 0, flows: 0, machines: 0, clock: None, host_is_there: false };
}

/// The packets of an existing trace, beside which ours are to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beside {
    /// A `trusted_packet_sequence_id` that it does not use.
    pub sequence: u32,
    /// A track number that is larger than all of its own that are small.
    pub largest_track: u64,
    /// A `machine_id` that it does not use, as it does not use those that follow; the first VM's.
    pub machine: u32,
    /// The clock of the axis, as Perfetto numbers clocks.
    pub clock: u32,
    /// Whether it has clock snapshots; without, ours says which clock is the axis.
    pub has_snapshot: bool,
}

/// Arrows have numbers of a kind that nobody else counts to.
const FLOWS: u64 = 0x6b76_6d74_0000_0000;

impl From<Beside> for Frame {
    fn from(beside: Beside) -> Self {
        Self {
            sequence: beside.sequence,
            tracks: beside.largest_track,
            flows: FLOWS,
            machines: beside.machine.saturating_sub(1),
            clock: Some(beside.clock),
            host_is_there: true,
        }
    }
}
