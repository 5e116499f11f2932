//! Which vCPU an offset write is about.
//!
//! The event names the vCPU by its vcpu_id, but not its VM, and the thread that wrote. QEMU mostly writes from the vCPU's
//! own thread, now and then from its main thread; other programs make all vCPUs from one thread.

use std::collections::BTreeMap;

use crate::session::groups::Group;
use crate::session::inputs::Opened;

/// What the host's captures say about processes.
#[derive(Debug, Default)]
pub(super) struct Kin {
    tgids: BTreeMap<i32, i32>,
    parents: BTreeMap<i32, i32>,
}

impl Kin {
    pub(super) fn new(hosts: &[&Opened]) -> Self {
        let mut kin = Self::default();
        for host in hosts {
            kin.tgids.extend(host.capture.info.tgids.iter().copied());
            kin.parents.extend(&host.survey.forks);
        }
        kin
    }

    /// Whether `writer` and the vCPU thread `thread` of process `pid` are of one process, as far as anything shows it.
    fn related(&self, writer: i32, thread: i32, pid: Option<u32>) -> bool {
        let known = |map: &BTreeMap<i32, i32>, tid: i32| map.get(&tid).copied().filter(|&of| of > 0);
        let process = known(&self.tgids, thread);
        let parent = known(&self.parents, thread);
        process.is_some_and(|p| p == writer || known(&self.tgids, writer) == Some(p))
            || parent.is_some_and(|p| p == writer || known(&self.parents, writer) == Some(p))
            || pid.is_some_and(|pid| u32::try_from(writer) == Ok(pid))
    }
}

/// A write as far as finding its vCPU goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) at: u64,
    pub(super) tid: i32,
    pub(super) vcpu: u32,
    pub(super) prev: u64,
    pub(super) next: u64,
}

/// The vCPU thread that each write is about, where that can be told. `writes` are sorted by time.
///
/// In order of trust: the vCPU's own thread; the only vCPU of that number; one process; the only vCPU whose history has
/// this write missing; as many writers as VMs, both in the order of their thread ids.
pub(super) fn owners(writes: &[Written], groups: &[Group], kin: &Kin) -> Vec<Option<i32>> {
    let vcpus = || groups.iter().flat_map(|g| g.vcpus.iter().map(|&(id, thread)| (id, thread, g.pid)));
    let own = |w: &Written| vcpus().any(|(id, thread, _)| thread == w.tid && id == w.vcpu);
    let mut owners: Vec<Option<i32>> = writes.iter().map(|w| own(w).then_some(w.tid)).collect();
    let mut open = Vec::new();
    let all: Vec<(u32, i32, Option<u32>)> = vcpus().collect();
    for (index, w) in writes.iter().enumerate().filter(|(index, _)| owners[*index].is_none()).collect::<Vec<_>>() {
        let same_id = all.iter().filter(|(id, ..)| *id == w.vcpu);
        let related = same_id.clone().filter(|(_, thread, pid)| kin.related(w.tid, *thread, *pid));
        let threads = |list: &mut dyn Iterator<Item = &(u32, i32, Option<u32>)>| -> Vec<i32> {
            list.map(|(_, thread, _)| *thread).collect()
        };
        let candidates = threads(&mut same_id.clone());
        match (threads(&mut related.clone()).as_slice(), candidates.as_slice()) {
            ([only], _) | ([], [only]) => owners[index] = Some(*only),
            ([], []) => {}
            ([], several) | (several, _) => open.push((index, several.to_vec())),
        }
    }
    by_history(writes, &mut owners, &mut open);
    by_order(writes, &mut owners, &open);
    owners
}

