//! Perfetto traces: what `tracebox`, `traced` and the recorders around them write, as far as it is ftrace.
//!
//! A trace is a run of packets. Those that hold ftrace events of one CPU (`FtraceEventBundle`) become records of the same
//! model as other captures, with formats made up for them whose fields have the kernel's names. [`open`] reads all packets
//! once to learn where each CPU's stand; a chunk is read again by itself. All other packets are none of our business,
//! and neither is their meaning: [`Native`] hands them on as they are.
//!
//! Stamps are nanoseconds, of BOOTTIME as a rule. Where the recorder noted the TSC beside that clock now and then, as it
//! does on x86, they become cycles along the lines between these readings.

mod bundle;
mod clock;
mod discover;
mod exits;
mod known;
mod layout;
mod native;
mod packets;
mod running;
mod scan;
mod stream;
#[cfg(test)]
mod tests;
mod unpack;
mod wire;

use std::path::Path;
use std::sync::Arc;

use super::limits::Limits;
use super::source::ReadAt;
use super::trace_dat::notes::Notes;
use super::{Buffer, Capture, CaptureInfo, Clock, Endian, Stream};
use crate::clock::line::ClockLine;
use crate::error::{Code, Error, ErrorKind, Result};
use running::Running;
use scan::{Scan, Scanned};
use stream::{CpuStream, Shared};

pub use native::{Native, Taken};

/// Whether a file that starts with `first` (8 KiB are enough) is a Perfetto trace: it has no mark, so that every field of
/// every packet must make sense.
pub fn is_perfetto(first: &[u8]) -> bool {
    packets::is_trace(first)
}

/// Opens a Perfetto trace. `path` is for messages; all bytes come from `source`.
///
/// # Errors
/// `Unsupported` for traces without ftrace events, `Format` where they were stamped with several clocks, `Limit` for what
/// would take too much memory, `Io` where reading fails.
pub fn open(path: &Path, source: Arc<dyn ReadAt>, limits: &Limits) -> Result<Capture> {
    read(path, source, limits).map_err(|error| error.damaged_as(Code::DamagedPerfetto).in_file(path))
}

/// What [`open`] says of a timeline that this program wrote.
pub const OWN_TIMELINE: &str = "is a timeline that kvm-timeline wrote, without ftrace events";

/// What a recording needs.
const HOW: &str = "record with the data source linux.ftrace and ftrace_events: \"sched/*\", and on a host \"kvm/*\"";

