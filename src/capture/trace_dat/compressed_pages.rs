//! Compressed sub-buffers of one CPU of a version 7 file: `u32 count`, then chunks of `u32 packed size, u32 unpacked
//! size, data`.

use super::Notes;
use super::compression::Compression;
use crate::capture::bytes::Cursor;
use crate::capture::limits::{Limit, Limits};
use crate::capture::raw_pages::PageFile;
use crate::capture::ring_buffer::{Origin, PageLayout, walk};
use crate::capture::{Chunk, ChunkSource};
use crate::error::Result;

/// Where a chunk's packed bytes stand.
#[derive(Clone, Copy)]
struct Entry {
    offset: u64,
    packed: u32,
    unpacked: u32,
}

/// Chunks up to this size may be packed as tightly as they like: sub-buffers that are nearly empty shrink to nothing.
const SMALL: u32 = 1 << 20;

/// Which limit a chunk goes beyond, and where that is.
fn too_large(packed: u32, unpacked: u32, limits: &Limits) -> Option<(Limit, u64)> {
    let most = limits.get(Limit::Chunk);
    if u64::from(unpacked) > most {
        return Some((Limit::Chunk, most));
    }
    let most = u64::from(packed).saturating_mul(limits.get(Limit::Ratio));
    (unpacked > SMALL && u64::from(unpacked) > most).then_some((Limit::Ratio, most))
}

/// The chunks of one CPU.
pub(super) struct CompressedPages {
    file: PageFile,
    compression: Compression,
    layout: PageLayout,
    cpu: u32,
    entries: Vec<Entry>,
}

impl CompressedPages {
    /// Lists the chunks at `offset` by their headers, up to `end` (of the section). What contradicts itself ends the
    /// list and is noted. `stated` is the size that the BUFFER option gives, which some recorders get wrong by 4.
    pub(super) fn list(
        file: PageFile,
        compression: Compression,
        layout: PageLayout,
        cpu: u32,
        (offset, stated, end): (u64, u64, u64),
        limits: &Limits,
        notes: &mut Notes,
    ) -> Result<Self> {
        let end = end.min(file.source.len());
        let mut entries = Vec::new();
        let mut at = offset;
        let endian = layout.endian;
        if end.saturating_sub(at) < 4 {
            notes.damaged(format!("CPU {cpu}: its data at byte {offset:#x} lies beyond the end of the file"));
        } else {
            let mut count = [0; 4];
            file.read(&mut count, at)?;
            let count = Cursor::new(&count, at, endian).u32("the number of chunks")?;
            at += 4;
            for number in 0..count {
                let mut head = [0; 8];
                if end - at < 8 {
                    notes.damaged(format!("CPU {cpu}: cut off at byte {at:#x}, after {number} of {count} chunks"));
                    break;
                }
                file.read(&mut head, at)?;
                let mut head = Cursor::new(&head, at, endian);
                let (packed, unpacked) = (head.u32("a chunk's size")?, head.u32("a chunk's unpacked size")?);
                let data = at + 8;
                let next = data + u64::from(packed);
                if next > end {
                    let left = end - data;
                    notes.damaged(format!(
                        "CPU {cpu}: chunk {number} of {count} at byte {at:#x} has {packed} bytes, {left} are left; \
                         it and the rest are skipped"
                    ));
                    break;
                }
                if let Some((limit, most)) = too_large(packed, unpacked, limits) {
                    notes.damaged(format!(
                        "CPU {cpu}: chunk {number} at byte {at:#x} has {packed} bytes and claims {unpacked}, more than \
                         the limit of {most} (--limit {}=VALUE); skipped",
                        limit.name()
                    ));
                } else {
                    entries.push(Entry { offset: data, packed, unpacked });
                }
                at = next;
                if number + 1 == count && at - offset != stated && at - offset != stated.saturating_add(4) {
                    let used = at - offset;
                    notes.warn(format!("CPU {cpu}: its chunks take {used} bytes, the file says {stated}"));
                }
            }
        }
        entries.shrink_to_fit();
        Ok(Self { file, compression, layout, cpu, entries })
    }

    /// Bytes after decompression.
    pub(super) fn unpacked_len(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.unpacked)).sum()
    }

    /// Reads the sub-buffers as `layout` says.
    pub(super) fn set_layout(&mut self, layout: PageLayout) {
        self.layout = layout;
    }
}

impl ChunkSource for CompressedPages {
    fn chunks(&self) -> usize {
        self.entries.len()
    }

    fn read(&self, index: usize, chunk: &mut Chunk) -> Result<()> {
        chunk.clear();
        let Some(&Entry { offset, packed, unpacked }) = self.entries.get(index) else { return Ok(()) };
        // Only ever grown, as growing means zeroing.
        let length = chunk.scratch.len().max(packed as usize);
        chunk.scratch.resize(length, 0);
        let scratch = chunk.scratch.get_mut(..packed as usize).unwrap_or_default();
        self.file.read(scratch, offset)?;
        if let Err(error) = self.compression.unpack(scratch, unpacked as usize, &mut chunk.data) {
            chunk.data.clear();
            chunk.damaged = (unpacked as usize).div_ceil(self.layout.sub_buffer).max(1) as u64;
            chunk.damage.push(format!("CPU {}, chunk at byte {offset:#x}: {error}", self.cpu));
            return Ok(());
        }
        walk(&self.layout, &self.file.ids, Origin { cpu: self.cpu, offset, compressed: true }, chunk);
        Ok(())
    }
}
