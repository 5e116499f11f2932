//! `kvm-timeline print`.

use std::path::Path;

use serde::Serialize;

use super::Exit;
use super::draw::SpanArg;
use super::filters::FilterArgs;
use super::inputs::{InputArgs, report_inputs, say};
use super::output::{Output, json_line};
use super::progress::Progress;
use crate::api::Capture;
use crate::convert::tsc_report;
use crate::error::{Error, ErrorKind, Result};
use crate::print::print;
use crate::printable::json_bytes;
use crate::report::{EventReport, TscReport};

/// Lines are MACHINE: comm-pid [CPU] seconds.nanoseconds: event: fields.
///
/// Comms are those of the context switches that are printed; where there is none, the last known ones.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    inputs: InputArgs,
    /// How much of the host's trace to print.
    #[arg(long, value_enum, default_value_t = SpanArg::All)]
    span: SpanArg,
    /// Print JSON, one object per line: a head, the events with all their fields, and at the end what became of them.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    filters: FilterArgs,
}

pub(super) fn run(args: &Args, quiet: bool) -> Result<Exit> {
    let progress = Progress::new(quiet);
    if args.json {
        return lines(args, &progress, quiet);
    }
    let session = args.inputs.open(&progress)?;
    let selection = args.filters.select(&session, args.span.into(), &progress.monitor())?;
    // The lines themselves show how far it is.
    progress.clear();
    let mut output = Output::create(Path::new("-"))?;
    let events = print(&session, &selection, &mut |bytes| output.write(bytes), &progress.monitor())?;
    output.finish()?;
    let done = report_inputs(quiet, &session.all_warnings(), &session.damaged());
    summary(&events, quiet);
    Ok(done)
}

fn summary(events: &EventReport, quiet: bool) {
    let not_placed: u64 = events.not_placed.values().sum();
    let (read, written, filtered) = (events.read, events.written, events.filtered);
    say(quiet, &format!("{read} events read: {written} printed, {filtered} filtered, {not_placed} not placed\n"));
    for (reason, count) in &events.not_placed {
        say(quiet, &format!("  not placed, {reason}: {count}\n"));
    }
}

/// The first line of JSON.
#[derive(Serialize)]
struct Head {
    tsc: TscReport,
}

/// The last line of JSON.
#[derive(Serialize)]
struct Tail {
    events: EventReport,
    warnings: Vec<String>,
    damaged: Vec<String>,
}

fn lines(args: &Args, progress: &Progress, quiet: bool) -> Result<Exit> {
    let session = args.inputs.open(progress)?;
    let capture = Capture::of_session(session, progress.flag());
    let view = capture.view().filter(args.filters.filter()).span(args.span.into());
    let mut events = view.events()?;
    progress.clear();
    let mut output = Output::create(Path::new("-"))?;
    output.write(json_line("kvm-timeline/print", &Head { tsc: tsc_report(capture.session()) })?.as_bytes())?;
    let failed = |e: serde_json::Error| Error::new(ErrorKind::Io, format!("cannot write an event: {e}"));
    let mut line = Vec::new();
    for event in events.by_ref() {
        line.clear();
        serde_json::to_writer(&mut line, &event?).map_err(failed)?;
        json_bytes(&mut line);
        line.push(b'\n');
        output.write(&line)?;
    }
    let tail = Tail { events: events.account(), warnings: capture.warnings(), damaged: capture.damaged() };
    line.clear();
    serde_json::to_writer(&mut line, &tail).map_err(failed)?;
    json_bytes(&mut line);
    line.push(b'\n');
    output.write(&line)?;
    output.finish()?;
    let done = report_inputs(quiet, &tail.warnings, &tail.damaged);
    summary(&tail.events, quiet);
    Ok(done)
}
