//! The audit: does every guest event lie inside a run window of its vCPU, and can the offsets be believed?

use serde::Serialize;

use crate::clock::history::Source;
use crate::clock::place::Counts;
use crate::convert::{events_of, segment_reports, time_shift_apart, tsc_report};
use crate::error::Result;
use crate::monitor::Monitor;
use crate::report::{SegmentReport, TscReport, share};
use crate::session::inside::{Inside, inside};
use crate::session::{Session, Vcpu, better_vm, conflict_words, stamps_are_nanoseconds};
use crate::time::{HostTsc, TscOffset};

/// How far a placement can be believed, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Below 90 % inside the run windows.
    Wrong,
    /// Neither wrong nor consistent.
    Doubtful,
    /// At least 99.9 % inside and the rest explained, or inferred with one range that explains all.
    Consistent,
    /// The offsets were recorded, and every event that could be checked lies inside.
    Proved,
}

impl Verdict {
    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Doubtful => "doubtful",
            Self::Consistent => "consistent",
            Self::Proved => "proved",
        }
    }
}

/// The audit of a session.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// The worst verdict of all vCPUs with guest events; null where there are none.
    pub verdict: Option<Verdict>,
    /// The VMs.
    pub vms: Vec<CheckVm>,
    /// The host's TSC rate.
    pub tsc: TscReport,
    /// Options that feed back what was inferred.
    pub feedback: Vec<String>,
    /// The same as lines of `capture.toml`.
    pub manifest: Option<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// What of the inputs was damaged, cut short or skipped.
    pub damaged: Vec<String>,
}

/// One VM.
#[derive(Clone, Debug, Serialize)]
pub struct CheckVm {
    /// Name.
    pub name: String,
    /// Process on the host, where the capture shows it.
    pub pid: Option<u32>,
    /// vCPUs in row order.
    pub vcpus: Vec<CheckVcpu>,
}

/// One vCPU.
#[derive(Clone, Debug, Serialize)]
pub struct CheckVcpu {
    /// The number in its rows' names.
    pub id: u32,
    /// KVM's number, where known.
    pub vcpu_id: Option<u32>,
    /// Its host thread, where known.
    pub thread: Option<i32>,
    /// Guest events that were read.
    pub events: u64,
    /// Guest events that fall within the host trace's span, or have no place at all.
    pub checked: u64,
    /// Of those, inside a run window.
    pub inside: u64,
    /// Events with stale stamps that were repaired.
    pub repaired: u64,
    /// Events for which two segments fit, so that recording order chose.
    pub ambiguous: u64,
    /// Events without a host time.
    pub not_placed: u64,
    /// How far to believe it; null without guest events that can be checked.
    pub verdict: Option<Verdict>,
    /// Why it is no better.
    pub reasons: Vec<String>,
    /// The event outside that is farthest from a run window.
    pub worst: Option<Worst>,
    /// How far offsets may be off, in guest cycles; 0 where they are exact.
    pub uncertainty: u64,
    /// The offset history.
    pub segments: Vec<SegmentReport>,
    /// As in [`VcpuReport`](crate::report::VcpuReport).
    pub time_shift_apart_ns: Option<i64>,
}

/// The worst offender.
#[derive(Clone, Debug, Serialize)]
pub struct Worst {
    /// The guest's file.
    pub file: String,
    /// When, on the output's axis in nanoseconds.
    pub at_ns: u64,
    /// Distance to the nearest run window in nanoseconds.
    pub distance_ns: u64,
}

