//! `kvm-timeline convert`.

use std::path::{Path, PathBuf};

use super::Exit;
use super::draw::DrawArgs;
use super::inputs::{InputArgs, keep_inputs, report_inputs, say, size};
use super::open::OpenArgs;
use super::output::{Output, json, print, write_all};
use super::progress::Progress;
use crate::convert::convert;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::Limits;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    inputs: InputArgs,
    /// The file to write; `-` is stdout.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Open the output in the Perfetto UI.
    #[arg(long)]
    open: bool,
    /// Use about this much memory at most, such as 64M; what is set aside for each thread comes on top [default: 64M].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_memory: Option<u64>,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the report as JSON to stdout.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    drawing: DrawArgs,
    #[command(flatten)]
    opening: OpenArgs,
}

pub(super) fn run(args: &Args, quiet: bool) -> Result<Exit> {
    let limits = args.max_memory.map_or_else(Limits::default, Limits::of_process);
    let options = args.drawing.options(&args.output, limits)?;
    if args.open && args.output == Path::new("-") {
        return Err(Error::new(ErrorKind::Usage, "--open needs a file, and the output is stdout")
            .hint("name a file with -o, such as -o /tmp/trace.pftrace"));
    }
    if args.json && [Some(&args.output), args.report.as_ref()].contains(&Some(&PathBuf::from("-"))) {
        return Err(Error::new(ErrorKind::Usage, "--json prints to stdout, and so does another option")
            .hint("name a file with -o, and leave out --report -"));
    }
    if args.json && args.open {
        return Err(Error::new(ErrorKind::Usage, "--json prints the report to stdout, and --open prints the link")
            .hint("write the report to a file: --report FILE"));
    }
    let progress = Progress::new(quiet);
    let session = args.inputs.open(&progress)?;
    let selection = args.drawing.filters.select(&session, args.drawing.span(), &progress.monitor())?;
    for output in [Some(&args.output), args.report.as_ref()].into_iter().flatten() {
        keep_inputs(&session, output)?;
    }
    // Created after the inputs were opened: wrong inputs leave no trace in the output's directory.
    let mut output = Output::create(&args.output)?;
    progress.stage("writing");
    let report = convert(&session, &selection, &options, &mut |bytes| output.write(bytes), &progress.monitor())?;
    output.finish()?;
    progress.clear();
    if let Some(path) = &args.report {
        write_all(path, json("kvm-timeline/convert", &report)?.as_bytes())?;
    }
    if args.json {
        print(&json("kvm-timeline/convert", &report)?)?;
    }
    let done = report_inputs(quiet, &report.warnings, &report.damaged);
    say(quiet, &report.summary());
    let lost = report.inputs.iter().any(|i| i.events_lost > 0 || i.losses_uncounted > 0);
    if args.open {
        args.opening.serve(&args.opening.bind(&args.output)?, &args.output, progress.stop(), quiet)?;
    }
    let strict = args.drawing.strict && (lost || !report.events.not_placed.is_empty());
    Ok(if strict { Exit::Damaged } else { done })
}
