//! trace.dat, versions 6 and 7: what trace-cmd, KernelShark and libtracecmd write.
//!
//! [`open`] reads all metadata and finds out where each CPU's sub-buffers stand; events are read later, chunk by
//! chunk. Damage to what describes the events is an error; damage to anything else is noted in the capture's info.

mod buffers;
mod compressed_pages;
mod compression;
pub(super) mod metadata;
pub(super) mod notes;
mod options;
mod orphans;
mod runs;
mod section;
mod time_shift;
pub(super) mod tracing_data;
mod version6;
mod version7;

use std::path::Path;
use std::sync::Arc;

use super::archive::Budget;
use super::kallsyms::Kallsyms;
use super::limits::Limits;
use super::raw_pages::PageFile;
use super::ring_buffer::EventIds;
use super::source::{ReadAt, Reader};
use super::{Capture, Clock, Endian};
use crate::error::{Code, Error, ErrorKind, Result};
use buffers::Plan;
use compression::Compression;
use metadata::Metadata;
use notes::Notes;

const MAGIC: &[u8] = b"\x17\x08\x44tracing";

/// Largest header_page and header_event.
const MAX_HEADER_TEXT: u64 = 64 << 10;

/// Whether a file that starts with `bytes` (10 or more) is a trace.dat.
pub fn is_trace_dat(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Whether most of the first bytes are those of a trace.dat, but not all.
pub(super) fn is_nearly_trace_dat(bytes: &[u8]) -> bool {
    let same = bytes.iter().zip(MAGIC).filter(|(a, b)| a == b).count();
    bytes.len() >= MAGIC.len() && (MAGIC.len() / 2 + 1..MAGIC.len()).contains(&same)
}

/// Opens a trace.dat of version 6 or 7. `path` is for messages; all bytes come from `source`.
///
/// # Errors
/// `Format` where the file header or what describes the events is damaged, `Unsupported` for other versions, latency
/// text and unknown compression, `Io` where reading fails.
pub fn open(path: &Path, source: Arc<dyn ReadAt>, limits: &Limits) -> Result<Capture> {
    read(path, source, limits).map_err(|error| error.damaged_as(Code::DamagedTraceDat).in_file(path))
}

/// What every version starts with.
struct FileHeader {
    version: u32,
    endian: Endian,
    /// Sub-buffer size according to the recorder.
    page_size: u32,
}

impl FileHeader {
    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let not_a_capture = |error: Error| error.hint("this is not a trace.dat file");
        reader.expect(MAGIC, "the mark of a trace.dat file").map_err(not_a_capture)?;
        let at = reader.position();
        let text = reader.cstr(8, "the file version")?;
        let version = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
        let Some(version @ (6 | 7)) = version else {
            let message = format!("trace.dat version \"{}\", this program reads 6 and 7", text.escape_ascii());
            return Err(Error::new(ErrorKind::Unsupported, message).at(at));
        };
        let endian = match reader.u8("the byte order")? {
            0 => Endian::Little,
            1 => Endian::Big,
            other => return Err(reader.error(format!("byte order {other}, expected 0 or 1"))),
        };
        reader.set_endian(endian);
        match reader.u8("the size of long")? {
            4 | 8 => {}
            other => return Err(reader.error(format!("long of {other} bytes, expected 4 or 8"))),
        }
        Ok(Self { version, endian, page_size: reader.u32("the page size")? })
    }
}

/// What a version's reader found besides metadata.
struct Layouts {
    plans: Vec<Plan>,
    compression: Compression,
}

fn read(path: &Path, source: Arc<dyn ReadAt>, limits: &Limits) -> Result<Capture> {
    let mut reader = Reader::new(&*source, 0, u64::MAX, Endian::Little);
    let header = FileHeader::read(&mut reader)?;
    let mut meta = Metadata::new(Budget::within(source.len(), limits));
    let Layouts { plans, compression } = match header.version {
        6 => version6::read(&mut reader, &header, &*source, &mut meta)?,
        _ => version7::read(&mut reader, &header, &*source, &mut meta)?,
    };
    meta.info.kind = format!("trace.dat version {}, {}", header.version, compression.name());

    let formats = Arc::new(std::mem::take(&mut meta.formats));
    let file = PageFile { source: Arc::clone(&source), path: Arc::from(path), ids: Arc::new(EventIds::new(&formats)) };
    let buffers = buffers::build(plans, &file, compression, &mut meta)?;
    warn_of_split(&buffers, &mut meta);
    let Metadata { mut info, notes, kallsyms, budget, .. } = meta;
    info.kallsyms = kallsyms
        .map(|place| Arc::new(Kallsyms::lazy(move || place.read(&source, compression, header.endian, &budget))));
    notes.store(&mut info);
    Ok(Capture { path: path.to_path_buf(), endian: header.endian, info, formats, buffers })
}

/// `trace-cmd split` writes converted times into the pages, drops all options, and keeps the clock's name.
fn warn_of_split(buffers: &[super::Buffer], meta: &mut Metadata) {
    let anonymous = meta.info.trace_id.is_none() && meta.info.uname.is_none() && meta.recorder.is_none();
    let tsc = buffers.iter().any(|buffer| buffer.clock == Clock::X86Tsc && !buffer.streams.is_empty());
    if anonymous && tsc {
        meta.notes.warn(
            "this file looks like the output of `trace-cmd split`, whose x86-tsc stamps are no longer raw cycles: use \
             the file that was split",
        );
    }
}
