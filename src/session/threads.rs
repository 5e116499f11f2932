//! Which host threads belong to a VM's process.

use std::collections::BTreeSet;

use crate::session::{Role, Session};

impl Session {
    /// The host threads of a VM's process, in ascending order: its process, what the host's captures saved as its thread
    /// group, and what those made (`sched_process_fork`, which does not tell threads from helper processes). Empty for an
    /// index that does not exist, for a VM without a known process, and for a nested one, whose threads are not the host's.
    pub fn threads_of(&self, vm: usize) -> Vec<i32> {
        let Some(vm) = self.vms.get(vm).filter(|vm| vm.outer.is_none()) else { return Vec::new() };
        let Some(pid) = vm.pid.and_then(|pid| i32::try_from(pid).ok()) else { return Vec::new() };
        let hosts = || self.inputs.iter().filter(|input| input.role == Role::Host);
        let mut threads: BTreeSet<i32> = BTreeSet::from([pid]);
        for host in hosts() {
            let mine = host.capture.info.tgids.iter().filter(|(tid, tgid)| *tgid == pid && *tid > 0);
            threads.extend(mine.map(|(tid, _)| *tid));
        }
        // Parents may have higher ids than their children.
        loop {
            let before = threads.len();
            for host in hosts() {
                let made = host.survey.forks.iter().filter(|(_, parent)| threads.contains(parent));
                let made: Vec<i32> = made.map(|(child, _)| *child).collect();
                threads.extend(made);
            }
            if threads.len() == before {
                return threads.into_iter().collect();
            }
        }
    }
}
