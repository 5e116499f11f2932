//! The check of the mapping, as events go by: a guest can record events only while its vCPU runs.

/// How many guest events lie inside their vCPU's run windows, between `kvm_entry` and `kvm_exit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunCheck {
    /// Guest events for which the host capture tells whether the vCPU ran.
    pub checked: u64,
    /// Those inside.
    pub inside: u64,
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

/// Events of one gap between run windows whose times are remembered; further ones are only counted.
const MAX_GAP: usize = 4096;

/// Follows one vCPU.
pub(super) struct Checker {
    state: State,
    found: RunCheck,
    /// Events before the first kvm event, and the earliest of them.
    first: (u64, u64),
    /// The last exit, if one is known.
    exit: Option<u64>,
    /// Events since then that are outside, as far as is known.
    gap: Vec<u64>,
    /// How many more there were, and the first of them.
    more: (u64, u64),
    /// When the host's events were recorded; about other times nothing is known.
    known: (u64, u64),
    /// An event may have happened up to this many cycles after its stamp: a slower guest shows one reading so long.
    slack: u64,
}

impl Checker {
    pub(super) fn new() -> Self {
        Self {
            state: State::First,
            found: RunCheck::default(),
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

    /// The vCPU ran before the first event that comes by.
    pub(super) fn begins_midway(&mut self) {
        self.state = State::Unknown;
    }

    /// A guest event.
    #[inline]
    pub(super) fn guest_event(&mut self, tsc: u64) {
        if tsc < self.known.0 || tsc > self.known.1 {
            return;
        }
        match self.state {
            State::Running => {
                self.found.checked += 1;
                self.found.inside += 1;
            }
            State::Out => {
                self.found.checked += 1;
                if self.exit == Some(tsc) {
                    self.found.inside += 1;
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
            self.settle_first(tsc.saturating_sub(self.first.1) <= self.slack);
        }
        let lasting = self.gap.iter().filter(|&&event| tsc.saturating_sub(event) <= self.slack).count();
        self.found.inside += lasting as u64;
        self.close_gap();
        self.state = State::Running;
    }

    /// The vCPU leaves guest mode.
    pub(super) fn exit(&mut self, tsc: u64) {
        if self.state == State::First {
            self.settle_first(true);
        }
        self.close_gap();
        self.exit = Some(tsc);
        self.state = State::Out;
    }

    /// The vCPU's thread works in the host; it has not been in guest mode since the last known event.
    pub(super) fn in_host(&mut self) {
        if self.state == State::First {
            self.settle_first(false);
            self.state = State::Out;
        } else if self.state == State::Unknown {
            self.exit = None;
            self.state = State::Out;
        }
    }

    /// Host events were lost.
    pub(super) fn lost(&mut self) {
        if self.state != State::First {
            self.close_gap();
            self.state = State::Unknown;
        }
    }

    /// A CPU lost events since `since`. A vCPU that was out of guest mode may have run there unseen.
    pub(super) fn lost_on_some_cpu(&mut self, since: u64) {
        if self.state != State::Out {
            return;
        }
        let remembered = self.gap.iter().filter(|&&event| event >= since).count() as u64;
        let counted = if self.more.1 >= since { self.more.0 } else { 0 };
        self.found.checked -= remembered + counted;
        self.close_gap();
        self.state = State::Unknown;
    }

    /// The first kvm event tells where the events before it were.
    fn settle_first(&mut self, inside: bool) {
        let (events, _) = std::mem::take(&mut self.first);
        self.found.checked += events;
        self.found.inside += if inside { events } else { 0 };
    }

    fn close_gap(&mut self) {
        self.gap.clear();
        self.more = (0, 0);
    }

    /// What was found.
    pub(super) fn finish(self) -> RunCheck {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(checked: u64, inside: u64) -> RunCheck {
        RunCheck { checked, inside }
    }

    #[test]
    fn windows_include_their_ends() {
        let mut check = Checker::new();
        check.entry(100);
        [100, 150, 200].into_iter().for_each(|tsc| check.guest_event(tsc));
        check.exit(200);
        [200, 203, 290, 300].into_iter().for_each(|tsc| check.guest_event(tsc));
        check.entry(300);
        // 203 and 290 are outside.
        assert_eq!(check.finish(), of(7, 5));
    }

    #[test]
    fn the_first_kvm_event_tells_what_was_before_it() {
        let mut ran = Checker::new();
        ran.guest_event(5);
        ran.exit(10);
        assert_eq!(ran.finish(), of(1, 1));

        let mut did_not = Checker::new();
        [5, 6].into_iter().for_each(|tsc| did_not.guest_event(tsc));
        did_not.entry(10);
        assert_eq!(did_not.finish(), of(2, 0));

        let mut host = Checker::new();
        host.guest_event(5);
        host.in_host();
        host.guest_event(7);
        host.entry(10);
        assert_eq!(host.finish(), of(2, 0));
    }

    #[test]
    fn a_reading_that_lasts_into_a_window_is_inside() {
        let mut check = Checker::new();
        check.limit((10, 1000), 3);
        check.entry(100);
        check.exit(200);
        // 9 and 1001 are before and after the recording.
        [201, 296, 297].into_iter().for_each(|tsc| check.guest_event(tsc));
        check.entry(300);
        [9, 1001].into_iter().for_each(|tsc| check.guest_event(tsc));
        assert_eq!(check.finish(), of(3, 1));
    }

    #[test]
    fn nothing_is_claimed_after_a_loss() {
        let mut check = Checker::new();
        check.entry(1);
        check.guest_event(2);
        check.lost();
        check.guest_event(3);
        check.exit(4);
        check.guest_event(4);
        assert_eq!(check.finish(), of(2, 2));
    }

    #[test]
    fn a_loss_takes_back_what_was_said_of_a_vcpu_that_was_out() {
        let mut check = Checker::new();
        check.entry(1);
        check.exit(10);
        [12, 20, 30].into_iter().for_each(|tsc| check.guest_event(tsc));
        // Some CPU has nothing from 20 to 40.
        check.lost_on_some_cpu(20);
        check.guest_event(45);
        check.entry(50);
        check.guest_event(51);
        assert_eq!(check.finish(), of(2, 1));
    }
}
