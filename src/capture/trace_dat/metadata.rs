//! The parts that both file versions share: header texts, formats, symbols, command lines.

use super::compression::Compression;
use super::section::Section;
use super::{MAX_HEADER_TEXT, Notes};
use crate::capture::archive::Budget;
use crate::capture::event_format::{EventFormat, FormatTable};
use crate::capture::limits::Limit;
use crate::capture::ring_buffer::PageLayout;
use crate::capture::source::{ReadAt, Reader};
use std::sync::Arc;

use crate::capture::bytes::Cursor;
use crate::capture::kallsyms::{self, Pieces};
use crate::capture::{CaptureInfo, Endian};
use crate::error::{Error, ErrorKind, Result};

/// What has been read of a file so far.
pub(super) struct Metadata {
    pub(super) info: CaptureInfo,
    pub(super) formats: FormatTable,
    pub(super) layout: Option<PageLayout>,
    /// TRACECLOCK: whether the option exists, and the active clock it names.
    pub(super) trace_clock: Option<String>,
    /// VERSION.
    pub(super) recorder: Option<String>,
    /// CPUs that recorded something, with their buffers, in the order of CPUSTAT.
    pub(super) used_cpus: Vec<(String, u32)>,
    pub(super) notes: Notes,
    /// How much may be unpacked, and all other limits.
    pub(super) budget: Arc<Budget>,
    /// Where the kernel symbols are.
    pub(super) kallsyms: Option<KallsymsPlace>,
}

/// Where a file keeps its kernel symbols.
#[derive(Clone, Copy, Debug)]
pub(super) enum KallsymsPlace {
    /// Plain text: offset and length.
    Bytes(u64, u64),
    /// A section of a version 7 file.
    Section(Section),
}

impl KallsymsPlace {
    /// The text.
    pub(super) fn read(
        self,
        source: &Arc<dyn ReadAt>,
        compression: Compression,
        endian: Endian,
        budget: &Budget,
    ) -> Result<Box<Pieces>> {
        let limits = budget.limits();
        match self {
            Self::Bytes(start, len) => {
                limits.check(Limit::Section, len, "bytes of kallsyms").map_err(|error| error.at(start))?;
                Ok(kallsyms::stored(Arc::clone(source), start, len))
            }
            Self::Section(section) if section.compressed => {
                let mut bytes = section.stream(source, compression, endian, budget)?;
                let mut size = Vec::new();
                while size.len() < 4 && bytes(4 - size.len(), &mut size)? {}
                let mut left = Cursor::new(&size, section.start(), endian).u32("the size of kallsyms")? as usize;
                Ok(Box::new(move |most, into| {
                    let before = into.len();
                    let more = bytes(most.min(left), into)?;
                    left = left.saturating_sub(into.len() - before);
                    if left > 0 && !more {
                        let message = format!("kallsyms ends {left} bytes before its end");
                        return Err(Error::format(message).at(section.start()));
                    }
                    Ok(left > 0)
                }))
            }
            Self::Section(section) => section.with_reader(&**source, compression, endian, budget, |reader| {
                let size = u64::from(reader.u32("the size of kallsyms")?);
                let start = reader.position();
                limits.check(Limit::Section, size, "bytes of kallsyms").map_err(|error| error.at(start))?;
                reader.skip(size, "kallsyms")?;
                Ok(kallsyms::stored(Arc::clone(source), start, size))
            }),
        }
    }
}

