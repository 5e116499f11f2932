//! The one pass over all records that opening a file takes: where each CPU's events stand, and who is who.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::clock::TimeConv;
use super::header::{Header, Place};
use super::index::Index;
use super::records::{PerfRecord, Records, kind};
use super::stream::{Attrs, lost};
use crate::capture::bytes::Cursor;
use crate::capture::source::ReadAt;
use crate::capture::trace_dat::notes::Notes;
use crate::capture::{CaptureInfo, Endian};
use crate::error::Result;

/// Most CPUs of a machine.
const MAX_CPUS: u32 = 65_536;
/// Most threads whose names are kept: the kernel's limit of thread ids.
const MAX_THREADS: usize = 1 << 22;

/// What the records of a file are.
pub(super) struct Scan {
    pub(super) attrs: Attrs,
    pub(super) index: Index,
    pub(super) conversion: Option<TimeConv>,
    /// Samples of tracepoints that are drawn.
    pub(super) events: u64,
    /// Samples that are not drawn, per event.
    ignored: Vec<u64>,
    /// Samples of events that the file does not describe.
    unknown: u64,
    /// Samples of tracepoints that do not say when and where they were taken, or hold no fields.
    incomplete: u64,
    /// Samples that contradict themselves.
    damaged: u64,
    /// Context switches that are no tracepoints.
    switches: u64,
    /// Events that were lost, where the file does not say when.
    lost: u64,
    comms: BTreeMap<i32, Box<str>>,
    tgids: BTreeMap<i32, i32>,
    endian: Endian,
}

/// What a scan found.
pub(super) enum Scanned {
    /// Everything.
    All(Box<Scan>),
    /// Compressed records: the scan is to be repeated on what they unpack to.
    Compressed,
}

/// Reads all records in `data`. What stands for a part of the header goes to `header`.
pub(super) fn scan(source: &Arc<dyn ReadAt>, data: Place, header: &mut Header, notes: &mut Notes) -> Result<Scanned> {
    let endian = header.endian;
    let mut records = Records::new(Arc::clone(source), data.at, data.end(), endian);
    let attrs = Attrs { list: std::mem::take(&mut header.attrs), ids: std::mem::take(&mut header.ids) };
    let mut scan = Scan {
        ignored: vec![0; attrs.list.len()],
        attrs,
        index: Index::default(),
        conversion: None,
        events: 0,
        unknown: 0,
        incomplete: 0,
        damaged: 0,
        switches: 0,
        lost: 0,
        comms: BTreeMap::new(),
        tgids: BTreeMap::new(),
        endian,
    };
    while let Some(record) = records.next()? {
        match record.kind {
            kind::SAMPLE => scan.sample(&record),
            kind::COMM => scan.comm(record.body),
            kind::FORK => scan.fork(record.body),
            kind::LOST | kind::LOST_SAMPLES => scan.lost(&record),
            kind::SWITCH | kind::SWITCH_CPU_WIDE => scan.switches += 1,
            kind::TIME_CONV => {
                scan.conversion = scan.conversion.or(TimeConv::parse(record.body, record.at + 8, endian)?);
            }
            kind::COMPRESSED | kind::COMPRESSED2 => {
                (header.attrs, header.ids) = (scan.attrs.list, scan.attrs.ids);
                return Ok(Scanned::Compressed);
            }
            kind::HEADER_ATTR | kind::HEADER_FEATURE | kind::HEADER_TRACING_DATA if header.pipe => {
                (header.attrs, header.ids) =
                    (std::mem::take(&mut scan.attrs.list), std::mem::take(&mut scan.attrs.ids));
                header.record(&record, notes)?;
                scan.attrs = Attrs { list: std::mem::take(&mut header.attrs), ids: std::mem::take(&mut header.ids) };
                scan.ignored.resize(scan.attrs.list.len(), 0);
            }
            _ => {}
        }
    }
    if let Some(broken) = records.broken {
        notes.damaged(broken);
    }
    Ok(Scanned::All(Box::new(scan)))
}

