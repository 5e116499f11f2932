//! Which guest capture is which VM's: by ids, by what the user said, else by whose run windows its events fit.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::report::share;
use crate::session::clocks::{Guest, HostSide, Pairing};
use crate::session::evidence::{self, HostEvidence};
use crate::session::groups::{Announced, Group, group};
use crate::session::inputs::{Opened, OpenedAll};
use crate::session::placement::{Job, place, placed_span};
use crate::session::request::{GuestSpec, Request};
use crate::session::roles::{self, Roles, name_from_path};
use crate::session::{GuestStream, Input, Role, Session, Vcpu, Vm};

/// Below this share of events inside its run windows a VM is no candidate for a guest file.
const FIT: (u64, u64) = (9, 10);

/// The guest files of one VM.
struct Cluster {
    name: Option<String>,
    spec: Option<GuestSpec>,
    files: Vec<usize>,
    /// The VM, once known: index into the groups.
    group: Option<usize>,
}

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
    let side = HostSide {
        evidence: HostEvidence::new(&hosts, &offsets, groups.len()),
        hosts: hosts.iter().map(|h| (&h.capture, &h.survey)).collect(),
        facts: &facts,
        request,
        all_windows: Default::default(),
    };
    known_pairs(&captures, &mut clusters, &mut groups)?;
    fit_pairs(&captures, &mut clusters, &groups, &side, monitor)?;

    // Histories, VM by VM; then all streams are placed at once.
    let mut vms = Vec::new();
    let mut vm_of_file: BTreeMap<usize, usize> = BTreeMap::new();
    let mut pairings = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let files: Vec<usize> =
            clusters.iter().filter(|c| c.group == Some(index)).flat_map(|c| c.files.iter().copied()).collect();
        let cluster = clusters.iter().find(|c| c.group == Some(index));
        let pid = cluster.and_then(|c| c.spec.as_ref()?.pid).or(group.pid);
        let named = cluster.and_then(|c| c.spec.as_ref()).map(|s| s.name.clone());
        let by_pid = || facts.pids.iter().find(|(_, p)| Some(*p) == pid).map(|(n, _)| n.clone());
        let name = named
            .or_else(|| group.name.clone())
            .or_else(|| cluster.and_then(|c| c.name.clone()))
            .or_else(by_pid)
            .unwrap_or_else(|| match (pid, group.vcpus.first()) {
                (Some(pid), _) => format!("vm{pid}"),
                (None, Some((_, tid))) => format!("vm{tid}"),
                (None, None) => "vm".to_owned(),
            });
        let pid = pid.or_else(|| facts.pid_of(&name));
        let guests: Vec<Guest<'_>> = files.iter().map(|&f| Guest::new(&captures[f])).collect();
        let pairing = Pairing::new(&side, &name, group, &guests, monitor)?;
        for &file in &files {
            vm_of_file.insert(file, vms.len());
        }
        vms.push(Vm { name, pid, vcpus: Vec::new() });
        pairings.push(pairing);
    }
    let mut streams = Vec::new();
    let mut jobs = Vec::new();
    {
        let mut all: Vec<_> = pairings.iter_mut().flat_map(Pairing::to_tighten).collect();
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
        vm.vcpus = (0_u32..)
            .zip(pairing.vcpus)
            .map(|(rank, v)| Vcpu {
                number: if has_files { rank } else { v.vcpu_id },
                vcpu_id: Some(v.vcpu_id),
                thread: Some(v.thread),
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

/// Files of one name are one VM's; files without a name stand alone.
fn clusters(captures: &[Opened], roles: &Roles, known: &[GuestSpec]) -> Vec<Cluster> {
    let hosts: Vec<&Path> = roles.hosts.iter().map(|&i| captures[i].capture.path.as_path()).collect();
    let mut clusters: Vec<Cluster> = Vec::new();
    for (file, spec) in &roles.guests {
        let name = match spec {
            Some(spec) => Some(spec.name.clone()),
            None => name_from_path(&captures[*file].capture.path, &hosts, captures[*file].above),
        };
        // Flags go before manifests.
        let known = known.iter().find(|known| Some(&known.name) == name.as_ref());
        let spec = match (spec, known) {
            (Some(spec), Some(known)) => Some(GuestSpec {
                pid: spec.pid.or(known.pid),
                threads: if spec.threads.is_empty() { known.threads.clone() } else { spec.threads.clone() },
                ..spec.clone()
            }),
            (spec, known) => spec.as_ref().or(known).cloned(),
        };
        let same = clusters.iter_mut().find(|c| name.is_some() && c.name == name);
        match same {
            Some(cluster) => cluster.files.push(*file),
            None => clusters.push(Cluster { name, spec: spec.clone(), files: vec![*file], group: None }),
        }
    }
    clusters
}

/// What GUEST options and `threads=` say about threads.
fn announced(host: &Opened, clusters: &[Cluster]) -> Vec<Announced> {
    let user = clusters.iter().filter_map(|c| c.spec.as_ref()).filter(|s| !s.threads.is_empty()).map(|s| Announced {
        name: s.name.clone(),
        pid: s.pid,
        trace_id: None,
        vcpus: (0..).zip(s.threads.iter().copied()).collect(),
    });
    let options = host.capture.info.guests.iter().map(|g| Announced {
        name: g.name.clone(),
        pid: None,
        trace_id: Some(g.trace_id),
        vcpus: g.vcpus.clone(),
    });
    user.chain(options).collect()
}

/// Pairs that need no search: threads or process given by the user, ids that the files share.
fn known_pairs(captures: &[Opened], clusters: &mut [Cluster], groups: &mut [Group]) -> Result<()> {
    for cluster in clusters {
        if let Some(spec) = &cluster.spec {
            if let Some(&tid) = spec.threads.first() {
                let has = |g: &Group| g.vcpus.iter().any(|(_, t)| *t == tid);
                cluster.group = Some(groups.iter().position(has).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Evidence,
                        format!("guest {}: thread {tid} never entered a guest in the host's capture", spec.name),
                    )
                    .hint(candidates(groups))
                })?);
            } else if let Some(pid) = spec.pid {
                cluster.group = Some(by_pid(groups, pid).ok_or_else(|| {
                    Error::new(ErrorKind::Evidence, format!("guest {}: no vCPU thread of process {pid}", spec.name))
                        .hint(candidates(groups))
                })?);
                if let Some(group) = cluster.group.and_then(|g| groups.get_mut(g)) {
                    group.pid = Some(pid);
                }
            }
        }
        if cluster.group.is_none() {
            let ids: Vec<u64> = cluster.files.iter().filter_map(|&f| captures[f].capture.info.trace_id).collect();
            cluster.group = groups.iter().position(|g| g.trace_id.is_some_and(|id| ids.contains(&id)));
        }
    }
    Ok(())
}

