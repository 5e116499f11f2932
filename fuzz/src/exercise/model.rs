//! A trace.dat in pieces: what a fuzzer changes is content, and sizes, offsets and compression are put right around it.
//! Other pieces say which bytes of the finished file are then made wrong.

use kvm_timeline::capture::Endian;

use super::pieces;
use crate::ring_pages::{Layout, Page};
use crate::trace_dat_writer::{Compression, TraceDat};

/// Longest file that is made of an input.
const MAX_FILE: usize = 1 << 20;
/// Most CPUs of a version 6 file, whose tables have an entry for each.
const MAX_CPUS: u16 = 300;

/// How a file is written: the first piece.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub version: u8,
    pub layout: Layout,
    pub compression: Compression,
    pub compress_metadata: bool,
    pub chunk_pages: usize,
    pub old_chunk_sizes: bool,
}

const SUB_BUFFERS: [usize; 4] = [1024, 4096, 2048, 16384];

impl Shape {
    pub fn read(bytes: &[u8]) -> Self {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let bit = |number: u8| byte(0) >> number & 1 != 0;
        let version = if bit(0) { 6 } else { 7 };
        let layout = Layout {
            endian: if bit(1) { Endian::Big } else { Endian::Little },
            long_size: if bit(2) { 4 } else { 8 },
            sub_buffer: SUB_BUFFERS[usize::from(byte(1) & 3)],
        };
        let compression = match byte(2) % 3 {
            _ if version == 6 => Compression::None,
            0 => Compression::None,
            1 => Compression::Zstd,
            _ => Compression::Zlib,
        };
        Self {
            version,
            layout,
            compression,
            compress_metadata: !bit(3),
            chunk_pages: usize::from(byte(1) >> 2 & 7) + 1,
            old_chunk_sizes: bit(4),
        }
    }

    pub fn write(&self) -> Vec<u8> {
        let bit = |on: bool, number: u8| u8::from(on) << number;
        let flags = bit(self.version == 6, 0)
            | bit(self.layout.endian == Endian::Big, 1)
            | bit(self.layout.long_size == 4, 2)
            | bit(!self.compress_metadata, 3)
            | bit(self.old_chunk_sizes, 4);
        let size = SUB_BUFFERS.iter().position(|&size| size == self.layout.sub_buffer).unwrap_or(0) as u8;
        let compression = match self.compression {
            Compression::None => 0,
            Compression::Zstd => 1,
            Compression::Zlib => 2,
        };
        vec![flags, size | ((self.chunk_pages as u8 - 1) & 7) << 2, compression]
    }
}

/// The sub-buffers of each CPU.
type Cpus = Vec<(u32, Vec<Page>)>;

/// The file that an input describes.
pub fn file(data: &[u8]) -> Vec<u8> {
    let pieces = pieces(data);
    let shape = Shape::read(pieces.first().copied().unwrap_or_default());
    let layout = shape.layout;
    let mut file = TraceDat::new(shape.version, layout)
        .compression(shape.compression)
        .compress_metadata(shape.compress_metadata)
        .chunk_pages(shape.chunk_pages);
    if shape.old_chunk_sizes {
        file = file.old_chunk_sizes();
    }
    let mut buffers: Vec<(String, String, Cpus)> = Vec::new();
    let (mut patches, mut size) = (Vec::new(), 0);
    for piece in pieces.iter().skip(1) {
        let Some((&kind, rest)) = piece.split_first() else { continue };
        size += rest.len().max(layout.sub_buffer);
        if size > MAX_FILE {
            break;
        }
        let text = || String::from_utf8_lossy(rest).into_owned();
        match kind {
            b'F' => {
                let (system, text) = split(rest);
                file = file.format(&String::from_utf8_lossy(system), &String::from_utf8_lossy(text));
            }
            b'K' => file = file.kallsyms(&text()),
            b'P' => file = file.printk(&text()),
            b'C' => file = file.cmdlines(&text()),
            b'O' => {
                if let Some((id, payload)) = rest.split_first_chunk() {
                    file = file.option(u16::from_le_bytes(*id), payload);
                }
            }
            b'B' => {
                let (name, clock) = split(rest);
                let [name, clock] = [name, clock].map(|text| String::from_utf8_lossy(text).into_owned());
                buffers.push((name, clock, Vec::new()));
            }
            b'U' => {
                let number = rest.first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes)) % MAX_CPUS;
                if let Some((.., cpus)) = buffers.last_mut() {
                    cpus.push((u32::from(number), Vec::new()));
                }
            }
            b'G' | b'E' => {
                if let Some((_, pages)) = buffers.last_mut().and_then(|(.., cpus)| cpus.last_mut()) {
                    pages.push(page(layout, kind == b'G', rest));
                }
            }
            b'X' | b'T' | b'A' => patches.push((kind, rest)),
            _ => {}
        }
    }
    for (name, clock, cpus) in buffers {
        file = file.buffer(&name, &clock, cpus);
    }
    let mut bytes = file.to_bytes();
    for (kind, patch) in patches {
        let (at, with) = patch.split_first_chunk().map_or((0, patch), |(at, with)| (u32::from_le_bytes(*at), with));
        let at = at as usize % (bytes.len() + 1);
        match kind {
            b'X' => bytes[at..].iter_mut().zip(with).for_each(|(byte, new)| *byte = *new),
            b'T' => bytes.truncate(at),
            _ => bytes.extend(with),
        }
    }
    bytes
}

/// What stands before and behind the first NUL.
pub fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    (&bytes[..at], bytes.get(at + 1..).unwrap_or_default())
}

/// A sub-buffer: as it stands there, or with its length put right: `u64 stamp` and events.
fn page(layout: Layout, raw: bool, bytes: &[u8]) -> Page {
    let mut page = Page::new();
    if raw {
        page.extend(bytes);
    } else {
        let (stamp, data) = bytes.split_at_checked(8).unwrap_or((&[0; 8], bytes));
        let data = &data[..data.len().min(layout.sub_buffer - layout.data_offset())];
        page.extend(stamp);
        page.extend(layout.long(data.len() as u64));
        page.extend(data);
    }
    page.resize(layout.sub_buffer, 0);
    page
}
