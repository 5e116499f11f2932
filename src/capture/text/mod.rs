//! ftrace as text: the kernel's `trace` and `trace_pipe` files, and what `trace-cmd report` prints.
//!
//! Each line becomes a record of the same model as binary captures, with formats made up for it: events that shape the
//! picture have the kernel's own field names, others the keys of their `key=value` pairs, or one field `text`.
//!
//! A text does not say which clock its stamps are of. Plain integers are taken for TSC cycles, as all other clocks but
//! `counter` and `boot` are printed in seconds.

mod body;
mod builtin;
mod chunks;
mod encode;
mod keys;
mod line;
mod lines;
mod number;
mod pattern;
mod scan;
mod shape;
#[cfg(test)]
mod tests;

pub(super) use body::system_of;

use std::path::Path;
use std::sync::Arc;

use super::event_format::{EventFormat, FormatTable};
use super::source::ReadAt;
use super::{Buffer, Capture, CaptureInfo, Clock, Endian, Stream};
use crate::error::{Code, Error, ErrorKind, Result};
use chunks::{Shared, TextStream};
use line::{Line, Other};
use lines::{CHUNK, TextFile};
use scan::Facts;

/// Whether a file that starts with these bytes (a few KiB are enough) is ftrace text.
pub fn is_ftrace_text(first: &[u8]) -> bool {
    if first.contains(&0) {
        return false;
    }
    first
        .split(|&byte| byte == b'\n')
        .take(64)
        .any(|line| Line::parse(line).is_some() || matches!(Other::parse(line), Other::Tracer(_) | Other::Cpus { .. }))
}

/// Whether a line may stand before the first event without being one: a heading, lost events, an empty CPU.
pub fn is_remark(line: &[u8]) -> bool {
    let nothing = matches!(Other::parse(line), Other::Nothing | Other::Lost { .. } | Other::Entries { .. });
    nothing && Line::parse(line).is_none()
}

/// Opens a text.
///
/// # Errors
/// `Io` where it cannot be read, `Format` where it holds no event, `Unsupported` for texts of the function_graph
/// tracer and for texts into which several recordings were merged.
pub fn open(path: &Path, source: Arc<dyn ReadAt>) -> Result<Capture> {
    open_with_clock(path, source, None)
}

/// Opens a text whose clock is known from elsewhere, such as a `trace_clock` file beside it.
///
/// # Errors
/// As [`open`].
pub fn open_with_clock(path: &Path, source: Arc<dyn ReadAt>, clock: Option<Clock>) -> Result<Capture> {
    open_chunked(path, source, clock, CHUNK).map_err(|error| error.damaged_as(Code::DamagedText))
}

fn open_chunked(path: &Path, source: Arc<dyn ReadAt>, clock: Option<Clock>, chunk: u64) -> Result<Capture> {
    let file = TextFile { source, path: path.into(), chunk };
    let mut facts = Facts::read(&file)?;
    check(&facts).map_err(|error| error.in_file(path))?;
    let seconds = facts.stamps[1] > facts.stamps[0];
    let mut info = info(&mut facts, seconds);
    let clock = clock.unwrap_or_else(|| if seconds { Clock::Other("unknown".into()) } else { Clock::X86Tsc });
    let (formats, shapes) = facts.discovery.finish();
    let shared = Arc::new(Shared { file, shapes, seconds });
    // A name in front of all lines is that of a file, of some lines that of an instance.
    let mut names: Vec<_> = facts.streams.keys().map(|(prefix, _)| prefix.clone()).collect();
    names.dedup();
    let mut buffers: Vec<Buffer> = Vec::new();
    let mut last = None;
    for ((prefix, cpu), pieces) in facts.streams {
        // Two that are no UTF-8 may look alike, and are two.
        if last.as_ref() != Some(&prefix) {
            let name = if names.len() > 1 { String::from_utf8_lossy(&prefix).into_owned() } else { String::new() };
            buffers.push(Buffer { name, clock: clock.clone(), streams: Vec::new() });
            last = Some(prefix);
        }
        let source = TextStream { shared: Arc::clone(&shared), pieces };
        if let Some(buffer) = buffers.last_mut() {
            buffer.streams.push(Stream { cpu, source: Box::new(source) });
        }
    }
    info.warnings.extend(losses(&formats));
    let formats = Arc::new(formats);
    Ok(Capture { path: path.to_path_buf(), endian: Endian::Little, info, formats, buffers })
}