/// The group of a process: known, or the one whose threads follow the process id most closely.
fn by_pid(groups: &[Group], pid: u32) -> Option<usize> {
    groups.iter().position(|g| g.pid == Some(pid)).or_else(|| {
        let first = |g: &Group| g.vcpus.iter().map(|(_, tid)| *tid as u32).min().unwrap_or(0);
        let free = groups.iter().enumerate().filter(|(_, g)| g.pid.is_none() && first(g) >= pid);
        free.min_by_key(|(_, g)| first(g)).map(|(i, _)| i)
    })
}

fn candidates(groups: &[Group]) -> String {
    if groups.is_empty() {
        return "the host's capture shows no VM: record it with `-e kvm -e sched` while the VMs run".to_owned();
    }
    let one = |g: &Group| {
        let threads: Vec<String> = g.vcpus.iter().map(|(_, tid)| tid.to_string()).collect();
        let pid = g.pid.map_or(String::new(), |pid| format!("process {pid}, "));
        format!("{pid}threads {}", threads.join(":"))
    };
    let list: Vec<String> = groups.iter().map(one).collect();
    format!("the VMs in the host's capture are: {}; say which with --guest NAME,threads=A:B=FILE", list.join("; "))
}

/// Pairs that only the run windows tell.
fn fit_pairs(
    captures: &[Opened],
    clusters: &mut [Cluster],
    groups: &[Group],
    side: &HostSide<'_>,
    monitor: &Monitor<'_>,
) -> Result<()> {
    let open: Vec<usize> = (0..clusters.len()).filter(|&c| clusters[c].group.is_none()).collect();
    if open.is_empty() {
        return Ok(());
    }
    let file = |c: &Cluster| captures[c.files[0]].capture.path.clone();
    if groups.is_empty() {
        return Err(Error::new(ErrorKind::Evidence, "nothing on the host's side belongs to this guest")
            .in_file(file(&clusters[open[0]]))
            .hint(candidates(groups)));
    }
    let taken: Vec<usize> = clusters.iter().filter_map(|c| c.group).collect();
    let free: Vec<usize> = (0..groups.len()).filter(|g| !taken.contains(g)).collect();
    // One VM and one guest: nothing to choose, and the audit tells if it is wrong.
    if let ([cluster], [only]) = (open.as_slice(), free.as_slice()) {
        clusters[*cluster].group = Some(*only);
        return Ok(());
    }
    for &c in &open {
        let guests: Vec<Guest<'_>> = clusters[c].files.iter().map(|&f| Guest::new(&captures[f])).collect();
        let name = clusters[c].name.clone().unwrap_or_default();
        let mut fits = Vec::new();
        for &g in &free {
            let score = Pairing::new(side, &name, &groups[g], &guests, monitor)
                .and_then(|pairing| pairing.score(side, &guests, monitor))
                .unwrap_or_default();
            fits.push((score, g));
        }
        let good = |(inside, checked): (u64, u64)| checked > 0 && inside * FIT.1 >= checked * FIT.0;
        let fitting: Vec<usize> = fits.iter().filter(|(s, _)| good(*s)).map(|(_, g)| *g).collect();
        match fitting.as_slice() {
            [only] => clusters[c].group = Some(*only),
            _ => {
                let list: Vec<String> = fits
                    .iter()
                    .map(|((inside, checked), g)| {
                        let threads: Vec<String> = groups[*g].vcpus.iter().map(|(_, tid)| tid.to_string()).collect();
                        format!("threads {} {}", threads.join(":"), share(*inside, *checked))
                    })
                    .collect();
                let what = if fitting.is_empty() { "no VM's" } else { "more than one VM's" };
                return Err(Error::new(
                    ErrorKind::Evidence,
                    format!("the guest's events fit {what} run windows ({})", list.join("; ")),
                )
                .in_file(file(&clusters[c]))
                .hint(candidates(groups)));
            }
        }
    }
    Ok(())
}
