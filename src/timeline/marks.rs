//! Stall marks: the times when a vCPU wanted to run and did not, drawn in its own row.
//!
//! A mark is drawn when it ends, since only then it is known who ran instead. Whatever is drawn in the row meanwhile
//! cuts it: marks never cross other slices.

use rustc_hash::FxHashMap;

use super::batch_builder::Canvas;
use super::drawing::{Category, Correlation};
use super::host_cpu::{HostCpu, Running};
use super::kin::Kin;
use super::names::{NameId, Names};
use super::outcome::RanInstead;
use super::row::{Closing, Row};

/// Why the vCPU does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Switched out while runnable.
    Preempted,
    /// Woken, not on a CPU yet.
    Waiting,
    /// Asleep though the guest did not ask for it.
    Blocked,
    /// On a CPU in the host, because of this exit.
    Exit(NameId),
}

/// Who woke the vCPU's thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waker {
    pub(super) name: NameId,
    /// The number of the CPU on which it ran.
    pub(super) cpu: u32,
}

/// A mark that has begun.
#[derive(Clone, Copy)]
struct Pending {
    kind: Kind,
    /// When it began.
    begin: u64,
    /// When the part began that is not drawn yet.
    from: u64,
    /// Index of the CPU it waits for.
    cpu: Option<usize>,
    /// Whether that CPU is known for sure.
    sure: bool,
    cut: bool,
    counted: bool,
    /// The name of its last drawn part.
    drawn: Option<NameId>,
}

/// How long a task ran while the vCPU waited.
#[derive(Clone, Copy)]
struct Account {
    tid: i32,
    vm: Option<u32>,
    name: NameId,
    ns: u64,
    /// The slice that is being added to.
    slice: (u64, u64),
    /// The longest slice that has a flow id: the id and how long.
    longest: (u64, u64),
}

/// Different tasks that are told apart while one vCPU waits; the smallest gives way to a new one.
const MAX_ACCOUNTS: usize = 64;

/// What drawing a mark needs apart from the vCPU.
pub(super) struct Scene<'a> {
    pub(super) canvas: &'a mut Canvas,
    pub(super) hosts: &'a [HostCpu],
    /// Exits shorter than this are no marks.
    pub(super) stall_ns: u64,
    pub(super) names: &'a MarkNames,
    pub(super) kin: &'a Kin,
}

/// Prefixes of mark names.
pub(super) struct MarkNames {
    preempted_by: NameId,
    kept_waiting_by: NameId,
    kept_waiting: NameId,
}

impl MarkNames {
    pub(super) fn new(canvas: &mut Canvas) -> Self {
        Self {
            preempted_by: canvas.names.intern(b"preempted by "),
            kept_waiting_by: canvas.names.intern(b"kept waiting by "),
            kept_waiting: canvas.names.intern(b"kept waiting"),
        }
    }
}

/// A mark that is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) name: NameId,
    kind: Kind,
    /// Index of the CPU that it was about.
    cpu: Option<usize>,
}

/// Who ran while the vCPU was preempted or waited: only for statistics.
#[derive(Default)]
pub(super) struct Instead {
    /// By name: in how many stalls it ran longest, and nanoseconds in all.
    tasks: FxHashMap<NameId, (u64, u64)>,
    pub(super) idle_ns: u64,
    pub(super) unknown_ns: u64,
}

impl Instead {
    /// Longest first.
    pub(super) fn list(&self, names: &Names) -> Vec<RanInstead> {
        let task = |(&name, &(count, total_ns)): (&NameId, &(u64, u64))| RanInstead {
            task: names.display(name),
            count,
            total_ns,
        };
        let mut list: Vec<RanInstead> = self.tasks.iter().map(task).collect();
        list.sort_by(|a, b| (b.total_ns, &a.task).cmp(&(a.total_ns, &b.task)));
        list
    }
}

/// The marks of one vCPU.
#[derive(Default)]
pub(super) struct Marks {
    pending: Option<Pending>,
    accounts: Vec<Account>,
    idle_ns: u64,
    accounted: u64,
    pub(super) waker: Option<Waker>,
    /// How many marks were cut by guest events.
    pub(super) cut: u64,
}

impl Marks {
    /// A mark begins; none is pending.
    pub(super) fn start(&mut self, kind: Kind, ns: u64, cpu: Option<usize>, sure: bool) {
        self.accounts.clear();
        self.idle_ns = 0;
        self.accounted = ns;
        self.pending = Some(Pending { kind, begin: ns, from: ns, cpu, sure, cut: false, counted: false, drawn: None });
    }

    /// This task ran on the CPU that the vCPU waits for, until `end`.
    pub(super) fn ran(&mut self, running: &Running, end: u64) {
        let from = running.since.max(self.accounted);
        if end > from {
            self.add(running, end - from);
            self.accounted = end;
        }
    }

