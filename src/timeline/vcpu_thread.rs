//! What the host does with a vCPU's thread, from its kvm and sched events: the Host state row.

use super::accessor::Num;
use super::drawing::{Category, Correlation};
use super::exit_reasons::ReasonId;
use super::marks::{Kind, Waker};
use super::names::NameId;
use super::outcome::StateTimes;
use super::plan::{Exit, Leaving};
use super::row::Closing;
use super::vcpu::{Context, Moment, ReasonTotals, Vcpu};

/// Where the vCPU is between two kvm events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Not known: before the first kvm event, or after a loss.
    Unknown,
    /// In the host, before the first entry.
    Before,
    /// In guest mode.
    Guest,
    /// In the host, because of an exit.
    Exit,
}

/// Whether, and why, its thread is off its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Off {
    /// It is on a CPU.
    No,
    Preempted,
    Waiting,
    Halted,
    Blocked,
}

impl Off {
    fn slice(self) -> Option<(NameId, Correlation)> {
        Some(match self {
            Self::No => return None,
            Self::Preempted => (NameId::PREEMPTED, Correlation::OffCpu),
            Self::Waiting => (NameId::WAITING, Correlation::OffCpu),
            Self::Halted => (NameId::HALTED, Correlation::Halted),
            Self::Blocked => (NameId::BLOCKED, Correlation::OffCpu),
        })
    }
}

/// Host kvm events of the exit that is being handled; they become arguments when it ends.
#[derive(Default)]
pub(super) struct Details {
    list: Vec<Detail>,
    bytes: Vec<u8>,
}

struct Detail {
    name: NameId,
    source: u16,
    event: u16,
    range: std::ops::Range<usize>,
}

/// How many details an exit shows.
const MAX_DETAILS: usize = 12;

impl Details {
    fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
    }
}

/// A kvm event other than entry and exit.
#[derive(Clone, Copy)]
pub(super) struct Detailed<'a> {
    pub(super) name: NameId,
    pub(super) source: u16,
    pub(super) event: u16,
    pub(super) payload: &'a [u8],
}

impl Vcpu {
    /// Adds the time since the last change to the state that ends now.
    fn pass(&mut self, ns: u64) {
        self.times = self.times_at(ns);
        self.since = self.since.max(ns);
    }

    /// The times that have passed at `ns`, which is not before the last change.
    pub(super) fn times_at(&self, ns: u64) -> StateTimes {
        let passed = ns.saturating_sub(self.since);
        let mut times = self.times;
        let bucket = match (self.mode, self.off) {
            (Mode::Unknown, _) => return times,
            (Mode::Before, _) => &mut times.before_first_entry,
            (_, Off::Preempted) => &mut times.preempted,
            (_, Off::Waiting) => &mut times.waiting,
            (_, Off::Halted) => &mut times.halted,
            (_, Off::Blocked) => &mut times.blocked,
            (Mode::Guest, Off::No) => &mut times.guest,
            (Mode::Exit, Off::No) => &mut times.exit,
        };
        *bucket = bucket.saturating_add(passed);
        times
    }

    fn begin_state(&mut self, category: Category, correlation: Correlation, name: NameId, context: &mut Context<'_>) {
        match self.state_track {
            Some(track) => context.canvas.begin(self.since, track, category, correlation, name),
            None => context.canvas.discard(),
        }
    }

    fn end_state(&mut self, context: &mut Context<'_>) {
        match self.state_track {
            Some(track) => context.canvas.end(self.since, track),
            None => context.canvas.discard(),
        }
    }

    /// A change at `ns`: time passes, and the first one starts the row.
    pub(super) fn change(&mut self, ns: u64) {
        if self.mode == Mode::Unknown {
            self.since = self.since.max(ns);
        } else {
            self.pass(ns);
        }
    }

    /// Ends the slice of the mode.
    fn leave_mode(&mut self, why: Closing, context: &mut Context<'_>) {
        match self.mode {
            Mode::Unknown => return,
            Mode::Exit => self.leave_exit(why, context),
            Mode::Before | Mode::Guest => {}
        }
        why.args(context.canvas);
        self.end_state(context);
    }

    fn leave_exit(&mut self, why: Closing, context: &mut Context<'_>) {
        self.finish_mark(self.since, why, context);
        for (index, detail) in self.details.list.iter().enumerate() {
            let earlier = self.details.list[..index].iter().filter(|other| other.name == detail.name).count();
            let key = match earlier {
                0 => detail.name,
                _ => {
                    let suffix = context.canvas.names.intern(DETAIL_SUFFIXES[earlier.min(MAX_DETAILS - 1)].as_bytes());
                    context.canvas.names.join(detail.name, suffix)
                }
            };
            let payload = self.details.bytes.get(detail.range.clone()).unwrap_or(&[]);
            context.canvas.rendered(key, detail.source, detail.event, payload);
        }
        self.details.clear();
        if why != Closing::Over {
            return;
        }
        if self.exits.len() <= self.reason.index() {
            self.exits.resize(self.reason.index() + 1, ReasonTotals::default());
        }
        let totals = &mut self.exits[self.reason.index()];
        let length = self.since.saturating_sub(self.exit_begin);
        totals.count += 1;
        totals.total_ns = totals.total_ns.saturating_add(length);
        totals.on_cpu_ns = totals.on_cpu_ns.saturating_add(self.times.exit.saturating_sub(self.exit_before));
        if context.keep_durations {
            totals.durations.push(length);
        }
    }

