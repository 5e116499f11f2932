//! The check of the mapping: a guest can record events only while its vCPU runs.

use crate::clock::rate::TscRate;
use crate::time::{HostTsc, TraceNs};

/// How many guest events lie inside their vCPU's run windows, between `kvm_entry` and `kvm_exit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunCheck {
    /// Guest events for which the host capture tells whether the vCPU ran.
    pub checked: u64,
    /// Those inside.
    pub inside: u64,
    /// The event outside that is farthest from a run window.
    pub worst: Option<Offender>,
}

/// A guest event outside its vCPU's run windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offender {
    /// When.
    pub at: TraceNs,
    /// Nanoseconds to the nearest run window.
    pub distance_ns: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No kvm event of the vCPU's thread yet.
    First,
    /// Host events were lost.
    Unknown,
    /// In guest mode.
    Running,
    /// Not in guest mode.
    Out,
}

/// Events of one gap between run windows whose distance is computed; further ones of the gap are only counted.
const MAX_GAP: usize = 4096;

/// Follows one vCPU.
pub(super) struct Checker {
    rate: TscRate,
    state: State,
    checked: u64,
    inside: u64,
    worst: Option<(u64, u64)>,
    /// Events before the first kvm event, and the earliest of them.
    first: (u64, u64),
    /// The last exit, if one is known.
    exit: Option<u64>,
    /// Events since then.
    gap: Vec<u64>,
    /// How many more there were, and the first of them.
    more: (u64, u64),
    /// When the host's events were recorded; about other times nothing is known.
    known: (u64, u64),
    /// An event may have happened up to this many cycles after its stamp: a slower guest shows one reading so long.
    slack: u64,
}

impl Checker {
    pub(super) fn new(rate: TscRate) -> Self {
        Self {
            rate,
            state: State::First,
            checked: 0,
            inside: 0,
            worst: None,
            first: (0, 0),
            exit: None,
            gap: Vec::new(),
            more: (0, 0),
            known: (0, u64::MAX),
            slack: 0,
        }
    }

    /// Says when the host recorded, and how many cycles one reading of the guest's clock lasts beyond the first.
    pub(super) fn limit(&mut self, known: (u64, u64), slack: u64) {
        self.known = known;
        self.slack = slack;
    }

    /// A guest event.
    #[inline]
    pub(super) fn guest_event(&mut self, tsc: u64) {
        if tsc < self.known.0 || tsc > self.known.1 {
            return;
        }
        match self.state {
            State::Running => {
                self.checked += 1;
                self.inside += 1;
            }
            State::Out => {
                self.checked += 1;
                if self.exit == Some(tsc) {
                    self.inside += 1;
                } else if self.gap.len() < MAX_GAP {
                    self.gap.push(tsc);
                } else {
                    self.more = (self.more.0 + 1, if self.more.0 == 0 { tsc } else { self.more.1 });
                }
            }
            State::First => {
                if self.first.0 == 0 {
                    self.first.1 = tsc;
                }
                self.first.0 += 1;
            }
            State::Unknown => {}
        }
    }

    /// The vCPU enters guest mode.
    pub(super) fn entry(&mut self, tsc: u64) {
        if self.state == State::First {
            self.checked += self.first.0;
            if self.first.0 > 0 && tsc.saturating_sub(self.first.1) <= self.slack {
                self.inside += self.first.0;
            } else if self.first.0 > 0 {
                self.offend(self.first.1, tsc.saturating_sub(self.first.1));
            }
        }
        self.close_gap(Some(tsc));
        self.state = State::Running;
    }

    /// The vCPU leaves guest mode.
    pub(super) fn exit(&mut self, tsc: u64) {
        if self.state == State::First {
            self.checked += self.first.0;
            self.inside += self.first.0;
        }
        self.close_gap(None);
        self.exit = Some(tsc);
        self.state = State::Out;
    }

    /// The vCPU's thread works in the host; it has not been in guest mode since the last known event.
    pub(super) fn in_host(&mut self) {
        if self.state == State::First {
            // Their distance is that to the first entry, which comes.
            self.checked += self.first.0;
            if self.first.0 > 0 {
                self.gap.push(self.first.1);
            }
            self.state = State::Out;
        } else if self.state == State::Unknown {
            self.exit = None;
            self.state = State::Out;
        }
    }

    /// Host events were lost.
    pub(super) fn lost(&mut self) {
        if self.state != State::First {
            self.close_gap(None);
            self.state = State::Unknown;
        }
    }

