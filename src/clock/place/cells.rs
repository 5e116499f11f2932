//! Which tracks a stamp fits, found without looking at all of them.

use crate::clock::place::Track;

/// The stamps that each track can give, cut into cells within which the answer is the same.
#[derive(Debug)]
pub(super) struct Cells {
    /// First and last stamp (a range that wraps around 2^64 is two), and the track, by first stamp.
    ranges: Vec<(u64, u64, u32)>,
    /// Where a cell starts, ascending; the first cell starts at 0.
    starts: Vec<u64>,
    /// A binary tree over `ranges`: the greatest last stamp below each node.
    reach: Vec<u64>,
    leaves: usize,
}

impl Cells {
    pub(super) fn new(tracks: &[Track]) -> Self {
        let mut ranges = Vec::with_capacity(tracks.len());
        for (index, track) in (0_u32..).zip(tracks) {
            match track.mapping.image(track.within) {
                None => ranges.push((0, u64::MAX, index)),
                Some((first, width)) => match first.checked_add(width) {
                    Some(last) => ranges.push((first, last, index)),
                    None => {
                        ranges.push((first, u64::MAX, index));
                        ranges.push((0, first.wrapping_add(width), index));
                    }
                },
            }
        }
        ranges.sort_unstable();
        let ends = ranges.iter().filter_map(|&(_, last, _)| last.checked_add(1));
        let mut starts: Vec<u64> = ranges.iter().map(|&(first, ..)| first).chain(ends).chain([0]).collect();
        starts.sort_unstable();
        starts.dedup();

        let leaves = ranges.len().next_power_of_two();
        let mut reach = vec![0; 2 * leaves];
        for (slot, &(_, last, _)) in reach.iter_mut().skip(leaves).zip(&ranges) {
            *slot = last;
        }
        for node in (1..leaves).rev() {
            reach[node] = reach[2 * node].max(reach[2 * node + 1]);
        }
        Self { ranges, starts, reach, leaves }
    }

    /// The last stamp of the cell that holds `stamp`.
    pub(super) fn end(&self, stamp: u64) -> u64 {
        let next = self.starts.partition_point(|&start| start <= stamp);
        self.starts.get(next).map_or(u64::MAX, |&start| start - 1)
    }

    /// The tracks that `stamp` fits, in host-time order, at most `limit` of them.
    pub(super) fn fits(&self, stamp: u64, limit: usize, fits: &mut Vec<u32>) {
        fits.clear();
        // Only ranges that start at or before the stamp; among these those that reach it.
        let end = self.ranges.partition_point(|&(first, ..)| first <= stamp);
        self.descend(1, 0, self.leaves, end, stamp, fits);
        fits.sort_unstable();
        fits.dedup();
        fits.truncate(limit);
    }

    fn descend(&self, node: usize, from: usize, to: usize, end: usize, stamp: u64, fits: &mut Vec<u32>) {
        if from >= end || self.reach.get(node).is_none_or(|&reach| reach < stamp) {
            return;
        }
        if to - from == 1 {
            fits.extend(self.ranges.get(from).map(|&(.., track)| track));
            return;
        }
        let middle = from.midpoint(to);
        self.descend(2 * node, from, middle, end, stamp, fits);
        self.descend(2 * node + 1, middle, to, end, stamp, fits);
    }
}
