//! From a session to an output file, and the report about it.

mod machines;

use std::collections::{BTreeMap, VecDeque};

use crate::capture::Record;
use crate::clock::history::{Segment, Source};
use crate::clock::scaling::HostRange;
use crate::error::{Error, ErrorKind, Result};
use crate::export::{Format, gzip};
use crate::monitor::Monitor;
use crate::pipeline::lane::Ledger;
use crate::pipeline::lanes::{Lanes, lanes};
use crate::pipeline::{Consumer, Limits, run};
use crate::report::{
    EventReport, InputReport, RateReport, Report, SegmentReport, StallReport, TscReport, VcpuReport, VmReport,
};
use crate::selection::{Selection, recorded};
use crate::session::{Role, Session, Vcpu};
use crate::time::HostTsc;
use crate::timeline::drawing::{Batch, FieldSource};
use crate::timeline::setup::{DrawOptions, NativeEvents, SegmentSetup, Setup, VcpuSetup, VmSetup};
use crate::timeline::{Outcome, Stall, Timeline};

/// What to write and how.
#[derive(Clone, Debug)]
pub struct ConvertOptions {
    /// The output format.
    pub format: Format,
    /// Whether the output is gzip.
    pub compress: bool,
    /// What is drawn.
    pub draw: DrawOptions,
    /// How much memory events may take on their way.
    pub limits: Limits,
}

impl ConvertOptions {
    /// Whether the options fit together; [`convert`] asks.
    ///
    /// # Errors
    ///
    /// If nothing is drawn, or if the format has no native layer.
    pub fn check(&self) -> Result<()> {
        let layers = self.draw.layers;
        if self.format == Format::ChromeJson && layers.native != NativeEvents::None {
            return Err(Error::new(ErrorKind::Usage, "Chrome JSON has no native layer")
                .hint("write .pftrace, or leave the native layer out"));
        }
        if !layers.overlay && layers.native == NativeEvents::None {
            return Err(
                Error::new(ErrorKind::Usage, "no layer is wanted").hint("draw the overlay, or the native layer")
            );
        }
        Ok(())
    }
}

/// Items per batch: large enough that interned strings weigh little, small enough to spread over threads.
const BATCH_ITEMS: usize = 8192;
/// Room for an encoded item; more is grown.
const BYTES_PER_ITEM: usize = 48;

struct Draw {
    timeline: Timeline,
    /// The wanted stretches of time that have not ended, where there are several.
    windows: VecDeque<HostRange>,
}

impl Draw {
    fn new(timeline: Timeline, selection: &Selection) -> Self {
        let windows = if selection.host.len() > 1 { selection.host.iter().copied().collect() } else { VecDeque::new() };
        Self { timeline, windows }
    }

    /// What happened between two wanted stretches of time is not known: nothing may be drawn across.
    #[cold]
    fn next_window(&mut self, ts: HostTsc) {
        while let Some(window) = self.windows.front().filter(|w| w.last < ts) {
            self.timeline.pause(window.last);
            self.windows.pop_front();
        }
    }
}

impl Consumer for Draw {
    type Batch = Batch;

    #[inline]
    fn event(&mut self, lane: u32, ts: HostTsc, record: &Record, payload: &[u8]) {
        if self.windows.front().is_some_and(|w| w.last < ts) {
            self.next_window(ts);
        }
        self.timeline.event(lane, ts, record.event, payload);
    }

    fn lost(&mut self, lane: u32, ts: HostTsc, count: Option<u64>) {
        self.timeline.lost(lane, ts, count);
    }

    fn ends(&mut self, lane: u32, ts: HostTsc) {
        self.timeline.stream_ends(lane, ts);
    }

    fn take(&mut self, out: &mut Vec<Batch>) {
        if self.timeline.pending() >= BATCH_ITEMS {
            out.push(self.timeline.take_batch());
        }
    }

    fn recycle(&mut self, batch: Batch) {
        self.timeline.recycle(batch);
    }
}

