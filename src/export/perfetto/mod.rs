//! Perfetto's own format: a run of protobuf packets.
//!
//! The header settles the clock and describes the rows; each batch is then a stretch of one packet *sequence* that
//! begins by forgetting everything before it, so batches can be encoded in any order and laid end to end. Within a
//! batch, strings are written once and times are distances from the packet before: that is most of what keeps an event
//! at about thirty bytes. Events of the native layer need no sequence; each batch's stand behind it, CPU by CPU.

mod batch;
mod generic;
mod header;
mod intern;
mod machines;
mod native;
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod proto;
pub(crate) mod wire;

use crate::timeline::drawing::{Batch, Exporter, TrackId, World};

/// Writes Perfetto traces: what ui.perfetto.dev and `trace_processor` open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Perfetto;

impl Exporter for Perfetto {
    fn header(&self, world: &World, out: &mut Vec<u8>) {
        header::write(world, out);
    }

    fn batch(&self, world: &World, _number: u64, batch: &Batch, out: &mut Vec<u8>) {
        batch::write(world, batch, out);
        native::write(world, batch, out);
    }

    fn footer(&self, _world: &World, _out: &mut Vec<u8>) {}
}

/// A row's number in the file: small, as every event of another row than its batch's busiest carries it, and not 0.
#[inline]
const fn uuid(track: TrackId) -> u64 {
    track.0 as u64 + 1
}