    fn add(&mut self, running: &Running, ns: u64) {
        if running.tid == 0 {
            self.idle_ns += ns;
            return;
        }
        let index = self.accounts.iter().position(|account| account.tid == running.tid).unwrap_or_else(|| {
            if self.accounts.len() >= MAX_ACCOUNTS
                && let Some(least) = (0..self.accounts.len()).min_by_key(|&index| self.accounts[index].ns)
            {
                self.accounts.swap_remove(least);
            }
            self.accounts.push(Account {
                tid: running.tid,
                vm: running.vm,
                name: running.name,
                ns: 0,
                slice: (0, 0),
                longest: (0, 0),
            });
            self.accounts.len() - 1
        });
        let account = &mut self.accounts[index];
        account.ns += ns;
        account.name = running.name;
        if account.slice.0 != running.flow {
            account.slice = (running.flow, 0);
        }
        account.slice.1 += ns;
        if account.slice.0 != 0 && account.slice.1 > account.longest.1 {
            account.longest = account.slice;
        }
    }

    /// The vCPU turns out to wait for another CPU.
    pub(super) fn move_to(&mut self, cpu: usize, ns: u64) {
        let Some(pending) = &mut self.pending else { return };
        if pending.kind == Kind::Waiting && !pending.sure {
            self.accounts.clear();
            self.idle_ns = 0;
        }
        pending.cpu = Some(cpu);
        pending.sure = true;
        self.accounted = ns;
    }

