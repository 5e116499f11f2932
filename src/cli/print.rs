//! `kvm-timeline print`.

use std::path::Path;

use super::Exit;
use super::convert::SpanArg;
use super::filters::FilterArgs;
use super::inputs::{InputArgs, say, warn};
use super::output::Output;
use super::progress::{Progress, stop_flag};
use crate::error::Result;
use crate::monitor::Monitor;
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
    let stop = stop_flag();
    let progress = Progress::new(quiet);
    let tick = |events| progress.tick(events);
    let monitor = Monitor { tick: &tick, stop: &stop };
    let session = args.inputs.open(&progress, &monitor)?;
    let selection = args.filters.select(&session, args.span.into(), &monitor)?;
    // The lines themselves show how far it is.
    progress.clear();
    let mut output = Output::create(Path::new("-"))?;
    let events = print(&session, &selection, &mut |bytes| output.write(bytes), &monitor)?;
    output.finish()?;
    warn(quiet, &session.all_warnings());
    let damaged = session.damaged();
    warn(quiet, &damaged);
    let not_placed: u64 = events.not_placed.values().sum();
    let (read, written, filtered) = (events.read, events.written, events.filtered);
    say(quiet, &format!("{read} events read: {written} printed, {filtered} filtered, {not_placed} not placed\n"));
    for (reason, count) in &events.not_placed {
        say(quiet, &format!("  not placed, {reason}: {count}\n"));
    }
    Ok(if damaged.is_empty() { Exit::Done } else { Exit::Damaged })
}
