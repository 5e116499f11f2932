//! What the timeline must know of a session before the first event.

use super::account::{segment_reports, tsc_report};
use super::machines;
use crate::clock::history::Segment;
use crate::pipeline::lanes::Lanes;
use crate::selection::{Selection, recorded};
use crate::session::{Role, Session, Vcpu};
use crate::time::TraceNs;
use crate::timeline::drawing::FieldSource;
use crate::timeline::setup::{DrawOptions, SegmentSetup, Setup, VcpuSetup, VmSetup};

/// What the timeline must know beforehand.
pub fn setup(session: &Session, lanes: &Lanes<'_>, selection: &Selection, draw: DrawOptions) -> Setup {
    let sources = session
        .inputs
        .iter()
        .map(|i| FieldSource {
            symbols: i.capture.info.kallsyms.clone(),
            printk: i.capture.info.printk_formats.as_slice().into(),
            ..FieldSource::new(i.capture.formats.clone(), i.capture.endian)
        })
        .collect();
    // Segments are drawn where something else is: within the span and the host's or the guests' recordings.
    let span = selection.span();
    let drawn = recorded(session).and_then(|e| e.intersect(span)).unwrap_or(span);
    let vms = session.vms.iter().enumerate().map(|(v, vm)| VmSetup {
        name: vm.name.clone(),
        pid: vm.pid,
        threads: session.threads_of(v),
        kernel: session
            .inputs
            .iter()
            .find(|i| i.role == Role::Guest(v))
            .and_then(|i| i.capture.info.uname.as_deref())
            .and_then(|uname| uname.split(' ').nth(2))
            .map(str::to_owned),
        vcpus: vm
            .vcpus
            .iter()
            .enumerate()
            .map(|(c, vcpu)| VcpuSetup {
                number: vcpu.number,
                vcpu_id: vcpu.vcpu_id,
                thread: vcpu.thread,
                segments: if selection.wants(v, c) { segments(vcpu) } else { Vec::new() },
                description: clock_words(vcpu),
                hidden: !selection.wants(v, c),
            })
            .collect(),
    });
    let hosts = session.inputs.iter().filter(|i| i.role == Role::Host);
    Setup {
        sources,
        streams: lanes.roles.clone(),
        vms: vms.collect(),
        host_comms: hosts.flat_map(|i| i.capture.info.cmdlines.iter().cloned()).collect(),
        rate: session.rate.rate.clone(),
        span: (drawn.first, drawn.last),
        wall_clock: wall_clock(session),
        machines: machines::machines(session, draw.layers.native),
        metadata: metadata(session),
        options: draw,
    }
}

/// Wall-clock time at the host's first event, where the axis is the clock that it was read with.
fn wall_clock(session: &Session) -> Option<(TraceNs, u64)> {
    let hosts = session.inputs.iter().filter(|i| i.role == Role::Host);
    hosts.into_iter().find_map(|input| {
        let (native, date) = (input.capture.info.perfetto.as_ref()?, input.capture.info.date_ns?);
        let on_axis = native.line.as_ref() == session.rate.rate.line() && session.on_axis(&input.capture, 0);
        on_axis.then(|| Some((TraceNs::new(native.first_ns), native.first_ns.checked_add(date)?)))?
    })
}

fn segments(vcpu: &Vcpu) -> Vec<SegmentSetup> {
    let mut before: Option<&Segment> = None;
    let mut drawn = Vec::new();
    for segment in &vcpu.history.segments {
        drawn.push(SegmentSetup {
            from: segment.from,
            to: segment.to,
            offset: segment.offset,
            changed_from: before.map(|s| s.offset),
            source: segment.source.to_string(),
            scaling: (!segment.scaling.is_none())
                .then(|| format!("{} / 2^{}", segment.scaling.ratio(), segment.scaling.frac_bits())),
        });
        before = Some(segment);
    }
    drawn
}

/// Clock source and quality for a row's description.
fn clock_words(vcpu: &Vcpu) -> String {
    let segments = &vcpu.history.segments;
    let mut words = match segments.as_slice() {
        [] => "no TSC offset known".to_owned(),
        [only] => format!("TSC offset {} ({})", only.offset, only.source),
        [first, ..] => format!("{} TSC offsets ({})", segments.len(), first.source),
    };
    let widest = segments.iter().map(|s| s.uncertainty).max().unwrap_or(0);
    if widest > 0 {
        words.push_str(&format!(", within {widest} cycles"));
    }
    if let Some(note) = &vcpu.note {
        words.push_str(&format!("; {note}"));
    }
    words
}

/// How many of a vCPU's segments stand in the metadata. All are drawn on the vCPU's offset row; where the host's TSC is
/// unstable they are hundreds of thousands, which no reader of metadata expects.
const LISTED: usize = 100;

fn metadata(session: &Session) -> serde_json::Value {
    serde_json::json!({
        "tool": concat!("kvm-timeline ", env!("CARGO_PKG_VERSION")),
        "tsc": tsc_report(session),
        "vms": session.vms.iter().map(|vm| serde_json::json!({
            "name": vm.name,
            "pid": vm.pid,
            "vcpus": vm.vcpus.iter().map(|v| serde_json::json!({
                "id": v.number,
                "vcpu_id": v.vcpu_id,
                "thread": v.thread,
                "segment_count": v.history.segments.len(),
                "segments": segment_reports(v).take(LISTED).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}
