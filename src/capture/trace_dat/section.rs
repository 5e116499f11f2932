//! Sections of a version 7 file: a header of 16 bytes, then bytes that may be compressed.

use std::io::{self, Read};
use std::sync::Arc;

use super::Notes;
use super::compression::Compression;
use crate::capture::Endian;
use crate::capture::archive::Budget;
use crate::capture::kallsyms::Pieces;
use crate::capture::limits::Limit;
use crate::capture::source::{ReadAt, Reader, SourceReader};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a section header.
const HEADER: u64 = 16;

/// A section as its header describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    /// Number of the option that points to it; 0 for options.
    pub(super) id: u16,
    pub(super) compressed: bool,
    /// Where its header stands.
    pub(super) header: u64,
    /// Bytes behind the header. 0 also where the recorder was stopped before it knew.
    pub(super) size: u64,
}

impl Section {
    /// Reads the header at `at`.
    pub(super) fn read(source: &dyn ReadAt, at: u64, endian: Endian) -> Result<Self> {
        let mut reader = Reader::new(source, at, at.saturating_add(HEADER), endian);
        let id = reader.u16("a section header")?;
        let flags = reader.u16("a section header")?;
        reader.u32("a section header")?;
        let size = reader.u64("a section header")?;
        Ok(Self { id, compressed: flags & 1 != 0, header: at, size })
    }

    /// Where its bytes start.
    pub(super) fn start(&self) -> u64 {
        self.header.saturating_add(HEADER)
    }

    /// Where its bytes end, according to the header.
    pub(super) fn end(&self) -> u64 {
        self.start().saturating_add(self.size)
    }

    /// The end of its bytes where 0 means "not known".
    pub(super) fn end_or(&self, unknown: u64) -> u64 {
        if self.size == 0 { unknown } else { self.end() }
    }

    /// Calls `parse` with a reader of the bytes after decompression.
    pub(super) fn with_reader<T>(
        &self,
        source: &dyn ReadAt,
        compression: Compression,
        endian: Endian,
        budget: &Budget,
        parse: impl FnOnce(&mut Reader<'_>) -> Result<T>,
    ) -> Result<T> {
        match self.unpacked(source, compression, endian, budget)? {
            None => parse(&mut self.reader(source, endian)),
            Some(bytes) => parse(&mut Reader::inside(&bytes, self.start(), endian)),
        }
    }

    fn reader<'a>(&self, source: &'a dyn ReadAt, endian: Endian) -> Reader<'a> {
        let unknown = if self.id == 0 { source.len() } else { self.start() };
        Reader::new(source, self.start(), self.end_or(unknown), endian)
    }

    /// The bytes after decompression, if they are compressed.
    fn unpacked(
        &self,
        source: &dyn ReadAt,
        compression: Compression,
        endian: Endian,
        budget: &Budget,
    ) -> Result<Option<Vec<u8>>> {
        if !self.compressed {
            return Ok(None);
        }
        let mut reader = self.reader(source, endian);
        let (packed, size) = self.sizes(&mut reader, budget)?;
        let packed = reader.take(packed, u64::from(u32::MAX), "a compressed section")?;
        let mut bytes = Vec::new();
        compression.unpack(&packed, size, &mut bytes).map_err(|error| error.at(self.start()))?;
        Ok(Some(bytes))
    }

    /// The bytes after decompression, piece by piece, of a section that is compressed.
    pub(super) fn stream(
        &self,
        source: &Arc<dyn ReadAt>,
        compression: Compression,
        endian: Endian,
        budget: &Budget,
    ) -> Result<Box<Pieces>> {
        let mut reader = self.reader(&**source, endian);
        let (packed, size) = self.sizes(&mut reader, budget)?;
        let at = reader.position();
        reader.skip(packed, "a compressed section")?;
        let packed = SourceReader::within(Arc::clone(source), at, reader.position());
        let (start, mut left) = (self.start(), size);
        let mut reader = compression.reader(packed).map_err(|error| error.at(start))?;
        let failed = move |error: io::Error| match error.raw_os_error() {
            Some(_) => Error::new(ErrorKind::Io, format!("cannot read a compressed section: {error}")).at(start),
            None => compression.failed(error).at(start),
        };
        let wrong = move |found: &str| {
            Error::format(format!("{} data unpacks to {found} than {size} bytes", compression.name())).at(start)
        };
        Ok(Box::new(move |most, into| {
            let most = most.min(left);
            into.reserve(most);
            let read = reader.by_ref().take(most as u64).read_to_end(into).map_err(failed)?;
            left -= read;
            if read < most {
                return Err(wrong("fewer"));
            }
            // Behind the last byte stands a checksum, if there is one.
            if left == 0 && reader.read(&mut [0]).map_err(failed)? > 0 {
                return Err(wrong("more"));
            }
            Ok(left > 0)
        }))
    }

    /// How many compressed bytes come next, and how many they become.
    fn sizes(&self, reader: &mut Reader<'_>, budget: &Budget) -> Result<(u64, usize)> {
        let packed = reader.u32("the section's compressed size")?;
        let unpacked = reader.u32("the section's unpacked size")?;
        let limits = budget.limits();
        limits.check(Limit::Section, unpacked.into(), "bytes of a section").map_err(|error| error.at(self.header))?;
        // Several may be unpacked, one may be named several times.
        budget.charge(unpacked.into()).map_err(|error| error.at(self.header))?;
        Ok((packed.into(), unpacked as usize))
    }
}

/// Walks all sections from `first` on, for files whose own list of them is gone.
pub(super) fn scan(source: &dyn ReadAt, first: u64, endian: Endian, notes: &mut Notes) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut at = first;
    while let Ok(section) = Section::read(source, at, endian) {
        // Ids above 64 are not sections of a later version, but whatever else stands here.
        if section.id > 64 {
            notes.damaged(format!("no section at byte {at:#x}, where one was expected; the rest is skipped"));
            break;
        }
        sections.push(section);
        if section.size == 0 && section.id != super::options::id::BUFFER {
            break;
        }
        at = section.end();
    }
    sections
}
