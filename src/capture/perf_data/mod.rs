//! perf.data: what `perf record`, `perf kvm record` and `perf trace record` write, as a file or into a pipe.
//!
//! Samples of tracepoints are events; the formats of their fields are in the file, in the words of tracefs. [`open`]
//! reads the headers of all records once to learn where each CPU's samples stand; a chunk is read again by itself.
//!
//! Stamps are nanoseconds. Where the kernel said how it makes them of TSC cycles (TIME_CONV), they are turned back into
//! cycles: the first cycle of the nanosecond.

mod attr;
mod clock;
mod header;
mod records;
mod scan;
mod stream;
#[cfg(test)]
mod tests;
mod unpack;

use std::path::Path;
use std::sync::Arc;

use super::archive::Budget;
use super::event_format::FormatTable;
use super::limits::Limits;
use super::ring_buffer::EventIds;
use super::source::ReadAt;
use super::trace_dat::notes::Notes;
use super::trace_dat::tracing_data;
use super::{Buffer, Capture, CaptureInfo, Clock, Stream, Tsc2Nsec};
use crate::error::{Code, Error, Result};
use clock::TimeConv;
use header::{Header, MAGIC, MAGIC_BIG, MAGIC_OLD, Place};
use scan::{Scan, Scanned};
use stream::{PerfStream, Shared};

/// Whether a file that starts with `bytes` (8 or more) is a perf.data, of whatever version.
pub fn is_perf_data(bytes: &[u8]) -> bool {
    [MAGIC, MAGIC_BIG, MAGIC_OLD].iter().any(|magic| bytes.starts_with(magic))
}

/// Opens a perf.data. `path` is for messages; all bytes come from `source`.
///
/// # Errors
/// `Format` where the file header or what describes the events is damaged, `Unsupported` for the first version of the
/// format and for recordings in several files, `Limit` for what would take too much memory, `Io` where reading fails.
pub fn open(path: &Path, source: Arc<dyn ReadAt>, limits: &Limits) -> Result<Capture> {
    read(path, source, limits).map_err(|error| error.damaged_as(Code::DamagedPerfData).in_file(path))
}

const DAMAGED: &str = "the file is damaged: copy it again, or record again";

fn read(path: &Path, file: Arc<dyn ReadAt>, limits: &Limits) -> Result<Capture> {
    let budget = Budget::within(file.len(), limits);
    let mut notes = Notes::default();
    let hinted = |error: Error| if error.hint_text().is_none() { error.hint(DAMAGED) } else { error };
    let mut header = Header::read(&*file, limits, &mut notes).map_err(hinted)?;
    let (mut source, mut compressed) = (Arc::clone(&file), false);
    let scanned = scan::scan(&source, header.data, &mut header, &mut notes).map_err(hinted)?;
    let mut scan = match scanned {
        Scanned::All(scan) => scan,
        Scanned::Compressed => {
            compressed = true;
            source = unpack::unpack(&file, header.data, header.endian, &budget, &mut notes).map_err(hinted)?;
            if header.pipe {
                (header.attrs, header.ids) = Default::default();
            }
            let data = Place { at: 0, len: source.len() };
            match scan::scan(&source, data, &mut header, &mut notes).map_err(hinted)? {
                Scanned::All(scan) => scan,
                Scanned::Compressed => {
                    return Err(Error::format("its compressed records hold compressed records").hint(DAMAGED));
                }
            }
        }
    };
    let mut info = CaptureInfo { kind: kind(&header, compressed), cpu_count: header.cpus, ..CaptureInfo::default() };
    let described = if header.pipe { &source } else { &file };
    let formats = Arc::new(formats(described, &header, &scan, &mut info, &mut notes, &budget).map_err(hinted)?);
    scan.report(&mut info, &mut notes);
    machine(&header, &mut info);
    let (clock, conversion) = clock_of(&header, &scan, &mut info)?;
    notes.store(&mut info);
    let Scan { attrs, index, .. } = *scan;
    let shared = Arc::new(Shared {
        source,
        path: path.into(),
        endian: header.endian,
        attrs,
        event_ids: EventIds::new(&formats),
        conversion,
    });
    let stream =
        |(cpu, pieces)| Stream { cpu, source: Box::new(PerfStream { shared: Arc::clone(&shared), cpu, pieces }) };
    let buffer = Buffer { name: String::new(), clock, streams: index.finish().map(stream).collect() };
    Ok(Capture { path: path.to_path_buf(), endian: header.endian, info, formats, buffers: vec![buffer] })
}

fn kind(header: &Header, compressed: bool) -> String {
    let by = header.version.as_deref().map(|version| format!(" of perf {version}")).unwrap_or_default();
    let pipe = if header.pipe { ", from a pipe" } else { "" };
    let compressed = if compressed { ", zstd" } else { "" };
    format!("perf.data{by}{pipe}{compressed}")
}

/// The formats of the tracepoints, without which their samples are bytes.
fn formats(
    source: &Arc<dyn ReadAt>,
    header: &Header,
    scan: &Scan,
    info: &mut CaptureInfo,
    notes: &mut Notes,
    budget: &Arc<Budget>,
) -> Result<FormatTable> {
    let place = header.tracing_data.filter(|place| place.len > 0);
    match place {
        Some(place) => tracing_data::read(source, (place.at, place.end()), info, notes, budget),
        None if scan.events > 0 => Err(Error::format(format!(
            "does not describe its {} samples of tracepoints: the section of their formats, behind the records, is missing",
            scan.events
        ))
        .at(header.data.end())
        .hint("let perf record end by itself or stop it with Ctrl-C; or copy the file again")),
        None => Ok(FormatTable::new()),
    }
}

fn machine(header: &Header, info: &mut CaptureInfo) {
    if header.hostname.is_some() || header.release.is_some() {
        let of = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".into());
        info.uname = Some(format!("Linux {} {} {}", of(&header.hostname), of(&header.release), of(&header.arch)));
    }
    info.date_ns = header.date_ns;
}

/// The clock of the events, and how to make TSC cycles of its nanoseconds.
fn clock_of(header: &Header, scan: &Scan, info: &mut CaptureInfo) -> Result<(Clock, Option<TimeConv>)> {
    let mut clocks = scan.attrs.list.iter().filter(|attr| attr.tracepoint).map(|attr| attr.clock);
    let first = clocks.next().flatten();
    if clocks.any(|clock| clock != first) {
        return Err(Error::format("its events were recorded with several clocks").hint("record again with one"));
    }
    // Other machines have other counters.
    let x86 = header.arch.as_deref().is_none_or(|arch| arch == "x86_64" || arch.ends_with("86"));
    let conversion = scan.conversion.filter(|_| first.is_none() && x86);
    let Some(conversion) = conversion else {
        return Ok((Clock::Other(clock::name(first)), None));
    };
    info.tsc2nsec = Some(Tsc2Nsec { mult: conversion.mult, shift: conversion.shift, offset: 0 });
    info.stamp_cycles = conversion.step();
    let kind = &mut info.kind;
    kind.push_str(&format!(", nanoseconds made TSC cycles by TIME_CONV (up to {} early)", info.stamp_cycles - 1));
    Ok((Clock::X86Tsc, Some(conversion)))
}
