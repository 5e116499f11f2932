//! `kvm-timeline convert`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::Exit;
use super::filters::FilterArgs;
use super::inputs::{InputArgs, keep_inputs, report_inputs, say, size};
use super::open::OpenArgs;
use super::output::{Output, json, print, write_all};
use super::progress::Progress;
use crate::convert::{ConvertOptions, convert};
use crate::error::{Error, ErrorKind, Result};
use crate::export::Format;
use crate::filter::nanoseconds;
use crate::pipeline::Limits;
use crate::selection::Span;
use crate::timeline::setup::{DrawOptions, Flows, Group, Layers, NativeEvents};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    inputs: InputArgs,
    /// The file to write; `-` is stdout.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The output format [default: by the output's extension].
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Write gzip, which the UI opens as it is [default: if the output's name ends in .gz].
    #[arg(long)]
    compress: bool,
    /// Open the output in the Perfetto UI.
    #[arg(long)]
    open: bool,
    /// How much of the host's trace to draw: around the guests' recordings, or all of it.
    #[arg(long, value_enum, default_value_t = SpanArg::Guests)]
    span: SpanArg,
    /// An exit that the host handles for at least this long becomes a mark in the vCPU's row.
    #[arg(long, value_name = "TIME", default_value = "100us", value_parser = duration_ns)]
    stall: u64,
    /// Which arrows to draw.
    #[arg(long, value_enum, default_value_t = FlowsArg::Stalls)]
    flows: FlowsArg,
    /// What to write: our rows, and for Perfetto's own scheduling tracks and SQL each machine's scheduler events, or all
    /// its events.
    #[arg(long, value_enum, value_name = "LAYER", value_delimiter = ',', default_values_t = [LayerArg::Overlay])]
    layers: Vec<LayerArg>,
    /// Use about this much memory at most, such as 64M; what is set aside for each thread comes on top [default: 64M].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_memory: Option<u64>,
    /// Whether each VM is a group around its vCPU rows; auto: with more than 50 vCPUs.
    #[arg(long, value_enum, default_value_t = GroupArg::Auto)]
    group: GroupArg,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the report as JSON to stdout.
    #[arg(long)]
    pub(super) json: bool,
    /// Exit with 3 if the kernel lost events or some could not be placed.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    filters: FilterArgs,
    #[command(flatten)]
    opening: OpenArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    /// Perfetto protobuf.
    Pftrace,
    /// Chrome JSON.
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum SpanArg {
    /// From 100 ms before the first to 100 ms after the last guest event.
    Guests,
    /// Everything.
    All,
}

impl From<SpanArg> for Span {
    fn from(arg: SpanArg) -> Self {
        match arg {
            SpanArg::Guests => Self::Guests,
            SpanArg::All => Self::All,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FlowsArg {
    Stalls,
    All,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LayerArg {
    /// The rows of Host and VMs, with states and stall marks.
    Overlay,
    /// Perfetto only: context switches, wakeups and thread names of the host and of every VM, each as a machine of its
    /// own.
    Native,
    /// Perfetto only: as native, and all other events in Perfetto's list of ftrace events.
    NativeAll,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GroupArg {
    Auto,
    Always,
    Never,
}

/// `100us`, `1.5ms`, `2s`, `300` (nanoseconds).
fn duration_ns(text: &str) -> std::result::Result<u64, String> {
    nanoseconds(text, 1)
}

impl Args {
    fn layers(&self) -> Layers {
        let wanted = |layer| self.layers.contains(&layer);
        let native = match (wanted(LayerArg::NativeAll), wanted(LayerArg::Native)) {
            (true, _) => NativeEvents::All,
            (_, true) => NativeEvents::Sched,
            _ => NativeEvents::None,
        };
        Layers { overlay: wanted(LayerArg::Overlay), native }
    }

    fn format(&self) -> Result<Format> {
        match self.format {
            Some(FormatArg::Pftrace) => Ok(Format::Perfetto),
            Some(FormatArg::Json) => Ok(Format::ChromeJson),
            None => Ok(Format::named(&self.output)?.0),
        }
    }
}

pub(super) fn run(args: &Args, quiet: bool) -> Result<Exit> {
    let options = ConvertOptions {
        format: args.format()?,
        compress: args.compress || Format::of_name(&args.output).1,
        draw: DrawOptions {
            stall_ns: args.stall,
            flows: match args.flows {
                FlowsArg::Stalls => Flows::Stalls,
                FlowsArg::All => Flows::All,
                FlowsArg::None => Flows::None,
            },
            group: match args.group {
                GroupArg::Auto => Group::Auto,
                GroupArg::Always => Group::Always,
                GroupArg::Never => Group::Never,
            },
            layers: args.layers(),
            ..DrawOptions::default()
        },
        limits: args.max_memory.map_or_else(Limits::default, Limits::of_process),
    };
    options.check()?;
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
    let selection = args.filters.select(&session, args.span.into(), &progress.monitor())?;
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
    let lost = report.inputs.iter().any(|i| i.events_lost + i.losses_uncounted > 0);
    if args.open {
        args.opening.serve(&args.opening.bind(&args.output)?, &args.output, progress.stop(), quiet)?;
    }
    let strict = args.strict && (lost || !report.events.not_placed.is_empty());
    Ok(if strict { Exit::Damaged } else { done })
}