/// Converts what `selection` wants of a session; `write` gets the output's bytes in order.
///
/// # Errors
///
/// If the options do not fit together, if an input can no longer be read, if `write` fails, or if the monitor asks to
/// stop.
pub fn convert(
    session: &Session,
    selection: &Selection,
    options: &ConvertOptions,
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
    monitor: &Monitor<'_>,
) -> Result<Report> {
    options.check()?;
    let lanes = lanes(session, selection);
    let draw = DrawOptions { whole_recordings: selection.has_all_of_guests(), ..options.draw.clone() };
    let timeline = timeline(session, &lanes, selection, draw);
    let world = timeline.world();
    let exporter = options.format.exporter();
    let mut bytes = Vec::new();
    exporter.header(&world, &mut bytes);
    let pack = |bytes: &mut Vec<u8>| {
        if options.compress {
            *bytes = gzip::member(bytes);
        }
    };
    pack(&mut bytes);
    write(&bytes)?;
    let encode = |number: u64, batch: &Batch, out: &mut Vec<u8>| {
        out.reserve(batch.items.len() * BYTES_PER_ITEM);
        exporter.batch(&world, number, batch, out);
        pack(out);
    };
    let mut draw = Draw::new(timeline, selection);
    let done = run(&lanes.lanes, options.limits, &mut draw, &encode, write, monitor)?;
    let outcome = draw.timeline.finish();
    let mut bytes = Vec::new();
    exporter.batch(&world, done.batches, &outcome.last, &mut bytes);
    exporter.footer(&world, &mut bytes);
    pack(&mut bytes);
    write(&bytes)?;
    Ok(report(session, &lanes, &done.ledgers, &outcome))
}

/// Interprets a session without writing anything: what `check` and `stats` are made from.
pub struct Interpreted<'a> {
    /// The lanes.
    pub lanes: Lanes<'a>,
    /// One per lane.
    pub ledgers: Vec<Ledger>,
    /// What the timeline found.
    pub outcome: Outcome,
}

/// Runs pass 2 and throws the drawing away. `durations` keeps the length of every exit.
///
/// # Errors
///
/// If an input can no longer be read, or if the monitor asks to stop.
pub fn interpret<'a>(
    session: &'a Session,
    selection: &Selection,
    durations: bool,
    monitor: &Monitor<'_>,
) -> Result<Interpreted<'a>> {
    let lanes = lanes(session, selection);
    let mut timeline = timeline(session, &lanes, selection, DrawOptions::default());
    if durations {
        timeline.keep_durations();
    }
    let mut draw = Draw::new(timeline, selection);
    let done = run(&lanes.lanes, Limits::default(), &mut draw, &|_, _, _| {}, &mut |_| Ok(()), monitor)?;
    Ok(Interpreted { lanes, ledgers: done.ledgers, outcome: draw.timeline.finish() })
}

fn timeline(session: &Session, lanes: &Lanes<'_>, selection: &Selection, draw: DrawOptions) -> Timeline {
    let mut timeline = Timeline::new(setup(session, lanes, selection, draw));
    let known = session.host_span().unwrap_or(HostRange::ALL);
    timeline.limit_check((known.first, known.last), |vm, vcpu| {
        let vcpu = session.vms.get(vm as usize).and_then(|vm| vm.vcpus.get(vcpu as usize));
        vcpu.map_or(0, |v| v.reading_cycles.saturating_sub(1))
    });
    timeline
}

/// What the timeline must know beforehand.
pub fn setup(session: &Session, lanes: &Lanes<'_>, selection: &Selection, draw: DrawOptions) -> Setup {
    let sources = session
        .inputs
        .iter()
        .map(|i| FieldSource {
            symbols: i.capture.info.kallsyms.clone(),
            printk: i.capture.info.printk_formats.as_slice().into(),
            ..FieldSource::new(i.capture.formats.clone(), i.capture.endian)
        })
        .collect();
    // Segments are drawn where something else is: within the span and the host's or the guests' recordings.
    let span = selection.span();
    let drawn = recorded(session).and_then(|e| e.intersect(span)).unwrap_or(span);
    let vms = session.vms.iter().enumerate().map(|(v, vm)| VmSetup {
        name: vm.name.clone(),
        pid: vm.pid,
        threads: session.threads_of(v),
        kernel: session
            .inputs
            .iter()
            .find(|i| i.role == Role::Guest(v))
            .and_then(|i| i.capture.info.uname.as_deref())
            .and_then(|uname| uname.split(' ').nth(2))
            .map(str::to_owned),
        vcpus: vm
            .vcpus
            .iter()
            .enumerate()
            .map(|(c, vcpu)| VcpuSetup {
                number: vcpu.number,
                vcpu_id: vcpu.vcpu_id,
                thread: vcpu.thread,
                segments: if selection.wants(v, c) { segments(vcpu) } else { Vec::new() },
                description: clock_words(vcpu),
                hidden: !selection.wants(v, c),
            })
            .collect(),
    });
    let hosts = session.inputs.iter().filter(|i| i.role == Role::Host);
    Setup {
        sources,
        streams: lanes.roles.clone(),
        vms: vms.collect(),
        host_comms: hosts.flat_map(|i| i.capture.info.cmdlines.iter().cloned()).collect(),
        rate: session.rate.rate,
        span: (drawn.first, drawn.last),
        wall_clock: None,
        machines: machines::machines(session, draw.layers.native),
        metadata: metadata(session),
        options: draw,
    }
}

