//! Compressed records (`perf record -z`): one zstd stream, cut into records anywhere. They are unpacked once, into
//! memory or a temporary file without a name, so that they can be read in any order.

use std::sync::Arc;

use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::header::Place;
use super::records::{PerfRecord, Records, kind};
use crate::capture::Endian;
use crate::capture::archive::{Budget, Pieces, store_pieces};
use crate::capture::bytes::u64_from;
use crate::capture::source::ReadAt;
use crate::capture::trace_dat::notes::Notes;
use crate::error::{Error, Result};

/// How much is unpacked at once.
const STEP: usize = 128 << 10;

/// All records in `data`, those that are compressed unpacked.
pub(super) fn unpack(
    source: &Arc<dyn ReadAt>,
    data: Place,
    endian: Endian,
    budget: &Arc<Budget>,
    notes: &mut Notes,
) -> Result<Arc<dyn ReadAt>> {
    let decoder = Decoder::new().map_err(|error| Error::format(format!("cannot set up zstd: {error}")))?;
    let mut unpacker = Unpacker {
        source: Arc::clone(source),
        records: Records::new(Arc::clone(source), data.at, data.end(), endian),
        endian,
        decoder,
        packed: Vec::new(),
        packed_at: 0,
        record: 0,
        more: false,
        partial: Vec::new(),
        plain: Place::default(),
        damage: None,
    };
    let unpacked = store_pieces(&mut unpacker, budget)?;
    let cut = (!unpacker.partial.is_empty()).then(|| "the compressed records end within a record".to_owned());
    if let Some(damage) = unpacker.damage.or(unpacker.records.broken).or(cut) {
        notes.damaged(damage);
    }
    Ok(unpacked)
}

struct Unpacker {
    source: Arc<dyn ReadAt>,
    records: Records,
    endian: Endian,
    decoder: Decoder<'static>,
    /// What a compressed record holds, and how much of it is unpacked.
    packed: Vec<u8>,
    packed_at: usize,
    /// Where that record stands.
    record: u64,
    /// The decoder may hold more.
    more: bool,
    /// The start of a record of which the rest is not unpacked yet; other records may come between.
    partial: Vec<u8>,
    /// A record that is copied as it is.
    plain: Place,
    damage: Option<String>,
}

impl Pieces for Unpacker {
    fn next(&mut self, out: &mut Vec<u8>) -> Result<()> {
        while out.is_empty() && self.damage.is_none() {
            if self.packed_at < self.packed.len() || self.more {
                self.decompress(out);
            } else if self.plain.len > 0 {
                let count = self.plain.len.min(STEP as u64);
                out.resize(count as usize, 0);
                let read = self.source.read_exact_at(out, self.plain.at);
                read.map_err(|error| Error::format(format!("cannot be read: {error}")).at(self.plain.at))?;
                self.plain = Place { at: self.plain.at.saturating_add(count), len: self.plain.len - count };
            } else {
                let Some(record) = self.records.next()? else { return Ok(()) };
                self.record = record.at;
                match packed(&record, self.endian) {
                    Some(packed) => {
                        self.packed.clear();
                        self.packed.extend_from_slice(packed);
                        self.packed_at = 0;
                    }
                    None => self.plain = Place { at: record.at, len: record.size().saturating_add(record.behind) },
                }
            }
        }
        Ok(())
    }
}

impl Unpacker {
    fn decompress(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.partial);
        let before = out.len();
        out.resize(before + STEP, 0);
        let mut input = InBuffer::around(self.packed.get(self.packed_at..).unwrap_or(&[]));
        let mut output = OutBuffer::around(out.get_mut(before..).unwrap_or(&mut []));
        let result = self.decoder.run(&mut input, &mut output);
        let (read, written) = (input.pos(), output.pos());
        self.packed_at += read;
        out.truncate(before + written);
        // A full output may mean that there is more.
        self.more = written == STEP;
        let at = self.record;
        if let Err(error) = result {
            self.damage =
                Some(format!("the compressed record at byte {at:#x} does not unpack: {error}; the rest is skipped"));
        } else if read == 0 && written == 0 && self.packed_at < self.packed.len() {
            self.damage = Some(format!("the compressed record at byte {at:#x} makes no sense; the rest is skipped"));
        }
        match whole(out, self.endian) {
            Some(end) => self.partial = out.split_off(end),
            None => {
                self.damage = Some(format!("the compressed record at byte {at:#x} holds no records"));
                out.clear();
            }
        }
    }
}

/// Bytes of whole records at the start of `bytes`; `None` where a record makes no sense.
fn whole(bytes: &[u8], endian: Endian) -> Option<usize> {
    let mut end = 0;
    loop {
        match PerfRecord::split(bytes.get(end..)?, 0, endian) {
            Ok(record) => end += record.size() as usize,
            Err(0) => return None,
            Err(_) => return Some(end),
        }
    }
}

/// The compressed bytes of a record; `None` where it is of another kind.
fn packed<'a>(record: &PerfRecord<'a>, endian: Endian) -> Option<&'a [u8]> {
    match record.kind {
        kind::COMPRESSED => Some(record.body),
        // Padded: the true size stands before.
        kind::COMPRESSED2 => {
            let size = record.body.first_chunk().map(|&bytes| u64_from(endian, bytes))?;
            let data = record.body.get(8..)?;
            Some(data.get(..usize::try_from(size).ok()?).unwrap_or(data))
        }
        _ => None,
    }
}
