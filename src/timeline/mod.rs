//! From records in host-time order to what a person sees: slices, states, instants and marks on named tracks.
//!
//! [`Timeline`] is a state machine over events in host-time order. What an event does is decided once per capture
//! (`plan`); the host's events shape its CPUs (`host_cpu`) and what is known of each vCPU's thread
//! (`vcpu_thread`), from which the stall marks follow (`marks`); a guest's events are drawn in its vCPUs' rows
//! (`guest_row`). The `native` layer passes scheduler events on as what they are. Drawn items gather in a batch (`batch_builder`) until the caller takes it.

mod accessor;
mod arrows;
mod batch_builder;
mod causes;
mod construct;
pub mod drawing;
mod exit_reasons;
mod guest_events;
mod guest_row;
mod host_cpu;
mod host_events;
mod kin;
mod labels;
mod late_rows;
mod layout;
mod markers;
mod marks;
mod names;
pub mod native;
mod observe;
mod outcome;
mod pairs;
mod plan;
mod row;
mod run_check;
pub mod setup;
mod suspended;
mod syscalls;
#[cfg(test)]
mod tests;
mod vcpu;
mod vcpu_thread;

use std::sync::Arc;

use rustc_hash::FxHashMap;

pub use self::outcome::{Counts, ExitTotals, Outcome, RanInstead, RunCheck, Stall, StateTimes, TaskTimes, VcpuOutcome};

use self::arrows::Kicked;
use self::batch_builder::Canvas;
use self::construct::{draw_offsets, find_vcpu, late_rows, sources, streams, vcpu};
use self::drawing::{Batch, FieldSource, VmInfo, World};
use self::exit_reasons::Reasons;
use self::host_cpu::HostCpu;
use self::kin::Kin;
use self::labels::Labels;
use self::late_rows::LateRows;
use self::layout::Layout;
use self::marks::MarkNames;
use self::native::Native;
use self::native::layer::NativeLayer;
use self::observe::Observer;
use self::plan::{Plan, Role};
use self::row::Closing;
use self::setup::{DrawOptions, Layers, NativeEvents, Setup};
use self::suspended::Suspended;
use self::vcpu::{Context, Moment, Stalls, Vcpu};
use crate::clock::rate::TscRate;
use crate::time::HostTsc;

/// What is known of a capture.
struct Source {
    formats: FieldSource,
    plans: Vec<Plan>,
    labels: Labels,
}

/// A stream of events and what became of them.
struct Stream {
    role: Role,
    source: u16,
    /// Index of the host CPU or of the vCPU.
    target: usize,
    /// Index into the guest recordings.
    recording: usize,
    /// Its last event.
    last: Moment,
    ended: bool,
    written: u64,
    filtered: u64,
}

/// What one guest capture holds of one vCPU: a stream per buffer.
struct Recording {
    key: (u16, usize),
    streams: usize,
    started: bool,
}

/// Draws events that come in host-time order.
pub struct Timeline {
    world: Arc<World>,
    rate: TscRate,
    span: (HostTsc, HostTsc),
    options: DrawOptions,
    keep_durations: bool,
    observer: Option<Observer>,
    sources: Vec<Source>,
    streams: Vec<Stream>,
    recordings: Vec<Recording>,
    hosts: Vec<HostCpu>,
    /// Index of the host CPU by its number.
    host_by_number: FxHashMap<u32, usize>,
    vcpus: Vec<Vcpu>,
    /// Index of the vCPU by its thread.
    threads: FxHashMap<i32, u32>,
    /// Per VM, and one for the host.
    suspended: Vec<Suspended>,
    late: LateRows,
    /// For texts.
    scratch: Vec<u8>,
    host_comms: FxHashMap<i32, Box<str>>,
    kin: Kin,
    /// Threads that an exit has woken and that do not run yet.
    kicked: Vec<Kicked>,
    reasons: Reasons,
    stalls: Stalls,
    mark_names: MarkNames,
    /// The last flow id.
    flows: u64,
    last: Moment,
    native: Option<NativeLayer>,
    canvas: Canvas,
}