fn segments(vcpu: &Vcpu) -> Vec<SegmentSetup> {
    let mut before: Option<&Segment> = None;
    let mut drawn = Vec::new();
    for segment in &vcpu.history.segments {
        drawn.push(SegmentSetup {
            from: segment.from,
            to: segment.to,
            offset: segment.offset,
            changed_from: before.map(|s| s.offset),
            source: segment.source.to_string(),
            scaling: (!segment.scaling.is_none())
                .then(|| format!("{} / 2^{}", segment.scaling.ratio(), segment.scaling.frac_bits())),
        });
        before = Some(segment);
    }
    drawn
}

/// Clock source and quality for a row's description.
fn clock_words(vcpu: &Vcpu) -> String {
    let segments = &vcpu.history.segments;
    let mut words = match segments.as_slice() {
        [] => "no TSC offset known".to_owned(),
        [only] => format!("TSC offset {} ({})", only.offset, only.source),
        [first, ..] => format!("{} TSC offsets ({})", segments.len(), first.source),
    };
    let widest = segments.iter().map(|s| s.uncertainty).max().unwrap_or(0);
    if widest > 0 {
        words.push_str(&format!(", within {widest} cycles"));
    }
    if let Some(note) = &vcpu.note {
        words.push_str(&format!("; {note}"));
    }
    words
}

