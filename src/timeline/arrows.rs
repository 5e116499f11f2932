//! Arrows of `--flows all`: from what one side did to what that made the other side do.
//!
//! `docs/arrows.md` says for users what is written here. An arrow joins an event to the *next* thing of a kind only while
//! nothing came between that would make it another one; where that is not sure, there is none. Each arrow has a flow id
//! of its own, so that no reader joins the ends of two.
//!
//! | arrow | from | to | refused |
//! |---|---|---|---|
//! | wakeup | a slice `wakes …` without length at the `sched_waking` (or `sched_wakeup`), where the waker runs | the vCPU's thread's next slice on a Host CPU row, and on to the `guest` slice of its next entry | a wakeup of a thread that did not sleep; the entry, if the thread sleeps again before it |
//! | kick | the exit in which the guest wrote to a device (`kvm_mmio` or `kvm_pio` write, `kvm_fast_mmio`, or an EPT_MISCONFIG) and its thread woke another one of the VM's process or its vhost thread | that thread's next slice on a Host CPU row | wakeups from interrupts; threads of others; a thread that was running, or leaves a CPU before it comes to one |
//! | interrupt | the exit in which KVM injected it (`kvm_inj_virq`); what accepted it (`kvm_apic_accept_irq`, which follows each `kvm_msi_set_irq`): an exit of this or another vCPU (an IPI), or a slice `sends …` without length, where a thread of the VM's process or an interrupt ran | the guest's handler | see [`super::causes`]; what is no ordinary interrupt (NMI, INIT, SIPI); an unknown thread, if two VMs have a vCPU of that number |
//! | host work | the exit | the interrupts that the host took because of it, if it is one for an interrupt, and syscalls and work items of the vCPU's thread, in their order; from the last to the `guest` slice of the next entry | what is nested in an interrupt; what runs while the thread is off its CPU |
//!
//! Kernels that record an exit only after the host has taken its interrupt (SVM before Linux 6.9) show the interrupt
//! first: there the arrow leads from it to the exit.
//!
//! An exit has one id for its work and one for the first thing that it causes. Further ones leave from slices
//! `sends …` or `kicks …` without length, nested in the exit.

use super::Timeline;
use super::causes::Sender;
use super::drawing::{Category, Correlation};
use super::names::NameId;
use super::plan::Cause;
use super::row::{Closing, Open};
use super::setup::Flows;
use super::vcpu::{Context, Vcpu};
use super::vcpu_thread::{Mode, Off};

/// Kicked threads that do not run yet; more at one time are not followed.
const MAX_KICKED: usize = 64;

/// A thread that will run because of an exit.
#[derive(Clone, Copy)]
pub(super) struct Kicked {
    tid: i32,
    flow: u64,
}

/// What of a vCPU's arrows has begun.
#[derive(Default)]
pub(super) struct Begun {
    /// The id of the exit's work. It numbers the exits, too.
    pub(super) exit: u64,
    /// The id of the first thing that the exit causes; 0 once it is used.
    spare: u64,
    /// Some work has been drawn for the exit.
    worked: bool,
    /// The guest has written to a device in this exit.
    pub(super) wrote: bool,
    /// The id of an interrupt that was taken in guest mode: that of an exit which is not recorded yet.
    early: u64,
    /// The id of the last wakeup, until the next entry; 0 where there is none.
    wakeup: u64,
    /// It has been drawn that the thread runs after it.
    ran: bool,
}

impl Vcpu {
    /// An exit's slice is about to begin.
    pub(super) fn arrows_at_exit(&mut self, context: &mut Context<'_>) {
        let begun = &mut self.arrows;
        begun.wrote = false;
        if !context.draws_causes() {
            return;
        }
        if begun.early != 0 {
            context.canvas.arrive(begun.early);
        }
        (begun.exit, begun.spare) = (context.new_flow(true), context.new_flow(true));
        context.canvas.flow(begun.exit);
        context.canvas.flow(begun.spare);
        (begun.worked, begun.early) = (false, 0);
    }

    /// The slice of guest mode is about to begin.
    pub(super) fn arrows_at_entry(&mut self, context: &mut Context<'_>) {
        let begun = &mut self.arrows;
        if begun.worked {
            context.canvas.arrive(begun.exit);
        }
        if begun.wakeup != 0 {
            context.canvas.arrive(begun.wakeup);
        }
        (begun.worked, begun.wakeup, begun.early) = (false, 0, 0);
    }

