//! The lanes of a session: every stream of every capture, with its clock, its span and its part in the picture.

use crate::capture::Capture;
use crate::clock::scaling::HostRange;
use crate::clock::stamps::{HostStamps, MapStamps, UnrelatedStamps};
use crate::pipeline::lane::{Lane, LaneChunk};
use crate::session::survey::StreamSurvey;
use crate::session::{Input, Role, Session, is_tsc};
use crate::time::HostTsc;
use crate::timeline::setup::StreamRole;

/// All lanes, the host's first.
pub struct Lanes<'a> {
    /// The lanes.
    pub lanes: Vec<Lane<'a>>,
    /// What each lane is.
    pub roles: Vec<StreamRole>,
    /// Which input each lane belongs to.
    pub inputs: Vec<usize>,
}

/// Builds the lanes of `session`. Host events outside `span` are filtered.
pub fn lanes(session: &Session, span: HostRange) -> Lanes<'_> {
    let mut all = Lanes { lanes: Vec::new(), roles: Vec::new(), inputs: Vec::new() };
    let plain_ns = session.streams.is_empty();
    for (index, input) in session.inputs.iter().enumerate() {
        if matches!(input.role, Role::Guest(_)) {
            continue;
        }
        for found in &input.survey.streams {
            // Without guests any clock will do, as long as all buffers have the same.
            let first = input.capture.buffers.first().map(|b| &b.clock);
            let related = is_tsc(&input.capture, found.buffer)
                || plain_ns && input.capture.buffers.get(found.buffer).map(|b| &b.clock) == first;
            let map: &dyn MapStamps = if related { &HostStamps } else { &UnrelatedStamps };
            let wanted = if input.role == Role::Offsets { None } else { Some(span) };
            all.push(index, input, found, map, wanted, StreamRole::Host { source: index as u16, cpu: found.cpu });
        }
    }
    for stream in &session.streams {
        let input = &session.inputs[stream.input];
        let survey = input.survey.streams.iter().find(|s| s.buffer == stream.buffer && s.stream == stream.stream);
        let Some(found) = survey else { continue };
        let role = StreamRole::Guest {
            source: stream.input as u16,
            vm: stream.vm as u32,
            vcpu: stream.vcpu.unwrap_or(0) as u32,
        };
        all.push(stream.input, input, found, stream, Some(HostRange::ALL), role);
    }
    all
}

impl<'a> Lanes<'a> {
    /// `span` of `None` filters everything.
    fn push(
        &mut self,
        index: usize,
        input: &'a Input,
        found: &'a StreamSurvey,
        map: &'a dyn MapStamps,
        span: Option<HostRange>,
        role: StreamRole,
    ) {
        let capture: &Capture = &input.capture;
        let mut chunks = Vec::new();
        let mut skipped = 0;
        let mut first_event = 0;
        for (at, chunk) in found.chunks.iter().enumerate() {
            let host = matches!(role, StreamRole::Host { .. });
            let outside = host && span.is_none_or(|s| chunk.max < s.first.get() || s.last.get() < chunk.min);
            if chunk.records > 0 && outside {
                skipped += u64::from(chunk.records);
            } else {
                let start = map.map(first_event, chunk.first).unwrap_or(HostTsc::MIN);
                chunks.push(LaneChunk { index: at, start, first_event, records: chunk.records });
            }
            first_event += u64::from(chunk.records);
        }
        let span = span.map_or((HostTsc::MAX, HostTsc::MIN), |s| (s.first, s.last));
        self.lanes.push(Lane {
            path: &capture.path,
            stream: &capture.buffers[found.buffer].streams[found.stream],
            chunks,
            skipped,
            map,
            span,
            drop: second_copies(input, found.buffer),
        });
        self.roles.push(role);
        self.inputs.push(index);
    }
}

/// Events of `buffer` that an earlier buffer of the same capture has as well.
fn second_copies(input: &Input, buffer: usize) -> Vec<bool> {
    let counts = &input.survey.buffer_counts;
    let earlier = &counts[..buffer.min(counts.len())];
    (0..input.survey.counts.len()).map(|event| earlier.iter().any(|b| b[event] > 0)).collect()
}
