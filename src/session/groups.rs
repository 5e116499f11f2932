//! Which host threads are the vCPUs of one VM, from what the host's capture shows.

use std::collections::BTreeMap;

use crate::session::survey::Survey;

/// A VM as far as the host's capture alone shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The VM's process, where something shows it.
    pub pid: Option<u32>,
    /// Its name, where a GUEST option gives one.
    pub name: Option<String>,
    /// TRACEID of the guest's file, where a GUEST option names it.
    pub trace_id: Option<u64>,
    /// (vcpu_id, thread), by guest CPU; by vcpu_id as long as no guest is known.
    pub vcpus: Vec<(u32, i32)>,
    /// The guest CPU of each of `vcpus`, where it is not its position; else empty.
    pub cpus: Vec<u32>,
    /// Something shows that these threads belong together; else it is a guess.
    pub firm: bool,
}

impl Group {
    /// The guest CPU that vCPU number `rank` of the list is.
    pub fn cpu(&self, rank: usize) -> u32 {
        self.cpus.get(rank).copied().unwrap_or(u32::try_from(rank).unwrap_or(u32::MAX))
    }

    /// Puts the vCPUs into the order of the guest's CPUs.
    pub(super) fn sort_by_cpu(&mut self) {
        let mut seats: Vec<_> = (0..self.vcpus.len()).map(|rank| (self.cpu(rank), self.vcpus[rank])).collect();
        seats.sort_unstable();
        (self.cpus, self.vcpus) = seats.into_iter().unzip();
    }
}

/// What a GUEST option of the host's file says, or the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// VM name, may be empty.
    pub name: String,
    /// The process, where the user gave it.
    pub pid: Option<u32>,
    /// TRACEID of the guest's file.
    pub trace_id: Option<u64>,
    /// (vCPU index, thread).
    pub vcpus: Vec<(u32, i32)>,
}

/// Groups the vCPU threads of `survey` into VMs.
///
/// In order of trust: what was announced; one process (saved thread groups); one maker (sched_process_fork); the same
/// last offset; neighbouring thread ids with ascending vcpu_ids.
pub fn group(survey: &Survey, announced: &[Announced], tgids: &BTreeMap<i32, i32>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut left: BTreeMap<i32, Option<u32>> = survey.threads.iter().map(|(tid, t)| (*tid, t.vcpu_id)).collect();
    for a in announced {
        let vcpus: Vec<(u32, i32)> = a.vcpus.iter().copied().filter(|(_, tid)| left.contains_key(tid)).collect();
        if vcpus.is_empty() {
            continue;
        }
        vcpus.iter().for_each(|(_, tid)| {
            left.remove(tid);
        });
        let name = Some(a.name.clone()).filter(|n| !n.is_empty());
        groups.push(Group { pid: a.pid, name, trace_id: a.trace_id, vcpus, firm: true, ..Group::default() });
    }
    let process = |tid: i32| tgids.get(&tid).or_else(|| survey.forks.get(&tid)).copied().filter(|&p| p > 0);
    let mut by_process: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    left.keys()
        .filter_map(|&tid| Some((process(tid)?, tid)))
        .for_each(|(p, tid)| by_process.entry(p).or_default().push(tid));
    for (pid, threads) in by_process {
        let numbered = number(&threads, &left);
        if let Some(vcpus) = numbered {
            threads.iter().for_each(|tid| {
                left.remove(tid);
            });
            groups.push(Group { pid: u32::try_from(pid).ok(), vcpus, firm: true, ..Group::default() });
        }
    }
    let last_offset: BTreeMap<i32, u64> = survey.writes.iter().map(|w| (w.tid, w.next)).collect();
    let mut by_offset: BTreeMap<u64, Vec<i32>> = BTreeMap::new();
    left.keys()
        .filter_map(|&tid| Some((*last_offset.get(&tid)?, tid)))
        .for_each(|(o, tid)| by_offset.entry(o).or_default().push(tid));
    for threads in by_offset.into_values().filter(|threads| threads.len() > 1) {
        if let Some(vcpus) = number(&threads, &left) {
            threads.iter().for_each(|tid| {
                left.remove(tid);
            });
            groups.push(Group { vcpus, ..Group::default() });
        }
    }
    groups.extend(neighbours(&left));
    for group in &mut groups {
        if group.name.is_none() && group.trace_id.is_none() {
            group.vcpus.sort_unstable();
        }
    }
    groups.sort_by_key(|g| g.vcpus.iter().map(|(_, tid)| *tid).min());
    groups
}

