//! When a vCPU thread was in guest mode: guest events can only happen between a kvm_entry and the next kvm_exit.

use crate::clock::scaling::HostRange;
use crate::time::HostTsc;

/// What the windows say about a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Between an entry and the next exit, both inclusive.
    Inside,
    /// In the host, this many cycles from the nearest window.
    Outside(u64),
    /// Events that would tell were lost or not recorded.
    Unknown,
}

/// The run windows of one vCPU thread: sorted and disjoint, within a known span that may have holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    windows: Vec<HostRange>,
    unknown: Vec<HostRange>,
}

impl Windows {
    /// The windows, from kvm_entry to kvm_exit, in host-time order.
    pub fn windows(&self) -> &[HostRange] {
        &self.windows
    }

    /// The times about which nothing is known, in host-time order; always reaches to both ends of time.
    pub fn unknown(&self) -> &[HostRange] {
        &self.unknown
    }

    /// What is known about `ts`.
    pub fn state(&self, ts: HostTsc) -> State {
        let after = self.windows.partition_point(|w| w.first <= ts);
        let before = after.checked_sub(1).and_then(|i| self.windows.get(i));
        if before.is_some_and(|w| ts <= w.last) {
            return State::Inside;
        }
        let hole = self.unknown.partition_point(|u| u.first <= ts).checked_sub(1);
        if hole.and_then(|i| self.unknown.get(i)).is_some_and(|u| ts <= u.last) {
            return State::Unknown;
        }
        let since = before.map_or(u64::MAX, |w| ts.get() - w.last.get());
        let until = self.windows.get(after).map_or(u64::MAX, |w| w.first.get() - ts.get());
        State::Outside(since.min(until))
    }

    /// The times at which the thread certainly was not in guest mode, in host-time order: strictly between a window
    /// (or an unknown time) and the next.
    pub fn gaps(&self) -> Vec<HostRange> {
        let mut covered: Vec<HostRange> = self.windows.iter().chain(&self.unknown).copied().collect();
        covered.sort_by_key(|range| (range.first, range.last));
        complement(&covered)
    }

    /// From sorted, disjoint windows and the times that are certainly outside; where they overlap, the windows are right,
    /// and what neither covers is unknown.
    pub(crate) fn from_certain(windows: Vec<HostRange>, outside: Vec<HostRange>) -> Self {
        let mut certain = outside;
        certain.extend(&windows);
        certain.sort_by_key(|range| (range.first, range.last));
        let unknown = complement(&certain);
        Self { windows, unknown }
    }
}

/// The times that none of `ranges`, sorted by start, covers.
fn complement(ranges: &[HostRange]) -> Vec<HostRange> {
    let mut rest = Vec::new();
    // The first moment that nothing covers yet.
    let mut next = Some(HostTsc::MIN);
    for range in ranges {
        let Some(start) = next else { break };
        if let Some(end) = range.first.get().checked_sub(1) {
            rest.extend(HostRange::new(start, HostTsc::new(end)));
        }
        next = range.last.get().checked_add(1).map(|after| start.max(HostTsc::new(after)));
    }
    rest.extend(next.map(|first| HostRange { first, last: HostTsc::MAX }));
    rest
}

/// Collects a thread's entries and exits, in any order.
#[derive(Clone, Debug)]
pub struct WindowsBuilder {
    known: Vec<HostRange>,
    marks: Vec<Mark>,
    lost: Vec<(HostRange, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    ts: HostTsc,
    cpu: u32,
    entry: bool,
}

impl WindowsBuilder {
    /// `known` are the times in which the thread's kvm events were recorded on all CPUs, and looked at; nothing is known
    /// outside them, and what is noted there is ignored.
    pub fn new(known: impl IntoIterator<Item = HostRange>) -> Self {
        let mut known: Vec<HostRange> = known.into_iter().collect();
        known.sort_by_key(|range| range.first);
        let mut joined: Vec<HostRange> = Vec::new();
        for range in known {
            match joined.last_mut() {
                Some(last) if range.first.get() <= last.last.get().saturating_add(1) => {
                    last.last = last.last.max(range.last);
                }
                _ => joined.push(range),
            }
        }
        Self { known: joined, marks: Vec::new(), lost: Vec::new() }
    }

    /// A kvm_entry on physical CPU `cpu`.
    #[inline]
    pub fn entry(&mut self, ts: HostTsc, cpu: u32) {
        self.marks.push(Mark { ts, cpu, entry: true });
    }

