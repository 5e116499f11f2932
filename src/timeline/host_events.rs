//! Events of a host with VMs: they shape the Host CPU rows and the states of the vCPUs' threads.

use super::Timeline;
use super::drawing::Category;
use super::guest_row::{self, Brush, Record};
use super::host_cpu::Running;
use super::marks::Waker;
use super::names::{self, NameId};
use super::pairs::Half;
use super::plan::{HARDIRQ, Kind, Leaving, Plan, Switch, Wake};
use super::row::{Closing, Open};
use super::setup::Flows;
use super::vcpu::Moment;
use super::vcpu_thread::{Detailed, Mode, Off};

impl Timeline {
    /// A host's event. Returns whether it is drawn.
    pub(super) fn host_event(&mut self, stream: usize, at: Moment, event: u16, payload: &[u8]) -> bool {
        let (cpu, source_index) = (self.streams[stream].target, self.streams[stream].source);
        if cpu >= self.hosts.len() {
            return false;
        }
        let Some(source) = self.sources.get(usize::from(source_index)) else { return false };
        let Some(&plan) = source.plans.get(usize::from(event)) else { return false };
        match plan.kind {
            Kind::Filtered | Kind::Instant => false,
            Kind::Switch(fields) => {
                self.host_switch(cpu, at, &fields, payload);
                true
            }
            Kind::Wake(fields) => self.host_wake(cpu, at, &plan, &fields, payload),
            Kind::Migrate(fields) => {
                let Some(index) = self.thread(fields.pid.pid(payload)) else { return false };
                let target = self.cpu_index(&fields, payload);
                let (vcpu, mut context) = self.vcpu(index);
                vcpu.migrate(at.ns, target, &mut context)
            }
            Kind::KvmEntry => {
                let Some(index) = self.current_vcpu(cpu, &plan, payload) else { return false };
                let (vcpu, mut context) = self.vcpu(index);
                vcpu.kvm_entry(at, cpu, &mut context);
                true
            }
            Kind::KvmExit(fields) => {
                let Some(index) = self.current_vcpu(cpu, &plan, payload) else { return false };
                let from = (source_index, &self.sources[usize::from(source_index)].formats);
                let reason = self.reasons.of(&fields, from, event, payload, &mut self.canvas.names);
                let (vcpu, mut context) = self.vcpu(index);
                vcpu.kvm_exit(at, cpu, reason, &fields, payload, &mut context);
                true
            }
            Kind::KvmDetail(cause) => {
                // An interrupt's work is not that of the exit which it interrupts.
                let interrupt = plan.in_interrupt(payload);
                let tid = plan.pid.filter(|_| !interrupt).map(|pid| pid.pid(payload));
                let Some(index) = self.current_vcpu(cpu, &plan, payload).filter(|_| !interrupt) else {
                    return self.send(None, tid, (cpu, at.ns), cause, payload);
                };
                let (vcpu, mut context) = self.vcpu(index);
                let detail = Detailed { name: plan.name, source: source_index, event, payload };
                let drawn = vcpu.kvm_detail(at, cpu, detail, &mut context);
                self.send(Some(index), tid, (cpu, at.ns), cause, payload) || drawn
            }
            Kind::Half(_)
            | Kind::SyscallEnter(_)
            | Kind::SyscallExit
            | Kind::FunctionEntry(_)
            | Kind::FunctionExit(_)
            | Kind::Call(_)
            | Kind::Marker(_) => {
                let work = match plan.kind {
                    Kind::Half(Half::Begin { class, .. }) => class.interrupts().then_some(true),
                    Kind::SyscallEnter(_) => Some(false),
                    _ => None,
                };
                if let Some(interrupt) = work {
                    self.prepare_host(cpu, (source_index, event), &plan, at.ns, payload);
                    self.works(cpu, interrupt);
                }
                let source = &mut self.sources[usize::from(source_index)];
                let Some(suspended) = self.suspended.last_mut() else { return false };
                let record =
                    Record { plan: &plan, ns: at.ns, source: source_index, formats: &source.formats, event, payload };
                let mut brush = Brush {
                    canvas: &mut self.canvas,
                    labels: &mut source.labels,
                    late: &mut self.late,
                    machine: self.world.vms.len() as u32,
                    host: true,
                    scratch: &mut self.scratch,
                };
                let row = &mut self.hosts[cpu].row;
                if let Kind::Marker(written) = plan.kind {
                    if let Some(instant) = guest_row::draw_marker(row, suspended, written, record, &mut brush) {
                        self.canvas.fields(source_index, event, payload);
                        row.instant(&mut self.canvas, at.ns, Category::Host, instant);
                    }
                } else {
                    guest_row::draw(row, suspended, record, &mut brush);
                }
                self.canvas.discard();
                true
            }
        }
    }