    /// A CPU lost events since `since`. A vCPU that was out of guest mode may have run there unseen.
    pub(super) fn lost_on_some_cpu(&mut self, since: u64) {
        if self.state != State::Out {
            return;
        }
        let before = self.gap.len();
        self.gap.retain(|&tsc| tsc < since);
        let mut unknown = (before - self.gap.len()) as u64;
        if self.more.1 >= since {
            unknown += self.more.0;
        }
        self.checked -= unknown;
        self.close_gap(None);
        self.state = State::Unknown;
    }

    fn close_gap(&mut self, entry: Option<u64>) {
        for index in 0..self.gap.len() {
            let tsc = self.gap[index];
            if entry.is_some_and(|entry| entry.saturating_sub(tsc) <= self.slack) {
                self.inside += 1;
                continue;
            }
            let before = self.exit.map(|exit| tsc.saturating_sub(exit));
            let after = entry.map(|entry| entry.saturating_sub(tsc));
            if let Some(distance) = before.into_iter().chain(after).min() {
                self.offend(tsc, distance);
            }
        }
        self.gap.clear();
        self.more = (0, 0);
    }

    fn offend(&mut self, tsc: u64, distance: u64) {
        if self.worst.is_none_or(|(_, worst)| distance > worst) {
            self.worst = Some((tsc, distance));
        }
    }

    /// What was found.
    pub(super) fn finish(mut self) -> RunCheck {
        self.close_gap(None);
        RunCheck {
            checked: self.checked,
            inside: self.inside,
            worst: self.worst.map(|(tsc, distance)| Offender {
                at: self.rate.ns(HostTsc::new(tsc)),
                distance_ns: self.rate.ns(HostTsc::new(distance)).get(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checker() -> Checker {
        Checker::new(TscRate::UNKNOWN)
    }

    #[test]
    fn windows_include_their_ends() {
        let mut check = checker();
        check.entry(100);
        [100, 150, 200].into_iter().for_each(|tsc| check.guest_event(tsc));
        check.exit(200);
        [200, 203, 290, 300].into_iter().for_each(|tsc| check.guest_event(tsc));
        check.entry(300);
        let found = check.finish();
        assert_eq!((found.checked, found.inside), (7, 5));
        // 290 is 10 from the entry at 300; 203 is 3 from the exit at 200.
        assert_eq!(found.worst, Some(Offender { at: TraceNs::new(290), distance_ns: 10 }));
    }

    #[test]
    fn the_first_kvm_event_tells_what_was_before_it() {
        let mut ran = checker();
        ran.guest_event(5);
        ran.exit(10);
        assert_eq!(ran.finish(), RunCheck { checked: 1, inside: 1, worst: None });

        let mut did_not = checker();
        [5, 6].into_iter().for_each(|tsc| did_not.guest_event(tsc));
        did_not.entry(10);
        let worst = Some(Offender { at: TraceNs::new(5), distance_ns: 5 });
        assert_eq!(did_not.finish(), RunCheck { checked: 2, inside: 0, worst });

        let mut host = checker();
        host.guest_event(5);
        host.in_host();
        host.guest_event(7);
        host.entry(10);
        assert_eq!(host.finish(), RunCheck { checked: 2, inside: 0, worst });
    }

    #[test]
    fn a_reading_that_lasts_into_a_window_is_inside() {
        let mut check = checker();
        check.limit((10, 1000), 3);
        check.entry(100);
        check.exit(200);
        // 9 and 1001 are before and after the recording.
        [201, 296, 297].into_iter().for_each(|tsc| check.guest_event(tsc));
        check.entry(300);
        [9, 1001].into_iter().for_each(|tsc| check.guest_event(tsc));
        let worst = Some(Offender { at: TraceNs::new(296), distance_ns: 4 });
        assert_eq!(check.finish(), RunCheck { checked: 3, inside: 1, worst });
    }

    #[test]
    fn nothing_is_claimed_after_a_loss() {
        let mut check = checker();
        check.entry(1);
        check.guest_event(2);
        check.lost();
        check.guest_event(3);
        check.exit(4);
        check.guest_event(4);
        assert_eq!(check.finish(), RunCheck { checked: 2, inside: 2, worst: None });
    }

    #[test]
    fn a_loss_takes_back_what_was_said_of_a_vcpu_that_was_out() {
        let mut check = checker();
        check.entry(1);
        check.exit(10);
        [12, 20, 30].into_iter().for_each(|tsc| check.guest_event(tsc));
        // Some CPU has nothing from 20 to 40.
        check.lost_on_some_cpu(20);
        check.guest_event(45);
        check.entry(50);
        check.guest_event(51);
        let worst = Some(Offender { at: TraceNs::new(12), distance_ns: 2 });
        assert_eq!(check.finish(), RunCheck { checked: 2, inside: 1, worst });
    }
}