impl Timeline {
    /// Lays out the rows and plans what each kind of event does.
    pub fn new(setup: Setup) -> Self {
        let mut layout = Layout::new(&setup);
        let Layers { overlay, native } = setup.options.layers;
        if !overlay {
            layout.tracks.iter_mut().for_each(|track| track.hidden = true);
        }
        let mut canvas = Canvas::new();
        let mut hosts: Vec<HostCpu> =
            layout.host_cpus.iter().map(|rows| HostCpu::new(rows.cpu, rows.row, rows.events, &mut canvas)).collect();
        let host_by_number: FxHashMap<u32, usize> =
            hosts.iter().enumerate().map(|(i, host)| (host.number, i)).collect();
        let vcpus: Vec<Vcpu> = (layout.vcpus.iter().enumerate())
            .map(|(i, rows)| vcpu(i, rows, find_vcpu(&setup, rows.vm, rows.vcpu), &mut canvas))
            .collect();
        let host_role = if setup.vms.is_empty() { Role::LoneHost } else { Role::Host };
        let (streams, recordings) = streams(&setup, host_role, &host_by_number, &vcpus, &mut hosts);
        let sources = sources(&setup, host_role, &mut canvas);
        let mut threads = FxHashMap::default();
        for (index, rows) in layout.vcpus.iter().enumerate() {
            if let Some(thread) = find_vcpu(&setup, rows.vm, rows.vcpu).and_then(|vcpu| vcpu.thread) {
                threads.entry(thread).or_insert(index as u32);
            }
        }
        draw_offsets(&setup, &layout, &mut canvas);
        let kin = Kin::new(&setup, &mut canvas.names);
        canvas.native_only = !overlay;
        let (layer, cpus) = NativeLayer::new(&setup).unzip();
        let all = native == NativeEvents::All;
        let late = late_rows(&setup, &layout);
        let vms = setup.vms.iter().map(|vm| VmInfo { name: vm.name.clone(), pid: vm.pid }).collect();
        let world = World {
            tracks: layout.tracks,
            vms,
            sources: setup.sources,
            start: setup.rate.ns(setup.span.0),
            wall_clock: setup.wall_clock,
            native: cpus.map(|cpus| Native { machines: setup.machines, cpus, all }),
            metadata: setup.metadata,
        };
        let mark_names = MarkNames::new(&mut canvas);
        Self {
            world: Arc::new(world),
            rate: setup.rate,
            span: setup.span,
            options: setup.options,
            keep_durations: false,
            observer: None,
            sources,
            streams,
            recordings,
            hosts,
            host_by_number,
            suspended: (0..=setup.vms.len()).map(|_| Suspended::default()).collect(),
            late,
            scratch: Vec::new(),
            vcpus,
            threads,
            kin,
            kicked: Vec::new(),
            host_comms: setup.host_comms.into_iter().collect(),
            reasons: Reasons::new(),
            stalls: Stalls::default(),
            mark_names,
            flows: 0,
            last: Moment::default(),
            native: layer,
            canvas,
        }
    }

    /// Limits the check of guest events against run windows to the host's recording `known`. `slack` is, by VM and vCPU,
    /// how many host cycles one reading of the guest's clock lasts beyond the first: an event may have happened that much
    /// later than its stamp says.
    pub fn limit_check(&mut self, known: (HostTsc, HostTsc), slack: impl Fn(u32, u32) -> u64) {
        for vcpu in &mut self.vcpus {
            vcpu.check.limit((known.0.get(), known.1.get()), slack(vcpu.vm, vcpu.vcpu));
        }
    }

    /// What comes is not the beginning of the recording. `ran` says which vCPUs (of which VM) ran before.
    pub fn begins_midway(&mut self, ran: impl Fn(u32, u32) -> bool) {
        for vcpu in &mut self.vcpus {
            if ran(vcpu.vm, vcpu.vcpu) {
                vcpu.entered = true;
                vcpu.check.begins_midway();
            }
        }
    }

