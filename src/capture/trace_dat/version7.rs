//! Version 7: sections, found through a chain of options sections.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::buffers::{CpuData, Plan};
use super::compression::Compression;
use super::metadata::{KallsymsPlace, Metadata};
use super::options::{OptionReader, RawOption, id, text};
use super::orphans::Finder;
use super::section::{Section, scan};
use super::{FileHeader, Layouts};
use crate::capture::Endian;
use crate::capture::archive::Budget;
use crate::capture::bytes::Cursor;
use crate::capture::limits::Limit;
use crate::capture::source::{ReadAt, Reader};
use crate::error::{Error, ErrorKind, Result};

pub(super) fn read(
    reader: &mut Reader<'_>,
    header: &FileHeader,
    source: &dyn ReadAt,
    meta: &mut Metadata,
) -> Result<Layouts> {
    let at = reader.position();
    let compression = Compression::from_name(&reader.cstr(64, "the compression's name")?);
    let compression = compression.map_err(|error| error.at(at))?;
    reader.cstr(256, "the compression's version")?;
    let first = reader.u64("the offset of the options")?;
    let endian = header.endian;
    let file = File { source, compression, endian, budget: Arc::clone(&meta.budget) };

    let (mut options, intact) = file.chain(first, meta)?;
    let mut sections: Vec<Section> = Vec::new();
    if !intact {
        sections = scan(source, reader.position(), endian, &mut meta.notes);
        file.unlinked(&sections, &mut options, meta);
    }

    let mut reader = OptionReader::default();
    let mut plans = Vec::new();
    let mut texts = 0;
    let mut pointed_to = BTreeSet::new();
    let mut read = BTreeSet::new();
    for option in &options.list {
        reader.read(option, endian, meta);
        match option.id {
            id::BUFFER => {
                pointed_to.extend(Cursor::new(&option.payload, option.offset, endian).u64("a buffer's offset").ok());
                file.buffer(option, &mut plans, meta)?;
            }
            id::BUFFER_TEXT => {
                texts += 1;
                let name = text(option.payload.get(8..).unwrap_or(&[]));
                let label = Plan::label(&name);
                meta.notes.damaged(format!("{label} holds the text of a latency tracer: skipped"));
            }
            id::HEADER_INFO..=id::CMDLINES => {
                let offset = Cursor::new(&option.payload, option.offset, endian).u64("a section's offset");
                // The same section read again says the same.
                if offset.as_ref().is_ok_and(|at| !read.insert(*at)) {
                    continue;
                }
                match offset.and_then(|at| Section::read(source, at, endian)) {
                    Ok(section) if section.id == option.id => file.metadata(&section, meta)?,
                    Ok(section) => meta.notes.damaged(format!(
                        "option {} points to a section {} at byte {:#x}: ignored",
                        option.id, section.id, section.header
                    )),
                    Err(error) => meta.notes.damaged(format!("section {} cannot be read: {error}", option.id)),
                }
            }
            _ => {}
        }
    }
    reader.finish(meta);
    // Metadata that no option points to any more.
    let known: BTreeSet<u16> = options.list.iter().map(|option| option.id).collect();
    for section in sections.iter().filter(|section| !known.contains(&section.id)) {
        file.metadata(section, meta)?;
    }
    let finder = Finder { source, endian, page_size: header.page_size };
    let mut names = Names::new(&plans, meta);
    for section in sections.iter().filter(|section| section.id == id::BUFFER && !pointed_to.contains(&section.header)) {
        // Of several instances, which one this is was in the option that is gone.
        if let Some(plan) = finder.plan(section, names.free.clone(), meta) {
            names.take();
            plans.push(plan);
        }
    }
    if plans.is_empty() && texts > 0 {
        let message = "the file holds the text of a latency tracer instead of events";
        return Err(Error::new(ErrorKind::Unsupported, message).hint("record with an event or function tracer"));
    }
    if plans.is_empty() {
        meta.notes.damaged("no event data: the recorder or a copy stopped before there was any");
    }
    Ok(Layouts { plans, compression })
}

/// Names for buffers whose own are gone: the top buffer's, unless it is known, then those of instances in the order in
/// which the recorder counted their events.
struct Names {
    taken: BTreeSet<String>,
    counted: std::vec::IntoIter<String>,
    number: u64,
    /// The next one.
    free: String,
}

impl Names {
    fn new(plans: &[Plan], meta: &Metadata) -> Self {
        let counted: Vec<String> = meta.used_cpus.iter().map(|(name, _)| name.clone()).collect();
        let taken = plans.iter().map(|plan| plan.name.clone()).collect();
        let mut names = Self { taken, counted: counted.into_iter(), number: 0, free: String::new() };
        if names.taken.contains("") {
            names.take();
        }
        names
    }

    /// Goes on to the name behind `free`.
    fn take(&mut self) {
        self.taken.insert(std::mem::take(&mut self.free));
        loop {
            let next = self.counted.next().unwrap_or_else(|| {
                self.number += 1;
                format!("recovered {}", self.number)
            });
            if !self.taken.contains(&next) {
                self.free = next;
                return;
            }
        }
    }
}

/// All options of a file, and the sections they came from.
#[derive(Default)]
struct Options {
    list: Vec<RawOption>,
    visited: BTreeSet<u64>,
}

struct File<'a> {
    source: &'a dyn ReadAt,
    compression: Compression,
    endian: Endian,
    budget: Arc<Budget>,
}