    /// `kvm_entry`.
    pub(super) fn kvm_entry(&mut self, at: Moment, cpu: usize, context: &mut Context<'_>) {
        self.check.entry(at.tsc);
        self.switch_in(at.ns, cpu, context);
        self.entered = true;
        self.change(at.ns);
        if self.mode == Mode::Guest {
            return;
        }
        self.leave_mode(Closing::Over, context);
        self.mode = Mode::Guest;
        self.arrows_at_entry(context);
        self.begin_state(Category::Guest, Correlation::None, NameId::GUEST, context);
    }

    /// `kvm_exit`.
    pub(super) fn kvm_exit(
        &mut self,
        at: Moment,
        cpu: usize,
        reason: ReasonId,
        exit: &Exit,
        payload: &[u8],
        context: &mut Context<'_>,
    ) {
        self.check.exit(at.tsc);
        self.causes.window_ends();
        self.switch_in(at.ns, cpu, context);
        self.change(at.ns);
        self.leave_mode(Closing::Over, context);
        let hex = |num: Option<Num>| num.and_then(|num| num.get(payload));
        for (key, value) in
            [(NameId::RIP, hex(exit.rip)), (NameId::INFO1, hex(exit.info1)), (NameId::INFO2, hex(exit.info2))]
        {
            if let Some(value) = value {
                context.canvas.hex(key, value);
            }
        }
        self.begin_exit(reason, cpu, context);
    }

    fn begin_exit(&mut self, reason: ReasonId, cpu: usize, context: &mut Context<'_>) {
        self.entered = true;
        self.mode = Mode::Exit;
        self.reason = reason;
        self.exit_begin = self.since;
        self.exit_before = self.times.exit;
        self.marks.waker = None;
        if let Some(host) = context.hosts.get(cpu) {
            context.canvas.uint(NameId::CPU, u64::from(host.number));
        }
        self.arrows_at_exit(context);
        self.arrows.wrote = context.reasons.misconfig(reason);
        let name = context.reasons.name(reason);
        self.begin_state(Category::Exit, Correlation::None, name, context);
        self.start_exit_mark(cpu, context);
    }

    /// A halted vCPU that polls before it sleeps does not want to run.
    fn start_exit_mark(&mut self, cpu: usize, context: &Context<'_>) {
        if !context.reasons.halts(self.reason) || self.marks.waker.is_some() {
            self.marks.start(Kind::Exit(context.reasons.name(self.reason)), self.since, Some(cpu), true);
        }
    }

    /// Any other kvm event of the thread. Returns whether it is drawn.
    pub(super) fn kvm_detail(
        &mut self,
        at: Moment,
        cpu: usize,
        detail: Detailed<'_>,
        context: &mut Context<'_>,
    ) -> bool {
        match self.mode {
            Mode::Guest => return false,
            Mode::Before => return false,
            Mode::Unknown => {
                self.check.in_host();
                self.change(at.ns);
                self.cpu = Some(cpu);
                if !self.entered {
                    self.mode = Mode::Before;
                    self.begin_state(Category::OffCpu, Correlation::None, NameId::BEFORE_FIRST_ENTRY, context);
                    return true;
                }
                self.begin_exit(ReasonId::UNRECORDED, cpu, context);
            }
            Mode::Exit => self.switch_in(at.ns, cpu, context),
        }
        if self.details.list.len() >= MAX_DETAILS {
            return false;
        }
        let start = self.details.bytes.len();
        self.details.bytes.extend_from_slice(detail.payload);
        let range = start..self.details.bytes.len();
        self.details.list.push(Detail { name: detail.name, source: detail.source, event: detail.event, range });
        true
    }

