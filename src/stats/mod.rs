//! Where each vCPU's time went, as numbers.

mod parquet;
mod rows;
mod table;

use serde::{Deserialize, Serialize};

pub use parquet::Parquet;
pub use rows::{Row, csv, quoted, rows};
pub use table::text;

use crate::convert::interpret;
use crate::error::Result;
use crate::monitor::Monitor;
use crate::pipeline::Limits;
use crate::report::{StallReport, TscReport};
use crate::selection::Selection;
use crate::session::Session;
use crate::timeline::{ExitTotals, StateTimes, TaskTimes};

/// The statistics of a session.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Stats {
    /// The VMs.
    pub vms: Vec<VmStats>,
    /// The host's TSC rate.
    pub tsc: TscReport,
    /// The longest stall marks, longest first, ten at most.
    pub longest_stalls: Vec<StallReport>,
}

/// One VM.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct VmStats {
    /// Name.
    pub name: String,
    /// Process on the host, where the capture shows it.
    pub pid: Option<u32>,
    /// vCPUs in row order.
    pub vcpus: Vec<VcpuStats>,
    /// Its guest tasks, the one that ran longest first.
    pub tasks: Vec<TaskStats>,
    /// How long woken guest tasks waited for their vCPU as the guest sees it, `sched_waking` to `sched_switch`.
    pub task_wakeups: Waits,
}

/// Where a guest task's time went. `running_ns` is at least the sum of the other three: the rest is
/// the guest's own halts, as in a paravirtual lock, and what is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct TaskStats {
    /// "comm `[pid]`".
    pub task: String,
    /// Between being switched in and out: what the guest believes that the task ran.
    pub running_ns: u64,
    /// In guest mode: the CPU time that it really got.
    pub guest_ns: u64,
    /// While the host handled exits, on a CPU.
    pub exit_ns: u64,
    /// While the vCPU's thread was kept from running: preempted, waiting or blocked.
    pub stolen_ns: u64,
}

impl TaskStats {
    fn new(times: &TaskTimes) -> Self {
        let TaskTimes { vm: _, task, running_ns, guest_ns, exit_ns, stolen_ns } = times.clone();
        Self { task, running_ns, guest_ns, exit_ns, stolen_ns }
    }
}

/// Waits after wakeups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Waits {
    /// How many.
    pub count: u64,
    /// In all.
    pub total_ns: u64,
    /// `total_ns / count`, rounded down.
    pub mean_ns: u64,
    /// The median.
    pub p50_ns: u64,
    /// 99 of 100 took no longer.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl Waits {
    fn new(waits: &[u64]) -> Self {
        let mut sorted = waits.to_vec();
        sorted.sort_unstable();
        let (count, total_ns) = (sorted.len() as u64, sorted.iter().sum());
        Self {
            count,
            total_ns,
            mean_ns: u64::checked_div(total_ns, count).unwrap_or(0),
            p50_ns: percentile(&sorted, 50),
            p99_ns: percentile(&sorted, 99),
            max_ns: sorted.last().copied().unwrap_or(0),
        }
    }
}

/// A host task that ran while a vCPU was preempted or waited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct InsteadStats {
    /// "comm `[tid]`", or "web vCPU 1" for a vCPU.
    pub task: String,
    /// In how many stalls it ran longest.
    pub count: u64,
    /// How long it ran instead of the vCPU.
    pub total_ns: u64,
}

/// One vCPU. The six times exclude each other and add up to `span_ns`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct VcpuStats {
    /// The number in its rows' names.
    pub id: u32,
    /// KVM's number, where known.
    pub vcpu_id: Option<u32>,
    /// Its host thread, where known.
    pub thread: Option<i32>,
    /// From its first entry to guest mode (or exit from it) to its last known moment.
    pub span_ns: u64,
    /// In guest mode.
    pub guest_ns: u64,
    /// On a CPU in the host because of an exit.
    pub exit_ns: u64,
    /// Switched out while runnable.
    pub preempted_ns: u64,
    /// Woken, not on a CPU yet.
    pub waiting_ns: u64,
    /// Asleep after the guest's own halt.
    pub halted_ns: u64,
    /// Asleep for another reason.
    pub blocked_ns: u64,
    /// Before `span_ns` begins: kvm events, but no entry yet.
    pub before_first_entry_ns: u64,
    /// Guest events of this vCPU.
    pub guest_events: u64,
    /// By reason, the longest total first.
    pub exits: Vec<ExitStats>,
    /// Who ran while it was preempted or waited, longest first. With the next two the totals add up to `preempted_ns`
    /// and `waiting_ns`.
    pub ran_instead: Vec<InsteadStats>,
    /// The part of `preempted_ns` and `waiting_ns` in which nobody ran on its CPU.
    pub instead_idle_ns: u64,
    /// The part of them of which it is not known what its CPU did.
    pub instead_unknown_ns: u64,
    /// How long its thread waited for a CPU after it was woken.
    pub wakeups: Waits,
}

