//! The parts of a [`Timeline`](super::Timeline) before the first event.

use rustc_hash::FxHashMap;

use super::batch_builder::Canvas;
use super::drawing::{Category, Correlation, Owner, TrackId};
use super::host_cpu::HostCpu;
use super::labels::Labels;
use super::late_rows::LateRows;
use super::layout::{Layout, VcpuRows};
use super::marks::{Instead, Marks};
use super::names::NameId;
use super::plan::{self, Role};
use super::row::Row;
use super::run_check::Checker;
use super::setup::{SegmentSetup, Setup, StreamRole, VcpuSetup};
use super::vcpu::{Moment, Vcpu};
use super::vcpu_thread::{Details, Mode, Off};
use super::{Recording, Source, StateTimes, Stream, arrows, causes, exit_reasons};

pub(super) fn find_vcpu(setup: &Setup, vm: u32, vcpu: u32) -> Option<&VcpuSetup> {
    setup.vms.get(vm as usize)?.vcpus.get(vcpu as usize)
}

pub(super) fn vcpu(index: usize, rows: &VcpuRows, setup: Option<&VcpuSetup>, canvas: &mut Canvas) -> Vcpu {
    Vcpu {
        me: index as u32,
        vm: rows.vm,
        vcpu: rows.vcpu,
        vcpu_id: setup.and_then(|setup| setup.vcpu_id),
        name: canvas.names.intern(rows.short_name.as_bytes()),
        row: Row::new(rows.row),
        state_track: rows.state,
        events_track: rows.events,
        marks: Marks::default(),
        check: Checker::new(),
        mode: Mode::Unknown,
        off: Off::No,
        entered: false,
        since: 0,
        cpu: None,
        home: None,
        reason: exit_reasons::ReasonId::UNRECORDED,
        exit_begin: 0,
        exit_before: 0,
        arrows: arrows::Begun::default(),
        causes: causes::Causes::default(),
        details: Details::default(),
        times: StateTimes::default(),
        exits: Vec::new(),
        instead: Instead::default(),
        waits: Vec::new(),
    }
}

/// Finds out whose each stream is. A stream of a vCPU or capture that does not exist is nobody's.
pub(super) fn streams(
    setup: &Setup,
    host_role: Role,
    host_by_number: &FxHashMap<u32, usize>,
    vcpus: &[Vcpu],
    hosts: &mut [HostCpu],
) -> (Vec<Stream>, Vec<Recording>) {
    let mut recordings: Vec<Recording> = Vec::new();
    let mut list = Vec::new();
    for role in &setup.streams {
        let (role, source, target) = match *role {
            StreamRole::Host { source, cpu } => (host_role, source, host_by_number.get(&cpu).copied()),
            StreamRole::Guest { source, vm, vcpu } => {
                (Role::Guest, source, vcpus.iter().position(|other| (other.vm, other.vcpu) == (vm, vcpu)))
            }
        };
        let target = target.unwrap_or(usize::MAX);
        let mut recording = usize::MAX;
        if role == Role::Guest {
            let key = (source, target);
            recording = recordings.iter().position(|other| other.key == key).unwrap_or_else(|| {
                recordings.push(Recording { key, streams: 0, started: false });
                recordings.len() - 1
            });
            recordings[recording].streams += 1;
        } else if let Some(host) = hosts.get_mut(target) {
            host.streams += 1;
        }
        let last = Moment::default();
        list.push(Stream { role, source, target, recording, last, ended: false, written: 0, filtered: 0 });
    }
    (list, recordings)
}

pub(super) fn sources(setup: &Setup, host_role: Role, canvas: &mut Canvas) -> Vec<Source> {
    let list = setup.sources.iter().enumerate().map(|(index, formats)| {
        let guest = setup.streams.iter().find_map(|role| match *role {
            StreamRole::Guest { source, vm, .. } if usize::from(source) == index => Some(vm),
            _ => None,
        });
        let uname = guest.and_then(|vm| setup.vms.get(vm as usize)).and_then(|vm| vm.kernel.as_deref());
        let role = if guest.is_some() { Role::Guest } else { host_role };
        let plans = plan::plans(formats, role, &mut canvas.names);
        Source { formats: formats.clone(), plans, labels: Labels::new(formats, uname, &mut canvas.names) }
    });
    list.collect()
}

/// The machines whose late rows there may be: the VMs, and then the host.
pub(super) fn late_rows(setup: &Setup, layout: &Layout) -> LateRows {
    let mut late = LateRows::new(layout.tracks.len());
    for (index, vm) in setup.vms.iter().enumerate() {
        let group = layout.vm_groups.get(index).copied().flatten();
        let hidden = vm.vcpus.iter().all(|vcpu| vcpu.hidden);
        late.machine(Owner::Vm(index as u32), vm.name.clone(), group, hidden);
    }
    late.machine(Owner::Host, "host".into(), layout.host_group, layout.host_group.is_none());
    late
}

/// The TSC offset rows are known beforehand.
pub(super) fn draw_offsets(setup: &Setup, layout: &Layout, canvas: &mut Canvas) {
    for rows in &layout.vcpus {
        let (Some(track), Some(vcpu)) = (rows.offsets, find_vcpu(setup, rows.vm, rows.vcpu)) else { continue };
        for segment in &vcpu.segments {
            let (from, to) = (segment.from.max(setup.span.0), segment.to.min(setup.span.1));
            if from < to {
                draw_offset(segment, (setup.rate.ns(from).get(), setup.rate.ns(to).get()), track, canvas);
            }
        }
    }
}

fn draw_offset(segment: &SegmentSetup, (begin, end): (u64, u64), track: TrackId, canvas: &mut Canvas) {
    let source = canvas.names.intern(segment.source.as_bytes());
    canvas.name(NameId::SOURCE, source);
    if let Some(before) = segment.changed_from {
        canvas.int(NameId::CHANGED_FROM, before.signed());
    }
    if let Some(scaling) = &segment.scaling {
        let scaling = canvas.names.intern(scaling.as_bytes());
        canvas.name(NameId::SCALING, scaling);
    }
    let name = canvas.names.intern(format!("offset {}", segment.offset).as_bytes());
    canvas.begin(begin, track, Category::Offset, Correlation::None, name);
    canvas.end(end, track);
}
