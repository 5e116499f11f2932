//! Event data whose BUFFER option is gone: a recorder, or a copy, that stopped within a version 7 file.
//!
//! The option stands behind the data and says which bytes are which CPU's. Without it, the data itself tells: compressed
//! data has a list of chunks per CPU, and in uncompressed data time goes backward where the next CPU begins. CPUs stand
//! in their order; those that recorded nothing, according to CPUSTAT, have no data.

use super::buffers::{CpuData, Plan};
use super::metadata::Metadata;
use super::section::Section;
use crate::capture::Endian;
use crate::capture::bytes::{u32_from, u64_from};
use crate::capture::source::ReadAt;

/// Where the data of a section is found again.
pub(super) struct Finder<'a> {
    pub(super) source: &'a dyn ReadAt,
    pub(super) endian: Endian,
    /// Sub-buffer size according to the recorder.
    pub(super) page_size: u32,
}

impl Finder<'_> {
    /// Finds the CPUs' data in `section`, for the buffer `name`; `None` where there is nothing to find.
    pub(super) fn plan(&self, section: &Section, name: String, meta: &mut Metadata) -> Option<Plan> {
        let end = section.end_or(self.source.len()).min(self.source.len());
        let page = u64::from(self.page_size.max(1));
        let start = section.start().div_ceil(page).checked_mul(page)?;
        let places = if section.compressed { self.lists(start, end, page) } else { self.ascending(start, end, page) };
        let mut numbers = meta.used_cpus.iter().filter(|(buffer, _)| *buffer == name).map(|(_, cpu)| *cpu);
        let told = numbers.clone().next().is_some();
        let mut next = 0;
        let cpus: Vec<CpuData> = places
            .into_iter()
            .map_while(|(offset, size)| {
                let cpu = if told { numbers.next()? } else { next };
                next += 1;
                Some(CpuData { cpu, offset, size })
            })
            .collect();
        if cpus.is_empty() {
            return None;
        }
        let label = Plan::label(&name);
        let by = if told { "what the recorder counted" } else { "their order" };
        meta.notes.damaged(format!(
            "{label}: the table that says which CPU its data belongs to is missing, as the recorder or a copy stopped \
             before; {} CPUs are told apart by the data and numbered by {by}; what ran on others is not known",
            cpus.len()
        ));
        let compressed_until = section.compressed.then_some(end);
        Some(Plan { name, clock: None, page_size: self.page_size, cpus, compressed_until })
    }

    fn bytes<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.source.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
    }

    fn u32(&self, at: u64) -> Option<u32> {
        self.bytes(at).map(|bytes| u32_from(self.endian, bytes))
    }

    /// One list of chunks per CPU, each at the start of a page.
    fn lists(&self, start: u64, end: u64, page: u64) -> Vec<(u64, u64)> {
        let mut places = Vec::new();
        let mut at = start;
        while at < end {
            let Some(count) = self.u32(at).filter(|count| *count > 0) else { break };
            let mut next = at.saturating_add(4);
            for _ in 0..count {
                let Some(packed) = self.u32(next).filter(|packed| *packed > 0) else {
                    next = end;
                    break;
                };
                next = next.saturating_add(8).saturating_add(u64::from(packed));
                if next > end {
                    break;
                }
            }
            places.push((at, next.min(end) - at));
            at = next.div_ceil(page).saturating_mul(page);
        }
        places
    }

    /// Runs of sub-buffers whose stamps do not go backward.
    fn ascending(&self, start: u64, end: u64, page: u64) -> Vec<(u64, u64)> {
        let mut places: Vec<(u64, u64)> = Vec::new();
        let mut last = None;
        let mut at = start;
        while at.saturating_add(page) <= end {
            let Some(stamp) = self.bytes(at).map(|bytes| u64_from(self.endian, bytes)) else { break };
            match places.last_mut() {
                Some((_, size)) if last.is_some_and(|last| last <= stamp) => *size += page,
                _ => places.push((at, page)),
            }
            last = Some(stamp);
            at += page;
        }
        places
    }
}
