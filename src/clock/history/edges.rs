//! When a vCPU really ran between two writes of its offset.

use crate::clock::history::Change;
use crate::clock::scaling::HostRange;
use crate::time::HostTsc;

/// First kvm_entry and last kvm_exit of a vCPU thread in each interval between two offset writes.
///
/// Filled from host records in any order, by any number of threads, and merged. Memory grows with the writes only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeBounds {
    writes: Vec<HostTsc>,
    /// One more than `writes`: before the first, between two, behind the last.
    intervals: Vec<Interval>,
    /// Entries and exits noted.
    noted: u64,
    ran_before_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interval {
    first_entry: HostTsc,
    first_exit: HostTsc,
    last_entry: HostTsc,
    last_exit: HostTsc,
    /// From the start of the first to the end of the last stretch in which the vCPU may have run unseen.
    unseen_first: HostTsc,
    unseen_last: HostTsc,
}

impl Interval {
    const EMPTY: Self = Self {
        first_entry: HostTsc::MAX,
        first_exit: HostTsc::MAX,
        last_entry: HostTsc::MIN,
        last_exit: HostTsc::MIN,
        unseen_first: HostTsc::MAX,
        unseen_last: HostTsc::MIN,
    };

    fn merge(&mut self, other: &Self) {
        self.first_entry = self.first_entry.min(other.first_entry);
        self.first_exit = self.first_exit.min(other.first_exit);
        self.last_entry = self.last_entry.max(other.last_entry);
        self.last_exit = self.last_exit.max(other.last_exit);
        self.unseen_first = self.unseen_first.min(other.unseen_first);
        self.unseen_last = self.unseen_last.max(other.unseen_last);
    }

    /// When the vCPU may have run in an interval that is `span`.
    fn ran(&self, span: HostRange) -> Option<HostRange> {
        if *self == Self::EMPTY {
            return None;
        }
        // An exit before any entry (or an entry behind every exit) means that its partner is missing.
        let first = if self.first_exit < self.first_entry { span.first } else { self.first_entry };
        let last = if self.last_entry > self.last_exit { span.last } else { self.last_exit };
        HostRange::new(first.min(self.unseen_first), last.max(self.unseen_last))?.intersect(span)
    }
}

impl EdgeBounds {
    /// For a vCPU whose offset was written at `changes` (sorted, as from [`super::join_copies`]). `known` is the time
    /// in which kvm_entry and kvm_exit of its thread were recorded; outside it the vCPU may have run unseen.
    pub fn new(changes: &[Change], known: HostRange) -> Self {
        let writes: Vec<HostTsc> = changes.iter().map(|change| change.at).collect();
        let intervals = vec![Interval::EMPTY; writes.len() + 1];
        let mut bounds = Self { writes, intervals, noted: 0, ran_before_first: false };
        if let Some(before) = known.first.get().checked_sub(1) {
            bounds.note_lost(HostRange { first: HostTsc::MIN, last: HostTsc::new(before) });
        }
        if let Some(after) = known.last.get().checked_add(1) {
            bounds.note_lost(HostRange { first: HostTsc::new(after), last: HostTsc::MAX });
        }
        bounds
    }

    /// The thread's kvm_entry at `ts`.
    #[inline]
    pub fn note_entry(&mut self, ts: HostTsc) {
        self.noted += 1;
        let index = self.index(ts);
        self.ran_before_first |= index == 0;
        if let Some(interval) = self.intervals.get_mut(index) {
            interval.first_entry = interval.first_entry.min(ts);
            interval.last_entry = interval.last_entry.max(ts);
        }
    }

    /// The thread's kvm_exit at `ts`.
    #[inline]
    pub fn note_exit(&mut self, ts: HostTsc) {
        self.noted += 1;
        let index = self.index(ts);
        self.ran_before_first |= index == 0;
        if let Some(interval) = self.intervals.get_mut(index) {
            interval.first_exit = interval.first_exit.min(ts);
            interval.last_exit = interval.last_exit.max(ts);
        }
    }

    /// Host events were lost in `range`: the vCPU may have run unseen in it.
    pub fn note_lost(&mut self, range: HostRange) {
        for index in self.index(range.first)..=self.index(range.last) {
            let span = self.span(index);
            if let (Some(interval), Some(part)) = (self.intervals.get_mut(index), range.intersect(span)) {
                interval.unseen_first = interval.unseen_first.min(part.first);
                interval.unseen_last = interval.unseen_last.max(part.last);
            }
        }
    }

    /// Adds what another scan over other records of the same host found. Both must be for the same writes.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.writes, other.writes);
        for (mine, theirs) in self.intervals.iter_mut().zip(&other.intervals) {
            mine.merge(theirs);
        }
        self.noted += other.noted;
        self.ran_before_first |= other.ran_before_first;
    }

    /// Whether the vCPU was seen to run before its first write.
    pub fn ran_before_first(&self) -> bool {
        self.ran_before_first
    }

    /// Whether no entry and no exit was noted.
    pub fn is_empty(&self) -> bool {
        self.noted == 0
    }

    /// `range`, cut down to when the vCPU may have run in it.
    pub(crate) fn within(&self, range: HostRange) -> Option<HostRange> {
        let indices = self.index(range.first)..=self.index(range.last);
        let ran = |index: usize| self.intervals.get(index)?.ran(self.span(index))?.intersect(range);
        let first = indices.clone().find_map(ran)?;
        let last = indices.rev().find_map(ran)?;
        HostRange::new(first.first, last.last)
    }

    fn index(&self, ts: HostTsc) -> usize {
        self.writes.partition_point(|&write| write <= ts)
    }

    fn span(&self, index: usize) -> HostRange {
        let first = index.checked_sub(1).and_then(|i| self.writes.get(i)).copied().unwrap_or(HostTsc::MIN);
        let last = self.writes.get(index).map_or(HostTsc::MAX, |w| HostTsc::new(w.get().saturating_sub(1)));
        HostRange { first, last: last.max(first) }
    }
}
