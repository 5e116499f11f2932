//! `kvm-timeline print`.

use std::path::Path;

use super::Exit;
use super::draw::SpanArg;
use super::filters::FilterArgs;
use super::inputs::{InputArgs, report_inputs, say};
use super::output::Output;
use super::progress::Progress;
use crate::error::Result;
use crate::print::print;

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
    #[command(flatten)]
    filters: FilterArgs,
}

pub(super) fn run(args: &Args, quiet: bool) -> Result<Exit> {
    let progress = Progress::new(quiet);
    let session = args.inputs.open(&progress)?;
    let selection = args.filters.select(&session, args.span.into(), &progress.monitor())?;
    // The lines themselves show how far it is.
    progress.clear();
    let mut output = Output::create(Path::new("-"))?;
    let events = print(&session, &selection, &mut |bytes| output.write(bytes), &progress.monitor())?;
    output.finish()?;
    let done = report_inputs(quiet, &session.all_warnings(), &session.damaged());
    let not_placed: u64 = events.not_placed.values().sum();
    let (read, written, filtered) = (events.read, events.written, events.filtered);
    say(quiet, &format!("{read} events read: {written} printed, {filtered} filtered, {not_placed} not placed\n"));
    for (reason, count) in &events.not_placed {
        say(quiet, &format!("  not placed, {reason}: {count}\n"));
    }
    Ok(done)
}
