//! Compressed sub-buffers of one CPU of a version 7 file: `u32 count`, then chunks of `u32 packed size, u32 unpacked
//! size, data`. Where there are very many, neighbours are read as one (`runs.rs`).

use super::Notes;
use super::compression::Compression;
use super::runs::{Run, Runs};
use crate::capture::bytes::Cursor;
use crate::capture::limits::{Limit, Limits};
use crate::capture::raw_pages::PageFile;
use crate::capture::ring_buffer::{Origin, PageLayout, walk};
use crate::capture::{Chunk, ChunkSource};
use crate::error::{Error, Result};

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
    runs: Vec<Run>,
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
        let mut runs = Runs::new();
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
                    runs.push(Run { offset: at, len: next - at, unpacked: unpacked.into() });
                }
                at = next;
                if number + 1 == count && at - offset != stated && at - offset != stated.saturating_add(4) {
                    let used = at - offset;
                    notes.warn(format!("CPU {cpu}: its chunks take {used} bytes, the file says {stated}"));
                }
            }
        }
        Ok(Self { file, compression, layout, cpu, runs: runs.done() })
    }

    /// Bytes after decompression.
    pub(super) fn unpacked_len(&self) -> u64 {
        self.runs.iter().map(|run| run.unpacked).sum()
    }

    /// Reads the sub-buffers as `layout` says.
    pub(super) fn set_layout(&mut self, layout: PageLayout) {
        self.layout = layout;
    }

    /// How many sub-buffers so many bytes are, for counting damage.
    fn sub_buffers(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.layout.sub_buffer.max(1) as u64).max(1)
    }

    /// Unpacks the chunk whose sizes `packed` begins with, and walks it. Gives how many bytes it took; `None` if it is not
    /// what was there when the chunks were listed, with `left` bytes to be unpacked.
    fn unpack(&self, packed: &[u8], offset: u64, left: &mut u64, chunk: &mut Chunk) -> Option<usize> {
        let mut head = Cursor::new(packed, offset, self.layout.endian);
        let (length, unpacked) = (head.u32("a chunk's size").ok()?, head.u32("a chunk's unpacked size").ok()?);
        let length = usize::try_from(length).ok()?;
        let packed = packed.get(8..)?.get(..length)?;
        *left = left.checked_sub(unpacked.into())?;
        let from = chunk.data.len();
        let done = if from == 0 {
            self.compression.unpack(packed, unpacked as usize, &mut chunk.data)
        } else {
            let mut data = Vec::new();
            let done = self.compression.unpack(packed, unpacked as usize, &mut data);
            done.map(|()| chunk.data.extend_from_slice(&data))
        };
        let offset = offset + 8;
        match done {
            Ok(()) => {
                let origin = Origin { cpu: self.cpu, offset, compressed: true };
                walk(&self.layout, &self.file.ids, origin, chunk, from);
            }
            Err(error) => {
                chunk.data.truncate(from);
                let what = || format!("CPU {}, chunk at byte {offset:#x}: {error}", self.cpu);
                chunk.note_damage(self.sub_buffers(unpacked.into()), what);
            }
        }
        Some(8 + length)
    }
}

impl ChunkSource for CompressedPages {
    fn chunks(&self) -> usize {
        self.runs.len()
    }

    fn read(&self, index: usize, chunk: &mut Chunk) -> Result<()> {
        chunk.clear();
        let Some(&Run { offset, len, unpacked }) = self.runs.get(index) else { return Ok(()) };
        let Ok(len) = usize::try_from(len) else {
            return Err(Error::format("a chunk is larger than this machine's addresses").at(offset));
        };
        let mut scratch = std::mem::take(&mut chunk.scratch);
        // Only ever grown, as growing means zeroing.
        scratch.resize(scratch.len().max(len), 0);
        let packed = scratch.get_mut(..len).unwrap_or_default();
        let read = self.file.read(packed, offset);
        // Room that grows by itself would be up to twice as much.
        chunk.data.reserve_exact(usize::try_from(unpacked).unwrap_or(0));
        let (mut at, mut left) = (0, unpacked);
        while read.is_ok() && at < len {
            let from = offset + at as u64;
            let Some(took) = packed.get(at..).and_then(|rest| self.unpack(rest, from, &mut left, chunk)) else {
                let what = || format!("CPU {}, chunk at byte {from:#x}: changed while the file was read", self.cpu);
                chunk.note_damage(self.sub_buffers(left), what);
                break;
            };
            at += took;
        }
        chunk.scratch = scratch;
        read
    }
}