/// The exits of one vCPU for one reason, each from kvm_exit to the next kvm_entry, time off the CPU included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct ExitStats {
    /// The kernel's own name.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// In all.
    pub total_ns: u64,
    /// `total_ns / count`, rounded down.
    pub mean_ns: u64,
    /// The median: half of the exits took no longer.
    pub p50_ns: u64,
    /// 99 of 100 exits took no longer.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The part of `total_ns` that the thread was on a CPU.
    pub on_cpu_ns: u64,
}

impl ExitStats {
    fn new(totals: &ExitTotals) -> Self {
        let mut durations = totals.durations.clone();
        durations.sort_unstable();
        Self {
            reason: totals.reason.clone(),
            count: totals.count,
            total_ns: totals.total_ns,
            mean_ns: totals.total_ns.checked_div(totals.count).unwrap_or(0),
            p50_ns: percentile(&durations, 50),
            p99_ns: percentile(&durations, 99),
            max_ns: durations.last().copied().unwrap_or(0),
            on_cpu_ns: totals.on_cpu_ns,
        }
    }
}

/// The smallest value that at least `percent` of 100 values do not exceed (nearest rank).
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// Sums up a session.
///
/// # Errors
///
/// If an input can no longer be read, or if the monitor asks to stop.
pub fn stats(session: &Session, selection: &Selection, monitor: &Monitor<'_>) -> Result<Stats> {
    stats_within(session, selection, Limits::default(), monitor)
}

/// As [`stats`], within limits of memory.
///
/// # Errors
///
/// As [`stats`].
pub fn stats_within(session: &Session, selection: &Selection, limits: Limits, monitor: &Monitor<'_>) -> Result<Stats> {
    let interpreted = interpret(session, selection, true, limits, monitor)?;
    let outcome = &interpreted.outcome;
    let vcpu = |v: usize, c: usize| {
        let vcpu = &session.vms[v].vcpus[c];
        let mut stats =
            VcpuStats { id: vcpu.number, vcpu_id: vcpu.vcpu_id, thread: vcpu.thread, ..VcpuStats::default() };
        stats.guest_events = crate::convert::events_of(session, v, c);
        if let Some(o) = outcome.vcpus.iter().find(|o| o.vm as usize == v && o.vcpu as usize == c) {
            let StateTimes { guest, exit, preempted, waiting, halted, blocked, before_first_entry } = o.states;
            stats.guest_ns = guest;
            stats.exit_ns = exit;
            stats.preempted_ns = preempted;
            stats.waiting_ns = waiting;
            stats.halted_ns = halted;
            stats.blocked_ns = blocked;
            stats.before_first_entry_ns = before_first_entry;
            stats.span_ns = guest + exit + preempted + waiting + halted + blocked;
            stats.exits = o.exits.iter().map(ExitStats::new).collect();
            let instead = o.ran_instead.iter();
            stats.ran_instead =
                instead.map(|r| InsteadStats { task: r.task.clone(), count: r.count, total_ns: r.total_ns }).collect();
            stats.instead_idle_ns = o.instead_idle_ns;
            stats.instead_unknown_ns = o.instead_unknown_ns;
            stats.wakeups = Waits::new(&o.waits);
            stats.exits.sort_by(|a, b| b.total_ns.cmp(&a.total_ns).then_with(|| a.reason.cmp(&b.reason)));
        }
        stats
    };
    let vms = session.vms.iter().enumerate().map(|(v, vm)| VmStats {
        name: vm.name.clone(),
        pid: vm.pid,
        vcpus: (0..vm.vcpus.len()).map(|c| vcpu(v, c)).collect(),
        tasks: outcome.tasks.iter().filter(|t| t.vm as usize == v).map(TaskStats::new).collect(),
        task_wakeups: Waits::new(outcome.guest_waits.get(v).map_or(&[], Vec::as_slice)),
    });
    Ok(Stats {
        vms: vms.collect(),
        tsc: crate::convert::tsc_report(session),
        longest_stalls: crate::convert::stall_reports(session, outcome),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (50, 99));
        assert_eq!((percentile(&[7], 50), percentile(&[7], 99)), (7, 7));
        assert_eq!(percentile(&[1, 2, 3], 50), 2);
        assert_eq!(percentile(&[], 50), 0);
    }
}
