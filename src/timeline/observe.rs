//! What statistics need beyond the picture: guest tasks against the time that their vCPU really ran, and how long woken
//! guest tasks wait. Only after [`super::Timeline::keep_durations`].

use rustc_hash::FxHashMap;

use super::names::{NameId, Names};
use super::outcome::{StateTimes, TaskTimes};
use super::plan::{Kind, Plan};
use super::vcpu::Vcpu;

/// Tasks that were woken and do not run yet, per VM; damaged records must not fill the memory.
const MAX_WOKEN: usize = 1 << 20;

/// What is summed up over guest events.
#[derive(Default)]
pub(super) struct Observer {
    /// By vCPU: the task that runs.
    running: Vec<Option<Running>>,
    /// By VM and task.
    tasks: FxHashMap<(u32, NameId), TaskTimes>,
    /// By VM and pid: when it was woken.
    woken: FxHashMap<(u32, i32), u64>,
    /// By VM: how long woken tasks waited, in nanoseconds.
    pub(super) waits: Vec<Vec<u64>>,
}

#[derive(Clone, Copy)]
struct Running {
    name: NameId,
    since: u64,
    /// The vCPU's times at that moment.
    before: StateTimes,
}

impl Observer {
    pub(super) fn new(vcpus: usize, vms: usize) -> Self {
        Self { running: vec![None; vcpus], waits: vec![Vec::new(); vms], ..Self::default() }
    }

    /// A guest's event.
    pub(super) fn guest_event(&mut self, vcpu: &Vcpu, ns: u64, plan: &Plan, payload: &[u8], names: &mut Names) {
        if let Some(woken) = plan.woken {
            if self.woken.len() < MAX_WOKEN {
                self.woken.entry((vcpu.vm, woken.pid(payload))).or_insert(ns);
            }
            return;
        }
        let Kind::Switch(fields) = plan.kind else { return };
        self.leave(vcpu, ns);
        // A task that was woken before it was off its CPU has not waited.
        self.woken.remove(&(vcpu.vm, fields.prev_pid.pid(payload)));
        let next = fields.next_pid.pid(payload);
        if next == 0 {
            return;
        }
        if let Some(woken) = self.woken.remove(&(vcpu.vm, next))
            && let Some(waits) = self.waits.get_mut(vcpu.vm as usize)
        {
            waits.push(ns.saturating_sub(woken));
        }
        let name = names.task(next, &fields.next_comm.comm(payload));
        if let Some(running) = self.running.get_mut(vcpu.me as usize) {
            *running = Some(Running { name, since: ns, before: vcpu.times_at(ns) });
        }
    }

    /// The vCPU's task stops running, or it is not known any more whether it does.
    pub(super) fn leave(&mut self, vcpu: &Vcpu, ns: u64) {
        let Some(running) = self.running.get_mut(vcpu.me as usize).and_then(Option::take) else { return };
        let after = vcpu.times_at(ns);
        let task = self.tasks.entry((vcpu.vm, running.name)).or_default();
        let before = running.before;
        task.running_ns += ns.saturating_sub(running.since);
        task.guest_ns += after.guest.saturating_sub(before.guest);
        task.exit_ns += after.exit.saturating_sub(before.exit);
        task.stolen_ns += (after.preempted.saturating_sub(before.preempted))
            + after.waiting.saturating_sub(before.waiting)
            + after.blocked.saturating_sub(before.blocked);
    }

    /// Nothing is known of the VM's vCPU any more: nor of when its tasks were woken.
    pub(super) fn lose(&mut self, vcpu: &Vcpu, ns: u64) {
        self.leave(vcpu, ns);
        self.woken.retain(|(vm, _), _| *vm != vcpu.vm);
    }

    /// All tasks, by VM, the one that ran longest first.
    pub(super) fn tasks(&self, names: &Names) -> Vec<TaskTimes> {
        let mut list: Vec<TaskTimes> = (self.tasks.iter())
            .map(|(&(vm, name), times)| TaskTimes { vm, task: names.display(name), ..times.clone() })
            .collect();
        list.sort_by(|a, b| (a.vm, b.running_ns, &a.task).cmp(&(b.vm, a.running_ns, &b.task)));
        list
    }
}
