//! Uncompressed sub-buffers, back to back in a file, as a [`ChunkSource`].

use std::path::Path;
use std::sync::Arc;

use super::ring_buffer::{EventIds, Origin, PageLayout, walk};
use super::source::ReadAt;
use super::{Chunk, ChunkSource};
use crate::error::{Error, Result};

/// Chunks are runs of sub-buffers of about this many bytes,
const CHUNK: usize = 64 << 10;
/// and larger where there would be more than this many, as something is kept of each;
const MAX_CHUNKS: u64 = 1 << 15;
/// but not larger than this, as two dozen of them are in memory.
const MAX_CHUNK: u64 = 1 << 19;

/// What all streams of a capture share: the file, and how to read its sub-buffers.
#[derive(Clone)]
pub struct PageFile {
    /// Where bytes come from.
    pub source: Arc<dyn ReadAt>,
    /// Its name, for errors.
    pub path: Arc<Path>,
    /// From event ids to formats.
    pub ids: Arc<EventIds>,
}

impl PageFile {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// With path and offset.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.source
            .read_exact_at(buffer, offset)
            .map_err(|error| Error::io(&*self.path, &format!("read {} bytes", buffer.len()), error).at(offset))
    }
}

/// The sub-buffers of one CPU.
pub struct RawPages {
    file: PageFile,
    layout: PageLayout,
    cpu: u32,
    offset: u64,
    len: u64,
    chunk: usize,
}

impl RawPages {
    /// The sub-buffers in bytes `offset..offset + len`, of which a last incomplete one is read and reported as damage.
    /// The range is clipped to the file.
    pub fn new(file: PageFile, layout: PageLayout, cpu: u32, offset: u64, len: u64) -> Self {
        let len = len.min(file.source.len().saturating_sub(offset));
        let sub_buffer = layout.sub_buffer.max(1);
        let about = CHUNK.max((len / MAX_CHUNKS).min(MAX_CHUNK) as usize);
        let chunk = (about / sub_buffer).max(1) * sub_buffer;
        Self { file, layout, cpu, offset, len, chunk }
    }
}

impl ChunkSource for RawPages {
    fn chunks(&self) -> usize {
        usize::try_from(self.len.div_ceil(self.chunk as u64)).unwrap_or(usize::MAX)
    }

    fn read(&self, index: usize, chunk: &mut Chunk) -> Result<()> {
        // What stands in the buffer already is overwritten: zeroing it would cost as much as reading.
        let mut data = std::mem::take(&mut chunk.data);
        chunk.clear();
        let size = self.chunk;
        let skip = (index as u64).saturating_mul(size as u64);
        let left = self.len.saturating_sub(skip).min(size as u64) as usize;
        let offset = self.offset.saturating_add(skip);
        data.resize(left, 0);
        self.file.read(&mut data, offset)?;
        chunk.data = data;
        walk(&self.layout, &self.file.ids, Origin { cpu: self.cpu, offset, compressed: false }, chunk, 0);
        Ok(())
    }
}