    /// What the event says about what was before it is drawn before its arrows are gathered.
    fn prepare_host(&mut self, cpu: usize, (source, event): (u16, u16), plan: &Plan, ns: u64, payload: &[u8]) {
        if let (Some(known), Some(suspended)) = (self.sources.get(usize::from(source)), self.suspended.last_mut()) {
            let record = Record { plan, ns, source, formats: &known.formats, event, payload };
            guest_row::prepare(&mut self.hosts[cpu].row, suspended, record, &mut self.canvas);
        }
    }

    /// The vCPU whose thread recorded the event.
    #[inline]
    fn current_vcpu(&self, cpu: usize, plan: &Plan, payload: &[u8]) -> Option<usize> {
        let pid = plan.pid?.pid(payload);
        match self.hosts[cpu].running {
            Some(running) if running.tid == pid => running.vcpu.map(|index| index as usize),
            _ => self.thread(pid),
        }
    }

    #[inline]
    fn thread(&self, pid: i32) -> Option<usize> {
        self.threads.get(&pid).map(|&index| index as usize)
    }

    fn cpu_index(&self, fields: &Wake, payload: &[u8]) -> Option<usize> {
        let number = u32::try_from(fields.cpu?.get(payload)?).ok()?;
        self.host_by_number.get(&number).copied()
    }

    fn host_switch(&mut self, cpu: usize, at: Moment, fields: &Switch, payload: &[u8]) {
        self.account(cpu, at.ns);
        let host = &mut self.hosts[cpu];
        let before = host.running;
        host.leave(at.ns);
        let prev = fields.prev_pid.pid(payload);
        let prev_vcpu = match before {
            Some(running) if running.tid == prev => running.vcpu.map(|index| index as usize),
            _ => self.thread(prev),
        };
        if let Some(index) = prev_vcpu {
            let (vcpu, mut context) = self.vcpu(index);
            vcpu.switch_out(at, cpu, fields.prev_state.get(payload), &mut context);
        }
        if !self.kicked.is_empty() {
            // What is woken while it runs, and leaves only then, comes back for some other reason.
            self.kicked_runs(prev);
        }
        let tid = fields.next_pid.pid(payload);
        let next_vcpu = self.thread(tid);
        let (mut arrow, name, vm);
        if let Some(index) = next_vcpu {
            let (vcpu, mut context) = self.vcpu(index);
            vcpu.switch_in(at.ns, cpu, &mut context);
            (arrow, name, vm) = (vcpu.arrows_at_run(), vcpu.name, Some(vcpu.vm));
        } else {
            (name, vm) = self.kin.name(tid, &fields.next_comm.comm(payload), &mut self.canvas.names);
            arrow = None;
            if !self.kicked.is_empty() {
                arrow = self.kicked_runs(tid);
            }
        }
        let mut flow = 0;
        if tid != 0 && self.options.flows != Flows::None && self.hosts[cpu].homed > 0 {
            self.flows += 1;
            flow = self.flows;
        }
        let next = Running { tid, vcpu: next_vcpu.map(|index| index as u32), vm, name, since: at.ns, flow };
        let (host, canvas) = (&mut self.hosts[cpu], &mut self.canvas);
        // The last of them is the host's.
        let Some(suspended) = self.suspended.last_mut() else { return };
        host.row.end_calls(canvas);
        let dead = fields.prev_state.get(payload) == Leaving::Dead;
        guest_row::leave(&mut host.row, suspended, prev, dead, at.ns, canvas);
        host.draw(canvas, at.ns, next, arrow);
        guest_row::arrived(&mut host.row, suspended, tid, at.ns, canvas);
    }