impl File<'_> {
    /// Follows the chain of options sections; false where it breaks off.
    fn chain(&self, first: u64, meta: &mut Metadata) -> Result<(Options, bool)> {
        let mut options = Options::default();
        let mut at = first;
        if at == 0 {
            meta.notes.damaged("the recorder stopped before it wrote the list of what the file holds");
            return Ok((options, false));
        }
        while at != 0 {
            if !options.visited.insert(at) {
                meta.notes.damaged(format!("the chain of options sections runs in a circle at byte {at:#x}"));
                return Ok((options, false));
            }
            let limits = self.budget.limits();
            limits.check(Limit::Options, options.visited.len() as u64, "options sections").map_err(|e| e.at(at))?;
            match self.options_section(at, &mut options.list) {
                Ok(next) => at = next,
                Err(error) if error.kind() == ErrorKind::Io => return Err(error),
                Err(error) => {
                    meta.notes.damaged(format!("the chain of options sections breaks off: {error}"));
                    return Ok((options, false));
                }
            }
        }
        Ok((options, true))
    }

    /// Reads the options sections among `sections` that the chain did not reach.
    fn unlinked(&self, sections: &[Section], options: &mut Options, meta: &mut Metadata) {
        for section in sections.iter().filter(|section| section.id == id::DONE) {
            if options.visited.insert(section.header)
                && let Err(error) = self.options_section(section.header, &mut options.list)
            {
                meta.notes.damaged(format!("an options section is cut off: {error}"));
            }
        }
    }

    /// Appends the options of the section at `at`, returns the offset of the next one.
    fn options_section(&self, at: u64, list: &mut Vec<RawOption>) -> Result<u64> {
        let section = Section::read(self.source, at, self.endian)?;
        if section.id != id::DONE {
            return Err(Error::format(format!("section {} where options were expected", section.id)).at(at));
        }
        let limits = self.budget.limits();
        section.with_reader(self.source, self.compression, self.endian, &self.budget, |reader| {
            loop {
                let id = reader.u16("an option")?;
                let size = reader.u32("the size of an option")?;
                if id == id::DONE {
                    return reader.u64("the offset of the next options");
                }
                let offset = reader.position();
                let payload = reader.take_limited(u64::from(size), limits, Limit::Section, "an option")?;
                list.push(RawOption { id, payload, offset });
            }
        })
    }

    /// Reads a metadata section. Only the loss of header_page is an error.
    fn metadata(&self, section: &Section, meta: &mut Metadata) -> Result<()> {
        if section.id == id::KALLSYMS {
            // Megabytes, which most conversions never look at.
            meta.kallsyms = Some(KallsymsPlace::Section(*section));
            return Ok(());
        }
        let parse = |reader: &mut Reader<'_>| match section.id {
            id::HEADER_INFO => meta.header_info(reader),
            id::FTRACE_EVENTS => meta.ftrace_events(reader),
            id::EVENT_FORMATS => meta.event_formats(reader),
            id::PRINTK => meta.printk_formats(reader),
            id::CMDLINES => meta.cmdlines(reader),
            _ => Ok(()),
        };
        let result = section.with_reader(self.source, self.compression, self.endian, &self.budget, parse);
        match result {
            Err(error) if error.kind() == ErrorKind::Io || section.id == id::HEADER_INFO => Err(error),
            Err(error) => {
                let what = match section.id {
                    id::FTRACE_EVENTS => "ftrace's own formats",
                    id::EVENT_FORMATS => "event formats",
                    id::PRINTK => "printk formats",
                    _ => "saved command lines",
                };
                meta.notes.damaged(format!("the section of {what} is damaged: {error}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Reads a BUFFER option. One that makes no sense is noted.
    fn buffer(&self, option: &RawOption, plans: &mut Vec<Plan>, meta: &mut Metadata) -> Result<()> {
        let mut plan = match self.plan(option) {
            Ok(plan) => plan,
            Err(error) => {
                meta.notes.damaged(format!("a buffer cannot be read: {error}"));
                return Ok(());
            }
        };
        let at = Cursor::new(&option.payload, option.offset, self.endian).u64("a buffer's offset")?;
        if plan.cpus.is_empty() {
            plans.push(plan);
            return Ok(());
        }
        match Section::read(self.source, at, self.endian) {
            Ok(section) if section.id == id::BUFFER => {
                plan.compressed_until = section.compressed.then(|| section.end_or(self.source.len()));
                plans.push(plan);
            }
            Ok(section) => {
                let (label, id) = (Plan::label(&plan.name), section.id);
                meta.notes.damaged(format!("{label}: section {id} instead of its data at byte {at:#x}, skipped"));
            }
            Err(error) if error.kind() == ErrorKind::Io => return Err(error),
            Err(error) => meta.notes.damaged(format!("{}: {error}", Plan::label(&plan.name))),
        }
        Ok(())
    }

    fn plan(&self, option: &RawOption) -> Result<Plan> {
        let mut cursor = Cursor::new(&option.payload, option.offset, self.endian);
        cursor.u64("a buffer's offset")?;
        let name = String::from_utf8_lossy(cursor.cstr("a buffer's name")?).into_owned();
        let clock = text(cursor.cstr("a buffer's clock")?);
        let page_size = cursor.u32("a buffer's sub-buffer size")?;
        let count = cursor.u32("a buffer's number of CPUs")?;
        let mut cpus = Vec::new();
        for _ in 0..count {
            let at = cursor.offset();
            let cpu = cursor.u32("a CPU's number")?;
            let limits = self.budget.limits();
            limits.check(Limit::Cpus, u64::from(cpu) + 1, "CPUs").map_err(|error| error.at(at))?;
            let (offset, size) = (cursor.u64("a CPU's offset")?, cursor.u64("a CPU's size")?);
            cpus.push(CpuData { cpu, offset, size });
        }
        Ok(Plan { name, clock: Some(clock), page_size, cpus, compressed_until: None })
    }
}