    /// The vCPU waits for the CPU that was guessed.
    pub(super) fn confirm(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.sure = true;
        }
    }

    /// The vCPU got to run on `cpu`: if where it waited was only a guess, that is where.
    pub(super) fn ran_on(&mut self, cpu: usize, host: &HostCpu, ns: u64) {
        let Some(pending) = &mut self.pending else { return };
        if pending.kind != Kind::Waiting || pending.sure || pending.cpu == Some(cpu) {
            return;
        }
        pending.cpu = Some(cpu);
        let begin = pending.begin;
        self.accounts.clear();
        self.idle_ns = 0;
        for (running, from, to) in host.ran_between(begin, ns) {
            self.add(&running, to - from);
        }
        self.accounted = ns;
    }

    /// Makes room in the row for an item at `ns`.
    #[inline]
    pub(super) fn make_room(&mut self, ns: u64, row: &mut Row, scene: &mut Scene<'_>) {
        if let Some(pending) = &mut self.pending
            && ns > pending.from
        {
            pending.cut = true;
            self.draw(ns, row, scene, Closing::Over);
            if let Some(pending) = &mut self.pending {
                pending.from = ns;
            }
        }
    }

    /// The pending mark ends.
    pub(super) fn finish(&mut self, ns: u64, row: &mut Row, scene: &mut Scene<'_>, why: Closing) -> Option<Ended> {
        self.draw(ns, row, scene, why);
        let pending = self.pending.take()?;
        let Pending { kind, cpu, begin, .. } = pending;
        Some(Ended { begin, end: ns, name: pending.drawn?, kind, cpu })
    }

    /// Adds up who runs instead of the vCPU, at the end of the pending mark.
    pub(super) fn sum_up(&mut self, end: u64, hosts: &[HostCpu], instead: &mut Instead) {
        let Some(pending) = self.pending.filter(|p| matches!(p.kind, Kind::Preempted | Kind::Waiting)) else { return };
        if let Some(running) = pending.cpu.and_then(|cpu| hosts.get(cpu)).and_then(|host| host.running) {
            self.ran(&running, end);
        }
        let mut unknown = end.saturating_sub(pending.begin).saturating_sub(self.idle_ns);
        for account in &self.accounts {
            unknown = unknown.saturating_sub(account.ns);
            instead.tasks.entry(account.name).or_default().1 += account.ns;
        }
        let longest = self.accounts.iter().min_by_key(|account| (std::cmp::Reverse(account.ns), account.tid));
        if let Some(longest) = longest.filter(|longest| longest.ns >= self.idle_ns) {
            instead.tasks.entry(longest.name).or_default().0 += 1;
        }
        instead.idle_ns += self.idle_ns;
        instead.unknown_ns += unknown;
    }

    /// Why the mark that has just ended came to be, in words. `exit` is the exit that the vCPU is in.
    pub(super) fn cause(&self, ended: Ended, exit: NameId, hosts: &[HostCpu], names: &Names) -> String {
        let cpu = match ended.cpu.and_then(|cpu| hosts.get(cpu)) {
            Some(host) => format!("CPU {}", host.number),
            None => "its CPU".to_owned(),
        };
        let woken = match self.waker {
            Some(waker) => format!(", woken by {} on CPU {}", names.display(waker.name), waker.cpu),
            None => String::new(),
        };
        let exit = names.display(exit);
        // One without a name is called by its number: `exit 0x60`.
        let exit = exit.strip_prefix("exit ").unwrap_or(&exit);
        match ended.kind {
            Kind::Exit(_) => format!("the host worked on exit {exit} on {cpu}"),
            Kind::Blocked => format!("its thread slept in the host during exit {exit}, which is no halt{woken}"),
            Kind::Preempted => {
                format!("its thread was runnable but lost {cpu} during exit {exit}{}", self.instead(names))
            }
            Kind::Waiting => {
                format!("its thread was runnable{woken}, but did not get {cpu}{}", self.instead(names))
            }
        }
    }

    /// Who ran instead, in words.
    fn instead(&self, names: &Names) -> String {
        let mut accounts = self.accounts.clone();
        accounts.sort_unstable_by_key(|account| (std::cmp::Reverse(account.ns), account.tid));
        let ms = |ns: u64| format!("{}.{:03} ms", ns / 1_000_000, ns / 1000 % 1000);
        let tasks = accounts.iter().take(3).map(|a| format!("{} ran {}", names.display(a.name), ms(a.ns)));
        let mut parts: Vec<String> = tasks.collect();
        if accounts.len() > 3 {
            let rest = accounts[3..].iter().map(|a| a.ns).sum();
            parts.push(format!("{} others ran {}", accounts.len() - 3, ms(rest)));
        }
        if self.idle_ns > 0 {
            parts.push(format!("it was idle for {}", ms(self.idle_ns)));
        }
        if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
    }

    /// Draws the part of the pending mark that ends at `end`, if it is one.
    fn draw(&mut self, end: u64, row: &mut Row, scene: &mut Scene<'_>, why: Closing) {
        let Some(pending) = self.pending else { return };
        let from = pending.from.max(row.last());
        if end <= from {
            return;
        }
        let host = pending.cpu.and_then(|cpu| scene.hosts.get(cpu));
        let (name, category, correlation) = match pending.kind {
            Kind::Exit(_) if end - from < scene.stall_ns => return,
            Kind::Exit(name) => {
                host.inspect(|host| scene.canvas.uint(NameId::CPU, u64::from(host.number)));
                (name, Category::Exit, Correlation::None)
            }
            Kind::Blocked => {
                self.waker_args(scene.canvas);
                (NameId::BLOCKED, Category::OffCpu, Correlation::OffCpu)
            }
            Kind::Preempted | Kind::Waiting => {
                if let Some(running) = host.and_then(|host| host.running) {
                    self.ran(&running, end);
                }
                (self.blame(pending.kind, host, scene), Category::OffCpu, Correlation::OffCpu)
            }
        };
        row.pair(scene.canvas, (from, end), category, correlation, name, why);
        let Some(pending) = &mut self.pending else { return };
        pending.drawn = Some(name);
        if pending.cut && !pending.counted {
            self.cut += 1;
            pending.counted = true;
        }
    }

    /// Names the mark by who ran longest, and pushes its arguments and its flow.
    fn blame(&mut self, kind: Kind, host: Option<&HostCpu>, scene: &mut Scene<'_>) -> NameId {
        let Scene { canvas, names, kin, .. } = scene;
        self.accounts.sort_unstable_by_key(|account| (std::cmp::Reverse(account.ns), account.tid));
        let first = self.accounts.first().copied().filter(|account| account.ns >= self.idle_ns);
        let preempted = kind == Kind::Preempted;
        let name = match (first, host) {
            (Some(first), _) => {
                canvas.name(NameId::BY, first.name);
                if let Some(vm) = first.vm.and_then(|vm| kin.vm_name(vm)) {
                    canvas.name(NameId::BY_VM, vm);
                }
                if first.longest.0 != 0 {
                    canvas.flow(first.longest.0);
                }
                canvas.names.join(if preempted { names.preempted_by } else { names.kept_waiting_by }, first.name)
            }
            (None, Some(host)) if self.idle_ns > 0 => host.idle_names[usize::from(!preempted)],
            _ => {
                if preempted {
                    NameId::PREEMPTED
                } else {
                    names.kept_waiting
                }
            }
        };
        host.inspect(|host| canvas.uint(NameId::CPU, u64::from(host.number)));
        for (key, account) in NameId::RAN_INSTEAD.iter().zip(&self.accounts) {
            canvas.task_time(*key, account.name, account.ns);
        }
        self.waker_args(canvas);
        name
    }

    fn waker_args(&self, canvas: &mut Canvas) {
        if let Some(waker) = self.waker {
            canvas.name(NameId::WOKEN_BY, waker.name);
            canvas.uint(NameId::WOKEN_ON_CPU, u64::from(waker.cpu));
        }
    }
}
