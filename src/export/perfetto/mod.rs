//! Perfetto's own format: a run of protobuf packets.
//!
//! The header settles the clock and describes the rows; each batch is then a stretch of one packet *sequence* that
//! begins by forgetting everything before it, so batches can be encoded in any order and laid end to end. Within a
//! batch, strings are written once and times are distances from the packet before: that is most of what keeps an event
//! at about thirty bytes. Events of the native layer need no sequence; each batch's stand behind it, CPU by CPU.

mod batch;
mod frame;
mod generic;
mod header;
mod intern;
mod machines;
mod native;
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod proto;
pub(crate) mod wire;

use crate::timeline::drawing::{Batch, Exporter, World};
use frame::Frame;

pub use frame::Beside;

/// Writes Perfetto traces: what ui.perfetto.dev and `trace_processor` open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Perfetto;

impl Exporter for Perfetto {
    fn header(&self, world: &World, out: &mut Vec<u8>) {
        header::write(world, &Frame::ALONE, true, out);
    }

    fn batch(&self, world: &World, _number: u64, batch: &Batch, out: &mut Vec<u8>) {
        batch::write(world, &Frame::ALONE, batch, out);
        native::write(world, &Frame::ALONE, batch, out);
    }

    fn footer(&self, _world: &World, _out: &mut Vec<u8>) {}
}

/// Writes what goes beside an existing trace of the host, into the same file. Its clock snapshot must come before, and
/// nothing else needs to: a trace processor may give out what it has read, in the order of time, before the file ends.
#[derive(Clone, Copy, Debug)]
pub struct PerfettoBeside(pub Beside);

impl Exporter for PerfettoBeside {
    fn header(&self, world: &World, out: &mut Vec<u8>) {
        header::write(world, &self.0.into(), !self.0.has_snapshot, out);
    }

    fn batch(&self, world: &World, _number: u64, batch: &Batch, out: &mut Vec<u8>) {
        let frame = self.0.into();
        batch::write(world, &frame, batch, out);
        native::write(world, &frame, batch, out);
    }

    fn footer(&self, _world: &World, _out: &mut Vec<u8>) {}
}