    /// The thread sleeps: it runs again for another reason than the last time.
    pub(super) fn arrows_at_sleep(&mut self) {
        self.arrows.wakeup = 0;
    }

    /// Nothing is known of the thread.
    pub(super) fn arrows_lost(&mut self) {
        self.arrows = Begun::default();
        self.causes.forget();
    }

    /// The flow id with which its slice on a Host CPU row shows that it runs because it was woken.
    pub(super) fn arrows_at_run(&mut self) -> Option<u64> {
        let begun = &mut self.arrows;
        let first = begun.wakeup != 0 && !std::mem::replace(&mut begun.ran, true);
        first.then_some(begun.wakeup)
    }

    /// Where an arrow from the exit at `ns` leaves; `name` names the slice if it needs one of its own.
    fn tail(&mut self, ns: u64, name: impl FnOnce(&mut Context<'_>) -> NameId, context: &mut Context<'_>) -> u64 {
        let spare = std::mem::take(&mut self.arrows.spare);
        let (0, Some(track)) = (spare, self.state_track) else { return spare };
        let name = name(context);
        let flow = context.new_flow(true);
        context.canvas.flow(flow);
        self.change(ns);
        context.canvas.begin(self.since, track, Category::Host, Correlation::None, name);
        context.canvas.end(self.since, track);
        flow
    }
}

impl Timeline {
    pub(super) fn draws_causes(&self) -> bool {
        self.options.flows == Flows::All
    }

    /// A slice without length where `cpu` is at, from which an arrow leaves.
    fn moment_on(&mut self, cpu: usize, ns: u64, name: NameId) -> u64 {
        self.flows += 1;
        self.canvas.flow(self.flows);
        let row = &mut self.hosts[cpu].row;
        row.pair(&mut self.canvas, (ns, ns), Category::Host, Correlation::None, name, Closing::Over);
        self.flows
    }

    /// The thread of a vCPU, which slept, has been woken from `cpu`.
    pub(super) fn woken(&mut self, index: usize, cpu: usize, ns: u64) {
        if !self.draws_causes() {
            return;
        }
        let name = self.canvas.names.join(NameId::WAKES, self.vcpus[index].name);
        let flow = self.moment_on(cpu, ns, name);
        let begun = &mut self.vcpus[index].arrows;
        (begun.wakeup, begun.ran) = (flow, false);
    }

    /// The thread of a vCPU wakes another one that is no vCPU's. Returns whether that is an arrow's tail.
    pub(super) fn kick(&mut self, from: Option<usize>, tid: i32, comm: &[u8; 16], ns: u64) -> bool {
        let Some(index) = from.filter(|_| self.draws_causes()) else { return false };
        let (name, vm) = self.kin.name(tid, comm, &mut self.canvas.names);
        let vcpu = &self.vcpus[index];
        let kicks = vcpu.mode == Mode::Exit && vcpu.off == Off::No && vcpu.arrows.exit != 0 && vcpu.arrows.wrote;
        let runs = self.hosts.iter().any(|host| host.running.is_some_and(|running| running.tid == tid));
        let comes = self.kicked.iter().any(|kicked| kicked.tid == tid);
        if !kicks || vm != Some(vcpu.vm) || runs || comes || self.kicked.len() >= MAX_KICKED {
            return false;
        }
        let (vcpu, mut context) = self.vcpu(index);
        let flow = vcpu.tail(ns, |context| context.canvas.names.join(NameId::KICKS, name), &mut context);
        if flow != 0 {
            self.kicked.push(Kicked { tid, flow });
        }
        flow != 0
    }

    /// A thread that is no vCPU's comes to a CPU: the flow id of what kicked it.
    pub(super) fn kicked_runs(&mut self, tid: i32) -> Option<u64> {
        let at = self.kicked.iter().position(|kicked| kicked.tid == tid)?;
        Some(self.kicked.swap_remove(at).flow)
    }

