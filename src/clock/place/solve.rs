//! The assignment of runs to tracks that is monotone and worth the most.

use crate::clock::place::collect::TOLERANCE;

/// One track that a unit fits, and what it is worth to place the unit there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) track: u32,
    pub(super) worth: u64,
    /// The worth if the unknown were known in its favour; the solver does not look at it.
    pub(super) not_refuted: u64,
}

/// Events that are assigned together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    /// First and last stamp.
    pub(super) first: u64,
    pub(super) last: u64,
    /// A stale run stands before it: the clock went backwards there, so it should not be on the same track as before.
    pub(super) after_stale: bool,
    /// A range of the choices, by track.
    pub(super) choices: (usize, usize),
}

/// The answer for one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The track; `None` if it cannot be placed.
    pub(super) track: Option<u32>,
    /// Whether another track would be as good.
    pub(super) open: bool,
}

/// The best chain of units that ends (or starts) on a track.
#[derive(Clone, Copy)]
struct Chain {
    worth: u64,
    /// The stamp at its open end.
    edge: u64,
    after_stale: bool,
    choice: usize,
}

/// Prefix maxima over tracks: the best chain on any track before a given one, of equal ones that on the first track.
struct Prefix(Vec<Option<(u64, usize)>>);

impl Prefix {
    fn new(tracks: usize) -> Self {
        Self(vec![None; tracks + 1])
    }

    /// Best of the tracks `0..track`.
    fn before(&self, track: usize) -> Option<(u64, usize)> {
        let mut best: Option<(u64, usize)> = None;
        let mut node = track;
        while node > 0 {
            if let Some(&Some(other)) = self.0.get(node) {
                // Smaller nodes stand for earlier tracks, so of equal ones the one found last.
                if best.is_none_or(|best| other.0 >= best.0) {
                    best = Some(other);
                }
            }
            node &= node - 1;
        }
        best
    }

    fn raise(&mut self, track: usize, worth: u64, choice: usize) {
        let mut node = track + 1;
        while let Some(slot) = self.0.get_mut(node) {
            // Raised in descending order of tracks by each unit, so an equal one is on an earlier track, or a later chain.
            if slot.is_none_or(|old| worth >= old.0) {
                *slot = Some((worth, choice));
            }
            node += node & node.wrapping_neg();
        }
    }
}

/// Chooses, of the assignments worth the most, one with few changes of track; what another assignment that nothing speaks
/// against would place elsewhere is open.
pub(super) fn decide(units: &[Unit], choices: &mut [Choice], tracks: usize) -> Vec<Answer> {
    let mut chosen = solve(units, choices, tracks, 1);
    for choice in choices.iter_mut() {
        choice.worth = choice.not_refuted;
    }
    // Few changes are a reason to choose, but no proof.
    let possible = solve(units, choices, tracks, 0);
    for (chosen, possible) in chosen.iter_mut().zip(possible) {
        chosen.open |= possible.open || chosen.track != possible.track;
    }
    chosen
}

/// `change` is what it costs to change the track, and not to change it at a stale run. Never more than an event is worth.
fn solve(units: &[Unit], choices: &[Choice], tracks: usize, change: u64) -> Vec<Answer> {
    let of = |unit: &Unit| unit.choices.0..unit.choices.1;
    // Forward: the best chain that ends with each choice, and the choice before it.
    let mut forward = vec![0_u64; choices.len()];
    let mut before = vec![usize::MAX; choices.len()];
    let mut chains: Vec<Option<Chain>> = vec![None; tracks];
    let mut prefix = Prefix::new(tracks);
    for unit in units {
        for index in of(unit).rev() {
            let (Some(choice), Some(out), Some(back)) =
                (choices.get(index), forward.get_mut(index), before.get_mut(index))
            else {
                continue;
            };
            let track = choice.track as usize;
            let Some(chain) = chains.get_mut(track) else { continue };
            let come = prefix.before(track);
            let mut best = come.map_or((0, usize::MAX), |(worth, choice)| (worth - change, choice));
            if let Some(stay) = chain.filter(|chain| unit.first.saturating_add(TOLERANCE) >= chain.edge) {
                let worth = stay.worth - change * u64::from(unit.after_stale);
                if worth > best.0 {
                    best = (worth, stay.choice);
                }
            }
            (*out, *back) = (best.0 + choice.worth, best.1);
            if chain.is_none_or(|old| *out > old.worth) {
                *chain = Some(Chain { worth: *out, edge: unit.last, after_stale: false, choice: index });
                prefix.raise(track, *out, index);
            }
        }
    }
    let Some((total, end)) = prefix.before(tracks) else {
        return vec![Answer { track: None, open: false }; units.len()];
    };

    // Backward: what can follow each choice. Where the sum reaches the total, the choice is as good as any.
    let mut equal = vec![0_u8; units.len()];
    let mut chains: Vec<Option<Chain>> = vec![None; tracks];
    // Mirrored: track t is at tracks - 1 - t.
    let mut suffix = Prefix::new(tracks);
    for (unit, equal) in units.iter().zip(&mut equal).rev() {
        for index in of(unit) {
            let (Some(choice), Some(up_to)) = (choices.get(index), forward.get(index)) else { continue };
            let track = choice.track as usize;
            let Some(chain) = chains.get_mut(track) else { continue };
            let mirrored = tracks - 1 - track;
            let mut best = suffix.before(mirrored).map_or(0, |(worth, _)| worth - change);
            if let Some(stay) = chain.filter(|chain| chain.edge.saturating_add(TOLERANCE) >= unit.last) {
                best = best.max(stay.worth - change * u64::from(stay.after_stale));
            }
            *equal = equal.saturating_add(u8::from(up_to + best >= total));
            let worth = best + choice.worth;
            if chain.is_none_or(|old| worth > old.worth) {
                *chain = Some(Chain { worth, edge: unit.first, after_stale: unit.after_stale, choice: index });
                suffix.raise(mirrored, worth, index);
            }
        }
    }

    // Back along the best chain.
    let mut answers: Vec<Answer> = equal.iter().map(|&n| Answer { track: None, open: n > 1 }).collect();
    let mut at = end;
    for (unit, answer) in units.iter().zip(&mut answers).rev() {
        if of(unit).contains(&at) {
            answer.track = choices.get(at).map(|choice| choice.track);
            at = before.get(at).copied().unwrap_or(usize::MAX);
        }
    }
    answers
}
