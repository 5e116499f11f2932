//! Which guest capture is which VM's: by ids, by what the user said, else by whose run windows its events fit.

use std::path::Path;

use crate::error::{Code, Error, ErrorKind, Result};
use crate::session::groups::{Announced, Group};
use crate::session::inputs::Opened;
use crate::session::request::GuestSpec;
use crate::session::roles::{Roles, name_from_path};

/// The guest files of one VM.
pub(super) struct Cluster {
    pub(super) name: Option<String>,
    pub(super) spec: Option<GuestSpec>,
    pub(super) files: Vec<usize>,
    /// The VM, once known: index into the groups.
    pub(super) group: Option<usize>,
}

/// Files of one name are one VM's; files without a name stand alone.
pub(super) fn clusters(captures: &[Opened], roles: &Roles, known: &[GuestSpec]) -> Vec<Cluster> {
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
pub(super) fn announced(host: &Opened, clusters: &[Cluster]) -> Vec<Announced> {
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
pub(super) fn known_pairs(captures: &[Opened], clusters: &mut [Cluster], groups: &mut [Group]) -> Result<()> {
    for cluster in clusters {
        if let Some(spec) = &cluster.spec {
            if let Some(&tid) = spec.threads.first() {
                // One that idled all the time is no reason to refuse the others.
                let has = |g: &Group| g.vcpus.iter().any(|(_, t)| spec.threads.contains(t));
                cluster.group = Some(groups.iter().position(has).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Evidence,
                        format!("guest {}: thread {tid} never entered a guest in the host's capture", spec.name),
                    )
                    .coded(Code::NoMatch)
                    .hint(candidates(groups))
                })?);
            } else if let Some(pid) = spec.pid {
                cluster.group = Some(by_pid(groups, pid).ok_or_else(|| {
                    Error::new(ErrorKind::Evidence, format!("guest {}: no vCPU thread of process {pid}", spec.name))
                        .coded(Code::NoMatch)
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

pub(super) fn candidates(groups: &[Group]) -> String {
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
