//! Compressed packets: each holds a run of packets. They are unpacked once, into memory or a temporary file without a
//! name, so that they can be read in any order.

use std::io::Read;
use std::sync::Arc;

use super::packets::{Packet, Packets, field, whole};
use super::wire::Fields;
use crate::capture::archive::{Budget, Pieces, store_pieces};
use crate::capture::limits::{Limit, Limits};
use crate::capture::source::ReadAt;
use crate::capture::trace_dat::notes::Notes;
use crate::error::Result;

/// A packet's compressed packets, and whether they are zstd and not deflate.
pub(super) fn compressed(body: &[u8]) -> Option<(&[u8], bool)> {
    Fields::new(body).find_map(|(number, value)| match number {
        field::COMPRESSED => Some((value.bytes()?, false)),
        field::ZSTD_COMPRESSED => Some((value.bytes()?, true)),
        _ => None,
    })
}

/// All packets, those that are compressed unpacked.
pub(super) fn unpack(source: &Arc<dyn ReadAt>, limits: &Limits, notes: &mut Notes) -> Result<Unpacked> {
    let packets = Packets::new(Arc::clone(source), limits);
    let most = limits.get(Limit::Packet);
    let mut unpacker = Unpacker { packets, most, settled: 0, damaged: 0, first_damage: None };
    let unpacked = store_pieces(&mut unpacker, &Budget::within(source.len(), limits))?;
    if let Some(first) = unpacker.first_damage {
        notes.damaged(format!("{} compressed packets cannot be unpacked whole; the first {first}", unpacker.damaged));
    }
    if let Some(broken) = unpacker.packets.broken.take() {
        notes.damaged(broken);
    }
    Ok(Unpacked { source: unpacked, settled: unpacker.settled, end: unpacker.packets.position() })
}

/// What was unpacked.
pub(super) struct Unpacked {
    pub(super) source: Arc<dyn ReadAt>,
    /// In the file as it is: the end of the packet with the first clock snapshot.
    pub(super) settled: u64,
    /// In the file as it is: the end of the last packet.
    pub(super) end: u64,
}

struct Unpacker {
    packets: Packets,
    /// Bytes that a packet may unpack to.
    most: u64,
    settled: u64,
    damaged: u64,
    first_damage: Option<String>,
}

impl Pieces for Unpacker {
    fn next(&mut self, out: &mut Vec<u8>) -> Result<()> {
        while out.is_empty() {
            let Some(packet) = self.packets.next()? else { return Ok(()) };
            let end = packet.at.saturating_add(packet.size);
            let settles = match compressed(packet.body) {
                None => {
                    head(packet.body.len(), out);
                    out.extend_from_slice(packet.body);
                    settles(packet.body)
                }
                Some((bytes, zstd)) => {
                    if let Err(why) = inflate(bytes, zstd, self.most, out) {
                        self.damaged += 1;
                        self.first_damage.get_or_insert_with(|| format!("is at byte {:#x}: {why}", packet.at));
                    }
                    let sound = whole(out, 0).last().map_or(0, |last: Packet<'_>| last.at + last.size);
                    out.truncate(sound as usize);
                    whole(out, 0).any(|packet| settles(packet.body))
                }
            };
            if settles && self.settled == 0 {
                self.settled = end;
            }
        }
        Ok(())
    }
}

/// Whether the packet is a clock snapshot.
pub(super) fn settles(body: &[u8]) -> bool {
    Fields::new(body).any(|(number, _)| number == field::CLOCK_SNAPSHOT)
}

fn head(len: usize, out: &mut Vec<u8>) {
    out.push(super::packets::MARK);
    let mut len = len as u64;
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

/// Appends what unpacks; an error says why that is not all.
fn inflate(bytes: &[u8], zstd: bool, most: u64, out: &mut Vec<u8>) -> std::result::Result<(), String> {
    let result = if zstd {
        zstd::stream::read::Decoder::with_buffer(bytes).and_then(|decoder| decoder.take(most).read_to_end(out))
    } else {
        flate2::bufread::ZlibDecoder::new(bytes).take(most).read_to_end(out)
    };
    match result {
        Ok(size) if size as u64 == most => Err(format!("it holds {most} bytes or more (--limit packet=VALUE)")),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
