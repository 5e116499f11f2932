//! Events of guests, and of a host without VMs: both draw what a machine says of itself.

use super::Timeline;
use super::drawing::Category;
use super::guest_row::{self, Brush, Record};
use super::names::NameId;
use super::pairs::{Class, Half, Label};
use super::plan::Kind;
use super::row::{Closing, Row};
use super::suspended::Suspended;
use super::vcpu::{Context, Moment};

impl Timeline {
    /// A guest's event. Returns whether it is drawn.
    pub(super) fn guest_event(&mut self, stream: usize, at: Moment, event: u16, payload: &[u8]) -> bool {
        let stream = &self.streams[stream];
        let (target, source_index) = (stream.target, stream.source);
        let Some(vcpu) = self.vcpus.get_mut(target) else { return false };
        if at.tsc >= self.span.0.get() && at.tsc <= self.span.1.get() {
            vcpu.check.guest_event(at.tsc);
        }
        let mut context = Context {
            canvas: &mut self.canvas,
            hosts: &mut self.hosts,
            reasons: &self.reasons,
            stalls: &mut self.stalls,
            mark_names: &self.mark_names,
            kin: &self.kin,
            flows: &mut self.flows,
            options: &self.options,
            keep_durations: self.keep_durations,
        };
        if let Some(recording) = self.recordings.get_mut(stream.recording)
            && !recording.started
        {
            recording.started = true;
            if context.options.whole_recordings {
                vcpu.make_room(at.ns, &mut context);
                vcpu.row.instant(context.canvas, at.ns, Category::None, NameId::RECORDING_STARTS);
            }
        }
        let Some(source) = self.sources.get_mut(usize::from(source_index)) else { return false };
        let Some(plan) = source.plans.get(usize::from(event)) else { return false };
        if let Some(observer) = &mut self.observer {
            observer.guest_event(vcpu, at.ns, plan, payload, &mut context.canvas.names);
        }
        match plan.kind {
            kind if !is_drawn(kind) => return false,
            Kind::Instant => {
                let Some(track) = vcpu.events_track else { return false };
                context.canvas.fields(source_index, event, payload);
                context.canvas.instant(at.ns, track, Category::Event, plan.name);
            }
            kind => {
                let request = is_request(kind);
                if !request {
                    vcpu.make_room(at.ns, &mut context);
                }
                let Some(suspended) = self.suspended.get_mut(vcpu.vm as usize) else { return false };
                let record = Record { plan, ns: at.ns, source: source_index, formats: &source.formats, event, payload };
                if let Kind::Half(Half::Begin { class, key, label, .. }) = kind {
                    if !request {
                        guest_row::prepare(&mut vcpu.row, suspended, record, context.canvas);
                    }
                    let link = |flow| context.canvas.arrive(flow);
                    match (class, label) {
                        (Class::Vector, _) => vcpu.causes.arrive(key.single(payload).unwrap_or(u64::MAX), link),
                        (Class::Timer, _) => vcpu.causes.timer_runs(link),
                        (Class::Irq, Label::Irq { .. }) => vcpu.causes.device_runs(link),
                        _ => {}
                    }
                }
                let mut brush = Brush {
                    canvas: context.canvas,
                    labels: &mut source.labels,
                    late: &mut self.late,
                    machine: vcpu.vm,
                    host: false,
                    scratch: &mut self.scratch,
                };
                if let Some(instant) = draw(&mut vcpu.row, suspended, record, &mut brush) {
                    let Some(track) = vcpu.events_track else { return false };
                    brush.canvas.fields(source_index, event, payload);
                    brush.canvas.instant(at.ns, track, Category::Event, instant);
                }
            }
        }
        true
    }