/// Audits a session.
///
/// # Errors
///
/// If an input can no longer be read, or if the monitor asks to stop.
pub fn check(session: &Session, monitor: &Monitor<'_>) -> Result<CheckReport> {
    let counts = inside(session, monitor)?;
    let mut vms: Vec<CheckVm> = session
        .vms
        .iter()
        .enumerate()
        .map(|(v, vm)| CheckVm {
            name: vm.name.clone(),
            pid: vm.pid,
            vcpus: (0..vm.vcpus.len()).map(|c| check_vcpu(session, &counts, v, c)).collect(),
        })
        .collect();
    for (v, vm) in vms.iter_mut().enumerate() {
        if vm.vcpus.iter().any(|vcpu| vcpu.verdict.is_some_and(|verdict| verdict < Verdict::Consistent)) {
            explain(session, v, vm, monitor)?;
        }
    }
    let worst: Vec<Option<Verdict>> = vms.iter().map(|vm| vm.vcpus.iter().filter_map(|v| v.verdict).min()).collect();
    for (vm, outer) in vms.iter_mut().zip(&session.vms).filter_map(|(vm, of)| Some((vm, of.outer.as_ref()?))) {
        // No better than the placement of the guest around.
        for vcpu in &mut vm.vcpus {
            vcpu.verdict = vcpu.verdict.map(|v| worst[outer.vm].map_or(v, |outer| v.min(outer)));
        }
    }
    Ok(CheckReport {
        verdict: vms.iter().flat_map(|vm| &vm.vcpus).filter_map(|v| v.verdict).min(),
        feedback: feedback(session),
        manifest: manifest(session),
        tsc: tsc_report(session),
        vms,
        warnings: session.all_warnings(),
        damaged: session.damaged(),
    })
}

/// Looks for what else a guest may be whose events do not fit.
fn explain(session: &Session, index: usize, vm: &mut CheckVm, monitor: &Monitor<'_>) -> Result<()> {
    let rival = better_vm(session, index, monitor)?;
    let reason = match rival {
        Some(rival) => format!(
            "the run windows of VM {} fit better: {} of a sample lies inside",
            session.vms[rival.vm].name,
            share(rival.inside, rival.checked)
        ),
        None if stamps_are_nanoseconds(session, index, monitor)? => {
            "the stamps are nanoseconds, not the TSC cycles that the file promises".to_owned()
        }
        None => return Ok(()),
    };
    for vcpu in vm.vcpus.iter_mut().filter(|v| v.verdict.is_some_and(|verdict| verdict < Verdict::Consistent)) {
        vcpu.verdict = Some(Verdict::Wrong);
        vcpu.reasons.push(reason.clone());
    }
    Ok(())
}

fn check_vcpu(session: &Session, counts: &[Inside], vm: usize, index: usize) -> CheckVcpu {
    let vcpu = &session.vms[vm].vcpus[index];
    let mut count = Inside::default();
    let mut placed = Counts::default();
    let mut worst: Option<(usize, (HostTsc, u64))> = None;
    for (stream, found) in session.streams.iter().zip(counts).filter(|(s, _)| s.vm == vm && s.vcpu == Some(index)) {
        count.add(found);
        placed.repaired += stream.placement.counts.repaired;
        placed.ambiguous += stream.placement.counts.ambiguous;
        if let Some(found) = found.worst
            && worst.is_none_or(|(_, (_, distance))| found.1 > distance)
        {
            worst = Some((stream.input, found));
        }
    }
    let rate = &session.rate.rate;
    let mut report = CheckVcpu {
        id: vcpu.number,
        vcpu_id: vcpu.vcpu_id,
        thread: vcpu.thread,
        events: events_of(session, vm, index),
        checked: count.checked + count.stale + count.nowhere,
        inside: count.inside,
        repaired: placed.repaired,
        ambiguous: placed.ambiguous,
        not_placed: count.stale + count.nowhere,
        verdict: None,
        reasons: Vec::new(),
        worst: worst.map(|(input, (at, distance))| Worst {
            file: session.inputs[input].capture.path.display().to_string(),
            at_ns: rate.ns(at).get(),
            distance_ns: rate.duration(distance),
        }),
        uncertainty: vcpu.history.segments.iter().map(|s| s.uncertainty).max().unwrap_or(0),
        segments: segment_reports(vcpu).collect(),
        time_shift_apart_ns: time_shift_apart(session, vcpu),
    };
    if report.events > 0 {
        judge(&mut report, vcpu, &count);
    }
    report
}

