//! From opened captures to a session: roles, VMs, pairs, histories, placement.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::monitor::Monitor;
use crate::session::clocks::{Guest, HostSide, Pairing};
use crate::session::evidence::{self, HostEvidence};
use crate::session::facts::Facts;
use crate::session::fit::fit_pairs;
use crate::session::groups::{Group, group};
use crate::session::inputs::{Opened, OpenedAll};
use crate::session::pairs::{Cluster, announced, clusters, known_pairs};
use crate::session::placement::{Job, place, placed_span};
use crate::session::request::Request;
use crate::session::roles;
use crate::session::{GuestStream, Input, Role, Session, Vcpu, Vm};

pub(super) fn assemble(opened: OpenedAll, request: &Request, monitor: &Monitor<'_>) -> Result<Session> {
    let OpenedAll { mut captures, facts, mut left_out, manifests } = opened;
    roles::settle_beside(&mut captures, &mut left_out)?;
    let roles = roles::decide(&captures)?;
    let hosts: Vec<&Opened> = roles.hosts.iter().map(|&i| &captures[i]).collect();
    let offsets: Vec<&Opened> = roles.offsets.iter().map(|&i| &captures[i]).collect();
    let mut clusters = clusters(&captures, &roles, &request.vms);
    let mut warnings = Vec::new();

    let mut groups = Vec::new();
    for host in &hosts {
        let tgids: BTreeMap<i32, i32> = host.capture.info.tgids.iter().copied().collect();
        groups.extend(group(&host.survey, &announced(host, &clusters), &tgids, &facts));
    }
    known_pairs(&captures, &mut clusters, &mut groups)?;
    let evidence = HostEvidence::new(&hosts, &offsets, &groups);
    if evidence.strangers > 0 {
        warnings.push(format!("{} offset writes are of no known vCPU and are not used", evidence.strangers));
    }
    let side = HostSide {
        evidence,
        hosts: hosts.iter().map(|h| (&h.capture, &h.survey)).collect(),
        facts: &facts,
        request,
        all_windows: Default::default(),
    };
    warnings.extend(fit_pairs(&captures, &mut clusters, &mut groups, &side, monitor)?);

    // Histories, VM by VM; then all streams are placed at once.
    let mut vms = Vec::new();
    let mut vm_of_file: BTreeMap<usize, usize> = BTreeMap::new();
    let mut pairings = Vec::new();
    for (index, group) in groups.iter_mut().enumerate().filter(|(_, g)| !g.vcpus.is_empty()) {
        let files: Vec<usize> =
            clusters.iter().filter(|c| c.group == Some(index)).flat_map(|c| c.files.iter().copied()).collect();
        let name = name_and_pid(group, clusters.iter().find(|c| c.group == Some(index)), &facts);
        let guests: Vec<Guest<'_>> = files.iter().map(|&f| Guest::new(&captures[f])).collect();
        let pairing = Pairing::new(&side, &name, group, &guests, monitor)?;
        for &file in &files {
            vm_of_file.insert(file, vms.len());
        }
        vms.push(Vm { name, pid: group.pid, vcpus: Vec::new() });
        pairings.push(pairing);
    }
    let mut streams = Vec::new();
    let mut jobs = Vec::new();
    {
        let mut all: Vec<_> = pairings.iter_mut().flat_map(Pairing::tightenable).collect();
        evidence::tighten(&side.hosts, &mut all, monitor)?;
    }
    for (&file, &vm) in &vm_of_file {
        let pairing = &pairings[vm];
        for found in &captures[file].survey.streams {
            let vcpu = pairing.vcpu_of_cpu(found.cpu);
            let tracks = vcpu.map_or_else(Vec::new, |v| pairing.tracks(v, &captures[file].capture, found.buffer));
            let thread = vcpu.map(|v| pairing.vcpus[v].thread);
            jobs.push(Job { capture: &captures[file].capture, survey: found, tracks, thread });
            streams.push((file, found.buffer, found.stream, vm, vcpu));
        }
    }
    let spans_of: Vec<_> = jobs.iter().map(|j| j.survey).collect();
    let placements = place(jobs, &side.hosts, monitor)?;
    let streams: Vec<GuestStream> = streams
        .into_iter()
        .zip(placements.into_iter().zip(spans_of))
        .map(|((input, buffer, stream, vm, vcpu), (placement, survey))| GuestStream {
            input,
            buffer,
            stream,
            vm,
            vcpu,
            span: placed_span(&placement, survey),
            placement,
        })
        .collect();
    drop(side);
    for (vm, pairing) in vms.iter_mut().zip(pairings) {
        warnings.extend(pairing.warnings.iter().map(|w| format!("VM {}: {w}", vm.name)));
        let has_files = pairing.has_files;
        let cycles: Vec<u64> = pairing.vcpus.iter().map(|v| pairing.reading_cycles(v)).collect();
        vm.vcpus = pairing
            .vcpus
            .into_iter()
            .zip(cycles)
            .map(|(v, reading_cycles)| Vcpu {
                number: if has_files { v.cpu } else { v.vcpu_id },
                vcpu_id: Some(v.vcpu_id),
                thread: Some(v.thread),
                reading_cycles,
                history: v.history,
                note: v.note,
            })
            .collect();
    }
    let role = |index: usize| match vm_of_file.get(&index) {
        Some(&vm) => Role::Guest(vm),
        None if roles.offsets.contains(&index) => Role::Offsets,
        None => Role::Host,
    };
    let inputs = captures
        .into_iter()
        .enumerate()
        .map(|(index, o)| Input { role: role(index), capture: o.capture, survey: o.survey, beside: o.beside })
        .collect();
    let mut session = Session { inputs, vms, streams, rate: Default::default(), facts, left_out, manifests, warnings };
    session.sort_vms();
    Ok(session)
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
        for input in &mut self.inputs {
            if let Role::Guest(vm) = &mut input.role {
                *vm = new_index[*vm];
            }
        }
    }
}
