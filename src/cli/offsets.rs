//! `kvm-timeline offsets`.

use std::fmt::Write as _;

use serde::Serialize;

use super::Exit;
use super::exit::printable;
use super::inputs::{InputArgs, report_inputs};
use super::output::{json, print};
use super::progress::Progress;
use crate::convert::offset_reports;
use crate::error::Result;
use crate::printable::line;
use crate::report::{OffsetReport, SegmentReport};
use crate::stats::quoted;

/// Every offset is in the sign of debugfs and of the tracepoint: guest TSC = host TSC + offset.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    inputs: InputArgs,
    /// Print JSON.
    #[arg(long, conflicts_with = "csv")]
    pub(super) json: bool,
    /// Print CSV.
    #[arg(long)]
    csv: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Rows<'a> {
    offsets: &'a [OffsetReport],
}

pub(super) fn run(args: &Args, quiet: bool) -> Result<Exit> {
    let progress = Progress::new(quiet);
    let session = args.inputs.open(&progress)?;
    progress.clear();
    let done = report_inputs(quiet, &session.all_warnings(), &session.damaged());
    let rows = offset_reports(&session);
    let text = if args.json {
        json("kvm-timeline/offsets", &Rows { offsets: &rows })?
    } else if args.csv {
        csv(&rows)
    } else {
        printable(&table(&rows))
    };
    print(&text)?;
    Ok(done)
}

fn number(value: Option<u64>, none: &str) -> String {
    value.map_or(none.to_owned(), |v| v.to_string())
}

fn ratio(segment: &SegmentReport) -> String {
    match (segment.ratio, segment.frac_bits) {
        (Some(ratio), Some(bits)) => format!("{ratio}/2^{bits}"),
        _ => "1".to_owned(),
    }
}

fn csv(rows: &[OffsetReport]) -> String {
    let mut text = "vm,vcpu,from,to,offset,offset_unsigned,ratio,frac_bits,source,uncertainty\n".to_owned();
    for OffsetReport { vm, vcpu, segment: s } in rows {
        let _ = writeln!(
            text,
            "{},{vcpu},{},{},{},{},{},{},{},{}",
            quoted(vm),
            number(s.from, ""),
            number(s.to, ""),
            s.offset,
            s.offset_unsigned,
            number(s.ratio, ""),
            number(s.frac_bits.map(u64::from), ""),
            quoted(&s.source),
            s.uncertainty
        );
    }
    text
}

fn table(rows: &[OffsetReport]) -> String {
    let width = rows.iter().map(|r| line(&r.vm).chars().count()).max().unwrap_or(2).max(2);
    let mut text = format!(
        "{:<width$}  vCPU  {:>20}  {:>20}  {:>20}  {:>20}  {:>11}  {:>11}  source\n",
        "VM", "from", "to", "offset", "offset (unsigned)", "ratio", "uncertainty"
    );
    for OffsetReport { vm, vcpu, segment: s } in rows {
        let _ = writeln!(
            text,
            "{:<width$}  {vcpu:>4}  {:>20}  {:>20}  {:>20}  {:>20}  {:>11}  {:>11}  {}",
            line(vm),
            number(s.from, "start"),
            number(s.to, "end"),
            s.offset,
            s.offset_unsigned,
            ratio(s),
            s.uncertainty,
            line(&s.source)
        );
    }
    text.push_str("from and to are host TSC; guest TSC = host TSC + offset\n");
    text
}