    /// What ran on a CPU until now ran instead of the vCPUs that wait for it.
    fn account(&mut self, cpu: usize, ns: u64) {
        let host = &self.hosts[cpu];
        if let Some(running) = &host.running {
            for &waiter in &host.waiters {
                self.vcpus[waiter as usize].marks.ran(running, ns);
            }
        }
    }

    fn host_wake(&mut self, cpu: usize, at: Moment, plan: &Plan, fields: &Wake, payload: &[u8]) -> bool {
        let tid = fields.pid.pid(payload);
        let Some(index) = self.thread(tid) else {
            if !self.draws_causes() || plan.in_interrupt(payload) {
                return false;
            }
            let from = self.current_vcpu(cpu, plan, payload);
            let comm = fields.comm.map_or([0; 16], |comm| comm.comm(payload));
            return self.kick(from, tid, &comm, at.ns);
        };
        let slept = matches!(self.vcpus[index].off, Off::Halted | Off::Blocked);
        if self.vcpus[index].off == Off::No {
            return false;
        }
        let target = self.cpu_index(fields, payload);
        let name = self.waker(cpu, plan, payload);
        let waker = Waker { name, cpu: self.hosts[cpu].number };
        let (vcpu, mut context) = self.vcpu(index);
        let woken = vcpu.wake(at.ns, waker, target, fields.sure, &mut context);
        if woken && slept {
            self.woken(index, cpu, at.ns);
        }
        woken
    }

    /// Who did what this record tells: an interrupt, or the task that was running.
    fn waker(&mut self, cpu: usize, plan: &Plan, payload: &[u8]) -> NameId {
        let host = &self.hosts[cpu];
        if plan.in_interrupt(payload) {
            let by_kind = if plan.flags(payload) & HARDIRQ != 0 { NameId::AN_INTERRUPT } else { NameId::A_SOFTIRQ };
            return match host.row.stack().iter().rev().find(|open| open.is_interrupt()) {
                Some(&Open::Pair { name, .. }) => name,
                _ => by_kind,
            };
        }
        let pid = plan.pid.map_or(0, |pid| pid.pid(payload));
        match host.running {
            _ if pid == 0 => NameId::IDLE,
            Some(running) if running.tid == pid => running.name,
            _ => match self.thread(pid) {
                Some(index) => self.vcpus[index].name,
                None => {
                    let comm = self.host_comms.get(&pid).map_or([0; 16], |comm| names::comm(comm.as_bytes()));
                    self.kin.name(pid, &comm, &mut self.canvas.names).0
                }
            },
        }
    }

    /// Events of a host CPU were lost after `ns`: neither it nor the vCPUs on it or waiting for it are known any more.
    pub(super) fn host_lost(&mut self, cpu: usize, ns: u64, why: Closing) {
        self.forget_cpu(cpu, ns, why, |_| true);
    }

    /// One of a host CPU's streams ends, and with the last one what is known of the CPU.
    pub(super) fn host_ends(&mut self, cpu: usize, ns: u64) {
        let Some(host) = self.hosts.get_mut(cpu) else { return };
        host.streams = host.streams.saturating_sub(1);
        if host.streams == 0 {
            // Who sleeps may be woken elsewhere, and goes on sleeping until the end of all.
            self.forget_cpu(cpu, ns, Closing::Truncated, |off| !matches!(off, Off::Halted | Off::Blocked));
        }
    }

    pub(super) fn forget_cpu(&mut self, cpu: usize, ns: u64, why: Closing, forget: impl Fn(Off) -> bool) {
        if cpu >= self.hosts.len() {
            return;
        }
        self.account(cpu, ns);
        self.hosts[cpu].leave(ns);
        self.kicked.clear();
        for index in 0..self.vcpus.len() {
            let (vcpu, mut context) = self.vcpu(index);
            let here = vcpu.home.or(vcpu.cpu) == Some(cpu);
            if vcpu.mode != Mode::Unknown && here && forget(vcpu.off) {
                vcpu.lose(ns, why, &mut context);
            }
        }
        self.hosts[cpu].row.close_all(&mut self.canvas, ns, why);
    }
}
