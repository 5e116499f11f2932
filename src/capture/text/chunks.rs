//! Records of a text, per buffer and CPU.
//!
//! The lines of all CPUs stand in one file. A chunk is decoded once, for all CPUs, and kept for a while: the streams
//! of a capture are mostly read side by side.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::body::Body;
use super::line::{Line, Other, Stamp};
use super::lines::{Lines, TextFile};
use super::shape::{Shapes, Variant, full_name};
use crate::capture::{Chunk, ChunkSource, Lost, Record};
use crate::error::{Error, ErrorKind, Result};

/// Decoded chunks that are kept. One is about as large as its text.
const KEPT: usize = 24;

/// What all streams of a text share.
pub(super) struct Shared {
    pub(super) file: TextFile,
    pub(super) shapes: Shapes,
    /// Whether stamps are seconds; lines with stamps of the other kind are left out.
    pub(super) seconds: bool,
    /// Whether what stands in front of lines is no buffer.
    pub(super) one_buffer: bool,
    cache: Mutex<Vec<(usize, Arc<Slot>)>>,
}

type Slot = OnceLock<Result<Vec<Part>, String>>;

/// The records of one stream in a chunk.
struct Part {
    prefix: Box<[u8]>,
    cpu: u32,
    chunk: Chunk,
}

impl Shared {
    pub(super) fn new(file: TextFile, shapes: Shapes, seconds: bool, one_buffer: bool) -> Self {
        Self { file, shapes, seconds, one_buffer, cache: Mutex::new(Vec::new()) }
    }

    /// The decoded chunk, from the cache or made now.
    fn chunk(&self, index: usize) -> Arc<Slot> {
        let slot = {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            let slot = match cache.iter().position(|(known, _)| *known == index) {
                Some(at) => cache.remove(at).1,
                None => Arc::default(),
            };
            // The most recently used stands last.
            if cache.len() >= KEPT {
                cache.remove(0);
            }
            cache.push((index, Arc::clone(&slot)));
            slot
        };
        slot.get_or_init(|| {
            let mut buffer = Vec::new();
            let lines = self.file.read(index, &mut buffer).map_err(|error| error.to_string())?;
            Ok(self.decode(lines))
        });
        slot
    }

    fn decode(&self, lines: Lines<'_>) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut scratch = Vec::new();
        for (_, bytes) in lines {
            let Some(line) = Line::parse(bytes) else {
                if let Other::Lost { prefix, cpu, count } = Other::parse(bytes) {
                    let chunk = self.part(&mut parts, prefix, cpu);
                    chunk.lost.push(Lost { before: chunk.records.len(), count });
                }
                continue;
            };
            let ts = match (line.stamp, self.seconds) {
                (Stamp::Count(ts), false) | (Stamp::Nanoseconds(ts), true) => ts,
                _ => continue,
            };
            let body = Body::parse(line.body);
            let mut pairs = Vec::new();
            let variant = Variant::of(&body, &mut pairs);
            let found = self.shapes.find(full_name(&body, &mut scratch), &variant);
            let chunk = self.part(&mut parts, line.prefix, line.cpu);
            let at = chunk.data.len();
            let event = match found {
                Some((index, shape)) => {
                    super::encode::record(index + 1, shape, &line, body.text, &variant, &mut chunk.data);
                    index
                }
                None => Record::UNKNOWN,
            };
            let len = chunk.data.len() - at;
            chunk.records.push(Record { ts, at: at as u32, len: len as u32, event, flags: 0 });
        }
        parts
    }

    fn part<'p>(&self, parts: &'p mut Vec<Part>, prefix: &[u8], cpu: u32) -> &'p mut Chunk {
        let prefix = if self.one_buffer { &[] } else { prefix };
        let at = match parts.iter().position(|part| part.cpu == cpu && *part.prefix == *prefix) {
            Some(at) => at,
            None => {
                parts.push(Part { prefix: prefix.into(), cpu, chunk: Chunk::default() });
                parts.len() - 1
            }
        };
        &mut parts[at].chunk
    }
}

/// The lines of one buffer and CPU.
pub(super) struct TextStream {
    pub(super) shared: Arc<Shared>,
    pub(super) prefix: Box<[u8]>,
    pub(super) cpu: u32,
    /// The chunks of the file that hold some.
    pub(super) chunks: Vec<u32>,
}

impl ChunkSource for TextStream {
    fn chunks(&self) -> usize {
        self.chunks.len()
    }

    fn read(&self, index: usize, chunk: &mut Chunk) -> Result<()> {
        chunk.clear();
        let Some(&number) = self.chunks.get(index) else { return Ok(()) };
        let slot = self.shared.chunk(number as usize);
        let parts = match slot.get() {
            Some(Ok(parts)) => parts,
            Some(Err(message)) => return Err(Error::new(ErrorKind::Io, message.clone())),
            None => return Ok(()),
        };
        if let Some(part) = parts.iter().find(|part| part.cpu == self.cpu && part.prefix == self.prefix) {
            chunk.data.extend_from_slice(&part.chunk.data);
            chunk.records.extend_from_slice(&part.chunk.records);
            chunk.lost.extend_from_slice(&part.chunk.lost);
        }
        Ok(())
    }
}