    /// Keeps what statistics need beyond the picture: every exit's duration and every wait after a wakeup (eight bytes
    /// each), and sums by guest task and by preemptor.
    pub fn keep_durations(&mut self) {
        self.keep_durations = true;
        self.observer = Some(Observer::new(self.vcpus.len(), self.world.vms.len()));
    }

    /// All rows and what else an exporter needs beforehand.
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.world)
    }

    /// Draws one event. Events come in host-time order.
    ///
    /// `stream` is an index into [`Setup::streams`], `event` one into the format table of the stream's capture, and
    /// `payload` starts with the record's first common field. Events of a stream that has ended are not drawn.
    pub fn event(&mut self, stream: u32, ts: HostTsc, event: u16, payload: &[u8]) {
        let at = self.moment(ts);
        let index = stream as usize;
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.ended {
            stream.filtered += 1;
            return;
        }
        stream.last = at;
        let (role, source) = (stream.role, stream.source);
        let drawn = match role {
            Role::Guest => self.guest_event(index, at, event, payload),
            Role::Host => self.host_event(index, at, event, payload),
            Role::LoneHost => self.lone_host_event(index, at, event, payload),
        };
        let native = match &mut self.native {
            Some(native) => native.event(index, at.ns, (source, event, payload), &mut self.canvas),
            None => false,
        };
        let stream = &mut self.streams[index];
        if drawn && self.options.layers.overlay || native {
            stream.written += 1;
        } else {
            stream.filtered += 1;
        }
    }

    fn moment(&mut self, ts: HostTsc) -> Moment {
        let at = Moment { tsc: ts.get(), ns: self.rate.ns(ts).get() };
        if at.tsc > self.last.tsc {
            self.last = at;
        }
        at
    }

    /// The ring buffer lost events of a stream some time between its last event and `ts`: what was going on is not
    /// known any more.
    pub fn lost(&mut self, stream: u32, ts: HostTsc, count: Option<u64>) {
        let at = self.moment(ts);
        let index = stream as usize;
        let Some(stream) = self.streams.get(index).filter(|stream| !stream.ended) else { return };
        let (target, last) = (stream.target, stream.last.ns.min(at.ns));
        let (role, since) = (stream.role, stream.last.tsc);
        if role == Role::Host {
            self.vcpus.iter_mut().for_each(|vcpu| vcpu.check.lost_on_some_cpu(since));
        }
        if let Some(native) = &mut self.native {
            native.ends(index, last, &mut self.canvas);
        }
        let why = Closing::Lost(count);
        match role {
            Role::Guest => {
                let machine = self.vcpus.get(target).map_or(usize::MAX, |vcpu| vcpu.vm as usize);
                self.close_guest(target, last, why);
                self.machine_lost(machine, last, why);
            }
            Role::Host | Role::LoneHost => {
                self.host_lost(target, last, why);
                self.machine_lost(self.world.vms.len(), last, why);
            }
        }
    }

    /// A stream's recording ends.
    pub fn stream_ends(&mut self, stream: u32, ts: HostTsc) {
        let at = self.moment(ts);
        let index = stream as usize;
        let Some(stream) = self.streams.get_mut(index).filter(|stream| !stream.ended) else { return };
        stream.ended = true;
        stream.last = stream.last.max(at);
        let (target, recording) = (stream.target, stream.recording);
        match stream.role {
            Role::Guest => self.guest_ends(index, target, recording, at.ns),
            Role::Host | Role::LoneHost => self.host_ends(target, at.ns),
        }
    }

    /// Events between `ts` and the next one are not drawn: what goes on meanwhile is not known.
    pub fn pause(&mut self, ts: HostTsc) {
        let ns = self.moment(ts).ns;
        if let Some(native) = &mut self.native {
            native.all_end(ns, &mut self.canvas);
        }
        for index in 0..self.vcpus.len() {
            self.close_guest(index, ns, Closing::Truncated);
        }
        for cpu in 0..self.hosts.len() {
            self.forget_cpu(cpu, ns, Closing::Truncated, |_| true);
        }
        for index in 0..self.vcpus.len() {
            let (vcpu, mut context) = self.vcpu(index);
            vcpu.lose(ns, Closing::Truncated, &mut context);
        }
        self.suspended.iter_mut().for_each(Suspended::clear);
        self.late.close_all(&mut self.canvas, None, ns, Closing::Truncated);
    }

    /// Items in the current batch.
    pub fn pending(&self) -> usize {
        self.canvas.len()
    }

    /// Hands over what was drawn since the last batch.
    pub fn take_batch(&mut self) -> Batch {
        self.canvas.take()
    }

    /// Gives back a batch that has been written, so that its memory is used again.
    pub fn recycle(&mut self, batch: Batch) {
        self.canvas.recycle(batch);
    }

    /// Closes what is open, at the last moment that was seen, and says what was found.
    pub fn finish(mut self) -> Outcome {
        // A CPU ends with the last of its streams, those without events included.
        let end = self.streams.iter().filter(|s| s.role != Role::Guest).map(|s| s.last.tsc).max().unwrap_or(0);
        for stream in 0..self.streams.len() {
            let last = match (self.streams[stream].last.tsc, self.streams[stream].role) {
                (0, Role::Guest) => continue,
                (0, _) => end,
                (last, _) => last,
            };
            self.stream_ends(stream as u32, HostTsc::new(last));
        }
        let end = self.streams.iter().filter(|s| s.role != Role::Guest).map(|s| s.last.ns).max().unwrap_or(0);
        // Guests that were recorded for longer than the host: its last tasks must not be drawn to their end.
        if let Some(native) = self.native.as_mut().filter(|_| self.last.ns > end) {
            let hosts = (0..self.streams.len()).filter(|&stream| self.streams[stream].role != Role::Guest);
            hosts.for_each(|stream| native.ends(stream, end, &mut self.canvas));
        }
        for index in 0..self.vcpus.len() {
            let (vcpu, mut context) = self.vcpu(index);
            vcpu.lose(end, Closing::Truncated, &mut context);
        }
        let last = self.last.ns;
        self.late.close_all(&mut self.canvas, None, last, Closing::Truncated);
        let counts = Counts {
            written: self.streams.iter().map(|stream| stream.written).collect(),
            filtered: self.streams.iter().map(|stream| stream.filtered).collect(),
        };
        let longest_stalls = self.stalls.list.iter().map(|&(index, ended, ref cause)| Stall {
            vm: self.vcpus[index as usize].vm,
            vcpu: self.vcpus[index as usize].vcpu,
            start: crate::time::TraceNs::new(ended.begin),
            length_ns: ended.end - ended.begin,
            name: self.canvas.names.display(ended.name),
            cause: cause.clone(),
        });
        let longest_stalls = longest_stalls.collect();
        let marks_cut = self.vcpus.iter().map(|vcpu| vcpu.marks.cut).sum();
        let (reasons, names) = (&self.reasons, &self.canvas.names);
        let tasks = self.observer.as_ref().map(|observer| observer.tasks(names)).unwrap_or_default();
        let guest_waits = self.observer.map(|observer| observer.waits).unwrap_or_default();
        let vcpus = self.vcpus.into_iter().map(|vcpu| vcpu.outcome(reasons, names)).collect();
        Outcome { last: self.canvas.take(), counts, vcpus, marks_cut, longest_stalls, tasks, guest_waits }
    }

    /// A vCPU and what it needs of the rest.
    fn vcpu(&mut self, index: usize) -> (&mut Vcpu, Context<'_>) {
        let context = Context {
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
        (&mut self.vcpus[index], context)
    }
}
