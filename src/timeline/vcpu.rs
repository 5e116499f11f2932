//! A vCPU: its rows, its thread's state, its marks and its check.

use super::arrows::Begun;
use super::batch_builder::Canvas;
use super::causes::Causes;
use super::drawing::TrackId;
use super::exit_reasons::{ReasonId, Reasons};
use super::host_cpu::HostCpu;
use super::kin::Kin;
use super::marks::{Ended, Instead, MarkNames, Marks, Scene};
use super::names::{NameId, Names};
use super::outcome::{ExitTotals, StateTimes, VcpuOutcome};
use super::row::{Closing, Row};
use super::run_check::Checker;
use super::setup::{DrawOptions, Flows};
use super::vcpu_thread::{Details, Mode, Off};

/// A moment: cycles for comparing, nanoseconds for drawing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) tsc: u64,
    pub(super) ns: u64,
}

/// Totals of one exit reason.
#[derive(Clone, Debug, Default)]
pub(super) struct ReasonTotals {
    pub(super) count: u64,
    pub(super) total_ns: u64,
    pub(super) on_cpu_ns: u64,
    pub(super) durations: Vec<u64>,
}

/// A vCPU.
pub(super) struct Vcpu {
    /// Its index among all vCPUs.
    pub(super) me: u32,
    pub(super) vm: u32,
    pub(super) vcpu: u32,
    /// KVM's number for it.
    pub(super) vcpu_id: Option<u32>,
    /// "web vCPU 1".
    pub(super) name: NameId,
    pub(super) row: Row,
    pub(super) state_track: Option<TrackId>,
    pub(super) events_track: Option<TrackId>,
    pub(super) marks: Marks,
    pub(super) check: Checker,
    pub(super) mode: Mode,
    pub(super) off: Off,
    /// Whether it was ever seen to enter guest mode or to leave it.
    pub(super) entered: bool,
    /// Since when `mode` and `off` are what they are.
    pub(super) since: u64,
    /// Index of the CPU it runs on, or ran on last.
    pub(super) cpu: Option<usize>,
    /// Index of the CPU it would come back to; only while it is off its CPU.
    pub(super) home: Option<usize>,
    pub(super) reason: ReasonId,
    pub(super) exit_begin: u64,
    /// `times.exit` when the exit began.
    pub(super) exit_before: u64,
    pub(super) arrows: Begun,
    pub(super) causes: Causes,
    pub(super) details: Details,
    pub(super) times: StateTimes,
    /// By [`ReasonId`].
    pub(super) exits: Vec<ReasonTotals>,
    pub(super) instead: Instead,
    /// How long its thread waited after each wakeup.
    pub(super) waits: Vec<u64>,
}

/// What a vCPU needs of the rest.
pub(super) struct Context<'a> {
    pub(super) canvas: &'a mut Canvas,
    pub(super) hosts: &'a mut [HostCpu],
    pub(super) reasons: &'a Reasons,
    pub(super) stalls: &'a mut Stalls,
    pub(super) mark_names: &'a MarkNames,
    pub(super) kin: &'a Kin,
    /// The last flow id.
    pub(super) flows: &'a mut u64,
    pub(super) options: &'a DrawOptions,
    pub(super) keep_durations: bool,
}

impl Context<'_> {
    pub(super) fn scene(&mut self) -> Scene<'_> {
        Scene {
            canvas: self.canvas,
            hosts: self.hosts,
            stall_ns: self.options.stall_ns,
            names: self.mark_names,
            kin: self.kin,
        }
    }

    /// A flow id of its own, where such arrows are wanted; otherwise 0.
    pub(super) fn new_flow(&mut self, wanted: bool) -> u64 {
        if !wanted {
            return 0;
        }
        *self.flows += 1;
        *self.flows
    }

    /// Whether arrows are drawn from what caused an interrupt to its handler.
    pub(super) fn draws_causes(&self) -> bool {
        self.options.flows == Flows::All
    }
}

impl Vcpu {
    /// Makes room in the vCPU's row for an item at `ns`.
    #[inline]
    pub(super) fn make_room(&mut self, ns: u64, context: &mut Context<'_>) {
        self.marks.make_room(ns, &mut self.row, &mut context.scene());
    }

    /// The pending mark ends.
    pub(super) fn finish_mark(&mut self, ns: u64, why: Closing, context: &mut Context<'_>) {
        if context.keep_durations {
            self.marks.sum_up(ns, context.hosts, &mut self.instead);
        }
        if let Some(ended) = self.marks.finish(ns, &mut self.row, &mut context.scene(), why) {
            let cause = || {
                let exit = context.reasons.name(self.reason);
                self.marks.cause(ended, exit, context.hosts, &context.canvas.names)
            };
            context.stalls.add(self.me, ended, cause);
        }
    }
}

impl Vcpu {
    /// What was found out about it.
    pub(super) fn outcome(self, reasons: &Reasons, names: &Names) -> VcpuOutcome {
        let exits = self.exits.into_iter().enumerate().filter(|(_, totals)| totals.count > 0);
        let exits = exits.map(|(index, totals)| ExitTotals {
            reason: names.display(reasons.name_at(index)),
            count: totals.count,
            total_ns: totals.total_ns,
            on_cpu_ns: totals.on_cpu_ns,
            durations: totals.durations,
        });
        VcpuOutcome {
            vm: self.vm,
            vcpu: self.vcpu,
            check: self.check.finish(),
            states: self.times,
            exits: exits.collect(),
            ran_instead: self.instead.list(names),
            instead_idle_ns: self.instead.idle_ns,
            instead_unknown_ns: self.instead.unknown_ns,
            waits: self.waits,
        }
    }
}

/// The longest stalls, longest first.
#[derive(Default)]
pub(super) struct Stalls {
    pub(super) list: Vec<(u32, Ended, String)>,
}

/// How many stalls the report shows.
const MAX_STALLS: usize = 10;

impl Stalls {
    fn add(&mut self, vcpu: u32, ended: Ended, cause: impl FnOnce() -> String) {
        let length = |ended: &Ended| ended.end - ended.begin;
        let place = self.list.partition_point(|(_, other, _)| length(other) >= length(&ended));
        if place < MAX_STALLS {
            self.list.insert(place, (vcpu, ended, cause()));
            self.list.truncate(MAX_STALLS);
        }
    }
}
