//! What a run of the timeline found, besides what it drew.

use super::drawing::Batch;
pub use super::run_check::RunCheck;
use crate::time::TraceNs;

/// What [`super::Timeline::finish`] hands back.
pub struct Outcome {
    /// The last batch.
    pub last: Batch,
    /// What became of the events.
    pub counts: Counts,
    /// Per vCPU, in the order of VMs and their vCPUs.
    pub vcpus: Vec<VcpuOutcome>,
    /// Marks that a guest event cut, which happens where an offset is uncertain.
    pub marks_cut: u64,
    /// The longest stall marks, longest first; at most ten.
    pub longest_stalls: Vec<Stall>,
    /// Guest tasks by VM, the one that ran longest first; only after [`super::Timeline::keep_durations`].
    pub tasks: Vec<TaskTimes>,
    /// By VM: how long each woken guest task waited for its vCPU, `sched_waking` to `sched_switch`, in nanoseconds; only
    /// after [`super::Timeline::keep_durations`].
    pub guest_waits: Vec<Vec<u64>>,
}

/// Where a guest task's time went, as far as it was the one that its vCPU ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskTimes {
    /// Index into [`super::setup::Setup::vms`].
    pub vm: u32,
    /// "comm `[pid]`".
    pub task: String,
    /// Nanoseconds between being switched in and out: what the guest believes that the task ran.
    pub running_ns: u64,
    /// The part of them that the vCPU was in guest mode.
    pub guest_ns: u64,
    /// The part that the host handled exits, on a CPU.
    pub exit_ns: u64,
    /// The part that the vCPU's thread was kept from running: preempted, waiting or blocked.
    pub stolen_ns: u64,
}

/// A task that ran while a vCPU was preempted or waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RanInstead {
    /// "comm `[tid]`" or "web vCPU 1".
    pub task: String,
    /// In how many stalls it ran longest.
    pub count: u64,
    /// Nanoseconds that it ran instead of the vCPU.
    pub total_ns: u64,
}

/// What became of the events, per stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that shaped a slice, a mark or an argument.
    pub written: Vec<u64>,
    /// Events that the drawn layers do not show.
    pub filtered: Vec<u64>,
}

/// What is known of one vCPU.
#[derive(Clone, Debug)]
pub struct VcpuOutcome {
    /// Index into [`super::setup::Setup::vms`].
    pub vm: u32,
    /// Index into that VM's `vcpus`.
    pub vcpu: u32,
    /// Its guest events against its run windows.
    pub check: RunCheck,
    /// How long it was in each state.
    pub states: StateTimes,
    /// Exits by reason, in order of first occurrence.
    pub exits: Vec<ExitTotals>,
    /// Who ran while it was preempted or waited, longest first; like all that follows, only after
    /// [`super::Timeline::keep_durations`]. With the next two the totals add up to `states.preempted` and `.waiting`.
    pub ran_instead: Vec<RanInstead>,
    /// Nanoseconds of them in which its CPU was idle.
    pub instead_idle_ns: u64,
    /// Nanoseconds of them of which it is not known what its CPU did.
    pub instead_unknown_ns: u64,
    /// How long its thread waited each time after it was woken, in nanoseconds.
    pub waits: Vec<u64>,
}

/// Nanoseconds in each state. They exclude one another, and their sum is the time that the vCPU's Host state row spans
/// (without gaps where host events were lost).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateTimes {
    /// In guest mode.
    pub guest: u64,
    /// On a CPU in the host because of an exit.
    pub exit: u64,
    /// Switched out while runnable.
    pub preempted: u64,
    /// Woken, not on a CPU yet.
    pub waiting: u64,
    /// Asleep after the guest's own halt.
    pub halted: u64,
    /// Asleep for another reason.
    pub blocked: u64,
    /// Before the first entry to guest mode, on a CPU or not.
    pub before_first_entry: u64,
}

impl StateTimes {
    /// The sum of all.
    pub fn total(&self) -> u64 {
        [self.guest, self.exit, self.preempted, self.waiting, self.halted, self.blocked, self.before_first_entry]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// The exits of one vCPU for one reason, `kvm_exit` to the next `kvm_entry`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitTotals {
    /// The kernel's name of the reason.
    pub reason: String,
    /// How many there were.
    pub count: u64,
    /// Nanoseconds in all.
    pub total_ns: u64,
    /// The part of them that was spent on a CPU.
    pub on_cpu_ns: u64,
    /// Each exit's nanoseconds, in order; only after [`super::Timeline::keep_durations`].
    pub durations: Vec<u64>,
}

/// A stall mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Index into [`super::setup::Setup::vms`].
    pub vm: u32,
    /// Index into that VM's `vcpus`.
    pub vcpu: u32,
    /// When it began.
    pub start: TraceNs,
    /// How long it was, in nanoseconds.
    pub length_ns: u64,
    /// The mark's name.
    pub name: String,
    /// Why, in words.
    pub cause: String,
}
