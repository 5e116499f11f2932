//! Events of guests, and of a host without VMs: both draw what a machine says of itself.

use super::Timeline;
use super::drawing::Category;
use super::guest_row::{self, Brush, Record};
use super::names::NameId;
use super::pairs::{Class, Half};
use super::plan::Kind;
use super::row::Closing;
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
            Kind::Instant => {
                let Some(track) = vcpu.events_track else { return false };
                context.canvas.fields(source_index, event, payload);
                context.canvas.instant(at.ns, track, Category::Event, plan.name);
            }
            Kind::Switch(_) | Kind::Half(_) | Kind::SyscallEnter(_) | Kind::SyscallExit => {
                vcpu.make_room(at.ns, &mut context);
                if let Kind::Half(Half::Begin { class, key, .. }) = plan.kind {
                    let vector = || key.and_then(|key| key.get(payload));
                    match class {
                        Class::Vector => {
                            vcpu.causes.arrive(vector().unwrap_or(u64::MAX), |flow| context.canvas.flow(flow));
                        }
                        Class::Timer => vcpu.causes.timer_runs(|flow| context.canvas.flow(flow)),
                        _ => {}
                    }
                }
                let Some(suspended) = self.suspended.get_mut(vcpu.vm as usize) else { return false };
                let record = Record { plan, ns: at.ns, source: source_index, formats: &source.formats, event, payload };
                let mut brush = Brush { canvas: context.canvas, labels: &mut source.labels, host: false };
                guest_row::draw(&mut vcpu.row, suspended, record, &mut brush);
            }
            _ => return false,
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
            Kind::Instant => {
                let Some(track) = host.events else { return false };
                self.canvas.fields(source_index, event, payload);
                self.canvas.instant(at.ns, track, Category::Host, plan.name);
            }
            Kind::Switch(_) | Kind::Half(_) | Kind::SyscallEnter(_) | Kind::SyscallExit => {
                let Some(suspended) = self.suspended.last_mut() else { return false };
                let record = Record { plan, ns: at.ns, source: source_index, formats: &source.formats, event, payload };
                let mut brush = Brush { canvas: &mut self.canvas, labels: &mut source.labels, host: true };
                guest_row::draw(&mut host.row, suspended, record, &mut brush);
            }
            _ => return false,
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