fn read(path: &Path, file: Arc<dyn ReadAt>, limits: &Limits) -> Result<Capture> {
    let mut notes = Notes::default();
    let mut source = Arc::clone(&file);
    let (mut scan, copied, packed) = match scan::scan(&source, limits, &mut notes)? {
        Scanned::All(scan) => {
            let copied = (scan.settled, scan.end);
            (scan, copied, false)
        }
        Scanned::Compressed => {
            let unpacked = unpack::unpack(&file, limits, &mut notes)?;
            source = unpacked.source;
            match scan::scan(&source, limits, &mut notes)? {
                Scanned::All(scan) => (scan, (unpacked.settled, unpacked.end), true),
                Scanned::Compressed => {
                    return Err(Error::format("its compressed packets hold compressed packets")
                        .hint("the file is damaged: copy it again, or record again"));
                }
            }
        }
    };
    let mut info = CaptureInfo::default();
    if scan.events == 0 {
        notes.store(&mut info);
        return Err(without_events(&scan, &info));
    }
    let packed = if packed { ", compressed packets" } else { "" };
    let by = if scan.made_by.is_some() { " of kvm-timeline" } else { "" };
    info.kind = format!("Perfetto trace{by}{packed}");
    let (formats, layouts) = std::mem::take(&mut scan.discovery).finish();
    scan.report(&layouts.unread, &mut info, &mut notes);
    let (clock, number, line) = clock_of(&scan, &mut info, &mut notes)?;
    notes.store(&mut info);
    let Scan { index, starts, .. } = *scan;
    let (settled, end) = copied;
    info.perfetto = Some(Arc::new(Native {
        source: file,
        end,
        settled,
        packets: scan.packets,
        clock: number,
        line: line.clone(),
        first_ns: scan.span.map_or(0, |(first, _)| first),
        sequences: scan.sequences,
        machines: scan.machines,
        largest_track: scan.largest_track,
        made_by: scan.made_by,
    }));
    let shared = Arc::new(Shared { source, path: path.into(), layouts, line });
    let stream = |(cpu, pieces): (u32, Vec<super::cpu_runs::Piece>)| {
        let known = starts.get(cpu as usize).map_or(&[][..], Vec::as_slice);
        let start = |piece: &super::cpu_runs::Piece| {
            let at = piece.runs().next().map_or(0, |(start, _)| start);
            let known = known.binary_search_by_key(&at, |(at, _)| *at).ok().and_then(|index| known.get(index));
            known.map_or_else(Running::default, |(_, running)| *running)
        };
        let starts = pieces.iter().map(start).collect();
        Stream { cpu, source: Box::new(CpuStream { shared: Arc::clone(&shared), cpu, pieces, starts }) }
    };
    let buffer = Buffer { name: String::new(), clock, streams: index.finish().map(stream).collect() };
    let formats = Arc::new(formats);
    Ok(Capture { path: path.to_path_buf(), endian: Endian::Little, info, formats, buffers: vec![buffer] })
}

fn without_events(scan: &Scan, info: &CaptureInfo) -> Error {
    if scan.made_by.is_some() {
        return Error::new(ErrorKind::Unsupported, OWN_TIMELINE).hint("name what it was made of: the captures");
    }
    let damage = info.damaged.first().map(|damage| format!("; {damage}")).unwrap_or_default();
    Error::new(ErrorKind::Unsupported, format!("is a Perfetto trace without ftrace events{damage}")).hint(HOW)
}

/// The clock of the stamps, its number in Perfetto, and how TSC cycles are made of its nanoseconds.
fn clock_of(scan: &Scan, info: &mut CaptureInfo, notes: &mut Notes) -> Result<(Clock, Option<u32>, Option<ClockLine>)> {
    let [bundles] = *scan.clocks.as_slice() else {
        return Err(Error::format("its events were recorded with several clocks").hint("record again with one"));
    };
    let (clock, number) = clock::of_bundle(bundles);
    let Some(number) = number else { return Ok((clock, None, None)) };
    let wall = scan.snapshots.pairs(number, clock::REALTIME);
    info.date_ns = wall.first().and_then(|(ns, wall)| wall.checked_sub(*ns));
    let readings = scan.snapshots.pairs(number, clock::TSC);
    if readings.is_empty() {
        return Ok((clock, Some(number), None));
    }
    let Some(line) = ClockLine::through(&readings) else {
        let count = readings.len();
        notes.warn(format!(
            "{count} clock snapshots with the TSC do not tell its rate: two that are 10 ms apart are needed; \
             stamps stay nanoseconds"
        ));
        return Ok((clock, Some(number), None));
    };
    let late = u128::from(scan.snapshots.late_ns(number, clock::TSC)) * u128::from(line.hz()) / 1_000_000_000;
    let (first, last) = scan.span.unwrap_or_default();
    let off = line.uncertainty(first, last, u64::try_from(late).unwrap_or(u64::MAX));
    info.stamp_cycles = line.step().saturating_add(off);
    let name = if let Clock::Other(name) = &clock { name } else { "" };
    info.kind.push_str(&format!(
        ", {name} made TSC cycles by {} clock snapshots (within {})",
        readings.len(),
        info.stamp_cycles.saturating_sub(1)
    ));
    Ok((Clock::X86Tsc, Some(number), Some(line)))
}