    /// Interrupts are sent, or acknowledged. `from` is the vCPU whose thread recorded the event, if one did and not an
    /// interrupt of the host, and `tid` the thread. Returns whether the event is one of an arrow's.
    pub(super) fn send(
        &mut self,
        from: Option<usize>,
        tid: Option<i32>,
        (cpu, ns): (usize, u64),
        cause: Cause,
        payload: &[u8],
    ) -> bool {
        if !self.draws_causes() {
            return false;
        }
        let exit = from.filter(|&index| self.vcpus[index].mode == Mode::Exit && self.vcpus[index].off == Off::No);
        match cause {
            Cause::None => false,
            Cause::Write { read } => {
                if let Some(index) = exit {
                    self.vcpus[index].arrows.wrote |= !read.is_some_and(|read| read.holds(payload));
                }
                false
            }
            Cause::Acknowledge { vector } => {
                let (Some(index), Some(vector)) = (from, vector.get(payload)) else { return false };
                let vcpu = &mut self.vcpus[index];
                vcpu.causes.acknowledge(vector, vcpu.mode == Mode::Guest);
                false
            }
            Cause::Inject { vector } => {
                let (Some(index), Some(vector)) = (exit, vector.get(payload)) else { return false };
                self.send_to(index, vector, (exit, cpu, ns), true)
            }
            Cause::Accept { vcpu, vector, mode } => {
                // Fixed or lowest priority; 2 and above are SMI, NMI, INIT, SIPI and ExtINT.
                if mode.and_then(|mode| mode.get(payload)).unwrap_or(0) >> 8 > 1 {
                    return false;
                }
                let vm = match from {
                    Some(index) => Some(self.vcpus[index].vm),
                    None => tid.and_then(|tid| self.kin.vm(tid)),
                };
                let (Some(id), Some(vector)) = (vcpu.get(payload), vector.get(payload)) else { return false };
                let mut targets = (0..self.vcpus.len()).filter(|&index| {
                    let vcpu = &self.vcpus[index];
                    vcpu.vcpu_id.is_some_and(|own| u64::from(own) == id) && vm.is_none_or(|vm| vm == vcpu.vm)
                });
                let (Some(target), None) = (targets.next(), targets.next()) else { return false };
                self.send_to(target, vector, (exit, cpu, ns), false)
            }
        }
    }

    fn send_to(
        &mut self,
        target: usize,
        vector: u64,
        (exit, cpu, ns): (Option<usize>, usize, u64),
        injected: bool,
    ) -> bool {
        let number = exit.map_or(0, |index| self.vcpus[index].arrows.exit);
        let by = match exit {
            Some(index) if number != 0 && index == target => Sender::Itself(number),
            Some(_) if number != 0 => Sender::Other(number),
            _ => Sender::Host,
        };
        if !self.vcpus[target].causes.wants(vector, by, injected) {
            return true;
        }
        let to = self.vcpus[target].name;
        let flow = match exit.filter(|_| by != Sender::Host) {
            Some(index) => {
                let (vcpu, mut context) = self.vcpu(index);
                vcpu.tail(ns, |context| context.canvas.names.sends(vector, to), &mut context)
            }
            None => {
                let name = self.canvas.names.sends(vector, to);
                self.moment_on(cpu, ns, name)
            }
        };
        self.vcpus[target].causes.send(vector, flow, by, injected);
        true
    }

    /// Work of the host begins on a CPU: if a vCPU's thread has it done for its exit, the next item continues the exit's
    /// arrow.
    pub(super) fn works(&mut self, cpu: usize, interrupt: bool) {
        if !self.draws_causes() {
            return;
        }
        let host = &self.hosts[cpu];
        let Some(index) = host.running.and_then(|running| running.vcpu) else { return };
        if host
            .row
            .stack()
            .iter()
            .any(|open| matches!(open, Open::Pair { .. }) || !interrupt && matches!(open, Open::Syscall { .. }))
        {
            return;
        }
        let (vcpu, mut context) = self.vcpu(index as usize);
        match vcpu.mode {
            _ if vcpu.off != Off::No => {}
            Mode::Exit if vcpu.arrows.exit != 0 && (!interrupt || context.reasons.interrupts(vcpu.reason)) => {
                context.canvas.arrive(vcpu.arrows.exit);
                vcpu.arrows.worked = true;
            }
            Mode::Guest if interrupt => match vcpu.arrows.early {
                0 => {
                    vcpu.arrows.early = context.new_flow(true);
                    context.canvas.flow(vcpu.arrows.early);
                }
                early => context.canvas.arrive(early),
            },
            _ => {}
        }
    }
}
