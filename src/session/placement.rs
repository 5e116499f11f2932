//! Walks each guest CPU's stream along its vCPU's history and settles open questions with run windows.

use rayon::prelude::*;

use crate::capture::{Capture, Chunk};
use crate::clock::place::{PieceKind, Placement, Placer, Placing, Reason, Track};
use crate::clock::scaling::HostRange;
use crate::clock::stamps::{MapStamps, NotPlaced};
use crate::clock::windows::Windows;
use crate::error::Result;
use crate::monitor::Monitor;
use crate::session::GuestStream;
use crate::session::runs::{Host, join_spans, windows};
use crate::session::survey::StreamSurvey;
use crate::time::{HostTsc, RawStamp};

/// A stream to be placed.
pub(super) struct Job<'a> {
    pub(super) capture: &'a Capture,
    pub(super) survey: &'a StreamSurvey,
    pub(super) tracks: Vec<Track>,
    pub(super) thread: Option<i32>,
}

/// Places all streams; the results are in the order of the jobs.
pub(super) fn place(jobs: Vec<Job<'_>>, hosts: &[Host<'_>], monitor: &Monitor<'_>) -> Result<Vec<Placement>> {
    let placings = jobs.par_iter().map(|job| walk(job, monitor)).collect::<Result<Vec<Placing>>>()?;
    let needs: Vec<HostRange> = placings.iter().flat_map(Placing::needs).collect();
    let windows = windows(hosts, &join_spans(needs), monitor)?;
    let windows_of = |job: &Job<'_>| -> Option<&Windows> { windows.get(&job.thread?) };
    Ok(jobs.iter().zip(placings).map(|(job, placing)| placing.resolve(windows_of(job))).collect())
}

fn walk(job: &Job<'_>, monitor: &Monitor<'_>) -> Result<Placing> {
    let mut placer = Placer::new(job.tracks.clone());
    let mut chunk = Chunk::default();
    let source = &job.capture.buffers[job.survey.buffer].streams[job.survey.stream].source;
    for (index, span) in job.survey.chunks.iter().enumerate() {
        let (first, last) = (RawStamp::new(span.first), RawStamp::new(span.last));
        if span.records == 0 || !span.jumps && placer.pass(first, last, span.records.into()) {
            continue;
        }
        monitor.check()?;
        chunk.clear();
        source.read(index, &mut chunk).map_err(|e| e.in_file(&job.capture.path))?;
        for record in &chunk.records {
            placer.push(RawStamp::new(record.ts), record.flags);
        }
    }
    Ok(placer.finish())
}

/// The host times between the first and the last event that was placed.
pub(super) fn placed_span(placement: &Placement, survey: &StreamSurvey) -> Option<HostRange> {
    let mut first_event = 0;
    let mut span: Option<HostRange> = None;
    let mut add = |event: u64, raw: u64| {
        let Some(piece) = placement.index_at(event).and_then(|i| placement.pieces.get(i)) else { return };
        if let Some(host) = piece.host(RawStamp::new(raw)) {
            let known = span.get_or_insert(HostRange::at(host.first));
            known.first = known.first.min(host.first);
            known.last = known.last.max(host.first);
        }
    };
    for chunk in survey.chunks.iter().filter(|c| c.records > 0) {
        add(first_event, chunk.first);
        first_event += u64::from(chunk.records);
        add(first_event - 1, chunk.last);
    }
    span
}

impl MapStamps for GuestStream {
    #[inline]
    fn map(&self, event: u64, raw: u64) -> Result<HostTsc, NotPlaced> {
        if self.vcpu.is_none() {
            return Err(NotPlaced::NoVcpu);
        }
        let piece = match self.placement.pieces.as_slice() {
            [only] => only,
            pieces => {
                let index = self.placement.index_at(event).ok_or(NotPlaced::NoSegment)?;
                pieces.get(index).ok_or(NotPlaced::NoSegment)?
            }
        };
        match piece.kind {
            PieceKind::NotPlaced(Reason::StaleRun) => Err(NotPlaced::StaleStamp),
            PieceKind::NotPlaced(_) => Err(NotPlaced::NoSegment),
            _ => piece.host(RawStamp::new(raw)).map(|host| host.first).ok_or(NotPlaced::NoSegment),
        }
    }
}
