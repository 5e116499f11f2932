//! When vCPU threads entered and left their guests: kvm_entry and kvm_exit in a stretch of host time, read again from
//! only those chunks that overlap it.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::capture::{Capture, Chunk, Clock};
use crate::clock::scaling::HostRange;
use crate::clock::windows::{Windows, WindowsBuilder};
use crate::error::Result;
use crate::monitor::Monitor;
use crate::session::fields::{Events, KvmFields, pid_of};
use crate::session::survey::Survey;
use crate::time::HostTsc;

/// Chunks that are decoded at once.
const AT_ONCE: usize = 64;

/// Something that tells when a thread was in guest mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// kvm_entry of a thread.
    Entry(i32, HostTsc),
    /// kvm_exit of a thread.
    Exit(i32, HostTsc),
    /// The CPU lost events.
    Lost(HostRange),
}

/// A host capture with its survey.
pub type Host<'a> = (&'a Capture, &'a Survey);

/// The buffer of `host` that holds its kvm_entry events: of two with the same events the first.
fn kvm_buffer((capture, survey): Host<'_>) -> Option<usize> {
    let entry = capture.formats.find("kvm", "kvm_entry")?;
    survey.buffer_counts.iter().position(|counts| counts.get(usize::from(entry)).is_some_and(|&n| n > 0))
}

/// The clock of the host's time axis: of its kvm events, else of the buffer with most events.
pub fn axis(hosts: &[Host<'_>]) -> Clock {
    let busiest = |survey: &Survey| {
        let events = |b: usize| survey.streams.iter().filter(|s| s.buffer == b).map(|s| s.events).sum::<u64>();
        (0..survey.buffer_counts.len()).max_by_key(|&b| (events(b), std::cmp::Reverse(b)))
    };
    let clock = |host: Host<'_>, buffer: usize| host.0.buffers.get(buffer).map(|b| b.clock.clone());
    let kvm = hosts.iter().find_map(|&host| clock(host, kvm_buffer(host)?));
    let any = || hosts.iter().find_map(|&host| clock(host, busiest(host.1)?));
    kvm.or_else(any).unwrap_or(Clock::X86Tsc)
}

/// The host time in which kvm events were recorded.
pub fn known_span(hosts: &[Host<'_>]) -> Option<HostRange> {
    hosts
        .iter()
        .filter_map(|&host| {
            let buffer = kvm_buffer(host)?;
            let (min, max) = host.1.span(|s| s.buffer == buffer)?;
            HostRange::new(HostTsc::new(min), HostTsc::new(max))
        })
        .reduce(|a, b| HostRange { first: a.first.min(b.first), last: a.last.max(b.last) })
}

/// Calls `visit` with every edge (and its physical CPU) within the sorted, disjoint `spans`, CPU by CPU.
pub fn for_each_edge(
    hosts: &[Host<'_>],
    spans: &[HostRange],
    monitor: &Monitor<'_>,
    visit: &mut dyn FnMut(Edge, u32),
) -> Result<()> {
    for &(capture, survey) in hosts {
        let Some(buffer) = kvm_buffer((capture, survey)) else { continue };
        let events = Events::new(&capture.formats);
        let fields = KvmFields::new(&capture.formats);
        let mut work = Vec::new();
        for found in survey.streams.iter().filter(|s| s.buffer == buffer) {
            let mut last = 0;
            for (index, chunk) in found.chunks.iter().enumerate().filter(|(_, c)| c.records > 0) {
                if overlaps(spans, chunk.min, chunk.max) {
                    work.push((found.stream, found.cpu, index, last));
                }
                last = chunk.max;
            }
        }
        for some in work.chunks(AT_ONCE) {
            monitor.check()?;
            let parts = some
                .par_iter()
                .map_init(Chunk::default, |chunk, &(stream, cpu, index, last)| -> Result<(u32, Vec<Edge>)> {
                    chunk.clear();
                    capture.buffers[buffer].streams[stream].source.read(index, chunk)?;
                    let mut edges = Vec::new();
                    for record in &chunk.records {
                        let event = Some(record.event);
                        let entry = event == events.entry;
                        if (entry || event == events.exit)
                            && overlaps(spans, record.ts, record.ts)
                            && let Some(tid) = pid_of(&fields, chunk.payload(record), capture.endian)
                        {
                            let ts = HostTsc::new(record.ts);
                            edges.push(if entry { Edge::Entry(tid, ts) } else { Edge::Exit(tid, ts) });
                        }
                    }
                    let at = |i: usize| chunk.records.get(i).map(|r| r.ts);
                    for lost in &chunk.lost {
                        let first = lost.before.checked_sub(1).and_then(at).unwrap_or(last);
                        let end = at(lost.before).unwrap_or(u64::MAX);
                        edges.extend(HostRange::new(HostTsc::new(first), HostTsc::new(end)).map(Edge::Lost));
                    }
                    Ok((cpu, edges))
                })
                .collect::<Result<Vec<_>>>()
                .map_err(|e| e.in_file(&capture.path))?;
            for (cpu, edges) in parts {
                edges.into_iter().for_each(|edge| visit(edge, cpu));
            }
        }
    }
    Ok(())
}

fn overlaps(spans: &[HostRange], min: u64, max: u64) -> bool {
    let next = spans.partition_point(|s| s.last.get() < min);
    spans.get(next).is_some_and(|s| s.first.get() <= max)
}

/// Sorts spans and joins those that touch.
pub fn join_spans(mut spans: Vec<HostRange>) -> Vec<HostRange> {
    spans.sort_by_key(|s| s.first);
    let mut joined: Vec<HostRange> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.first <= last.last => last.last = last.last.max(span.last),
            _ => joined.push(span),
        }
    }
    joined
}

/// The run windows of every thread within `spans`. Outside them nothing is known.
pub fn windows(hosts: &[Host<'_>], spans: &[HostRange], monitor: &Monitor<'_>) -> Result<BTreeMap<i32, Windows>> {
    let Some(known) = known_span(hosts) else { return Ok(BTreeMap::new()) };
    let known: Vec<HostRange> = spans.iter().filter_map(|s| s.intersect(known)).collect();
    let threads = hosts.iter().flat_map(|(_, survey)| survey.threads.keys().copied());
    let mut builders: BTreeMap<i32, WindowsBuilder> =
        threads.map(|tid| (tid, WindowsBuilder::new(known.iter().copied()))).collect();
    let mut lost = Vec::new();
    for_each_edge(hosts, spans, monitor, &mut |edge, cpu| match edge {
        Edge::Entry(tid, ts) => {
            if let Some(builder) = builders.get_mut(&tid) {
                builder.entry(ts, cpu);
            }
        }
        Edge::Exit(tid, ts) => {
            if let Some(builder) = builders.get_mut(&tid) {
                builder.exit(ts, cpu);
            }
        }
        Edge::Lost(range) => lost.push((range, cpu)),
    })?;
    Ok(builders
        .into_iter()
        .map(|(tid, mut builder)| {
            lost.iter().for_each(|&(range, cpu)| builder.lost(range, cpu));
            (tid, builder.build())
        })
        .collect())
}