    /// A kvm_exit on physical CPU `cpu`.
    #[inline]
    pub fn exit(&mut self, ts: HostTsc, cpu: u32) {
        self.marks.push(Mark { ts, cpu, entry: false });
    }

    /// CPU `cpu` lost events in `range`.
    pub fn lost(&mut self, range: HostRange, cpu: u32) {
        self.lost.push((range, cpu));
    }

    /// Adds what another scan over other records of the same host found. Of equal stamps, those of `self` come first.
    pub fn merge(&mut self, other: Self) {
        self.marks.extend(other.marks);
        self.lost.extend(other.lost);
    }

    /// Pairs entries with exits.
    ///
    /// Two entries (or two exits) in a row mean that something is missing between them: unknown. A thread cannot leave
    /// its CPU in guest mode, so a pair on one CPU stands even while another CPU lost events.
    pub fn build(mut self) -> Windows {
        self.marks.sort_by_key(|mark| mark.ts);
        self.lost.sort_by_key(|&(range, cpu)| (range.first, range.last, cpu));
        let mut windows = Vec::new();
        let mut marks = self.marks.iter().peekable();
        let mut certain: Vec<HostRange> = Vec::new();
        for span in &self.known {
            while marks.next_if(|mark| mark.ts < span.first).is_some() {}
            let mut left: Option<Mark> = None;
            loop {
                let right = marks.next_if(|mark| mark.ts <= span.last).copied();
                self.between(*span, left, right, &mut windows, &mut certain);
                left = right;
                if right.is_none() {
                    break;
                }
            }
        }
        // Whatever is neither certainly in the guest nor certainly in the host is unknown.
        Windows { windows, unknown: complement(&certain) }
    }

    /// What two neighbouring marks within a known span (or its ends, `None`) say about the time between them.
    fn between(
        &self,
        span: HostRange,
        left: Option<Mark>,
        right: Option<Mark>,
        windows: &mut Vec<HostRange>,
        certain: &mut Vec<HostRange>,
    ) {
        let first = left.map_or(span.first, |mark| mark.ts);
        let last = right.map_or(span.last, |mark| mark.ts);
        let Some(range) = HostRange::new(first, last) else { return };
        let paired_cpu = match (left, right) {
            (Some(a), Some(b)) if a.entry && !b.entry && a.cpu == b.cpu => Some(a.cpu),
            _ => None,
        };
        let relevant = |&&(hole, cpu): &&(HostRange, u32)| {
            hole.intersect(range).is_some() && paired_cpu.is_none_or(|own| own == cpu)
        };
        let end = self.lost.partition_point(|(hole, _)| hole.first <= range.last);
        let mut holes = self.lost.get(..end).unwrap_or(&[]).iter().filter(relevant).map(|&(hole, _)| hole).peekable();
        let has_holes = holes.peek().is_some();
        // In the guest behind an entry and before an exit.
        let after_left = left.map(|mark| mark.entry);
        let before_right = right.map(|mark| !mark.entry);
        // A mark's own moment is outside only if it is no window's edge: leave it to the window, or to the unknown.
        let mut note = |inside: bool, part: HostRange| {
            if inside {
                windows.push(part);
                certain.push(part);
                return;
            }
            let first = part.first.get() + u64::from(left.is_some_and(|mark| mark.ts == part.first));
            let last = part.last.get().checked_sub(u64::from(right.is_some_and(|mark| mark.ts == part.last)));
            certain.extend(last.and_then(|last| HostRange::new(HostTsc::new(first), HostTsc::new(last))));
        };
        if !has_holes {
            match (after_left, before_right) {
                (Some(a), Some(b)) if a != b => {}
                (Some(inside), _) | (None, Some(inside)) => note(inside, range),
                (None, None) => {}
            }
            return;
        }
        let (mut begin, mut end) = (last, first);
        for hole in holes {
            begin = begin.min(hole.first);
            end = end.max(hole.last);
        }
        let before = HostRange::new(first, HostTsc::new(begin.get().saturating_sub(1)));
        let after = HostRange::new(HostTsc::new(end.get().saturating_add(1)), last);
        if let (Some(inside), Some(part)) = (after_left, before.filter(|_| begin > first)) {
            note(inside, part);
        }
        if let (Some(inside), Some(part)) = (before_right, after.filter(|_| end < last)) {
            note(inside, part);
        }
    }
}

#[cfg(test)]
mod tests;
