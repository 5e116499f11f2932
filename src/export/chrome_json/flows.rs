//! Which end of an arrow an item is. Perfetto works that out from the times; JSON wants it said.

use rustc_hash::FxHashMap;

use crate::timeline::drawing::{ARRIVES, Batch, Category, Shape};

/// What an item is to an arrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Where it begins.
    Start,
    /// Where it passes.
    Step,
    /// Where it ends.
    Finish,
}

/// The first and the last item of each flow in a batch.
pub(super) struct Flows {
    ends: FxHashMap<u64, (End, End)>,
}

/// Time and index of an item: items are in time order, but not all of them.
type End = (u64, usize);

impl Flows {
    pub(super) fn of(batch: &Batch) -> Self {
        let mut ends = FxHashMap::default();
        let items = batch.items.iter().enumerate().filter(|(_, item)| !item.flows.is_empty());
        for (index, item) in items.filter(|(_, item)| matches!(item.shape, Shape::Begin | Shape::End)) {
            let flows = batch.flows.get(item.flows.start as usize..item.flows.end as usize);
            for &flow in flows.unwrap_or(&[]) {
                if flow & ARRIVES != 0 {
                    continue;
                }
                let end = (item.ts.get(), index);
                let (first, last) = ends.entry(flow).or_insert((end, end));
                *first = end.min(*first);
                *last = end.max(*last);
            }
        }
        Self { ends }
    }

    /// The role of item `index` in `flow`. Most ids say themselves that an arrow arrives. For stalls the times tell, or, if the batch holds one end only, the category tells: arrows lead from a task
    /// on a host CPU to the stall that it causes. Where that is wrong the reader finds an end without a start, and the
    /// arrow is missing.
    pub(super) fn role(&self, flow: u64, index: usize, category: Category) -> Role {
        if flow & ARRIVES != 0 {
            // It may go on from here, which another batch knows.
            return Role::Step;
        }
        match self.ends.get(&flow) {
            Some(&((_, first), (_, last))) if first != last => match index {
                index if index == first => Role::Start,
                index if index == last => Role::Finish,
                _ => Role::Step,
            },
            _ if category == Category::OffCpu => Role::Finish,
            _ => Role::Start,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TraceNs;
    use crate::timeline::drawing::{Correlation, Item, StringId, TrackId};

    fn batch(times: &[u64]) -> Batch {
        let item = |&ts| Item {
            ts: TraceNs::new(ts),
            track: TrackId(0),
            shape: Shape::Begin,
            category: Category::Host,
            correlation: Correlation::None,
            name: StringId(0),
            args: 0..0,
            flows: 0..1,
        };
        Batch { items: times.iter().map(item).collect(), flows: vec![7], ..Batch::default() }
    }

    #[test]
    fn time_decides_where_both_ends_are_known() {
        let flows = Flows::of(&batch(&[20, 10, 30, 10]));
        let roles = [0, 1, 2, 3].map(|index| flows.role(7, index, Category::OffCpu));
        assert_eq!(roles, [Role::Step, Role::Start, Role::Finish, Role::Step]);
    }

    #[test]
    fn the_category_decides_where_one_end_is_known() {
        let flows = Flows::of(&batch(&[20]));
        assert_eq!(flows.role(7, 0, Category::Host), Role::Start);
        assert_eq!(flows.role(7, 0, Category::OffCpu), Role::Finish);
        assert_eq!(flows.role(7, 0, Category::Exit), Role::Start);
        assert_eq!(flows.role(7 | ARRIVES, 0, Category::Exit), Role::Step);
    }
}
