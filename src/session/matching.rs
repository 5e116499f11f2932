//! From opened captures to a session: roles, VMs, pairs, histories, placement.

use std::collections::BTreeMap;

use crate::clock::infer::Effort;
use crate::clock::place::Track;
use crate::error::Result;
use crate::monitor::Monitor;
use crate::session::clocks::{Guest, HostSide, Pairing};
use crate::session::evidence::{self, HostEvidence};
use crate::session::facts::Facts;
use crate::session::fit::fit_pairs;
use crate::session::groups::{Group, group};
use crate::session::inputs::{Opened, OpenedAll};
use crate::session::nested;
use crate::session::pairs::{Cluster, announced, clusters, known_pairs};
use crate::session::placement::{Job, place, placed_span};
use crate::session::request::Request;
use crate::session::roles;
use crate::session::runs::{Host, axis};
use crate::session::{GuestStream, Input, Role, Session, Vcpu, Vm};

/// A VM with its clocks and the files of its guest, as indexes into the captures.
pub(super) struct Paired {
    pub(super) name: String,
    pub(super) pid: Option<u32>,
    pub(super) pairing: Pairing,
    pub(super) files: Vec<usize>,
}

/// A machine that runs VMs: the host, or a guest of it.
pub(super) struct Machine<'a> {
    pub(super) captures: &'a [Opened],
    pub(super) hosts: &'a [usize],
    pub(super) offsets: &'a [usize],
    pub(super) facts: &'a Facts,
    pub(super) request: &'a Request,
}

impl<'a> Machine<'a> {
    /// The machine's captures as sources of run windows.
    pub(super) fn sources(&self) -> Vec<Host<'a>> {
        self.hosts.iter().map(|&i| (&self.captures[i].capture, &self.captures[i].survey)).collect()
    }

    /// Finds the machine's VMs, whose files are whose, and every vCPU's history.
    pub(super) fn vms(
        &self,
        mut clusters: Vec<Cluster>,
        warnings: &mut Vec<String>,
        monitor: &Monitor<'_>,
    ) -> Result<Vec<Paired>> {
        let opened = |list: &[usize]| list.iter().map(|&i| &self.captures[i]).collect::<Vec<_>>();
        let (hosts, offsets) = (opened(self.hosts), opened(self.offsets));
        let mut groups = Vec::new();
        for host in &hosts {
            let tgids: BTreeMap<i32, i32> = host.capture.info.tgids.iter().copied().collect();
            groups.extend(group(&host.survey, &announced(host, &clusters), &tgids));
        }
        known_pairs(self.captures, &mut clusters, &mut groups)?;
        let evidence = HostEvidence::new(&hosts, &offsets, &groups);
        if evidence.strangers > 0 {
            warnings.push(format!("{} offset writes are of no known vCPU and are not used", evidence.strangers));
        }
        let alone = groups.len() == 1;
        for group in groups.iter_mut().filter(|g| g.pid.is_none()) {
            group.pid = evidence.debugfs_pid(group, self.facts, alone);
        }
        join_processes(&mut groups, &clusters);
        let side = HostSide {
            evidence,
            hosts: self.sources(),
            facts: self.facts,
            request: self.request,
            axis: axis(&self.sources()),
            all_windows: Default::default(),
            effort: Effort::for_events(self.captures.iter().map(|opened| opened.survey.events()).sum()),
        };
        warnings.extend(fit_pairs(self.captures, &mut clusters, &mut groups, &side, monitor)?);
        let mut vms = Vec::new();
        for (index, group) in groups.iter_mut().enumerate().filter(|(_, g)| !g.vcpus.is_empty()) {
            let own = || clusters.iter().filter(|c| c.group == Some(index));
            let files: Vec<usize> = own().flat_map(|c| c.files.iter().copied()).collect();
            let name = name_and_pid(group, own().next(), self.facts);
            let guests: Vec<Guest<'_>> = files.iter().map(|&f| Guest::new(&self.captures[f])).collect();
            let pairing = Pairing::new(&side, &name, group, &guests, monitor)?;
            warnings.extend(pairing.warnings.iter().map(|w| format!("VM {name}: {w}")));
            vms.push(Paired { name, pid: group.pid, pairing, files });
        }
        let mut all: Vec<_> = vms.iter_mut().flat_map(|vm| vm.pairing.tightenable()).collect();
        evidence::tighten(&side.hosts, &mut all, monitor)?;
        Ok(vms)
    }
}

