//! The rows of the picture, in their order, before the first event.

use std::fmt::Write as _;

use super::drawing::{Owner, Track, TrackId, TrackKind};
use super::setup::{Group, Setup, StreamRole, VcpuSetup, VmSetup};

/// With more vCPUs than this, each VM becomes a group.
const MANY_VCPUS: usize = 50;

/// All rows and who they belong to.
#[derive(Default)]
pub(super) struct Layout {
    pub(super) tracks: Vec<Track>,
    /// The group of the Host CPU rows.
    pub(super) host_group: Option<TrackId>,
    /// By VM: the group of its rows, if it has one.
    pub(super) vm_groups: Vec<Option<TrackId>>,
    /// By ascending CPU number.
    pub(super) host_cpus: Vec<HostCpuRows>,
    /// In the order of VMs and their vCPUs.
    pub(super) vcpus: Vec<VcpuRows>,
}

/// Rows of a physical CPU.
pub(super) struct HostCpuRows {
    pub(super) cpu: u32,
    pub(super) row: TrackId,
    pub(super) events: Option<TrackId>,
}

/// Rows of a vCPU.
pub(super) struct VcpuRows {
    pub(super) vm: u32,
    pub(super) vcpu: u32,
    /// "web vCPU 1", as its thread is called on Host CPU rows.
    pub(super) short_name: String,
    pub(super) row: TrackId,
    pub(super) state: Option<TrackId>,
    pub(super) events: Option<TrackId>,
    pub(super) offsets: Option<TrackId>,
}

impl Layout {
    pub(super) fn new(setup: &Setup) -> Self {
        let mut layout = Self::default();
        layout.host(setup);
        let vcpus = setup.vms.iter().map(|vm| vm.vcpus.len()).sum::<usize>();
        let grouped = match setup.options.group {
            Group::Auto => vcpus > MANY_VCPUS,
            Group::Always => true,
            Group::Never => false,
        };
        for (index, vm) in setup.vms.iter().enumerate() {
            layout.vm(setup, index as u32, vm, grouped);
        }
        layout
    }

    fn add(
        &mut self,
        parent: Option<TrackId>,
        kind: TrackKind,
        owner: Owner,
        name: String,
        description: String,
    ) -> TrackId {
        self.tracks.push(Track { parent, name, description, kind, owner, hidden: false });
        TrackId(self.tracks.len() as u32 - 1)
    }

    fn host(&mut self, setup: &Setup) {
        let cpu = |role: &StreamRole| if let StreamRole::Host { cpu, .. } = *role { Some(cpu) } else { None };
        let mut cpus: Vec<u32> = setup.streams.iter().filter_map(cpu).collect();
        cpus.sort_unstable();
        cpus.dedup();
        let Some(&highest) = cpus.last() else { return };
        let width = digits(highest);
        let lone = setup.vms.is_empty();
        let group = self.add(None, TrackKind::Group, Owner::Host, "Host".into(), String::new());
        self.host_group = Some(group);
        for cpu in cpus {
            let what = format!("What runs on physical CPU {cpu}: tasks, and in them interrupts");
            let row = self.add(Some(group), TrackKind::HostCpu, Owner::Host, format!("Host CPU {cpu:0width$}"), what);
            let name = format!("Events, CPU {cpu:0width$}");
            let events = lone.then(|| self.add(Some(row), TrackKind::Events, Owner::Host, name, String::new()));
            self.host_cpus.push(HostCpuRows { cpu, row, events });
        }
    }

    fn vm(&mut self, setup: &Setup, index: u32, vm: &VmSetup, grouped: bool) {
        let owner = Owner::Vm(index);
        let width = vm.vcpus.iter().map(|vcpu| digits(vcpu.number)).max().unwrap_or(1);
        let name = &vm.name;
        let parent = (grouped && vm.vcpus.iter().any(|vcpu| !vcpu.hidden))
            .then(|| self.add(None, TrackKind::Group, owner, format!("VM {name}"), vm_description(vm)));
        self.vm_groups.push(parent);
        for (vcpu_index, vcpu) in vm.vcpus.iter().enumerate() {
            let vcpu_index = vcpu_index as u32;
            let short_name = format!("{name} vCPU {:0width$}", vcpu.number);
            let description = vcpu_description(vm, vcpu);
            let row = self.add(parent, TrackKind::Vcpu, owner, format!("VM {short_name}"), description);
            let recorded = setup
                .streams
                .iter()
                .any(|role| matches!(*role, StreamRole::Guest { vm, vcpu, .. } if vm == index && vcpu == vcpu_index));
            let mut child = |wanted: bool, kind, prefix: &str, what: &str| {
                wanted.then(|| self.add(Some(row), kind, owner, format!("{prefix}, {short_name}"), what.into()))
            };
            let state = child(
                vcpu.thread.is_some(),
                TrackKind::HostState,
                "Host state",
                "What the host does with the vCPU's thread",
            );
            let events = child(recorded, TrackKind::Events, "Events", "Guest events that are no slices");
            let offsets = child(
                !vcpu.segments.is_empty(),
                TrackKind::TscOffset,
                "TSC offset",
                "What KVM adds to the host's TSC to get the guest's",
            );
            if vcpu.hidden {
                self.tracks[row.0 as usize..].iter_mut().for_each(|track| track.hidden = true);
            }
            self.vcpus.push(VcpuRows { vm: index, vcpu: vcpu_index, short_name, row, state, events, offsets });
        }
    }
}

fn digits(number: u32) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

fn vm_description(vm: &VmSetup) -> String {
    let mut text = String::new();
    if let Some(pid) = vm.pid {
        let _ = write!(text, "process {pid}");
    }
    if let Some(kernel) = &vm.kernel {
        let _ = write!(text, "{}kernel {kernel}", if text.is_empty() { "" } else { ", " });
    }
    text
}

fn vcpu_description(vm: &VmSetup, vcpu: &VcpuSetup) -> String {
    let mut parts = Vec::new();
    parts.extend(vm.pid.map(|pid| format!("process {pid}")));
    parts.extend(vcpu.thread.map(|thread| format!("thread {thread}")));
    parts.extend(vm.kernel.as_ref().map(|kernel| format!("kernel {kernel}")));
    parts.extend(Some(vcpu.description.clone()).filter(|text| !text.is_empty()));
    parts.join(", ")
}
