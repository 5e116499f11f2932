//! The VMs that run: processes, vCPU threads, and the offsets that debugfs shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::system::{System, names, text};

/// Thread id to its process and name.
pub(super) type Tasks = BTreeMap<i32, (i32, String)>;

/// A VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Vm {
    pub(super) name: String,
    /// Its process.
    pub(super) pid: i32,
    /// vcpu_id to thread.
    pub(super) threads: BTreeMap<u32, i32>,
}

/// What was found at one moment, or at several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) vms: Vec<Vm>,
    /// `PID-FD/vcpuN tsc-offset=… ratio=… frac=…`, with the path before it.
    pub(super) offsets: Vec<String>,
}

/// All threads of the machine.
pub(super) fn tasks(system: &System) -> Tasks {
    let mut tasks = Tasks::new();
    let proc = system.path("proc");
    for process in names(&proc) {
        let Ok(tgid) = process.parse::<i32>() else { continue };
        let threads = proc.join(&process).join("task");
        for thread in names(&threads) {
            // A thread may end while it is looked at.
            if let (Ok(tid), Ok(comm)) = (thread.parse(), text(&threads.join(&thread).join("comm"))) {
                tasks.insert(tid, (tgid, comm.trim_end_matches('\n').to_owned()));
            }
        }
    }
    tasks
}

/// The VMs that run now.
pub(super) fn look(system: &System) -> Found {
    let tasks = tasks(system);
    let mut vms: BTreeMap<i32, Vm> = BTreeMap::new();
    for (tid, (tgid, comm)) in &tasks {
        if let Some((vcpu, true)) = vcpu_of(comm) {
            vms.entry(*tgid).or_default().threads.insert(vcpu, *tid);
        }
    }
    let mut offsets = Vec::new();
    let kvm = system.debugfs_kvm();
    for name in names(&kvm) {
        let Some((pid, fd)) = name.split_once('-') else { continue };
        let Ok(pid) = pid.parse::<i32>() else { continue };
        // The VM was made by this thread; its process is what everything else goes by.
        let process = tasks.get(&pid).map_or(pid, |(tgid, _)| *tgid);
        let vm = vms.entry(process).or_default();
        for vcpu in names(&kvm.join(&name)) {
            let Some(number) = vcpu.strip_prefix("vcpu").and_then(|n| n.parse::<u32>().ok()) else { continue };
            let files = kvm.join(&name).join(&vcpu);
            let read = |name: &str| text(&files.join(name)).map(|t| t.trim().to_owned()).unwrap_or_default();
            if let Ok(thread) = read("pid").parse::<i32>()
                && thread > 0
            {
                vm.threads.insert(number, thread);
            }
            let offset = read("tsc-offset");
            if !offset.is_empty() {
                let (ratio, frac) = (read("tsc-scaling-ratio"), read("tsc-scaling-ratio-frac-bits"));
                let path = kvm.join(format!("{process}-{fd}")).join(vcpu);
                offsets.push(format!("{} tsc-offset={offset} ratio={ratio} frac={frac}", path.display()));
            }
        }
        if vm.threads.is_empty() {
            let of_process = tasks.iter().filter(|(_, (tgid, _))| *tgid == process);
            vm.threads = of_process.filter_map(|(tid, (_, comm))| Some((vcpu_of(comm)?.0, *tid))).collect();
        }
    }
    for (pid, vm) in &mut vms {
        vm.pid = *pid;
        vm.name = vm_name(&system.path(&format!("proc/{pid}"))).unwrap_or_else(|| format!("vm{pid}"));
    }
    let mut found = Found { vms: vms.into_values().collect(), offsets };
    found.tell_apart();
    found
}

impl Found {
    /// Adds what was found later: VMs that have started, offsets that have changed.
    pub(super) fn join(&mut self, later: Self) {
        for vm in later.vms {
            match self.vms.iter_mut().find(|known| known.pid == vm.pid) {
                Some(known) => known.threads.extend(vm.threads),
                None => self.vms.push(vm),
            }
        }
        let new = later.offsets.into_iter().filter(|line| !self.offsets.contains(line)).collect::<Vec<_>>();
        self.offsets.extend(new);
        self.tell_apart();
    }

    /// Names are unique in a manifest.
    fn tell_apart(&mut self) {
        let names: Vec<String> = self.vms.iter().map(|vm| vm.name.clone()).collect();
        for vm in &mut self.vms {
            if names.iter().filter(|name| **name == vm.name).count() > 1 {
                vm.name = format!("{}-{}", vm.name, vm.pid);
            }
        }
    }