pub(super) fn assemble(opened: OpenedAll, request: &Request, monitor: &Monitor<'_>) -> Result<Session> {
    let OpenedAll { mut captures, facts, mut left_out, manifests } = opened;
    roles::settle_beside(&mut captures, &mut left_out)?;
    let roles = roles::decide(&captures)?;
    let (inner, outer) = nested::split(clusters(&captures, &roles, &request.vms));
    let mut warnings = Vec::new();
    let host = Machine { captures: &captures, hosts: &roles.hosts, offsets: &roles.offsets, facts: &facts, request };
    let mut vms = host.vms(outer, &mut warnings, monitor)?;
    let nested = nested::vms(&host, &vms, inner, &mut warnings, monitor)?;

    // All streams are placed at once.
    let mut jobs = Vec::new();
    let mut of = Vec::new();
    let mut add = |vm: usize, paired: &Paired, nested: Option<&[Vec<Track>]>| {
        let pairing = &paired.pairing;
        for &file in &paired.files {
            let Opened { capture, survey, .. } = &captures[file];
            for found in &survey.streams {
                let vcpu = pairing.vcpu_of_cpu(found.cpu);
                let tracks = match (vcpu, nested) {
                    (None, _) => Vec::new(),
                    (Some(v), None) => pairing.tracks(v, capture, found.buffer),
                    (Some(v), Some(nested)) => nested[v].clone(),
                };
                // A nested VM's windows are in another machine's time.
                let thread = vcpu.filter(|_| nested.is_none()).map(|v| pairing.vcpus[v].thread);
                jobs.push(Job { capture, survey: found, tracks, thread });
                of.push((file, found, vm, vcpu));
            }
        }
    };
    vms.iter().enumerate().for_each(|(index, vm)| add(index, vm, None));
    for (index, inner) in nested.iter().enumerate() {
        add(vms.len() + index, &inner.paired, Some(&inner.tracks));
    }
    let placements = place(jobs, &host.sources(), monitor)?;
    let clock = axis(&host.sources());
    let stream = |((input, found, vm, vcpu), placement)| {
        let found: &crate::session::survey::StreamSurvey = found;
        let span = placed_span(&placement, found);
        GuestStream { input, buffer: found.buffer, stream: found.stream, vm, vcpu, placement, span }
    };
    let streams: Vec<GuestStream> = of.into_iter().zip(placements).map(stream).collect();
    let mut role_of: BTreeMap<usize, usize> = BTreeMap::new();
    let all = vms.iter().chain(nested.iter().map(|n| &n.paired)).enumerate();
    all.for_each(|(vm, paired)| role_of.extend(paired.files.iter().map(|&f| (f, vm))));
    let outer: Vec<Vm> = vms.drain(..).map(vm).collect();
    let inner: Vec<Vm> = nested.into_iter().map(|n| n.into_vm(vm)).collect();
    let vms = outer.into_iter().chain(inner).collect();
    let role = |index: usize| match role_of.get(&index) {
        Some(&vm) => Role::Guest(vm),
        None if roles.offsets.contains(&index) => Role::Offsets,
        None if roles.guests.iter().any(|(guest, _)| *guest == index) => Role::Nobody,
        None => Role::Host,
    };
    let inputs = captures
        .into_iter()
        .enumerate()
        .map(|(index, o)| Input { role: role(index), capture: o.capture, survey: o.survey, beside: o.beside })
        .collect();
    let nobody = |i: &&Input| i.role == Role::Nobody;
    let inputs: Vec<Input> = inputs;
    warnings.extend(inputs.iter().filter(nobody).map(|i| format!("{}: holds no event", i.capture.path.display())));
    let rate = Default::default();
    let mut session = Session { inputs, vms, streams, rate, clock, facts, left_out, manifests, warnings };
    session.sort_vms();
    Ok(session)
}