fn metadata(session: &Session) -> serde_json::Value {
    serde_json::json!({
        "tool": concat!("kvm-timeline ", env!("CARGO_PKG_VERSION")),
        "tsc": tsc_report(session),
        "vms": session.vms.iter().map(|vm| serde_json::json!({
            "name": vm.name,
            "pid": vm.pid,
            "vcpus": vm.vcpus.iter().map(|v| serde_json::json!({
                "id": v.number,
                "vcpu_id": v.vcpu_id,
                "thread": v.thread,
                "segments": segment_reports(v),
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

/// The offset history as reports show it.
pub fn segment_reports(vcpu: &Vcpu) -> Vec<SegmentReport> {
    let report = |s: &Segment| SegmentReport {
        from: (s.from != HostTsc::MIN).then(|| s.from.get()),
        to: (s.to != HostTsc::MAX).then(|| s.to.get()),
        offset: s.offset.signed(),
        offset_unsigned: s.offset.raw(),
        ratio: (!s.scaling.is_none()).then(|| s.scaling.ratio()),
        frac_bits: (!s.scaling.is_none()).then(|| s.scaling.frac_bits()),
        source: s.source.to_string(),
        uncertainty: s.uncertainty,
    };
    vcpu.history.segments.iter().map(report).collect()
}

/// The TSC rate as reports show it.
pub fn tsc_report(session: &Session) -> TscReport {
    let rate = &session.rate;
    let others = rate.others.iter().map(|(source, hz)| RateReport {
        source: source.clone(),
        hz: *hz,
        ppm: rate.hz.map_or(0, |used| {
            let difference = i128::from(*hz) - i128::from(used);
            i64::try_from(difference * 1_000_000 / i128::from(used.max(1))).unwrap_or(i64::MAX)
        }),
    });
    TscReport { hz: rate.hz, source: rate.source.clone(), others: others.collect() }
}

fn report(session: &Session, lanes: &Lanes<'_>, ledgers: &[Ledger], outcome: &Outcome) -> Report {
    let mut report = Report { tsc: tsc_report(session), marks_cut: outcome.marks_cut, ..Report::default() };
    for input in &session.inputs {
        let vm = match input.role {
            Role::Guest(vm) => session.vms.get(vm).map(|vm| vm.name.clone()),
            _ => None,
        };
        report.inputs.push(InputReport {
            path: input.capture.path.display().to_string(),
            role: input.role.name().to_owned(),
            kind: input.capture.info.kind.clone(),
            vm,
            events_read: input.survey.events(),
            events_lost: input.survey.streams.iter().map(|s| s.lost).sum(),
            losses_uncounted: input.survey.streams.iter().map(|s| s.lost_unknown).sum(),
        });
    }
    report.warnings = session.all_warnings();
    report.damaged = session.damaged();
    report.events = event_report(session, lanes, ledgers, &outcome.counts.written, &outcome.counts.filtered);
    report.out_of_order = ledgers.iter().map(|l| l.out_of_order).sum();
    for (v, vm) in session.vms.iter().enumerate() {
        let vcpus = vm.vcpus.iter().enumerate().map(|(c, vcpu)| {
            let found = outcome.vcpus.iter().find(|o| o.vm as usize == v && o.vcpu as usize == c);
            VcpuReport {
                id: vcpu.number,
                vcpu_id: vcpu.vcpu_id,
                thread: vcpu.thread,
                events: events_of(session, v, c),
                checked: found.map_or(0, |o| o.check.checked),
                inside: found.map_or(0, |o| o.check.inside),
                segments: segment_reports(vcpu),
                time_shift_apart_ns: time_shift_apart(session, vcpu),
            }
        });
        report.vms.push(VmReport { name: vm.name.clone(), pid: vm.pid, vcpus: vcpus.collect() });
        if vm.vcpus.iter().any(|v| v.history.segments.iter().any(|s| s.source == Source::Inferred)) {
            report
                .warnings
                .push(format!("VM {}: no TSC offset was recorded; it is inferred from the run windows", vm.name));
        }
    }
    report.longest_stalls = stall_reports(session, outcome);
    if session.rate.hz.is_none() && !session.inputs.is_empty() {
        report
            .warnings
            .push("the TSC rate is unknown: one cycle is shown as one nanosecond; give it with --tsc-hz".to_owned());
    }
    report
}

/// [`VcpuReport::time_shift_apart_ns`].
pub(crate) fn time_shift_apart(session: &Session, vcpu: &Vcpu) -> Option<i64> {
    let cycles = vcpu.time_shift_apart?;
    let hz = i128::from(session.rate.rate.hz()).max(1);
    let half = i128::from(cycles.signum()) * hz / 2;
    i64::try_from((i128::from(cycles) * 1_000_000_000 + half) / hz).ok()
}

/// The longest stall marks as reports show them.
pub fn stall_reports(session: &Session, outcome: &Outcome) -> Vec<StallReport> {
    let report = |stall: &Stall| {
        let vm = session.vms.get(stall.vm as usize)?;
        Some(StallReport {
            vm: vm.name.clone(),
            vcpu: vm.vcpus.get(stall.vcpu as usize)?.number,
            start_ns: stall.start.get(),
            duration_ns: stall.length_ns,
            name: stall.name.clone(),
            cause: stall.cause.clone(),
        })
    };
    outcome.longest_stalls.iter().filter_map(report).collect()
}

/// Events that were read for a vCPU's rows.
pub fn events_of(session: &Session, vm: usize, vcpu: usize) -> u64 {
    let streams = session.streams.iter().filter(|s| s.vm == vm && s.vcpu == Some(vcpu));
    streams.map(|s| s.placement.events).sum()
}

/// The account over all lanes.
pub(crate) fn event_report(
    session: &Session,
    lanes: &Lanes<'_>,
    ledgers: &[Ledger],
    written: &[u64],
    filtered: &[u64],
) -> EventReport {
    let mut events = EventReport { read: session.inputs.iter().map(|i| i.survey.events()).sum(), ..Default::default() };
    events.written = written.iter().sum();
    events.filtered = filtered.iter().sum::<u64>() + ledgers.iter().map(|l| l.filtered).sum::<u64>();
    let mut not_placed: BTreeMap<String, u64> = BTreeMap::new();
    for ledger in ledgers {
        for (reason, count) in &ledger.not_placed {
            *not_placed.entry(reason.name().to_owned()).or_default() += count;
        }
    }
    events.not_placed = not_placed;
    debug_assert_eq!(lanes.lanes.len(), ledgers.len());
    events
}
