//! From the tables of a file to [`Buffer`]s: sub-buffer sizes, clipping to the file, overlaps, clocks.

use super::Notes;
use super::compressed_pages::CompressedPages;
use super::compression::Compression;
use super::metadata::Metadata;
use crate::capture::raw_pages::{PageFile, RawPages};
use crate::capture::ring_buffer::PageLayout;
use crate::capture::{Buffer, ChunkSource, Clock, Stream};
use crate::error::{Error, Result};

/// The data of one CPU: number, file offset, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CpuData {
    pub(super) cpu: u32,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// What a file says of one buffer.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    /// Name of its clock, where the file says it.
    pub(super) clock: Option<String>,
    /// Sub-buffer size according to the recorder.
    pub(super) page_size: u32,
    pub(super) cpus: Vec<CpuData>,
    /// Set where the data is compressed: the end of its section.
    pub(super) compressed_until: Option<u64>,
}

impl Plan {
    /// "the top buffer" or "instance x".
    pub(super) fn label(name: &str) -> String {
        if name.is_empty() { "the top buffer".into() } else { format!("instance {name}") }
    }
}

/// Makes buffers of plans: the top buffer first, then instances by name.
pub(super) fn build(
    mut plans: Vec<Plan>,
    file: &PageFile,
    compression: Compression,
    meta: &mut Metadata,
) -> Result<Vec<Buffer>> {
    let starts = refuse_overlaps(&mut plans, &mut meta.notes);
    plans.sort_by(|a, b| a.name.cmp(&b.name));
    for pair in plans.windows(2) {
        if let [a, b] = pair
            && a.name == b.name
        {
            meta.notes.warn(format!("{} is described twice", Plan::label(&a.name)));
        }
    }
    let mut buffers = Vec::new();
    for plan in plans {
        buffers.push(buffer(plan, file, compression, &starts, meta)?);
    }
    Ok(buffers)
}

fn buffer(
    mut plan: Plan,
    file: &PageFile,
    compression: Compression,
    starts: &[u64],
    meta: &mut Metadata,
) -> Result<Buffer> {
    let label = Plan::label(&plan.name);
    let clock = clock(&plan, meta);
    plan.cpus.retain(|data| data.size > 0);
    plan.cpus.sort_by_key(|data| data.cpu);
    let before = plan.cpus.len();
    plan.cpus.dedup_by_key(|data| data.cpu);
    if plan.cpus.len() < before {
        meta.notes.damaged(format!("{label} lists CPUs twice: {} lists skipped", before - plan.cpus.len()));
    }
    let mut streams = Vec::new();
    if !plan.cpus.is_empty() {
        let Some(layout) = meta.layout else {
            let at = plan.cpus.first().map_or(0, |data| data.offset);
            let message = "the file does not describe its ring buffer pages, which begin here (header_page is missing)";
            return Err(Error::format(message).at(at));
        };
        streams = match plan.compressed_until {
            Some(end) => compressed(&plan, (end, starts), file, compression, layout, meta)?,
            None => raw(&plan, file, layout, &mut meta.notes),
        };
    }
    Ok(Buffer { name: plan.name, clock, streams })
}

fn clock(plan: &Plan, meta: &mut Metadata) -> Clock {
    let stated = plan.clock.clone().filter(|clock| !clock.is_empty());
    let stated = stated.or_else(|| meta.trace_clock.clone().filter(|clock| !clock.is_empty()));
    match stated.as_deref() {
        // trace-cmd's own name for raw cycles that it will scale while reading.
        Some("x86-tsc" | "tsc2nsec") => Clock::X86Tsc,
        Some(other) => Clock::Other(other.to_owned()),
        None => {
            if plan.cpus.iter().any(|data| data.size > 0) {
                let label = Plan::label(&plan.name);
                meta.notes.warn(format!("the file does not say which clock {label} used; local is assumed"));
            }
            Clock::Other("local".into())
        }
    }
}

