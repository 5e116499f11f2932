//! What of a session is wanted: which events, which vCPUs, which times.
//!
//! Events that are not wanted are dropped before anything looks at them, and counted as filtered: a picture without
//! `sched_switch` has no tasks and no preemption either.

mod glob;

pub use glob::EventPattern;

use crate::capture::Capture;
use crate::clock::scaling::HostRange;
use crate::session::{Role, Session};
use crate::time::HostTsc;

/// How much of the host's trace is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// From 100 ms before the first to 100 ms after the last guest event; everything where there is no guest event.
    Guests,
    /// Everything.
    All,
}

/// Host time drawn before and after the guests' recordings, in nanoseconds.
const MARGIN_NS: u64 = 100_000_000;

impl Span {
    /// The host time that is drawn.
    pub fn of(self, session: &Session) -> HostRange {
        let (Self::Guests, Some(guests)) = (self, session.guest_span()) else { return HostRange::ALL };
        let hz = session.rate.hz.unwrap_or(1_000_000_000);
        let margin = u64::try_from(u128::from(hz) * u128::from(MARGIN_NS) / 1_000_000_000).unwrap_or(u64::MAX);
        HostRange {
            first: HostTsc::new(guests.first.get().saturating_sub(margin)),
            last: HostTsc::new(guests.last.get().saturating_add(margin)),
        }
    }
}

/// What is wanted of one session.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Wanted host time of the host's events: sorted, disjoint.
    pub host: Vec<HostRange>,
    /// Wanted host time of the guests' events: sorted, disjoint.
    pub guests: Vec<HostRange>,
    /// Per VM and vCPU: whether it is wanted.
    pub vcpus: Vec<Vec<bool>>,
    /// Only events that match one of these, if there are any.
    pub events: Vec<EventPattern>,
    /// No events that match one of these.
    pub exclude: Vec<EventPattern>,
}

impl Selection {
    /// Everything within `span`.
    pub fn all(session: &Session, span: Span) -> Self {
        Self::within(session, span.of(session))
    }

    /// All guest events, and the host's within `span`.
    pub fn within(session: &Session, span: HostRange) -> Self {
        Self {
            host: vec![span],
            guests: vec![HostRange::ALL],
            vcpus: session.vms.iter().map(|vm| vec![true; vm.vcpus.len()]).collect(),
            events: Vec::new(),
            exclude: Vec::new(),
        }
    }

    /// From the first to the last wanted moment of the host.
    pub fn span(&self) -> HostRange {
        match (self.host.first(), self.host.last()) {
            (Some(first), Some(last)) => HostRange { first: first.first, last: last.last },
            // Nothing is wanted at all.
            _ => HostRange::at(HostTsc::MIN),
        }
    }

    /// Whether every event of the guests' recordings is wanted, as far as their vCPUs are.
    pub fn has_all_of_guests(&self) -> bool {
        self.events.is_empty() && self.exclude.is_empty() && self.guests == [HostRange::ALL]
    }

    /// Whether a vCPU is wanted.
    pub fn wants(&self, vm: usize, vcpu: usize) -> bool {
        self.vcpus.get(vm).and_then(|vcpus| vcpus.get(vcpu)).copied().unwrap_or(true)
    }

    /// Per event of the capture, which was recorded on `machine`: whether it is left out.
    pub(crate) fn unwanted_events(&self, capture: &Capture, machine: &str) -> Vec<bool> {
        let any = |patterns: &[EventPattern], system: &str, event: &str| {
            patterns.iter().any(|pattern| pattern.matches(machine, system, event))
        };
        let formats = capture.formats.events().iter();
        formats
            .map(|f| {
                let wanted = self.events.is_empty() || any(&self.events, &f.system, &f.name);
                !wanted || any(&self.exclude, &f.system, &f.name)
            })
            .collect()
    }
}

/// The host time of everything that was recorded.
pub(crate) fn recorded(session: &Session) -> Option<HostRange> {
    let known = [session.host_span(), session.guest_span()].into_iter().flatten();
    known.reduce(|a, b| HostRange { first: a.first.min(b.first), last: a.last.max(b.last) })
}

/// What a machine is called in patterns and in text.
pub(crate) fn machine(session: &Session, role: Role) -> &str {
    match role {
        Role::Guest(vm) => session.vms.get(vm).map_or("?", |vm| &vm.name),
        _ => "host",
    }
}