/// (vcpu_id, thread) of one VM's threads; `None` if two have the same vcpu_id, so that they cannot be one VM's.
fn number(threads: &[i32], ids: &BTreeMap<i32, Option<u32>>) -> Option<Vec<(u32, i32)>> {
    let mut vcpus: Vec<(u32, i32)> = Vec::new();
    for (rank, tid) in (0_u32..).zip(threads) {
        let id = ids.get(tid).copied().flatten().unwrap_or(rank);
        if vcpus.iter().any(|(other, _)| *other == id) {
            return None;
        }
        vcpus.push((id, *tid));
    }
    Some(vcpus)
}

/// Threads in order of their ids: a vcpu_id that does not ascend begins the next VM.
pub(super) fn neighbours(threads: &BTreeMap<i32, Option<u32>>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (&tid, &id) in threads {
        let last = groups.last().and_then(|group| group.vcpus.last()).map(|&(last, _)| last);
        // Where an id is missing, it is the next.
        let fits = last.and_then(|last| match id {
            Some(id) => (id > last).then_some(id),
            None => last.checked_add(1),
        });
        match (fits, groups.last_mut()) {
            (Some(id), Some(group)) => group.vcpus.push((id, tid)),
            _ => groups.push(Group { vcpus: vec![(id.unwrap_or(0), tid)], ..Group::default() }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::survey::ThreadSurvey;

    fn survey(threads: &[(i32, u32)]) -> Survey {
        let thread = |id| ThreadSurvey { vcpu_id: Some(id), entries: 1, ..ThreadSurvey::default() };
        Survey { threads: threads.iter().map(|&(tid, id)| (tid, thread(id))).collect(), ..Survey::default() }
    }

    fn vcpus(groups: &[Group]) -> Vec<Vec<(u32, i32)>> {
        groups.iter().map(|g| g.vcpus.clone()).collect()
    }

    #[test]
    fn forks_tell_vms_apart_whose_threads_interleave() {
        let mut survey = survey(&[(212, 0), (214, 1), (213, 0), (216, 1)]);
        survey.forks = [(212, 197), (214, 197), (213, 199), (216, 199)].into();
        let groups = group(&survey, &[], &BTreeMap::new());
        assert_eq!(vcpus(&groups), [vec![(0, 212), (1, 214)], vec![(0, 213), (1, 216)]]);
        assert_eq!(groups.iter().map(|g| g.pid).collect::<Vec<_>>(), [Some(197), Some(199)]);
    }

    #[test]
    fn without_evidence_a_repeated_vcpu_id_begins_the_next_vm() {
        let groups = group(&survey(&[(5, 0), (6, 1), (8, 0), (9, 1)]), &[], &BTreeMap::new());
        assert_eq!(vcpus(&groups), [vec![(0, 5), (1, 6)], vec![(0, 8), (1, 9)]]);
        assert_eq!(groups[0].pid, None);
    }

    #[test]
    fn the_largest_vcpu_id_has_none_behind_it() {
        let groups = neighbours(&[(5, Some(u32::MAX)), (6, None), (7, None)].into());
        assert_eq!(vcpus(&groups), [vec![(u32::MAX, 5)], vec![(0, 6), (1, 7)]]);
    }

    #[test]
    fn what_was_announced_wins() {
        let announced = Announced { name: "web".into(), pid: None, trace_id: Some(7), vcpus: vec![(0, 6), (1, 5)] };
        let groups = group(&survey(&[(5, 0), (6, 1)]), &[announced], &BTreeMap::new());
        assert_eq!(vcpus(&groups), [vec![(0, 6), (1, 5)]]);
        assert_eq!(groups[0].name.as_deref(), Some("web"));
    }
}