/// The sub-buffer size of `plan`, whose CPUs have `sizes` bytes of sub-buffers.
fn sub_buffer(plan: &Plan, layout: PageLayout, sizes: impl Iterator<Item = u64>, notes: &mut Notes) -> PageLayout {
    let label = Plan::label(&plan.name);
    let stated = plan.page_size as usize;
    let kernel = layout.sub_buffer;
    if !PageLayout::is_sub_buffer(stated) {
        notes.warn(format!("{label}: impossible sub-buffer size of {stated} bytes, the kernel's {kernel} is used"));
        return layout;
    }
    if kernel > stated {
        let mut sizes = sizes.filter(|&size| size > 0).peekable();
        if sizes.peek().is_some() && sizes.all(|size| size % kernel as u64 == 0) {
            notes.warn(format!("{label}: the recorder wrote {stated} byte sub-buffers, the kernel's {kernel} is used"));
            return layout;
        }
    }
    layout.with_sub_buffer(stated)
}

fn raw(plan: &Plan, file: &PageFile, layout: PageLayout, notes: &mut Notes) -> Vec<Stream> {
    let layout = sub_buffer(plan, layout, plan.cpus.iter().map(|data| data.size), notes);
    let len = file.source.len();
    let mut streams = Vec::new();
    for &CpuData { cpu, offset, size } in &plan.cpus {
        let there = len.saturating_sub(offset).min(size);
        if there < size {
            notes.damaged(format!(
                "{}: CPU {cpu} has {size} bytes at byte {offset:#x}, {} of them are beyond the end of the file",
                Plan::label(&plan.name),
                size - there
            ));
        }
        // Whole sub-buffers only: that the file is cut off has just been said.
        let there = if there < size { there - there % layout.sub_buffer as u64 } else { there };
        if there > 0 {
            let source: Box<dyn ChunkSource> = Box::new(RawPages::new(file.clone(), layout, cpu, offset, there));
            streams.push(Stream { cpu, source });
        }
    }
    streams
}

fn compressed(
    plan: &Plan,
    (end, starts): (u64, &[u64]),
    file: &PageFile,
    compression: Compression,
    layout: PageLayout,
    meta: &mut Metadata,
) -> Result<Vec<Stream>> {
    let limits = *meta.budget.limits();
    let mut all = Vec::new();
    for &CpuData { cpu, offset, size } in &plan.cpus {
        // What a CPU's list of chunks says of its own length is not believed beyond where the next CPU's begins: else
        // many CPUs could claim the same chunks.
        let next = starts.get(starts.partition_point(|&start| start <= offset)).copied().unwrap_or(u64::MAX);
        let place = (offset, size, end.min(next));
        all.push((
            cpu,
            CompressedPages::list(file.clone(), compression, layout, cpu, place, &limits, &mut meta.notes)?,
        ));
    }
    let layout = sub_buffer(plan, layout, all.iter().map(|(_, pages)| pages.unpacked_len()), &mut meta.notes);
    let streams = all.into_iter().filter(|(_, pages)| pages.chunks() > 0);
    let stream = |(cpu, mut pages): (u32, CompressedPages)| {
        pages.set_layout(layout);
        Stream { cpu, source: Box::new(pages) }
    };
    Ok(streams.map(stream).collect())
}

/// No byte belongs to two CPUs: of two that overlap, the one that starts later is dropped. Gives where the others start.
fn refuse_overlaps(plans: &mut [Plan], notes: &mut Notes) -> Vec<u64> {
    let mut starts = Vec::new();
    let mut all: Vec<&mut CpuData> = plans.iter_mut().flat_map(|plan| &mut plan.cpus).collect();
    all.sort_by_key(|data| data.offset);
    let mut end = 0;
    for data in all.into_iter().filter(|data| data.size > 0) {
        if data.offset < end {
            let CpuData { cpu, offset, size } = *data;
            notes.damaged(format!("CPU {cpu}: its {size} bytes at byte {offset:#x} overlap another CPU's; skipped"));
            data.size = 0;
        } else {
            end = data.offset.saturating_add(data.size);
            starts.push(data.offset);
        }
    }
    starts
}
