//! `kvm-timeline stats`.

use std::path::PathBuf;

use super::Exit;
use super::draw::SpanArg;
use super::exit::printable;
use super::filters::FilterArgs;
use super::inputs::{InputArgs, keep_inputs, report_inputs};
use super::output::{json, print, write_all};
use super::progress::Progress;
use crate::error::Result;
use crate::stats::{Parquet, csv, stats, text};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    inputs: InputArgs,
    /// How much of the host's trace to sum up.
    #[arg(long, value_enum, default_value_t = SpanArg::All)]
    span: SpanArg,
    /// Print JSON.
    #[arg(long, conflicts_with = "csv")]
    pub(super) json: bool,
    /// Print CSV.
    #[arg(long)]
    csv: bool,
    /// Also write the rows of the CSV as a Parquet table.
    #[arg(long, value_name = "FILE")]
    parquet: Option<PathBuf>,
    #[command(flatten)]
    filters: FilterArgs,
}

pub(super) fn run(args: &Args, quiet: bool) -> Result<Exit> {
    let progress = Progress::new(quiet);
    let session = args.inputs.open(&progress)?;
    args.parquet.as_ref().map_or(Ok(()), |path| keep_inputs(&session, path))?;
    progress.stage("summing up");
    let selection = args.filters.select(&session, args.span.into(), &progress.monitor())?;
    let stats = stats(&session, &selection, &progress.monitor())?;
    progress.clear();
    let done = report_inputs(quiet, &session.all_warnings(), &session.damaged());
    if let Some(path) = &args.parquet {
        let mut table = Parquet::new(Vec::new())?;
        table.add(&args.inputs.name(), &stats)?;
        write_all(path, &table.finish()?)?;
    }
    print(&if args.json {
        json("kvm-timeline/stats", &stats)?
    } else if args.csv {
        csv(&stats)
    } else {
        printable(&text(&stats))
    })?;
    Ok(done)
}
