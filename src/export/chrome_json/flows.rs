//! Which end of an arrow an item is. Perfetto works that out from the times; JSON wants it said.

use rustc_hash::FxHashMap;

use crate::timeline::drawing::{Batch, Category, Shape};

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
                let end = (item.ts.get(), index);
                let (first, last) = ends.entry(flow).or_insert((end, end));
                *first = end.min(*first);
                *last = end.max(*last);
            }
        }
        Self { ends }
    }

    /// The role of item `index` in `flow`. If the batch holds one end only, the category tells: arrows lead from a
    /// vCPU's rows to the host's, and from exits to the irqs that they injected.
    pub(super) fn role(&self, flow: u64, index: usize, category: Category) -> Role {
        match self.ends.get(&flow) {
            Some(&((_, first), (_, last))) if first != last => match index {
                index if index == first => Role::Start,
                index if index == last => Role::Finish,
                _ => Role::Step,
            },
            _ if matches!(category, Category::Host | Category::Irq) => Role::Finish,
            _ => Role::Start,
        }
    }
}
