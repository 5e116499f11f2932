//! The container of trace.dat version 7, as far as copying a file with other pages needs it: sections, options, and
//! where each CPU's sub-buffers stand. Written apart from the program's reader, so that a bench does not measure one by
//! itself. Little endian and 64 bits only.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Any failure, in words.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How sections and chunks are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    None,
    /// One zstd frame each.
    Zstd,
}

/// What a section header says.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Where its header stands.
    pub at: u64,
    /// Its kind; 0 for options, 3 for a buffer's data.
    pub id: u16,
    /// Whether its contents are packed.
    pub packed: bool,
    /// Its label.
    pub label: u32,
    /// Bytes behind the header.
    pub size: u64,
}

/// Where an option's payload stands.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its kind.
    pub id: u16,
    /// The section header of the options it is one of.
    pub section: u64,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// One CPU's data.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// CPU number.
    pub number: u32,
    /// Where its data stands.
    pub at: u64,
    /// Bytes, of the pages or of all chunks.
    pub size: u64,
}

/// A BUFFER option.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Where the header of its data's section stands.
    pub section: u64,
    /// Sub-buffer size.
    pub page: usize,
    /// CPUs with data.
    pub cpus: Vec<Cpu>,
    /// The option up to and with the sub-buffer size.
    pub head: Vec<u8>,
}

/// An open file.
pub struct Container {
    file: File,
    /// The file's first bytes, up to the name of the compression.
    pub start: Vec<u8>,
    /// What packs it.
    pub compression: Compression,
    /// All sections in file order.
    pub sections: Vec<Section>,
    /// All options in file order, but for those that end a section.
    pub options: Vec<Entry>,
    /// All buffers, in the order of their options.
    pub buffers: Vec<Buffer>,
}

/// A number at the start of `bytes`, which moves on.
pub fn take<const N: usize>(bytes: &mut &[u8]) -> Result<u64> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or("the file ends too soon")?;
    *bytes = rest;
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(head);
    Ok(u64::from_le_bytes(wide))
}

fn text(bytes: &mut &[u8]) -> Result<String> {
    let end = bytes.iter().position(|&b| b == 0).ok_or("a text without an end")?;
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    *bytes = &bytes[end + 1..];
    Ok(text)
}

impl Container {
    /// Reads everything but the data.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut head = vec![0; length.min(256) as usize];
        file.read_exact_at(&mut head, 0)?;
        if !head.starts_with(b"\x17\x08\x44tracing7\0\0\x08") {
            return Err("not a trace.dat of version 7, little endian, 64 bits".into());
        }
        let start = head[..18].to_vec();
        let mut rest = &head[18..];
        let compression = match text(&mut rest)?.as_str() {
            "none" => Compression::None,
            "zstd" => Compression::Zstd,
            other => return Err(format!("compression {other}").into()),
        };
        text(&mut rest)?;
        let mut at = (head.len() - rest.len()) as u64 + 8;
        let mut found =
            Self { file, start, compression, sections: Vec::new(), options: Vec::new(), buffers: Vec::new() };
        while at < length {
            let header = found.read(at, 16)?;
            let mut rest = &header[..];
            let (id, flags) = (take::<2>(&mut rest)? as u16, take::<2>(&mut rest)?);
            let label = take::<4>(&mut rest)? as u32;
            let section = Section { at, id, packed: flags & 1 != 0, label, size: take::<8>(&mut rest)? };
            found.sections.push(section);
            at += 16 + section.size;
        }
        for section in found.sections.clone().iter().filter(|s| s.id == 0) {
            found.read_options(section)?;
        }
        Ok(found)
    }

    fn read_options(&mut self, section: &Section) -> Result<()> {
        let bytes = self.raw(section)?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (id, size) = (take::<2>(&mut rest)? as u16, take::<4>(&mut rest)? as usize);
            let (payload, behind) = rest.split_at_checked(size).ok_or("an option ends behind its section")?;
            if id == 0 {
                break;
            }
            if id == 3 {
                self.buffers.push(buffer(payload)?);
            }
            self.options.push(Entry { id, section: section.at, payload: payload.to_vec() });
            rest = behind;
        }
        Ok(())
    }

    /// `size` bytes at `at`.
    pub fn read(&self, at: u64, size: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// What stands behind a section's header, as it is.
    pub fn raw(&self, section: &Section) -> Result<Vec<u8>> {
        self.read(section.at + 16, section.size as usize)
    }

    /// What stands behind a section's header, unpacked.
    pub fn contents(&self, section: &Section) -> Result<Vec<u8>> {
        let bytes = self.raw(section)?;
        if !section.packed {
            return Ok(bytes);
        }
        let mut rest = &bytes[..];
        let (packed, size) = (take::<4>(&mut rest)? as usize, take::<4>(&mut rest)? as usize);
        Ok(zstd::bulk::decompress(rest.get(..packed).ok_or("a section is too short")?, size)?)
    }

    /// Hands each of a CPU's chunks, unpacked, to `use_chunk`. Without compression the chunks are of `step` pages.
    pub fn chunks(
        &self,
        buffer: &Buffer,
        cpu: Cpu,
        step: usize,
        mut use_chunk: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let section = self.sections.iter().find(|s| s.at == buffer.section).ok_or("a buffer without a section")?;
        let mut packed = Vec::new();
        let mut pages = Vec::new();
        if !section.packed {
            let (mut at, end) = (cpu.at, cpu.at + cpu.size);
            while at < end {
                let size = (end - at).min((step * buffer.page) as u64);
                pages.resize(size as usize, 0);
                self.file.read_exact_at(&mut pages, at)?;
                use_chunk(&pages)?;
                at += size;
            }
            return Ok(());
        }
        let mut unpack = zstd::bulk::Decompressor::new()?;
        let count = u32::from_le_bytes(self.array(cpu.at)?);
        let mut at = cpu.at + 4;
        for _ in 0..count {
            let sizes: [u8; 8] = self.array(at)?;
            let mut rest = &sizes[..];
            packed.resize(take::<4>(&mut rest)? as usize, 0);
            pages.resize(take::<4>(&mut rest)? as usize, 0);
            self.file.read_exact_at(&mut packed, at + 8)?;
            let length = unpack.decompress_to_buffer(&packed, &mut pages)?;
            use_chunk(&pages[..length])?;
            at += 8 + packed.len() as u64;
        }
        Ok(())
    }

    fn array<const N: usize>(&self, at: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }
}

fn buffer(payload: &[u8]) -> Result<Buffer> {
    let mut rest = payload;
    let section = take::<8>(&mut rest)?;
    text(&mut rest)?;
    text(&mut rest)?;
    let page = take::<4>(&mut rest)? as usize;
    let head = payload[..payload.len() - rest.len()].to_vec();
    let cpus = (0..take::<4>(&mut rest)?)
        .map(|_| {
            let number = take::<4>(&mut rest)? as u32;
            Ok(Cpu { number, at: take::<8>(&mut rest)?, size: take::<8>(&mut rest)? })
        })
        .collect::<Result<_>>()?;
    Ok(Buffer { section, page, cpus, head })
}