    /// An event of a host without VMs. Returns whether it is drawn.
    pub(super) fn lone_host_event(&mut self, stream: usize, at: Moment, event: u16, payload: &[u8]) -> bool {
        let (target, source_index) = (self.streams[stream].target, self.streams[stream].source);
        let Some(host) = self.hosts.get_mut(target) else { return false };
        let Some(source) = self.sources.get_mut(usize::from(source_index)) else { return false };
        let Some(plan) = source.plans.get(usize::from(event)) else { return false };
        match plan.kind {
            kind if !is_drawn(kind) => return false,
            Kind::Instant => {
                let Some(track) = host.events else { return false };
                self.canvas.fields(source_index, event, payload);
                self.canvas.instant(at.ns, track, Category::Host, plan.name);
            }
            _ => {
                let Some(suspended) = self.suspended.last_mut() else { return false };
                let record = Record { plan, ns: at.ns, source: source_index, formats: &source.formats, event, payload };
                let mut brush = Brush {
                    canvas: &mut self.canvas,
                    labels: &mut source.labels,
                    late: &mut self.late,
                    machine: self.world.vms.len() as u32,
                    host: true,
                    scratch: &mut self.scratch,
                };
                if let Some(instant) = draw(&mut host.row, suspended, record, &mut brush) {
                    let Some(track) = host.events else { return false };
                    self.canvas.fields(source_index, event, payload);
                    self.canvas.instant(at.ns, track, Category::Host, instant);
                }
            }
        }
        true
    }

    /// Closes what is open in a vCPU's row.
    pub(super) fn close_guest(&mut self, target: usize, ns: u64, why: Closing) {
        if let (Some(observer), Some(vcpu)) = (&mut self.observer, self.vcpus.get(target)) {
            observer.lose(vcpu, ns);
        }
        if self.vcpus.get(target).is_none_or(|vcpu| vcpu.row.is_empty()) {
            return;
        }
        let (vcpu, mut context) = self.vcpu(target);
        vcpu.make_room(ns, &mut context);
        vcpu.row.close_all(context.canvas, ns, why);
    }

    /// Events of one of a machine's CPUs were lost: its tasks and requests may have gone on there.
    pub(super) fn machine_lost(&mut self, machine: usize, ns: u64, why: Closing) {
        if let Some(suspended) = self.suspended.get_mut(machine) {
            suspended.clear();
        }
        self.late.close_all(&mut self.canvas, Some(machine as u32), ns, why);
    }

    /// One of a guest's streams ends, and with the last of its vCPU the recording.
    pub(super) fn guest_ends(&mut self, stream: usize, target: usize, recording: usize, ns: u64) {
        let Some(recording) = self.recordings.get_mut(recording) else { return };
        recording.streams = recording.streams.saturating_sub(1);
        if recording.streams > 0 || !recording.started || target >= self.vcpus.len() {
            return;
        }
        if let Some(native) = &mut self.native {
            native.ends(stream, ns, &mut self.canvas);
        }
        if let Some(observer) = &mut self.observer {
            observer.leave(&self.vcpus[target], ns);
        }
        let (vcpu, mut context) = self.vcpu(target);
        vcpu.make_room(ns, &mut context);
        vcpu.row.close_all(context.canvas, ns, Closing::Truncated);
        if context.options.whole_recordings {
            vcpu.row.instant(context.canvas, ns, Category::None, NameId::RECORDING_ENDS);
        }
    }
}

/// Whether an event of this kind is drawn where a machine draws its own events.
fn is_drawn(kind: Kind) -> bool {
    use Kind as K;
    match kind {
        K::Instant | K::Switch(_) | K::Half(_) | K::SyscallEnter(_) | K::SyscallExit => true,
        K::FunctionEntry(_) | K::FunctionExit(_) | K::Call(_) | K::Marker(_) => true,
        K::Filtered | K::Wake(_) | K::Migrate(_) | K::KvmEntry | K::KvmExit(_) | K::KvmDetail(_) => false,
    }
}

fn is_request(kind: Kind) -> bool {
    matches!(kind, Kind::Half(Half::Begin { class: Class::Request, .. } | Half::End { class: Class::Request, .. }))
}

/// Draws an event. `Some` is the name of an instant to be drawn for it instead.
fn draw(row: &mut Row, suspended: &mut Suspended, record: Record<'_>, brush: &mut Brush<'_>) -> Option<NameId> {
    match record.plan.kind {
        Kind::Marker(written) => guest_row::draw_marker(row, suspended, written, record, brush),
        Kind::Half(half) if is_request(record.plan.kind) => {
            (!guest_row::draw_request(half, record, brush)).then_some(record.plan.name)
        }
        _ => {
            guest_row::draw(row, suspended, record, brush);
            None
        }
    }
}
