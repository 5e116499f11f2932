//! The lanes of a session: every stream of every capture, with its clock, its span and its part in the picture.

use crate::capture::Capture;
use crate::clock::scaling::HostRange;
use crate::clock::stamps::{HostStamps, MapStamps, UnrelatedStamps};
use crate::pipeline::lane::{Lane, LaneChunk, Strangers};
use crate::selection::{Selection, machine};
use crate::session::survey::StreamSurvey;
use crate::session::{Input, Role, Session};
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

/// Builds the lanes of `session`. What `selection` does not want is filtered.
pub fn lanes<'a>(session: &'a Session, selection: &Selection) -> Lanes<'a> {
    let mut all = Lanes { lanes: Vec::new(), roles: Vec::new(), inputs: Vec::new() };
    for (index, input) in session.inputs.iter().enumerate() {
        if matches!(input.role, Role::Guest(_) | Role::Nobody) {
            continue;
        }
        for found in &input.survey.streams {
            let related = session.on_axis(&input.capture, found.buffer);
            let map: &dyn MapStamps = if related { &HostStamps } else { &UnrelatedStamps };
            let spans = if input.role == Role::Offsets { Vec::new() } else { selection.host.clone() };
            let drop = drop(session, input, found.buffer, selection);
            all.push(index, input, found, map, spans, drop, StreamRole::Host { source: index as u16, cpu: found.cpu });
            if let Some(lane) = all.lanes.last_mut() {
                lane.strangers = strangers(session, &input.capture, selection);
            }
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
        let wanted = stream.vcpu.is_none_or(|vcpu| selection.wants(stream.vm, vcpu));
        let spans = if wanted { selection.guests.clone() } else { Vec::new() };
        all.push(stream.input, input, found, stream, spans, drop(session, input, found.buffer, selection), role);
    }
    all
}

impl<'a> Lanes<'a> {
    /// Without `spans` everything is filtered.
    #[allow(clippy::too_many_arguments)]
    fn push(
        &mut self,
        index: usize,
        input: &'a Input,
        found: &'a StreamSurvey,
        map: &'a dyn MapStamps,
        spans: Vec<HostRange>,
        drop: Vec<bool>,
        role: StreamRole,
    ) {
        let capture: &Capture = &input.capture;
        let mut chunks = Vec::new();
        let mut skipped = 0;
        let mut first_event = 0;
        for (at, chunk) in (0_u32..).zip(&found.chunks) {
            let host = matches!(role, StreamRole::Host { .. });
            let next = spans.partition_point(|s| s.last.get() < chunk.min);
            let outside = host && spans.get(next).is_none_or(|s| chunk.max < s.first.get());
            if chunk.records > 0 && outside {
                skipped += u64::from(chunk.records);
            } else {
                let start = map.map(first_event, chunk.first).unwrap_or(HostTsc::MIN);
                chunks.push(LaneChunk { index: at, start, first_event, records: chunk.records });
            }
            first_event += u64::from(chunk.records);
        }
        chunks.shrink_to_fit();
        self.lanes.push(Lane {
            path: &capture.path,
            stream: &capture.buffers[found.buffer].streams[found.stream],
            chunks,
            skipped,
            map,
            spans,
            drop,
            strangers: None,
        });
        self.roles.push(role);
        self.inputs.push(index);
    }
}

/// Events of `buffer` that are left out whenever and by whomever they were recorded.
fn drop(session: &Session, input: &Input, buffer: usize, selection: &Selection) -> Vec<bool> {
    let unwanted = selection.unwanted_events(&input.capture, machine(session, input.role));
    second_copies(input, buffer).into_iter().zip(unwanted).map(|(second, unwanted)| second || unwanted).collect()
}

/// The kvm events of vCPUs that are not wanted. Their context switches stay: they may be why others wait.
fn strangers<'a>(session: &Session, capture: &'a Capture, selection: &Selection) -> Option<Strangers<'a>> {
    let mut threads = Vec::new();
    for (v, vm) in session.vms.iter().enumerate() {
        let unwanted = vm.vcpus.iter().enumerate().filter(|(c, _)| !selection.wants(v, *c));
        threads.extend(unwanted.filter_map(|(_, vcpu)| vcpu.thread));
    }
    threads.sort_unstable();
    let formats = &*capture.formats;
    let events = formats.events().iter().map(|f| matches!(&*f.system, "kvm" | "kvmmmu")).collect();
    (!threads.is_empty()).then_some(Strangers { formats, endian: capture.endian, events, threads })
}

/// Events of `buffer` that an earlier buffer of the same capture has as well.
fn second_copies(input: &Input, buffer: usize) -> Vec<bool> {
    let counts = &input.survey.buffer_counts;
    let earlier = &counts[..buffer.min(counts.len())];
    (0..input.survey.counts.len()).map(|event| earlier.iter().any(|b| b[event] > 0)).collect()
}
