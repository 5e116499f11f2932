//! The audit's count: which guest events lie inside a run window of their vCPU, from the host's records themselves.
//!
//! A loss on any CPU is known only from that CPU's next event, so what it makes uncertain is settled here with all
//! records of a stretch of host time in hand, stretch by stretch to bound memory.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::capture::Chunk;
use crate::clock::scaling::HostRange;
use crate::clock::stamps::{MapStamps, NotPlaced};
use crate::clock::windows::{State, Windows};
use crate::error::Result;
use crate::monitor::Monitor;
use crate::session::runs::{known_span, windows};
use crate::session::survey::StreamSurvey;
use crate::session::{GuestStream, Session};
use crate::time::{HostTsc, RawStamp};

/// Host records per stretch: some 100 MB of run windows at worst.
const STRETCH: u64 = 4_000_000;

/// What became of a stream's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// Events of which it is known whether they lie inside.
    pub checked: u64,
    /// Those inside.
    pub inside: u64,
    /// Events within the host's recording where its own losses leave it open.
    pub unknown: u64,
    /// Stale stamps beyond repair.
    pub stale: u64,
    /// Events that fit nowhere.
    pub nowhere: u64,
    /// The event outside that is farthest from a run window, and how many cycles.
    pub worst: Option<(HostTsc, u64)>,
}

impl Inside {
    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.checked += other.checked;
        self.inside += other.inside;
        self.unknown += other.unknown;
        self.stale += other.stale;
        self.nowhere += other.nowhere;
        if other.worst.map(|w| w.1) > self.worst.map(|w| w.1) {
            self.worst = other.worst;
        }
    }
}

/// Counts the events of every guest stream; the results are in the order of [`Session::streams`].
///
/// # Errors
///
/// If an input can no longer be read, or if the monitor asks to stop.
pub fn inside(session: &Session, monitor: &Monitor<'_>) -> Result<Vec<Inside>> {
    let mut counts = vec![Inside::default(); session.streams.len()];
    for stretch in stretches(session) {
        let windows = windows(&session.hosts(), &[stretch], monitor)?;
        let found: Vec<Inside> = session
            .streams
            .par_iter()
            .map(|stream| count(session, stream, stretch, &windows, monitor))
            .collect::<Result<_>>()?;
        counts.iter_mut().zip(&found).for_each(|(count, found)| count.add(found));
    }
    Ok(counts)
}

/// All of host time, cut where the host has recorded enough.
fn stretches(session: &Session) -> Vec<HostRange> {
    let mut chunks: Vec<(u64, u64)> = Vec::new();
    for (_, survey) in session.hosts() {
        let full = survey.streams.iter().flat_map(|s| &s.chunks).filter(|c| c.records > 0);
        chunks.extend(full.map(|c| (c.min, u64::from(c.records))));
    }
    chunks.sort_unstable();
    let mut stretches = Vec::new();
    let (mut from, mut records) = (0, 0);
    for (start, count) in chunks {
        if records >= STRETCH && start > from {
            stretches.extend(HostRange::new(HostTsc::new(from), HostTsc::new(start - 1)));
            (from, records) = (start, 0);
        }
        records += count;
    }
    stretches.push(HostRange { first: HostTsc::new(from), last: HostTsc::MAX });
    stretches
}

fn count(
    session: &Session,
    stream: &GuestStream,
    stretch: HostRange,
    windows: &BTreeMap<i32, Windows>,
    monitor: &Monitor<'_>,
) -> Result<Inside> {
    let mut found = Inside::default();
    let known = known_span(&session.hosts()).unwrap_or(HostRange::ALL);
    let input = &session.inputs[stream.input];
    let thread = stream.vcpu.and_then(|v| session.vms[stream.vm].vcpus[v].thread);
    let windows = thread.and_then(|thread| windows.get(&thread));
    let survey = input.survey.streams.iter().find(|s| s.buffer == stream.buffer && s.stream == stream.stream);
    let source = &input.capture.buffers[stream.buffer].streams[stream.stream].source;
    // Events without a host time belong to no stretch: they count with the first.
    let is_first = stretch.first == HostTsc::MIN;
    let mut chunk = Chunk::default();
    let mut event = 0;
    for index in 0..source.chunks() {
        monitor.check()?;
        let records = survey.and_then(|s| s.chunks.get(index)).map_or(0, |c| u64::from(c.records));
        if !is_first && !reaches(stream, survey, index, event, stretch) {
            event += records;
            continue;
        }
        chunk.clear();
        source.read(index, &mut chunk).map_err(|e| e.in_file(&input.capture.path))?;
        for record in &chunk.records {
            let piece = stream.placement.index_at(event).and_then(|i| stream.placement.pieces.get(i));
            let mapped = stream.map(event, record.ts);
            event += 1;
            match mapped {
                Err(NotPlaced::StaleStamp) => found.stale += u64::from(is_first),
                Err(NotPlaced::NoSegment | NotPlaced::NoVcpu) => found.nowhere += u64::from(is_first),
                Err(NotPlaced::NoFormat | NotPlaced::OtherClock) => {}
                Ok(first) if stretch.contains(first) => {
                    let range = piece.and_then(|p| p.host(RawStamp::new(record.ts)));
                    let last = range.map_or(first, |r| r.last);
                    if let Some(windows) = windows {
                        found.note(windows, known, first, last);
                    }
                }
                Ok(_) => {}
            }
        }
    }
    Ok(found)
}

impl Inside {
    fn note(&mut self, windows: &Windows, known: HostRange, first: HostTsc, last: HostTsc) {
        match (windows.state(first), windows.state(last)) {
            (State::Inside, _) | (_, State::Inside) => {
                self.checked += 1;
                self.inside += 1;
            }
            (State::Unknown, _) | (_, State::Unknown) => self.unknown += u64::from(known.contains(first)),
            (State::Outside(a), State::Outside(b)) => {
                self.checked += 1;
                let distance = a.min(b);
                if self.worst.is_none_or(|(_, worst)| distance > worst) {
                    self.worst = Some((first, distance));
                }
            }
        }
    }
}

/// Whether a chunk may hold events of the stretch.
fn reaches(stream: &GuestStream, survey: Option<&StreamSurvey>, index: usize, event: u64, stretch: HostRange) -> bool {
    let Some(chunk) = survey.and_then(|s| s.chunks.get(index)) else { return true };
    if chunk.records == 0 {
        return false;
    }
    let ends = (stream.map(event, chunk.first), stream.map(event + u64::from(chunk.records) - 1, chunk.last));
    match ends {
        // Within a stream host time does not go back.
        (Ok(first), Ok(last)) if first <= last => first <= stretch.last && stretch.first <= last,
        _ => true,
    }
}