fn judge(report: &mut CheckVcpu, vcpu: &Vcpu, count: &Inside) {
    let CheckVcpu { checked, inside, .. } = *report;
    let stale = count.stale;
    let recorded =
        |s: Source| matches!(s, Source::Recorded | Source::RecordedPrev | Source::TimeShift | Source::Snapshot);
    let segments = &vcpu.history.segments;
    let exact = !segments.is_empty() && segments.iter().all(|s| recorded(s.source) && s.uncertainty == 0);
    let contradicted = !vcpu.history.conflicts.is_empty();
    let nested = vcpu.thread.is_none();
    let inferred = segments.iter().any(|s| s.source == Source::Inferred) || (vcpu.note.is_some() && !nested);
    if checked == 0 {
        report.reasons.push("no guest event lies within the host's trace".to_owned());
        report.verdict = Some(Verdict::Doubtful);
        return;
    }
    let outside = checked - inside.min(checked);
    for conflict in &vcpu.history.conflicts {
        report.reasons.push(conflict_words(conflict));
    }
    let per_mille = |part: u64| u128::from(part) * 1000;
    // A stale stamp is the recording's fault, and no place is claimed for it.
    let enough = |share: u64| per_mille(inside) >= u128::from(checked - stale.min(checked)) * u128::from(share);
    report.verdict = Some(if !enough(900) {
        report
            .reasons
            .push(format!("{outside} of {checked} events lie outside the run windows: offset or pairing is wrong"));
        Verdict::Wrong
    } else if !enough(999) {
        report.reasons.push(format!("{outside} of {checked} events lie outside the run windows"));
        Verdict::Doubtful
    } else if count.unknown > count.checked {
        report.reasons.push(format!("for {} events the host's own losses leave it open", count.unknown));
        Verdict::Doubtful
    } else if outside == 0 && exact && !inferred && !contradicted {
        Verdict::Proved
    } else if outside > 0 && exact && outside > stale {
        report.reasons.push(format!("{} events lie outside the run windows without a known reason", outside - stale));
        Verdict::Doubtful
    } else {
        if outside > 0 {
            report.reasons.push(format!("{outside} events lie outside: stale stamps, or within the uncertainty"));
        }
        report.reasons.push(
            match (inferred, exact) {
                (true, _) => "inferred from the run windows",
                (false, true) => "the evidence contradicts itself",
                (false, false) => "not recorded",
            }
            .to_owned(),
        );
        Verdict::Consistent
    });
}

/// What was inferred of a vCPU. A clock constant is not an offset, and nothing takes it.
fn inferred(vcpu: &Vcpu) -> impl Iterator<Item = TscOffset> {
    let other_clock = vcpu.note.as_deref().is_some_and(|note| note.starts_with("clock "));
    let segments = vcpu.history.segments.iter().filter(move |s| s.source == Source::Inferred && !other_clock);
    segments.map(|s| s.offset)
}

/// What was inferred, as options.
fn feedback(session: &Session) -> Vec<String> {
    let vcpus = session.vms.iter().flat_map(|vm| vm.vcpus.iter().map(move |vcpu| (vm, vcpu)));
    vcpus
        .flat_map(|(vm, vcpu)| {
            inferred(vcpu).map(move |offset| format!("--offset {}/{}={}", vm.name, vcpu.number, offset.signed()))
        })
        .collect()
}

/// The same as lines of `capture.toml`, for VMs whose every vCPU has one inferred offset.
fn manifest(session: &Session) -> Option<String> {
    let whole = session.vms.iter().filter_map(|vm| {
        let one = |vcpu| {
            let mut offsets = inferred(vcpu);
            offsets.next().filter(|_| offsets.next().is_none())
        };
        let offsets: Option<Vec<TscOffset>> = vm.vcpus.iter().map(one).collect();
        offsets.filter(|offsets| !offsets.is_empty()).map(|offsets| (vm.name.clone(), offsets))
    });
    let tables = crate::session::manifest::vm_tables(whole);
    (!tables.is_empty()).then_some(tables)
}
