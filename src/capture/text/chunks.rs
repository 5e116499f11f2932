//! Records of a text, per buffer and CPU.
//!
//! The lines of all CPUs stand in one file. The first pass notes where each stream's lines start, so that a stream
//! reads its own lines only; a start costs a byte or two.

use std::sync::Arc;

use super::body::Body;
use super::line::{Line, Other, Stamp};
use super::lines::TextFile;
use super::shape::{Shapes, Variant, full_name};
use crate::capture::{Chunk, ChunkSource, Lost, Record};
use crate::error::Result;

/// What all streams of a text share.
pub(super) struct Shared {
    pub(super) file: TextFile,
    pub(super) shapes: Shapes,
    /// Whether stamps are seconds; lines with stamps of the other kind are left out.
    pub(super) seconds: bool,
}

/// The lines of one stream in one chunk of the file.
pub(super) struct Piece {
    /// Index of the chunk.
    pub(super) chunk: u32,
    /// Where they start.
    pub(super) starts: Starts,
}

/// Ascending offsets, stored as differences in groups of seven bits.
#[derive(Default)]
pub(super) struct Starts {
    bytes: Vec<u8>,
    last: u32,
}

impl Starts {
    /// Adds an offset, not below the last one.
    pub(super) fn push(&mut self, offset: u32) {
        let mut difference = offset.wrapping_sub(self.last);
        self.last = offset;
        while difference >= 0x80 {
            self.bytes.push(difference as u8 | 0x80);
            difference >>= 7;
        }
        self.bytes.push(difference as u8);
    }

    /// All offsets.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        let mut bytes = self.bytes.iter();
        let mut at = 0_u32;
        std::iter::from_fn(move || {
            let mut shift = 0;
            let mut difference = 0_u32;
            loop {
                let byte = *bytes.next()?;
                difference |= u32::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
                shift = (shift + 7).min(28);
            }
            at = at.wrapping_add(difference);
            Some(at)
        })
    }
}

/// The lines of one buffer and CPU.
pub(super) struct TextStream {
    pub(super) shared: Arc<Shared>,
    pub(super) pieces: Vec<Piece>,
}

impl ChunkSource for TextStream {
    fn chunks(&self) -> usize {
        self.pieces.len()
    }

    fn read(&self, index: usize, chunk: &mut Chunk) -> Result<()> {
        chunk.clear();
        let Some(piece) = self.pieces.get(index) else { return Ok(()) };
        let mut buffer = std::mem::take(&mut chunk.scratch);
        let result = self.shared.file.fetch(piece.chunk as usize, &mut buffer).map(|start| {
            let mut name = Vec::new();
            for offset in piece.starts.iter() {
                let rest = buffer.get(start + offset as usize..).unwrap_or(&[]);
                self.shared.line(super::lines::first_line(rest), &mut name, chunk);
            }
        });
        chunk.scratch = buffer;
        result
    }
}

impl Shared {
    /// Adds what a line holds to `chunk`; `name` is scratch space.
    fn line(&self, bytes: &[u8], name: &mut Vec<u8>, chunk: &mut Chunk) {
        let Some(line) = Line::parse(bytes) else {
            if let Other::Lost { count, .. } = Other::parse(bytes) {
                chunk.lost.push(Lost { before: chunk.records.len(), count });
            }
            return;
        };
        let ts = match (line.stamp, self.seconds) {
            (Stamp::Count(ts), false) | (Stamp::Nanoseconds(ts), true) => ts,
            _ => return,
        };
        let body = Body::parse(line.body);
        let mut pairs = Vec::new();
        let variant = Variant::of(&body, &mut pairs);
        let at = chunk.data.len();
        let event = match self.shapes.find(full_name(&body, name), &variant) {
            Some((index, shape)) => {
                super::encode::record(index + 1, shape, &line, body.text, &variant, &mut chunk.data);
                index
            }
            None => Record::UNKNOWN,
        };
        let len = chunk.data.len() - at;
        chunk.records.push(Record { ts, at: at as u32, len: len as u32, event, flags: 0 });
    }
}
