//! Host threads that work for a VM without being its vCPUs: how they are recognised and what they are called.
//!
//! They are the threads of the VM's process, as far as the capture tells, and kernel threads that carry that process in
//! their names: `vhost-<pid>` and `kvm-pit/<pid>`. On Host CPU rows they are called by the VM and by what they are:
//! `web vhost [tid]`, `web iothread [tid]`, `web qemu [tid]`, and otherwise by their own name, `web worker [tid]`.

use rustc_hash::FxHashMap;

use super::names::{self, NameId, Names};
use super::setup::Setup;

/// All threads that are known to be a VM's.
pub(super) struct Kin {
    /// Per VM: "web " and "web".
    names: Vec<(NameId, NameId)>,
    by_pid: FxHashMap<u32, u32>,
    threads: FxHashMap<i32, u32>,
}

/// Kernel threads that work for a VM's process, by what stands before its pid.
const KERNEL_THREADS: [(&[u8], &[u8]); 2] = [(b"vhost-", b"vhost"), (b"kvm-pit/", b"kvm-pit")];

/// More threads than Linux can have (`PID_MAX_LIMIT`); damaged records must not fill the memory.
const MAX_THREADS: usize = 1 << 22;

impl Kin {
    pub(super) fn new(setup: &Setup, names: &mut Names) -> Self {
        let mut kin = Self { names: Vec::new(), by_pid: FxHashMap::default(), threads: FxHashMap::default() };
        for (index, vm) in (0_u32..).zip(&setup.vms) {
            let prefix = names.intern(format!("{} ", vm.name).as_bytes());
            kin.names.push((prefix, names.intern(vm.name.as_bytes())));
            if let Some(pid) = vm.pid {
                kin.by_pid.entry(pid).or_insert(index);
            }
            for &tid in &vm.threads {
                kin.threads.entry(tid).or_insert(index);
            }
        }
        for (tid, comm) in &setup.host_comms {
            kin.kernel_thread(*tid, &names::comm(comm.as_bytes()));
        }
        kin
    }

    /// The VM that a thread works for.
    pub(super) fn vm(&self, tid: i32) -> Option<u32> {
        self.threads.get(&tid).copied()
    }

    /// The VM's name.
    pub(super) fn vm_name(&self, vm: u32) -> Option<NameId> {
        self.names.get(vm as usize).map(|names| names.1)
    }

    /// What a thread that is no vCPU's is called, and the VM that it works for.
    #[inline]
    pub(super) fn name(&mut self, tid: i32, comm: &[u8; 16], names: &mut Names) -> (NameId, Option<u32>) {
        let kernel = self.kernel_thread(tid, comm);
        let Some(vm) = kernel.map(|(vm, _)| vm).or_else(|| self.vm(tid)) else { return (names.task(tid, comm), None) };
        let what = match kernel {
            Some((_, what)) => names::comm(what),
            None if comm.starts_with(b"IO ") => names::comm(b"iothread"),
            None if comm.starts_with(b"qemu") => names::comm(b"qemu"),
            None => *comm,
        };
        let task = names.task(tid, &what);
        match self.names.get(vm as usize) {
            Some(&(prefix, _)) => (names.join(prefix, task), Some(vm)),
            None => (task, None),
        }
    }

    /// Recognises a kernel thread by its name, and remembers it.
    fn kernel_thread(&mut self, tid: i32, comm: &[u8; 16]) -> Option<(u32, &'static [u8])> {
        let (pid, what) =
            KERNEL_THREADS.iter().find_map(|(before, what)| Some((comm.strip_prefix(*before)?, *what)))?;
        let end = pid.iter().position(|&b| b == 0).unwrap_or(pid.len());
        let pid = std::str::from_utf8(&pid[..end]).ok()?.parse().ok()?;
        let vm = *self.by_pid.get(&pid)?;
        if self.threads.len() < MAX_THREADS {
            self.threads.insert(tid, vm);
        }
        Some((vm, what))
    }
}