fn vm(paired: Paired) -> Vm {
    let Paired { name, pid, pairing, .. } = paired;
    let cycles: Vec<u64> = pairing.vcpus.iter().map(|v| pairing.reading_cycles(v)).collect();
    let vcpus = pairing.vcpus.into_iter().zip(cycles).map(|(v, reading_cycles)| Vcpu {
        number: if pairing.has_files { v.cpu } else { v.vcpu_id },
        vcpu_id: Some(v.vcpu_id),
        thread: Some(v.thread),
        history: v.history,
        note: v.note,
        time_shift_apart: v.time_shift_apart,
        reading_cycles,
    });
    Vm { name, pid, vcpus: vcpus.collect(), outer: None }
}

/// Two groups of one process are one VM whose threads nothing else joined, unless they have the same vCPUs.
fn join_processes(groups: &mut [Group], clusters: &[Cluster]) {
    for later in 1..groups.len() {
        let (before, rest) = groups.split_at_mut(later);
        let Some(group) = rest.first_mut().filter(|g| g.pid.is_some() && !g.firm) else { continue };
        let clash = |g: &Group| g.vcpus.iter().any(|(id, _)| group.vcpus.iter().any(|(other, _)| other == id));
        let Some(first) = before.iter_mut().find(|g| g.pid == group.pid && !clash(g)) else { continue };
        if clusters.iter().all(|c| c.group != Some(later)) {
            first.vcpus.append(&mut group.vcpus);
            first.vcpus.sort_unstable();
        }
    }
}

/// The name of a VM; its process becomes known with it.
fn name_and_pid(group: &mut Group, cluster: Option<&Cluster>, facts: &Facts) -> String {
    group.pid = cluster.and_then(|c| c.spec.as_ref()?.pid).or(group.pid);
    let named = cluster.and_then(|c| c.spec.as_ref()).map(|s| s.name.clone());
    let by_pid = |pid: Option<u32>| facts.pids.iter().find(|(_, p)| Some(*p) == pid).map(|(n, _)| n.clone());
    let name = named
        .or_else(|| group.name.clone())
        .or_else(|| cluster.and_then(|c| c.name.clone()))
        .or_else(|| by_pid(group.pid))
        .unwrap_or_else(|| match (group.pid, group.vcpus.first()) {
            (Some(pid), _) => format!("vm{pid}"),
            (None, Some((_, tid))) => format!("vm{tid}"),
            (None, None) => "vm".to_owned(),
        });
    group.pid = group.pid.or_else(|| facts.pid_of(&name));
    name
}

impl Session {
    /// Rows go by name.
    fn sort_vms(&mut self) {
        let mut order: Vec<usize> = (0..self.vms.len()).collect();
        order.sort_by(|&a, &b| self.vms[a].name.cmp(&self.vms[b].name));
        let mut new_index = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            new_index[old] = new;
        }
        let mut vms: Vec<Option<Vm>> = std::mem::take(&mut self.vms).into_iter().map(Some).collect();
        self.vms = order.iter().filter_map(|&old| vms[old].take()).collect();
        for stream in &mut self.streams {
            stream.vm = new_index[stream.vm];
        }
        for outer in self.vms.iter_mut().filter_map(|vm| vm.outer.as_mut()) {
            outer.vm = new_index[outer.vm];
        }
        for input in &mut self.inputs {
            if let Role::Guest(vm) = &mut input.role {
                *vm = new_index[*vm];
            }
        }
    }
}