/// A write belongs where the offset before it is its `prev`, and the offset behind it its `next`.
fn by_history(writes: &[Written], owners: &mut [Option<i32>], open: &mut Vec<(usize, Vec<i32>)>) {
    let mut left = Vec::new();
    for (index, candidates) in open.drain(..) {
        let w = writes[index];
        let fits = |thread: i32| {
            let of = |i: &usize| owners[*i] == Some(thread) && writes[*i].vcpu == w.vcpu;
            // Copies of this write in another buffer say the same of it, not of its neighbours.
            let copy = |i: &usize| (writes[*i].prev, writes[*i].next) == (w.prev, w.next) && w.prev != w.next;
            let before = (0..index).rev().find(|i| of(i) && !copy(i)).map(|i| writes[i].next == w.prev);
            let after = (index + 1..writes.len()).find(|i| of(i) && !copy(i)).map(|i| writes[i].prev == w.next);
            before.unwrap_or(w.prev == 0) && after.unwrap_or(true) && (before, after) != (None, None)
        };
        let mut fitting = candidates.iter().copied().filter(|&thread| fits(thread));
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => owners[index] = Some(only),
            _ => left.push((index, candidates)),
        }
    }
    *open = left;
}

/// The processes of VMs that were started one after the other have ids in the order of their threads.
fn by_order(writes: &[Written], owners: &mut [Option<i32>], open: &[(usize, Vec<i32>)]) {
    let mut found = Vec::new();
    for (index, candidates) in open {
        let w = writes[*index];
        let mut writers: Vec<i32> = open.iter().filter(|(_, c)| c == candidates).map(|(i, _)| writes[*i].tid).collect();
        writers.sort_unstable();
        writers.dedup();
        // A thread for which another process writes is not this one's.
        let others = |thread: &i32| {
            let by = |i: usize| owners[i] == Some(*thread) && ![*thread, w.tid].contains(&writes[i].tid);
            (0..writes.len()).any(|i| by(i) && !writers.contains(&writes[i].tid))
        };
        let mut threads: Vec<i32> = candidates.iter().copied().filter(|thread| !others(thread)).collect();
        threads.sort_unstable();
        if writers.len() == threads.len() {
            let rank = writers.partition_point(|&tid| tid < w.tid);
            found.push((*index, threads.get(rank).copied()));
        }
    }
    found.into_iter().for_each(|(index, owner)| owners[index] = owner);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(pid: Option<u32>, vcpus: &[(u32, i32)]) -> Group {
        Group { pid, vcpus: vcpus.to_vec(), ..Group::default() }
    }

    fn write(at: u64, tid: i32, vcpu: u32, prev: u64, next: u64) -> Written {
        Written { at, tid, vcpu, prev, next }
    }

    #[test]
    fn a_main_threads_write_belongs_where_it_is_missing() {
        let groups = [group(None, &[(0, 11), (1, 12)]), group(None, &[(0, 21), (1, 22)])];
        let writes = [
            write(1, 11, 0, 0, 5),
            write(2, 21, 0, 0, 7),
            write(3, 10, 0, 5, 6),
            write(4, 20, 0, 7, 8),
            write(5, 11, 0, 6, 9),
            write(6, 21, 0, 8, 9),
        ];
        let found = owners(&writes, &groups, &Kin::default());
        assert_eq!(found, [Some(11), Some(21), Some(11), Some(21), Some(11), Some(21)]);
    }

    #[test]
    fn processes_and_their_threads_tell() {
        let groups = [group(None, &[(0, 11)]), group(None, &[(0, 21)])];
        let kin = Kin { parents: [(11, 20), (21, 10)].into(), ..Kin::default() };
        // The process ids are not in the order of the threads.
        let writes = [write(1, 10, 0, 0, 5), write(2, 20, 0, 0, 5)];
        assert_eq!(owners(&writes, &groups, &kin), [Some(21), Some(11)]);
        assert_eq!(owners(&writes, &groups, &Kin::default()), [Some(11), Some(21)]);
        assert_eq!(owners(&writes[..1], &groups, &Kin::default()), [None]);
        // One that is known leaves the other.
        let half = Kin { parents: [(21, 10)].into(), ..Kin::default() };
        assert_eq!(owners(&writes, &groups, &half), [Some(21), Some(11)]);
    }
}
