//! `kvm-timeline stats`.

use super::Exit;
use super::convert::SpanArg;
use super::filters::FilterArgs;
use super::inputs::{InputArgs, warn};
use super::output::print;
use super::progress::{Progress, stop_flag};
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::stats::{csv, stats, text};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    inputs: InputArgs,
    /// How much of the host's trace to sum up.
    #[arg(long, value_enum, default_value_t = SpanArg::All)]
    span: SpanArg,
    /// Print JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV.
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    filters: FilterArgs,
}

pub(super) fn run(args: &Args, quiet: bool) -> Result<Exit> {
    let stop = stop_flag();
    let progress = Progress::new(quiet);
    let tick = |events| progress.tick(events);
    let monitor = Monitor { tick: &tick, stop: &stop };
    let session = args.inputs.open(&progress, &monitor)?;
    progress.stage("summing up");
    let selection = args.filters.select(&session, args.span.into(), &monitor)?;
    let stats = stats(&session, &selection, &monitor)?;
    progress.clear();
    warn(quiet, &session.all_warnings());
    let damaged = session.damaged();
    warn(quiet, &damaged);
    print(&if args.json {
        let mut json = serde_json::to_string_pretty(&stats)
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot write the statistics: {e}")))?;
        json.push('\n');
        json
    } else if args.csv {
        csv(&stats)
    } else {
        text(&stats)
    })?;
    Ok(if damaged.is_empty() { Exit::Done } else { Exit::Damaged })
}