    /// How many vCPUs have an offset of debugfs.
    pub(super) fn vcpus_with_offsets(&self) -> usize {
        let mut paths: Vec<&str> = self.offsets.iter().filter_map(|line| line.split(' ').next()).collect();
        paths.sort_unstable();
        paths.dedup();
        paths.len()
    }

    /// What may be missing for placing guests.
    pub(super) fn notes(&self, recorded: bool) -> Vec<String> {
        if self.vms.is_empty() {
            return vec!["no VM ran at the beginning or at the end".to_owned()];
        }
        if recorded || !self.offsets.is_empty() {
            return Vec::new();
        }
        vec![
            "debugfs shows no offset of the VMs (is it mounted?): offsets that were not written during the recording \
             will be inferred"
                .to_owned(),
        ]
    }
}

/// The vCPU that a thread's name tells, and whether no other program would call a thread so: QEMU with
/// `debug-threads=on`, which libvirt sets, and firecracker; cloud-hypervisor and crosvm.
fn vcpu_of(comm: &str) -> Option<(u32, bool)> {
    let number = |text: &str| text.parse().ok();
    let sure = comm.strip_prefix("CPU ").and_then(|rest| rest.strip_suffix("/KVM")).and_then(number);
    if let Some(vcpu) = sure.or_else(|| comm.strip_prefix("fc_vcpu ").and_then(number)) {
        return Some((vcpu, true));
    }
    comm.strip_prefix("crosvm_").unwrap_or(comm).strip_prefix("vcpu").and_then(number).map(|vcpu| (vcpu, false))
}

/// The name on the command line: `-name web`, `-name guest=web,debug-threads=on`, `--id web`.
fn vm_name(process: &Path) -> Option<String> {
    let line = fs::read(process.join("cmdline")).ok()?;
    let mut words = line.split(|&byte| byte == 0).map(String::from_utf8_lossy);
    while let Some(word) = words.next() {
        if !matches!(&*word, "-name" | "--name" | "--id") {
            continue;
        }
        let value = words.next()?;
        let parts = || value.split(',');
        let name = parts().find_map(|part| part.strip_prefix("guest=")).or_else(|| parts().next())?;
        return Some(name.to_owned()).filter(|name| !name.is_empty() && !name.contains('='));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vcpus_by_the_names_of_threads() {
        assert_eq!(vcpu_of("CPU 3/KVM"), Some((3, true)));
        assert_eq!(vcpu_of("fc_vcpu 0"), Some((0, true)));
        assert_eq!(vcpu_of("vcpu11"), Some((11, false)));
        assert_eq!(vcpu_of("crosvm_vcpu2"), Some((2, false)));
        for other in ["CPU 3/TCG", "CPU x/KVM", "kvm-nx-lpage-re", "vcpu", "vcpus1"] {
            assert_eq!(vcpu_of(other), None, "{other}");
        }
    }

    #[test]
    fn names_on_command_lines() {
        let name = |words: &[&str]| {
            let scratch = tempfile::tempdir().expect("a directory");
            fs::write(scratch.path().join("cmdline"), words.join("\0")).expect("written");
            vm_name(scratch.path())
        };
        assert_eq!(name(&["qemu", "-name", "web", "-m", "1"]).as_deref(), Some("web"));
        assert_eq!(name(&["qemu", "-name", "guest=db,debug-threads=on"]).as_deref(), Some("db"));
        assert_eq!(name(&["qemu", "-name", "db,debug-threads=on"]).as_deref(), Some("db"));
        assert_eq!(name(&["firecracker", "--id", "f1"]).as_deref(), Some("f1"));
        assert_eq!(name(&["qemu", "-name", "debug-threads=on"]), None);
        assert_eq!(name(&["qemu", "-m", "1"]), None);
    }

    #[test]
    fn what_changes_is_added_and_names_stay_apart() {
        let vm = |pid: i32, threads: &[(u32, i32)]| Vm {
            name: "web".into(),
            pid,
            threads: threads.iter().copied().collect(),
        };
        let mut found = Found { vms: vec![vm(5, &[(0, 6)])], offsets: vec!["5-9/vcpu0 tsc-offset=-1".into()] };
        let later = Found {
            vms: vec![vm(5, &[(0, 6), (1, 7)]), vm(8, &[])],
            offsets: vec!["5-9/vcpu0 tsc-offset=-1".into(), "5-9/vcpu0 tsc-offset=-2".into()],
        };
        found.join(later);
        assert_eq!(found.vms[0].threads, [(0, 6), (1, 7)].into());
        assert_eq!(found.vms.iter().map(|vm| &*vm.name).collect::<Vec<_>>(), ["web-5", "web-8"]);
        assert_eq!((found.offsets.len(), found.vcpus_with_offsets()), (2, 1));
    }
}