    /// The thread leaves its CPU.
    pub(super) fn switch_out(&mut self, at: Moment, cpu: usize, leaving: Leaving, context: &mut Context<'_>) {
        if self.mode == Mode::Unknown {
            return;
        }
        self.switch_in(at.ns, cpu, context);
        self.change(at.ns);
        if leaving == Leaving::Dead {
            self.lose(at.ns, Closing::Over, context);
            return;
        }
        if self.mode == Mode::Guest {
            // Its kvm_exit is missing: the vCPU cannot be in guest mode while its thread is not on a CPU.
            self.check.exit(at.tsc);
            self.leave_mode(Closing::Over, context);
            self.begin_exit(ReasonId::UNRECORDED, cpu, context);
        }
        self.finish_mark(at.ns, Closing::Over, context);
        self.marks.waker = None;
        let (off, mark) = match leaving {
            Leaving::Runnable => (Off::Preempted, Some(Kind::Preempted)),
            _ if self.mode == Mode::Exit && context.reasons.halts(self.reason) => (Off::Halted, None),
            _ => (Off::Blocked, Some(Kind::Blocked)),
        };
        if leaving == Leaving::Asleep {
            self.arrows_at_sleep();
        }
        self.begin_off(off, mark, Some(cpu), true, context);
    }

    fn begin_off(&mut self, off: Off, mark: Option<Kind>, cpu: Option<usize>, sure: bool, context: &mut Context<'_>) {
        self.off = off;
        self.settle_at(cpu, context);
        if let Some((name, correlation)) = off.slice() {
            self.begin_state(Category::OffCpu, correlation, name, context);
        }
        if let Some(kind) = mark
            && self.mode == Mode::Exit
        {
            self.marks.start(kind, self.since, cpu, sure);
        }
    }

    /// Registers the thread with the CPU that it would come back to, and with it alone.
    fn settle_at(&mut self, cpu: Option<usize>, context: &mut Context<'_>) {
        if let Some(host) = self.home.take().and_then(|home| context.hosts.get_mut(home)) {
            host.homed = host.homed.saturating_sub(1);
            host.waiters.retain(|&waiter| waiter != self.me);
        }
        if self.off == Off::No {
            return;
        }
        if let Some(host) = cpu.and_then(|cpu| context.hosts.get_mut(cpu)) {
            self.home = cpu;
            host.homed += 1;
            if matches!(self.off, Off::Preempted | Off::Waiting) {
                host.waiters.push(self.me);
            }
        }
    }

    /// The thread is woken, to run on `target`. Returns whether it makes a difference.
    pub(super) fn wake(
        &mut self,
        ns: u64,
        waker: Waker,
        target: Option<usize>,
        sure: bool,
        context: &mut Context<'_>,
    ) -> bool {
        match self.off {
            Off::Halted | Off::Blocked => {}
            Off::Waiting if sure => return self.migrate(ns, target, context),
            _ => return false,
        }
        self.change(ns);
        self.marks.waker = Some(waker);
        self.finish_mark(ns, Closing::Over, context);
        self.end_state(context);
        let cpu = target.or(self.home);
        self.begin_off(Off::Waiting, Some(Kind::Waiting), cpu, sure, context);
        true
    }

    /// The thread, off its CPU, moves to another one. Returns whether it makes a difference.
    pub(super) fn migrate(&mut self, ns: u64, target: Option<usize>, context: &mut Context<'_>) -> bool {
        let (Some(target), true) = (target, self.off != Off::No) else { return false };
        if let Some(host) = self.home.and_then(|home| context.hosts.get(home))
            && let Some(running) = host.running
            && matches!(self.off, Off::Preempted | Off::Waiting)
        {
            self.marks.ran(&running, ns);
        }
        if self.home == Some(target) {
            self.marks.confirm();
            return true;
        }
        self.settle_at(Some(target), context);
        self.marks.move_to(target, ns);
        true
    }

    /// The thread is on this CPU, by its own events or because it is switched in.
    pub(super) fn switch_in(&mut self, ns: u64, cpu: usize, context: &mut Context<'_>) {
        self.cpu = Some(cpu);
        if self.off == Off::No {
            return;
        }
        if self.off == Off::Waiting && context.keep_durations {
            self.waits.push(ns.saturating_sub(self.since));
        }
        self.change(ns);
        if let Some(host) = context.hosts.get(cpu) {
            self.marks.ran_on(cpu, host, ns);
        }
        self.finish_mark(ns, Closing::Over, context);
        self.end_state(context);
        self.off = Off::No;
        self.settle_at(None, context);
        if self.mode == Mode::Exit {
            self.start_exit_mark(cpu, context);
        }
    }

    /// What the thread does is no longer known from `ns` on (or it is gone).
    pub(super) fn lose(&mut self, ns: u64, why: Closing, context: &mut Context<'_>) {
        if self.mode == Mode::Unknown {
            return;
        }
        self.change(ns);
        self.finish_mark(self.since, why, context);
        if self.off != Off::No {
            why.args(context.canvas);
            self.end_state(context);
            self.off = Off::No;
            self.settle_at(None, context);
        }
        self.leave_mode(why, context);
        self.mode = Mode::Unknown;
        self.arrows_lost();
        self.check.lost();
    }
}

const DETAIL_SUFFIXES: [&str; MAX_DETAILS] = ["", "_2", "_3", "_4", "_5", "_6", "_7", "_8", "_9", "_10", "_11", "_12"];
