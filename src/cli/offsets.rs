//! `kvm-timeline offsets`.

use std::fmt::Write as _;

use serde::Serialize;

use super::Exit;
use super::inputs::{InputArgs, warn};
use super::output::print;
use super::progress::{Progress, stop_flag};
use crate::convert::segment_reports;
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::report::SegmentReport;
use crate::session::Session;
use crate::stats::quoted;

/// Every offset is in the sign of debugfs and of the tracepoint: guest TSC = host TSC + offset.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    inputs: InputArgs,
    /// Print JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV.
    #[arg(long)]
    csv: bool,
}

/// One line of the table.
#[derive(Serialize)]
struct Row {
    vm: String,
    vcpu: u32,
    #[serde(flatten)]
    segment: SegmentReport,
}

pub(super) fn run(args: &Args, quiet: bool) -> Result<Exit> {
    let stop = stop_flag();
    let progress = Progress::new(quiet);
    let tick = |events| progress.tick(events);
    let monitor = Monitor { tick: &tick, stop: &stop };
    let session = args.inputs.open(&progress, &monitor)?;
    progress.clear();
    warn(quiet, &session.all_warnings());
    let rows = rows(&session);
    let text = if args.json {
        let mut json = serde_json::to_string_pretty(&rows)
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot write the offsets: {e}")))?;
        json.push('\n');
        json
    } else if args.csv {
        csv(&rows)
    } else {
        table(&rows)
    };
    print(&text)?;
    Ok(Exit::Done)
}

fn rows(session: &Session) -> Vec<Row> {
    let vcpus = session.vms.iter().flat_map(|vm| vm.vcpus.iter().map(move |v| (vm, v)));
    vcpus
        .flat_map(|(vm, v)| {
            segment_reports(v).into_iter().map(move |segment| Row { vm: vm.name.clone(), vcpu: v.number, segment })
        })
        .collect()
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

fn csv(rows: &[Row]) -> String {
    let mut text = "vm,vcpu,from,to,offset,offset_unsigned,ratio,frac_bits,source,uncertainty\n".to_owned();
    for Row { vm, vcpu, segment: s } in rows {
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

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|r| r.vm.chars().count()).max().unwrap_or(2).max(2);
    let mut text = format!(
        "{:<width$}  vCPU  {:>20}  {:>20}  {:>20}  {:>20}  {:>11}  {:>11}  source\n",
        "VM", "from", "to", "offset", "offset (unsigned)", "ratio", "uncertainty"
    );
    for Row { vm, vcpu, segment: s } in rows {
        let _ = writeln!(
            text,
            "{vm:<width$}  {vcpu:>4}  {:>20}  {:>20}  {:>20}  {:>20}  {:>11}  {:>11}  {}",
            number(s.from, "start"),
            number(s.to, "end"),
            s.offset,
            s.offset_unsigned,
            ratio(s),
            s.uncertainty,
            s.source
        );
    }
    text.push_str("from and to are host TSC; guest TSC = host TSC + offset\n");
    text
}
