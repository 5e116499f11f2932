//! From a session to an output file, and the report about it.

mod account;
mod machines;
mod passing;
mod stage;

use std::collections::VecDeque;

pub(crate) use account::{event_report, time_shift_apart};
pub use account::{events_of, offset_reports, segment_reports, stall_reports, tsc_report};
pub use stage::setup;

use account::report;

use crate::capture::Record;
use crate::clock::scaling::HostRange;
use crate::error::{Error, ErrorKind, Result};
use crate::export::{Format, gzip};
use crate::monitor::Monitor;
use crate::pipeline::lane::Ledger;
use crate::pipeline::lanes::{Lanes, lanes};
use crate::pipeline::{Consumer, Limits, Write, run};
use crate::report::Report;
use crate::selection::Selection;
use crate::session::Session;
use crate::time::HostTsc;
use crate::timeline::drawing::{Batch, Exporter};
use crate::timeline::setup::{DrawOptions, NativeEvents};
use crate::timeline::{Outcome, Timeline};

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

impl Default for ConvertOptions {
    /// A Perfetto trace of our rows, not compressed: as the command line without options.
    fn default() -> Self {
        Self { format: Format::Perfetto, compress: false, draw: DrawOptions::default(), limits: Limits::default() }
    }
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
    write: &mut Write<'_>,
    monitor: &Monitor<'_>,
) -> Result<Report> {
    options.check()?;
    let lanes = lanes(session, selection);
    let draw = DrawOptions { whole_recordings: selection.has_all_of_guests(), ..options.draw.clone() };
    let timeline = timeline(session, &lanes, selection, draw);
    let world = timeline.world();
    let (passing, not_passing) = passing::passing(session, options);
    let own = options.format.exporter();
    let exporter: &dyn Exporter = passing.as_ref().map_or(&*own, |passing| &passing.exporter);
    let pack = |bytes: &mut Vec<u8>| {
        if options.compress {
            *bytes = gzip::member(bytes);
        }
    };
    let copied = |mut bytes: Vec<u8>, write: &mut Write<'_>| {
        pack(&mut bytes);
        write(&bytes)
    };
    if let Some(passing) = &passing {
        passing.native.copy_start(&mut |bytes| copied(bytes, write))?;
    }
    let mut bytes = Vec::new();
    exporter.header(&world, &mut bytes);
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
    let mut report = report(session, &lanes, &done.ledgers, &outcome);
    report.warnings.extend(not_passing);
    if let Some(passing) = &passing {
        passing.native.copy_rest(&mut |bytes| copied(bytes, write))?;
        if let Some(input) = report.inputs.get_mut(passing.input) {
            input.packets_passed = passing.native.packets;
        }
    }
    Ok(report)
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
    limits: Limits,
    monitor: &Monitor<'_>,
) -> Result<Interpreted<'a>> {
    let lanes = lanes(session, selection);
    let mut timeline = timeline(session, &lanes, selection, DrawOptions::default());
    if durations {
        timeline.keep_durations();
    }
    let mut draw = Draw::new(timeline, selection);
    let done = run(&lanes.lanes, limits, &mut draw, &|_, _, _| {}, &mut |_| Ok(()), monitor)?;
    Ok(Interpreted { lanes, ledgers: done.ledgers, outcome: draw.timeline.finish() })
}

fn timeline(session: &Session, lanes: &Lanes<'_>, selection: &Selection, draw: DrawOptions) -> Timeline {
    let mut timeline = Timeline::new(setup(session, lanes, selection, draw));
    let known = session.host_span().unwrap_or(HostRange::ALL);
    timeline.limit_check((known.first, known.last), |vm, vcpu| {
        let vcpu = session.vms.get(vm as usize).and_then(|vm| vm.vcpus.get(vcpu as usize));
        vcpu.map_or(0, |v| v.reading_cycles.saturating_sub(1))
    });
    let first = selection.span().first;
    if first > known.first {
        timeline.begins_midway(|vm, vcpu| {
            let vcpu = session.vms.get(vm as usize).and_then(|vm| vm.vcpus.get(vcpu as usize));
            vcpu.and_then(|v| session.first_run(v.thread?)).is_some_and(|run| run < first)
        });
    }
    timeline
}
