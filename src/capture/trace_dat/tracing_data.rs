//! What `perf record` keeps of tracefs: the first half of a trace.dat of version 5 or 6, without event data.

use std::sync::Arc;

use super::compression::Compression;
use super::metadata::{KallsymsPlace, Metadata};
use super::{MAGIC, Notes};
use crate::capture::archive::Budget;
use crate::capture::event_format::FormatTable;
use crate::capture::kallsyms::Kallsyms;
use crate::capture::source::{ReadAt, Reader};
use crate::capture::{CaptureInfo, Endian};
use crate::error::{Error, ErrorKind, Result};

/// What the bytes `start..end` of `source` say; `info` gets what describes the machine.
///
/// # Errors
/// `Format` where the formats are damaged, `Unsupported` for other versions, `Io` where reading fails.
pub(in crate::capture) fn read(
    source: &Arc<dyn ReadAt>,
    (start, end): (u64, u64),
    info: &mut CaptureInfo,
    notes: &mut Notes,
    budget: &Arc<Budget>,
) -> Result<FormatTable> {
    let mut reader = Reader::new(&**source, start, end, Endian::Little);
    reader.expect(MAGIC, "the mark of tracing data")?;
    let at = reader.position();
    let version = reader.cstr(8, "the version of the tracing data")?;
    let commands = match &*version {
        b"0.5" | b"5" => false,
        b"0.6" | b"6" => true,
        other => {
            let message =
                format!("tracing data of version \"{}\", this program reads 0.5 and 0.6", other.escape_ascii());
            return Err(Error::new(ErrorKind::Unsupported, message).at(at));
        }
    };
    let endian = match reader.u8("the byte order")? {
        0 => Endian::Little,
        1 => Endian::Big,
        other => return Err(reader.error(format!("byte order {other}, expected 0 or 1"))),
    };
    reader.set_endian(endian);
    reader.u8("the size of long")?;
    reader.u32("the page size")?;
    // How ring buffer pages look, which perf does not use.
    for what in ["header_page", "header_event"] {
        reader.expect(format!("{what}\0").as_bytes(), "the mark")?;
        let size = reader.u64(what)?;
        reader.skip(size, what)?;
    }
    let mut meta = Metadata { notes: std::mem::take(notes), ..Metadata::new(Arc::clone(budget)) };
    let formats = meta.ftrace_events(&mut reader).and_then(|()| meta.event_formats(&mut reader));
    let rest = formats.as_ref().is_ok_and(|()| true).then(|| {
        meta.kallsyms(&mut reader)?;
        meta.printk_formats(&mut reader)?;
        if commands { meta.cmdlines(&mut reader) } else { Ok(()) }
    });
    *notes = std::mem::take(&mut meta.notes);
    formats?;
    match rest.unwrap_or(Ok(())) {
        Err(error) if error.kind() == ErrorKind::Io => return Err(error),
        Err(error) => notes.damaged(format!("what stands behind the formats is damaged: {error}")),
        Ok(()) => {}
    }
    info.printk_formats = std::mem::take(&mut meta.info.printk_formats);
    info.cmdlines = std::mem::take(&mut meta.info.cmdlines);
    if let Some(KallsymsPlace::Bytes(..)) = meta.kallsyms {
        let (source, budget) = (Arc::clone(source), Arc::clone(budget));
        let place = meta.kallsyms;
        info.kallsyms = place
            .map(|place| Arc::new(Kallsyms::lazy(move || place.read(&source, Compression::None, endian, &budget))));
    }
    Ok(meta.formats)
}