impl Metadata {
    /// Nothing yet.
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            info: CaptureInfo::default(),
            formats: FormatTable::new(),
            layout: None,
            trace_clock: None,
            recorder: None,
            used_cpus: Vec::new(),
            notes: Notes::default(),
            budget,
            kallsyms: None,
        }
    }

    /// `header_page` and `header_event`.
    pub(super) fn header_info(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        reader.expect(b"header_page\0", "the mark")?;
        let at = reader.position();
        let size = reader.u64("the size of header_page")?;
        if size == 0 {
            let message = "header_page is empty: recorded by a kernel before 2.6.31, whose ring buffer differs";
            return Err(Error::new(ErrorKind::Unsupported, message).at(at));
        }
        let text = reader.take(size, MAX_HEADER_TEXT, "header_page")?;
        let layout = PageLayout::parse(&String::from_utf8_lossy(&text), reader.endian());
        self.layout = Some(layout.map_err(|error| error.at(at))?);
        reader.expect(b"header_event\0", "the mark")?;
        let size = reader.u64("the size of header_event")?;
        reader.skip(size, "header_event")
    }

    /// The formats of ftrace's own events.
    pub(super) fn ftrace_events(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let count = reader.u32("the number of ftrace formats")?;
        self.events(reader, "ftrace", count)
    }

    /// The formats of all systems.
    pub(super) fn event_formats(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let systems = reader.u32("the number of event systems")?;
        for _ in 0..systems {
            let system = reader.cstr(4096, "the name of an event system")?;
            let count = reader.u32("the number of events of a system")?;
            self.events(reader, &String::from_utf8_lossy(&system), count)?;
        }
        Ok(())
    }

    fn events(&mut self, reader: &mut Reader<'_>, system: &str, count: u32) -> Result<()> {
        let limits = *self.budget.limits();
        // Every turn reads at least 8 bytes or fails: `count` needs no check of its own.
        for number in 0..count {
            let at = reader.position();
            let size = reader.u64("the size of a format")?;
            let most = limits.get(Limit::Format);
            if size > most {
                reader.skip(size, "a format")?;
                self.notes.damaged(format!(
                    "format {number} of {system} at byte {at:#x} has {size} bytes, more than the limit of {most} \
                     (--limit format=VALUE); skipped, its events have no names"
                ));
                continue;
            }
            let text = reader.take(size, most, "a format")?;
            let text = String::from_utf8_lossy(&text);
            match EventFormat::parse_within(system, &text, &limits) {
                Ok(format) => {
                    if let Err(format) = self.formats.add(format) {
                        let EventFormat { id, name, .. } = format;
                        self.notes.warn(format!("{system}:{name} has id {id} as another event has, ignored"));
                    }
                }
                Err(error) => {
                    let name = text.lines().next().unwrap_or("").trim_start_matches("name:").trim();
                    self.notes.warn(format!(
                        "the format of {system}:{name} (event {number} of its system) cannot be read: {error}; its \
                         events have no names"
                    ));
                }
            }
        }
        Ok(())
    }

    /// /proc/kallsyms in a version 6 file: passed over, to be read when a name is needed.
    pub(super) fn kallsyms(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let size = u64::from(reader.u32("the size of kallsyms")?);
        let start = reader.position();
        reader.skip(size, "kallsyms")?;
        if size > 0 {
            self.kallsyms = Some(KallsymsPlace::Bytes(start, size));
        }
        Ok(())
    }

    /// `printk_formats`: lines of `0xADDRESS : "text"`.
    pub(super) fn printk_formats(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let size = u64::from(reader.u32("the size of printk_formats")?);
        let text = reader.take_limited(size, self.budget.limits(), Limit::Section, "printk_formats")?;
        self.info.printk_formats = printk_formats(&String::from_utf8_lossy(&text));
        Ok(())
    }

    /// `saved_cmdlines`: lines of `PID COMM`.
    pub(super) fn cmdlines(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let size = reader.u64("the size of saved_cmdlines")?;
        let text = reader.take_limited(size, self.budget.limits(), Limit::Section, "saved_cmdlines")?;
        self.info.cmdlines = cmdlines(&String::from_utf8_lossy(&text));
        Ok(())
    }
}

/// Lines of `0xADDRESS : "text"`, sorted by address.
pub(in crate::capture) fn printk_formats(text: &str) -> Vec<(u64, Box<str>)> {
    let line = |line: &str| {
        let (address, text) = line.split_once(" : ")?;
        let address = u64::from_str_radix(address.trim().trim_start_matches("0x"), 16).ok()?;
        let text = text.trim_end();
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        Some((address, text.into()))
    };
    let mut formats: Vec<_> = text.lines().filter_map(line).collect();
    formats.sort_by_key(|&(address, _)| address);
    formats
}

/// Lines of `PID COMM`; a comm may hold spaces.
pub(in crate::capture) fn cmdlines(text: &str) -> Vec<(i32, Box<str>)> {
    let line = |line: &str| {
        let (pid, comm) = line.trim_start().split_once(' ')?;
        Some((pid.parse().ok()?, comm.into()))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn texts_of_tracefs() {
        let printk = super::printk_formats("0xffffffff82 : \"b \\\" %s\\n\"\n0x1f : \"a\"\nnonsense\n");
        assert_eq!(printk, [(0x1f, "a".into()), (0xff_ffff_ff82, "b \\\" %s\\n".into())]);
        let cmdlines = super::cmdlines("12 kworker/0:1\n7 a b\nx y\n\n9\n");
        assert_eq!(cmdlines, [(12, "kworker/0:1".into()), (7, "a b".into())]);
    }
}
