//! Version 6: one forward stream, then the data of the top buffer, then that of instances.

use super::buffers::{CpuData, Plan};
use std::cell::Cell;

use super::compression::Compression;
use super::metadata::Metadata;
use super::options::{OptionReader, RawOption, active_clock, id};
use super::{FileHeader, Layouts};
use crate::capture::Endian;
use crate::capture::bytes::Cursor;
use crate::capture::limits::{Limit, Limits};
use crate::capture::ring_buffer::PageLayout;
use crate::capture::source::{ReadAt, Reader};
use crate::error::{Error, ErrorKind, Result};

/// A BUFFER option: where an instance's table stands.
struct Instance {
    name: String,
    offset: u64,
    /// What a CPUCOUNT option right behind it announces.
    cpus: Option<u32>,
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    header: &FileHeader,
    source: &dyn ReadAt,
    meta: &mut Metadata,
) -> Result<Layouts> {
    meta.header_info(reader)?;
    meta.ftrace_events(reader)?;
    meta.event_formats(reader)?;
    meta.kallsyms(reader)?;
    meta.printk_formats(reader)?;
    meta.cmdlines(reader)?;
    let cpus = reader.u32("the number of CPUs")?;
    let mut mark = reader.take(10, 10, "the mark of options or data")?;
    let mut instances = Vec::new();
    if mark == b"options  \0" {
        let options = options(reader, meta.budget.limits())?;
        instances = read_options(&options, header.endian, meta)?;
        mark = reader.take(10, 10, "the mark of data")?;
    }
    let announced = std::mem::replace(&mut meta.info.cpu_count, cpus);
    let mut plans = vec![Plan {
        name: String::new(),
        clock: None,
        page_size: header.page_size,
        cpus: Vec::new(),
        compressed_until: None,
    }];
    let limits = *meta.budget.limits();
    let entries = Cell::new(limits.get(Limit::Cpus).saturating_mul(4));
    let table = Table { source, header, has_clock: meta.trace_clock.is_some(), limits, entries };
    match &mark[..] {
        b"flyrecord\0" => table.read(reader.position(), &[cpus, announced], &mut plans[0])?,
        b"latency  \0" => {
            let message = "the file holds the text of a latency tracer instead of events";
            let hint = "record with an event or function tracer, or convert the text";
            return Err(Error::new(ErrorKind::Unsupported, message).at(reader.position()).hint(hint));
        }
        other => {
            let message = format!("expected the mark of options or data, found \"{}\"", other.escape_ascii());
            return Err(reader.error(message));
        }
    }
    for instance in instances {
        let label = Plan::label(&instance.name);
        if instance.offset == 0 {
            meta.notes.damaged(format!("{label} has no data: the recording was cut short"));
            continue;
        }
        let mut plan = Plan {
            name: instance.name,
            clock: None,
            page_size: header.page_size,
            cpus: Vec::new(),
            compressed_until: None,
        };
        let mut reader = Reader::new(source, instance.offset, u64::MAX, header.endian);
        let counts = [instance.cpus.unwrap_or(cpus), cpus, announced];
        let result = reader.expect(b"flyrecord\0", "the mark of data");
        match result.and_then(|()| table.read(reader.position(), &counts, &mut plan)) {
            Ok(()) => plans.push(plan),
            Err(error) if error.kind() == ErrorKind::Io => return Err(error),
            Err(error) => meta.notes.damaged(format!("{label} cannot be read: {error}")),
        }
    }
    Ok(Layouts { plans, compression: Compression::None })
}

fn options(reader: &mut Reader<'_>, limits: &Limits) -> Result<Vec<RawOption>> {
    let mut options = Vec::new();
    loop {
        let id = reader.u16("an option")?;
        if id == id::DONE {
            return Ok(options);
        }
        let size = reader.u32("the size of an option")?;
        let offset = reader.position();
        let payload = reader.take_limited(u64::from(size), limits, Limit::Section, "an option")?;
        options.push(RawOption { id, payload, offset });
    }
}