/// What a text cannot hold, in words: of events whose text is no list of fields, the fields.
fn losses(formats: &FormatTable) -> Option<String> {
    let only_text = |format: &&EventFormat| matches!(format.fields.as_slice(), [only] if &*only.name == "text");
    let mut names: Vec<&str> = formats.events().iter().filter(only_text).map(|format| &*format.name).collect();
    names.sort_unstable();
    names.dedup();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    (!names.is_empty())
        .then(|| format!("a text: of these events it does not show the fields one by one: {shown}{more}"))
}

/// How many events [`losses`] names.
const SHOWN: usize = 8;

const HINT: &str = "copy the file trace of tracefs, or the output of trace-cmd report";

/// Whether the text is one that can be read.
fn check(facts: &Facts) -> Result<()> {
    if facts.events == 0 {
        if facts.tracer.as_deref() == Some(b"function_graph") {
            let message = "is text of the function_graph tracer, which does not name threads on its lines";
            let hint = "record it with trace-cmd record -p function_graph, and convert the trace.dat";
            return Err(Error::new(ErrorKind::Unsupported, message).hint(hint));
        }
        if let Some((offset, line)) = &facts.first_unknown {
            let message = format!("holds no event; the first line that is unknown is \"{line}\"");
            return Err(Error::format(message).at(*offset).hint(HINT));
        }
        if facts.tracer.is_none() && facts.files.is_empty() {
            return Err(
                Error::format("holds no line of ftrace text, expected \"COMM-PID [CPU] TIME: EVENT: ...\"").hint(HINT)
            );
        }
        return Ok(());
    }
    let several_files = facts.files.iter().filter(|name| !name.is_empty()).count() > 1;
    if several_files {
        let list: Vec<_> = facts.files.iter().map(|name| String::from_utf8_lossy(name)).collect();
        let message = format!("holds the merged events of several recordings ({})", list.join(", "));
        let hint = "name the recordings themselves; or take one of them out: grep '^ *NAME: ' FILE > NAME.txt";
        return Err(Error::new(ErrorKind::Unsupported, message).hint(hint));
    }
    Ok(())
}

fn info(facts: &mut Facts, seconds: bool) -> CaptureInfo {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into_boxed_str();
    let mut cmdlines: Vec<_> = facts.comms.iter().map(|(pid, comm)| (*pid, text(comm))).collect();
    cmdlines.sort();
    let mut tgids: Vec<_> = facts.tgids.iter().map(|(tid, tgid)| (*tid, *tgid)).collect();
    tgids.sort_unstable();
    let mut info = CaptureInfo {
        kind: if facts.report { "trace-cmd report text" } else { "ftrace text" }.into(),
        cmdlines,
        tgids,
        cpu_count: facts.cpus,
        ..CaptureInfo::default()
    };
    if facts.overwritten > 0 {
        info.warnings.push(format!(
            "the kernel overwrote {} events before the text was read; a larger buffer (buffer_size_kb) keeps them",
            facts.overwritten
        ));
    }
    let [counts, nanoseconds] = facts.stamps;
    let other = if seconds { counts } else { nanoseconds };
    if other > 0 {
        info.damaged.push(format!("{other} events have times of another kind than the rest and were left out"));
    }
    if let Some((offset, line)) = facts.first_unknown.take() {
        let message = format!("{} lines are no events; the first, at byte {offset:#x}: \"{line}\"", facts.unknown);
        info.damaged.push(message);
    }
    info
}