impl Scan {
    fn sample(&mut self, record: &PerfRecord<'_>) {
        let Some(index) = self.attrs.of_sample(record.body, self.endian) else {
            self.unknown += 1;
            return;
        };
        let Some(attr) = self.attrs.list.get(index) else { return };
        if !attr.tracepoint {
            if let Some(count) = self.ignored.get_mut(index) {
                *count += 1;
            }
        } else if !attr.complete() {
            self.incomplete += 1;
        } else if let Some(when) = attr.when(record.body, self.endian).filter(|when| when.cpu < MAX_CPUS)
            && attr.raw(record.body, self.endian).is_some()
        {
            self.events += 1;
            self.index.add(when, record.at, record.size());
        } else {
            self.damaged += 1;
        }
    }

    fn lost(&mut self, record: &PerfRecord<'_>) {
        match self.attrs.when(record, self.endian).filter(|when| when.cpu < MAX_CPUS) {
            Some(when) => self.index.add(when, record.at, record.size()),
            None => self.lost = self.lost.saturating_add(lost(record, self.endian).unwrap_or(0)),
        }
    }

    /// `u32 pid, tid`, then the name.
    fn comm(&mut self, body: &[u8]) {
        let mut cursor = Cursor::new(body, 0, self.endian);
        let (Ok(pid), Ok(tid)) = (cursor.u32("a process"), cursor.u32("a thread")) else { return };
        let (pid, tid) = (pid.cast_signed(), tid.cast_signed());
        let Some(name) = cursor.rest().split(|&byte| byte == 0).next() else { return };
        if self.comms.len() < MAX_THREADS {
            // Names of kernels are at most 15 bytes.
            let name = String::from_utf8_lossy(name.get(..15).unwrap_or(name));
            self.comms.insert(tid, name.into());
            self.tgids.insert(tid, pid);
        }
    }

    /// `u32 pid, parent's pid, tid, parent's tid`. The name is the parent's until a COMM record says otherwise.
    fn fork(&mut self, body: &[u8]) {
        let mut cursor = Cursor::new(body, 0, self.endian);
        let mut next = || cursor.u32("a fork").ok().map(u32::cast_signed);
        let (Some(pid), Some(_), Some(tid), Some(parent)) = (next(), next(), next(), next()) else { return };
        if self.tgids.len() >= MAX_THREADS {
            return;
        }
        self.tgids.insert(tid, pid);
        if let Some(name) = self.comms.get(&parent).cloned() {
            self.comms.insert(tid, name);
        }
    }

    /// Says what the samples are that are not drawn, and who the threads are.
    pub(super) fn report(&mut self, info: &mut CaptureInfo, notes: &mut Notes) {
        let ignored = self.ignored.iter().sum::<u64>();
        const HOW: &str = "perf record -a -e 'sched:*' -e 'kvm:*' records tracepoints";
        if ignored > 0 {
            let named = self.attrs.list.iter().zip(&self.ignored).filter(|(_, count)| **count > 0);
            let mut names: Vec<String> = named.map(|(attr, _)| attr.label()).collect();
            let more = names.len().saturating_sub(5);
            names.truncate(5);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let names = names.join(", ");
            notes.warn(format!("{ignored} samples of {names}{more} are no tracepoints and are not drawn; {HOW}"));
        } else if self.events == 0 {
            notes.warn(format!("there are no samples of tracepoints; {HOW}"));
        }
        if self.events == 0 && self.switches > 0 {
            let switches = self.switches;
            notes.warn(format!("{switches} records of context switches do not say why and are not drawn; {HOW}"));
        }
        if self.unknown > 0 {
            notes.damaged(format!("{} samples are of events that the file does not describe", self.unknown));
        }
        if self.incomplete > 0 {
            let count = self.incomplete;
            notes.damaged(format!("{count} samples of tracepoints lack their time, CPU or fields and are not drawn"));
        }
        if self.damaged > 0 {
            notes.damaged(format!("{} samples contradict themselves and are skipped", self.damaged));
        }
        if self.lost > 0 {
            notes.warn(format!("perf lost {} events, and does not say when; larger buffers (-m) keep them", self.lost));
        }
        if self.index.late > 0 {
            notes.damaged(format!("{} records stand far behind later ones and are skipped", self.index.late));
        }
        let comms = std::mem::take(&mut self.comms);
        let mut cmdlines: BTreeMap<i32, Box<str>> = std::mem::take(&mut info.cmdlines).into_iter().collect();
        cmdlines.extend(comms);
        info.cmdlines = cmdlines.into_iter().collect();
        info.tgids = std::mem::take(&mut self.tgids).into_iter().collect();
    }
}
