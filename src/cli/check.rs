//! `kvm-timeline check`.

use std::fmt::Write as _;

use clap::ValueEnum;

use super::Exit;
use super::exit::printable;
use super::inputs::{InputArgs, report_inputs};
use super::output::{json, print};
use super::progress::Progress;
use crate::check::{CheckReport, Verdict, check};
use crate::error::Result;
use crate::printable::tidy;
use crate::report::share;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    inputs: InputArgs,
    /// The verdict that every vCPU must reach for exit code 0.
    #[arg(long, value_enum, default_value_t = VerdictArg::Consistent)]
    require: VerdictArg,
    /// Print the audit as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum VerdictArg {
    /// Offsets recorded, all checked events inside.
    Proved,
    /// At least 99.9 % inside and the rest explained, or inferred without contradiction.
    Consistent,
    /// At least 90 % inside.
    Doubtful,
    /// Anything.
    Wrong,
}

impl From<VerdictArg> for Verdict {
    fn from(arg: VerdictArg) -> Self {
        match arg {
            VerdictArg::Proved => Self::Proved,
            VerdictArg::Consistent => Self::Consistent,
            VerdictArg::Doubtful => Self::Doubtful,
            VerdictArg::Wrong => Self::Wrong,
        }
    }
}

pub(super) fn run(args: &Args, quiet: bool) -> Result<Exit> {
    let progress = Progress::new(quiet);
    let session = args.inputs.open(&progress)?;
    progress.stage("checking");
    let report = check(&session, &progress.monitor())?;
    progress.clear();
    let done = report_inputs(quiet, &report.warnings, &report.damaged);
    if args.json {
        print(&json("kvm-timeline/check", &report)?)?;
    } else {
        print(&printable(&table(&report)))?;
    }
    // Without a guest event there is nothing that could be wrong, and nothing that was shown.
    let reached = report.verdict.is_some_and(|v| v >= args.require.into());
    Ok(if reached { done } else { Exit::Failed })
}

fn table(report: &CheckReport) -> String {
    let mut text = String::new();
    let mut report = report.clone();
    for vm in &mut report.vms {
        tidy(&mut vm.name);
        for v in &mut vm.vcpus {
            v.reasons.iter_mut().for_each(tidy);
            v.worst.iter_mut().for_each(|worst| tidy(&mut worst.file));
        }
    }
    report.feedback.iter_mut().for_each(tidy);
    let name_width = report.vms.iter().map(|vm| vm.name.chars().count()).max().unwrap_or(2).max(2);
    let _ = writeln!(
        text,
        "{:<name_width$}  vCPU   thread      events     checked      inside      share  offsets  verdict",
        "VM"
    );
    for vm in &report.vms {
        for v in &vm.vcpus {
            let thread = v.thread.map_or("-".to_owned(), |t| t.to_string());
            let verdict = v.verdict.map_or("no guest events", Verdict::name);
            let _ = writeln!(
                text,
                "{:<name_width$}  {:>4}  {thread:>7}  {:>10}  {:>10}  {:>10}  {:>9}  {:>7}  {verdict}",
                vm.name,
                v.id,
                v.events,
                v.checked,
                v.inside,
                share(v.inside, v.checked),
                v.segments.len(),
            );
        }
    }
    for vm in &report.vms {
        for v in &vm.vcpus {
            let mut say = |words: String| {
                let _ = writeln!(text, "VM {} vCPU {}: {words}", vm.name, v.id);
            };
            v.reasons.iter().for_each(|reason| say(reason.clone()));
            if let Some(ns) = v.time_shift_apart_ns {
                say(format!("by TIME_SHIFT alone its events would lie {ns} ns from here"));
            }
            if v.uncertainty > 0 {
                say(format!("the offset may be off by {} cycles either way", v.uncertainty));
            }
            if v.repaired > 0 {
                say(format!("{} stamps were stale behind a backward clock jump and were repaired", v.repaired));
            }
            if v.ambiguous > 0 {
                say(format!("{} events fit two offset segments; recording order chose", v.ambiguous));
            }
            if v.not_placed > 0 {
                say(format!("{} events have no host time", v.not_placed));
            }
            if let Some(w) = &v.worst {
                say(format!(
                    "farthest outside: {} ns from a run window, at {} ns, in {}",
                    w.distance_ns, w.at_ns, w.file
                ));
            }
        }
    }
    if !report.feedback.is_empty() {
        let _ = writeln!(text, "to use what was inferred: {}", report.feedback.join(" "));
        if let Some(lines) = &report.manifest {
            let _ = write!(text, "or, in capture.toml:\n\n{lines}\n");
        }
    }
    let left = if report.damaged.is_empty() { "" } else { ", for what is left of the inputs" };
    let _ = writeln!(text, "verdict: {}{left}", report.verdict.map_or("no guest events to check", Verdict::name));
    text
}
