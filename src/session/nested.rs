//! Guests of guests: `--guest l1=FILE --guest l1/l2=FILE`. What is the host for `l2` is `l1`: its capture has the run
//! windows and the offset writes, in its own TSC.

use std::collections::BTreeMap;

use crate::clock::history::{History, Segment};
use crate::clock::mapping::Step;
use crate::clock::place::{Track, nested_tracks};
use crate::clock::scaling::HostRange;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::session::facts::Facts;
use crate::session::inputs::Opened;
use crate::session::matching::{Machine, Paired};
use crate::session::pairs::Cluster;
use crate::session::runs::{Edge, Host, for_each_edge};
use crate::session::{Outer, Vm, is_tsc};
use crate::time::{HostTsc, RawStamp};

/// A nested VM.
pub(super) struct Nested {
    /// Its clocks are those of its guest host's TSC.
    pub(super) paired: Paired,
    /// From the host's TSC, per vCPU.
    pub(super) tracks: Vec<Vec<Track>>,
    /// Index of the VM that it runs in.
    outer: usize,
}

/// The guests that run in another guest that was named, and the others.
pub(super) fn split(clusters: Vec<Cluster>) -> (Vec<Cluster>, Vec<Cluster>) {
    let names: Vec<String> = clusters.iter().filter_map(|c| c.name.clone()).collect();
    let is_inner = |c: &Cluster| outer_name(c).is_some_and(|outer| names.iter().any(|name| name == outer));
    clusters.into_iter().partition(is_inner)
}

fn outer_name(cluster: &Cluster) -> Option<&str> {
    Some(cluster.spec.as_ref()?.name.rsplit_once('/')?.0)
}

/// Finds the nested VMs and composes their clocks.
pub(super) fn vms(
    host: &Machine<'_>,
    outers: &[Paired],
    inner: Vec<Cluster>,
    warnings: &mut Vec<String>,
    monitor: &Monitor<'_>,
) -> Result<Vec<Nested>> {
    let mut by_outer: BTreeMap<usize, Vec<Cluster>> = BTreeMap::new();
    for cluster in inner {
        let outer = outer_name(&cluster).and_then(|name| outers.iter().position(|vm| vm.name == name));
        let Some(outer) = outer else {
            let name = cluster.name.unwrap_or_default();
            return Err(Error::new(ErrorKind::Usage, format!("guest {name}: nested more than once"))
                .hint("name the guest of the host and the guest inside it: --guest l1=FILE --guest l1/l2=FILE"));
        };
        by_outer.entry(outer).or_default().push(cluster);
    }
    let mut nested = Vec::new();
    for (outer, clusters) in by_outer {
        let around = &outers[outer];
        let hosts = usable(host, around)?;
        // Process ids of the outer machine say nothing about those inside.
        let facts = Facts::default();
        let machine = Machine { hosts: &hosts, offsets: &[], facts: &facts, ..*host };
        for paired in machine.vms(clusters, warnings, monitor)? {
            if paired.files.is_empty() {
                continue;
            }
            for &file in &paired.files {
                let Opened { capture, survey, .. } = &host.captures[file];
                if survey.streams.iter().any(|s| s.events > 0 && !is_tsc(capture, s.buffer)) {
                    let text = "a guest inside a guest can only be placed by its TSC";
                    return Err(Error::new(ErrorKind::Evidence, text)
                        .coded(Code::NoClock)
                        .in_file(&capture.path)
                        .hint("record it with `trace-cmd record -C x86-tsc …`"));
                }
            }
            let tracks = tracks(&machine.sources(), around, &paired, monitor)?;
            nested.push(Nested { paired, tracks, outer });
        }
    }
    Ok(nested)
}

/// The captures of the VM around, which must show run windows in TSC cycles.
fn usable(host: &Machine<'_>, around: &Paired) -> Result<Vec<usize>> {
    for &file in &around.files {
        let opened = &host.captures[file];
        let tsc = opened.survey.streams.iter().all(|s| s.events == 0 || is_tsc(&opened.capture, s.buffer));
        if !opened.survey.has_kvm() || !tsc {
            let what = if tsc { "shows no kvm_entry" } else { "was not recorded with the clock `x86-tsc`" };
            let text = format!("guest {} is said to run guests, but its capture {what}", around.name);
            return Err(Error::new(ErrorKind::Evidence, text)
                .coded(Code::NoClock)
                .in_file(&opened.capture.path)
                .hint("record it with `trace-cmd record -C x86-tsc -e kvm -e sched …`"));
        }
    }
    Ok(around.files.clone())
}

