//! What a run says about itself: the report, and the parts of it that other subcommands show.

use std::collections::BTreeMap;

use crate::clock::history::{Segment, Source};
use crate::pipeline::lane::Ledger;
use crate::pipeline::lanes::Lanes;
use crate::report::{
    EventReport, InputReport, OffsetReport, RateReport, Report, SegmentReport, StallReport, TscReport, VcpuReport,
    VmReport,
};
use crate::session::{Role, Session, Vcpu, Vm};
use crate::time::HostTsc;
use crate::timeline::{Outcome, Stall};

/// The offset history as reports show it.
pub fn segment_reports(vcpu: &Vcpu) -> impl Iterator<Item = SegmentReport> {
    let report = |s: &Segment| SegmentReport {
        from: (s.from != HostTsc::MIN).then(|| s.from.get()),
        to: (s.to != HostTsc::MAX).then(|| s.to.get()),
        offset: s.offset.signed(),
        offset_unsigned: s.offset.raw(),
        ratio: (!s.scaling.is_none()).then(|| s.scaling.ratio()),
        frac_bits: (!s.scaling.is_none()).then(|| s.scaling.frac_bits()),
        source: s.source.to_string(),
        uncertainty: s.uncertainty,
    };
    vcpu.history.segments.iter().map(report)
}

/// The offset histories of all vCPUs, in the order of their rows.
pub fn offset_reports(session: &Session) -> Vec<OffsetReport> {
    let vcpus = session.vms.iter().flat_map(|vm| vm.vcpus.iter().map(move |v| (vm, v)));
    let of = |(vm, v): (&Vm, &Vcpu)| {
        let report = |segment| OffsetReport { vm: vm.name.clone(), vcpu: v.number, segment };
        segment_reports(v).map(report).collect::<Vec<_>>()
    };
    vcpus.flat_map(of).collect()
}

/// The TSC rate as reports show it.
pub fn tsc_report(session: &Session) -> TscReport {
    let rate = &session.rate;
    let others = rate.others.iter().map(|(source, hz)| RateReport {
        source: source.clone(),
        hz: *hz,
        ppm: rate.hz.map_or(0, |used| {
            let difference = i128::from(*hz) - i128::from(used);
            i64::try_from(difference * 1_000_000 / i128::from(used.max(1))).unwrap_or(i64::MAX)
        }),
    });
    TscReport { hz: rate.hz, source: rate.source.clone(), others: others.collect() }
}

pub(super) fn report(session: &Session, lanes: &Lanes<'_>, ledgers: &[Ledger], outcome: &Outcome) -> Report {
    let mut report = Report { tsc: tsc_report(session), marks_cut: outcome.marks_cut, ..Report::default() };
    for input in &session.inputs {
        let vm = match input.role {
            Role::Guest(vm) => session.vms.get(vm).map(|vm| vm.name.clone()),
            _ => None,
        };
        report.inputs.push(InputReport {
            path: input.capture.path.display().to_string(),
            role: input.role.name().to_owned(),
            kind: input.capture.info.kind.clone(),
            vm,
            events_read: input.survey.events(),
            events_lost: input.survey.streams.iter().map(|s| s.lost).fold(0, u64::saturating_add),
            losses_uncounted: input.survey.streams.iter().map(|s| s.lost_unknown).sum(),
            packets_passed: 0,
        });
    }
    report.warnings = session.all_warnings();
    report.damaged = session.damaged();
    report.events = event_report(session, lanes, ledgers, &outcome.counts.written, &outcome.counts.filtered);
    report.out_of_order = ledgers.iter().map(|l| l.out_of_order).sum();
    for (v, vm) in session.vms.iter().enumerate() {
        let vcpus = vm.vcpus.iter().enumerate().map(|(c, vcpu)| {
            let found = outcome.vcpus.iter().find(|o| o.vm as usize == v && o.vcpu as usize == c);
            VcpuReport {
                id: vcpu.number,
                vcpu_id: vcpu.vcpu_id,
                thread: vcpu.thread,
                events: events_of(session, v, c),
                checked: found.map_or(0, |o| o.check.checked),
                inside: found.map_or(0, |o| o.check.inside),
                segments: segment_reports(vcpu).collect(),
                time_shift_apart_ns: time_shift_apart(session, vcpu),
            }
        });
        report.vms.push(VmReport { name: vm.name.clone(), pid: vm.pid, vcpus: vcpus.collect() });
        if vm.vcpus.iter().any(|v| v.history.segments.iter().any(|s| s.source == Source::Inferred)) {
            report
                .warnings
                .push(format!("VM {}: no TSC offset was recorded; it is inferred from the run windows", vm.name));
        }
    }
    report.longest_stalls = stall_reports(session, outcome);
    if session.rate.hz.is_none() && !session.inputs.is_empty() {
        report
            .warnings
            .push("the TSC rate is unknown: one cycle is shown as one nanosecond; give it with --tsc-hz".to_owned());
    }
    report
}

/// [`VcpuReport::time_shift_apart_ns`].
pub(crate) fn time_shift_apart(session: &Session, vcpu: &Vcpu) -> Option<i64> {
    let cycles = vcpu.time_shift_apart?;
    let hz = i128::from(session.rate.rate.hz()).max(1);
    let half = i128::from(cycles.signum()) * hz / 2;
    i64::try_from((i128::from(cycles) * 1_000_000_000 + half) / hz).ok()
}

/// The longest stall marks as reports show them.
pub fn stall_reports(session: &Session, outcome: &Outcome) -> Vec<StallReport> {
    let report = |stall: &Stall| {
        let vm = session.vms.get(stall.vm as usize)?;
        Some(StallReport {
            vm: vm.name.clone(),
            vcpu: vm.vcpus.get(stall.vcpu as usize)?.number,
            start_ns: stall.start.get(),
            duration_ns: stall.length_ns,
            name: stall.name.clone(),
            cause: stall.cause.clone(),
        })
    };
    outcome.longest_stalls.iter().filter_map(report).collect()
}

/// Events that were read for a vCPU's rows.
pub fn events_of(session: &Session, vm: usize, vcpu: usize) -> u64 {
    let streams = session.streams.iter().filter(|s| s.vm == vm && s.vcpu == Some(vcpu));
    streams.map(|s| s.placement.events).sum()
}

/// The account over all lanes.
pub(crate) fn event_report(
    session: &Session,
    lanes: &Lanes<'_>,
    ledgers: &[Ledger],
    written: &[u64],
    filtered: &[u64],
) -> EventReport {
    let mut events = EventReport { read: session.inputs.iter().map(|i| i.survey.events()).sum(), ..Default::default() };
    events.written = written.iter().sum();
    events.filtered = filtered.iter().sum::<u64>() + ledgers.iter().map(|l| l.filtered).sum::<u64>();
    let mut not_placed: BTreeMap<String, u64> = BTreeMap::new();
    for ledger in ledgers {
        for (reason, count) in &ledger.not_placed {
            *not_placed.entry(reason.name().to_owned()).or_default() += count;
        }
    }
    events.not_placed = not_placed;
    debug_assert_eq!(lanes.lanes.len(), ledgers.len());
    events
}