fn read_options(options: &[RawOption], endian: Endian, meta: &mut Metadata) -> Result<Vec<Instance>> {
    let mut reader = OptionReader::default();
    let mut instances: Vec<Instance> = Vec::new();
    let mut behind_buffer = false;
    for option in options {
        reader.read(option, endian, meta);
        let mut cursor = Cursor::new(&option.payload, option.offset, endian);
        if option.id == id::BUFFER {
            let offset = cursor.u64("an instance's offset")?;
            let name = super::options::text(cursor.rest());
            instances.push(Instance { name, offset, cpus: None });
        } else if option.id == id::CPUCOUNT
            && behind_buffer
            && let (Some(last), Ok(count)) = (instances.last_mut(), cursor.u32("the number of CPUs"))
        {
            last.cpus = Some(count);
        }
        behind_buffer = option.id == id::BUFFER;
    }
    reader.finish(meta);
    Ok(instances)
}

/// Reads tables of where each CPU's data stands.
struct Table<'a> {
    source: &'a dyn ReadAt,
    header: &'a FileHeader,
    /// Whether a clock text stands behind each table.
    has_clock: bool,
    limits: Limits,
    /// How many entries of tables may still be read: several instances may claim one table.
    entries: Cell<u64>,
}

impl Table<'_> {
    /// Fills `plan` from the table at `at`. How many entries it has is told in several places that can contradict
    /// each other: the first of `counts` is taken with which all entries, and the clock behind them, make sense.
    fn read(&self, at: u64, counts: &[u32], plan: &mut Plan) -> Result<()> {
        let mut fallback = None;
        let mut failure = None;
        for &count in counts {
            match self.try_read(at, count) {
                Ok((cpus, clock)) => {
                    let sane = (!self.has_clock || clock.is_some()) && self.is_sane(&cpus);
                    if sane {
                        (plan.cpus, plan.clock) = (cpus, clock);
                        return Ok(());
                    }
                    // A table of no CPUs can always be read: it explains nothing.
                    fallback = fallback.or(Some((cpus, clock)).filter(|(cpus, _)| !cpus.is_empty()));
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match (fallback, failure) {
            (Some((cpus, clock)), _) => {
                (plan.cpus, plan.clock) = (cpus, clock);
                Ok(())
            }
            (None, Some(error)) => Err(error),
            (None, None) => Ok(()),
        }
    }

    fn try_read(&self, at: u64, count: u32) -> Result<(Vec<CpuData>, Option<String>)> {
        self.limits.check(Limit::Cpus, count.into(), "CPUs").map_err(|error| error.at(at))?;
        let left = self.entries.get().checked_sub(count.into());
        self.entries.set(left.ok_or_else(|| {
            let most = self.limits.get(Limit::Cpus).saturating_mul(4);
            Limit::Cpus.exceeded(format!("the tables of all buffers have more than {most} CPUs")).at(at)
        })?);
        let mut reader = Reader::new(self.source, at, u64::MAX, self.header.endian);
        let mut cpus = Vec::new();
        for cpu in 0..count {
            let offset = reader.u64("the table of CPUs")?;
            let size = reader.u64("the table of CPUs")?;
            cpus.push(CpuData { cpu, offset, size });
        }
        let clock = self.has_clock.then(|| clock(&mut reader)).flatten();
        Ok((cpus, clock))
    }

    fn is_sane(&self, cpus: &[CpuData]) -> bool {
        let page = u64::from(self.header.page_size);
        let aligned = |offset: u64| !PageLayout::is_sub_buffer(page as usize) || offset.is_multiple_of(page);
        cpus.iter().all(|data| {
            let end = data.offset.checked_add(data.size);
            // An empty CPU's offset may be the end of a file that was cut to its last byte of data.
            data.size == 0 || aligned(data.offset) && end.is_some_and(|end| end <= self.source.len())
        })
    }
}

/// `u64 size`, then the text of a trace_clock file.
fn clock(reader: &mut Reader<'_>) -> Option<String> {
    let size = reader.u64("the size of the clock's name").ok()?;
    let text = reader.take(size, 4096, "the clock's name").ok()?;
    let text = String::from_utf8_lossy(&text);
    let plain = text.contains('[') && !text.contains('\u{fffd}');
    active_clock(text.trim_end_matches('\0')).filter(|_| plain).map(str::to_owned)
}