/// Host TSC to the nested guest's, for each of its vCPUs.
fn tracks(hosts: &[Host<'_>], around: &Paired, paired: &Paired, monitor: &Monitor<'_>) -> Result<Vec<Vec<Track>>> {
    let outer: Vec<(u32, History)> = around.pairing.vcpus.iter().map(|v| (v.cpu, unbounded(&v.history))).collect();
    let offsets = |h: &History| h.segments.iter().map(|s| (s.offset, s.scaling)).collect::<Vec<_>>();
    if let Some((_, first)) = outer.first()
        && outer.iter().all(|(_, h)| h.segments.len() == 1 && offsets(h) == offsets(first))
    {
        // Synchronised and never changed, as usual: it does not matter where the nested vCPU ran.
        return Ok(paired.pairing.vcpus.iter().map(|v| nested_tracks(first, &v.history)).collect());
    }
    let mut stays: BTreeMap<i32, Vec<(HostTsc, u32)>> = BTreeMap::new();
    for_each_edge(hosts, &[HostRange::ALL], monitor, &mut |edge, cpu| {
        if let Edge::Entry(thread, at) = edge {
            stays.entry(thread).or_default().push((at, cpu));
        }
    })?;
    let of = |thread: i32, inner: &History| {
        let mut entries = stays.get(&thread).cloned().unwrap_or_default();
        entries.sort_unstable();
        entries.dedup_by_key(|(_, cpu)| *cpu);
        let ends = entries.iter().skip(1).map(|(at, _)| HostTsc::new(at.get().saturating_sub(1)));
        let ends: Vec<HostTsc> = ends.chain([HostTsc::MAX]).collect();
        let mut tracks = Vec::new();
        for ((first, cpu), last) in entries.into_iter().zip(ends) {
            let (Some(stay), Some((_, outer))) = (HostRange::new(first, last), outer.iter().find(|(c, _)| *c == cpu))
            else {
                continue;
            };
            let mut part = inner.clone();
            part.segments.iter_mut().for_each(|s| s.ran = s.ran.and_then(|ran| ran.intersect(stay)));
            tracks.extend(nested_tracks(outer, &part));
        }
        tracks.sort_by_key(|track| track.within.first);
        tracks
    };
    Ok(paired.pairing.vcpus.iter().map(|v| of(v.thread, &v.history)).collect())
}

/// A history that may hold whenever its offsets did, not only while its own vCPU ran.
fn unbounded(history: &History) -> History {
    let mut history = history.clone();
    for segment in &mut history.segments {
        let last = if segment.to == HostTsc::MAX { segment.to } else { HostTsc::new(segment.to.get() - 1) };
        segment.ran = HostRange::new(segment.from, last);
    }
    history
}

impl Nested {
    /// As a VM whose history is in host time; `vm` makes the VM.
    pub(super) fn into_vm(self, vm: impl Fn(Paired) -> Vm) -> Vm {
        let Self { paired, tracks, outer } = self;
        let threads = paired.pairing.vcpus.iter().map(|v| v.thread).collect();
        let mut vm = vm(paired);
        vm.pid = None;
        vm.outer = Some(Outer { vm: outer, threads });
        for (vcpu, tracks) in vm.vcpus.iter_mut().zip(&tracks) {
            // The host knows no such thread.
            vcpu.thread = None;
            vcpu.note.get_or_insert_with(|| "nested: its offset is over the TSC of the guest it runs in".to_owned());
            for (index, segment) in vcpu.history.segments.iter_mut().enumerate() {
                in_host_time(segment, tracks.iter().filter(|t| t.segment == index));
            }
        }
        vm
    }
}

fn in_host_time<'a>(segment: &mut Segment, tracks: impl Iterator<Item = &'a Track>) {
    let within =
        tracks.map(|t| t.within).reduce(|a, b| HostRange { first: a.first.min(b.first), last: a.last.max(b.last) });
    segment.ran = within;
    let Some(within) = within else { return };
    if segment.from != HostTsc::MIN {
        segment.from = within.first;
    }
    if segment.to != HostTsc::MAX {
        segment.to = HostTsc::new(within.last.get().saturating_add(1));
    }
}

/// What the guest around showed on its TSC at host time `host`, by the first conversion of a mapping.
pub(super) fn outer_stamp(first: Option<&Step>, host: HostTsc) -> Option<RawStamp> {
    match first? {
        Step::Tsc { scaling, offset } => Some(RawStamp::new(scaling.guest(host, *offset).get())),
        Step::PvClock { .. } => None,
    }
}
