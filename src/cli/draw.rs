//! The options that say what is drawn and how it is written, the same for one capture and for many.

use std::path::Path;

use clap::ValueEnum;

use super::filters::FilterArgs;
use crate::convert::ConvertOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::export::Format;
use crate::filter::nanoseconds;
use crate::pipeline::Limits;
use crate::selection::Span;
use crate::timeline::setup::{DrawOptions, Flows, Group, Layers, NativeEvents};

#[derive(Debug, clap::Args)]
pub(super) struct DrawArgs {
    /// The output format [default: by the output's extension].
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Write gzip, which the UI opens as it is [default: if the output's name ends in .gz].
    #[arg(long)]
    compress: bool,
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
    /// Whether each VM is a group around its vCPU rows; auto: with more than 50 vCPUs.
    #[arg(long, value_enum, default_value_t = GroupArg::Auto)]
    group: GroupArg,
    /// Exit with 3 if the kernel lost events or some could not be placed.
    #[arg(long)]
    pub(super) strict: bool,
    #[command(flatten)]
    pub(super) filters: FilterArgs,
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

impl DrawArgs {
    fn layers(&self) -> Layers {
        let wanted = |layer| self.layers.contains(&layer);
        let native = match (wanted(LayerArg::NativeAll), wanted(LayerArg::Native)) {
            (true, _) => NativeEvents::All,
            (_, true) => NativeEvents::Sched,
            _ => NativeEvents::None,
        };
        Layers { overlay: wanted(LayerArg::Overlay), native }
    }

    /// The format: as was said, else by the output's name.
    fn format(&self, output: &Path) -> Result<Format> {
        let name = if is_gz(output) { output.file_stem().map(Path::new) } else { Some(output) };
        let by_name = || match name.and_then(Path::extension).and_then(|e| e.to_str()) {
            Some("pftrace" | "perfetto-trace" | "pb") => Some(Format::Perfetto),
            Some("json") => Some(Format::ChromeJson),
            _ => None,
        };
        match self.format {
            Some(FormatArg::Pftrace) => Ok(Format::Perfetto),
            Some(FormatArg::Json) => Ok(Format::ChromeJson),
            None => by_name().ok_or_else(|| {
                let name = output.display();
                Error::new(ErrorKind::Usage, format!("the name `{name}` does not say which format to write"))
                    .hint("end it in .pftrace or .json (and .gz), or add --format pftrace or --format json")
            }),
        }
    }

    /// The end of an output's name that says the same as the options do.
    pub(super) fn extension(&self) -> &'static str {
        match (self.format, self.compress) {
            (Some(FormatArg::Json), false) => ".json",
            (Some(FormatArg::Json), true) => ".json.gz",
            (_, false) => ".pftrace",
            (_, true) => ".pftrace.gz",
        }
    }

    /// How much of the host's trace is drawn.
    pub(super) fn span(&self) -> Span {
        self.span.into()
    }

    /// The options for an output of this name, as the library takes them.
    pub(super) fn options(&self, output: &Path, limits: Limits) -> Result<ConvertOptions> {
        let options = ConvertOptions {
            format: self.format(output)?,
            compress: self.compress || is_gz(output),
            draw: DrawOptions {
                stall_ns: self.stall,
                flows: match self.flows {
                    FlowsArg::Stalls => Flows::Stalls,
                    FlowsArg::All => Flows::All,
                    FlowsArg::None => Flows::None,
                },
                group: match self.group {
                    GroupArg::Auto => Group::Auto,
                    GroupArg::Always => Group::Always,
                    GroupArg::Never => Group::Never,
                },
                layers: self.layers(),
                ..DrawOptions::default()
            },
            limits,
        };
        options.check()?;
        Ok(options)
    }
}

fn is_gz(output: &Path) -> bool {
    output.extension().is_some_and(|e| e == "gz")
}
