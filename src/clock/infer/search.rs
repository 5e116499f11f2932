//! The search for the distance between host and guest clock.
//!
//! With `x = (scaled host TSC) - (guest TSC)`, an event g happened at g + x. It must not fall into a *gap*, a time in
//! which the thread certainly was not in guest mode. For a whole interval of distances, the events that fall into a gap
//! wherever in the interval the distance lies are certain violations. So: cut the possible distances into intervals a
//! little shorter than the longest gaps, drop those with too many certain violations, halve the rest, and again, with
//! ever shorter gaps. No right distance can be dropped. What is left is swept exactly.

use crate::clock::infer::events::Events;
use crate::clock::infer::{Effort, OffsetRange, Undecided, VcpuSample};
use crate::clock::scaling::Scaling;
use crate::time::{HostTsc, TscOffset};

/// Intervals are halved at least until they are this short.
const FINE: i64 = 1 << 15;
/// More places than these are not swept; they are halved on.
const MAX_PLACES: usize = 48;
/// Intervals on one level.
const MAX_INTERVALS: usize = 1 << 22;
/// Intervals and gaps looked at in all.
const MAX_LOOKS: u64 = 1 << 27;
/// The same of a sample without anything in it, and what each event and gap adds: however small a capture is, it may be
/// made up so that nothing can be excluded.
const LOOKS: (u64, u64) = (1 << 19, 1 << 9);
/// Offsets that explain everything but lie further apart than this are several, in cycles.
const UNIQUE: i64 = 1 << 24;

/// Everything in signed cycles since an origin of the host's and one of the guest's.
pub(super) struct Problem {
    vcpus: Vec<Vcpu>,
    /// `guest origin - host origin`: the offset is this less x.
    origin: u64,
    from: i64,
    to: i64,
    events: usize,
    /// Intervals and gaps to be looked at, at most.
    looks: u64,
}

struct Vcpu {
    events: Events,
    /// In time order.
    gaps: Vec<Gap>,
    /// The time for which there are windows or gaps.
    known: (i64, i64),
    /// The gaps of length 2^k to 2^(k+1) - 1 at index k, each class in time order.
    classes: Vec<Vec<Gap>>,
}

/// Moments from `first` to `last`, inclusive, at which no guest event can have happened.
#[derive(Clone, Copy)]
struct Gap {
    first: i64,
    last: i64,
}

impl Gap {
    /// The power of two that its length reaches.
    fn class(&self) -> usize {
        (self.last - self.first + 1).max(1).ilog2() as usize
    }
}

pub(super) struct Found {
    /// Distances, ascending, that violate least.
    pub(super) ranges: Vec<(i64, i64)>,
    pub(super) unique: bool,
}

impl Problem {
    pub(super) fn new(sample: &[VcpuSample<'_>], scaling: Scaling) -> Option<Self> {
        let scaled = |host: HostTsc| scaling.guest(host, TscOffset::default()).get();
        let guest_origin = sample.iter().find_map(|vcpu| vcpu.stamps.first())?.get();
        let host_origin = scaled(sample.iter().find_map(|vcpu| vcpu.windows.windows().first())?.first);
        // Keep clear of the ends of the type: sums of two such values cannot overflow.
        let near = |value: u64, origin: u64| {
            let distance = value.wrapping_sub(origin).cast_signed();
            (distance.unsigned_abs() < 1 << 61).then_some(distance)
        };
        let (mut from, mut to) = (i64::MIN, i64::MAX);
        let mut vcpus = Vec::new();
        for vcpu in sample {
            let times: Option<Vec<i64>> = vcpu.stamps.iter().map(|s| near(s.get(), guest_origin)).collect();
            // Nothing to learn from a vCPU that recorded nothing or never ran.
            let (Some(events), Some(first), Some(last)) =
                (Events::new(times?), vcpu.windows.windows().first(), vcpu.windows.windows().last())
            else {
                continue;
            };
            // A reading that a moment just outside the gap gives too is no violation, hence strictly between.
            let gap = |range: &crate::clock::scaling::HostRange| {
                let first = scaled(HostTsc::new(range.first.get().checked_sub(1)?));
                let last = scaled(HostTsc::new(range.last.get().checked_add(1)?));
                let (first, last) = (near(first, host_origin)? + 1, near(last, host_origin)? - 1);
                (first <= last).then_some(Gap { first, last })
            };
            let gaps: Vec<Gap> = vcpu.windows.gaps().iter().filter_map(gap).collect();
            let middle = *events.times().get(events.times().len() / 2)?;
            from = from.max(near(scaled(first.first), host_origin)? - middle);
            to = to.min(near(scaled(last.last), host_origin)? - middle);
            let mut classes = Vec::new();
            for gap in &gaps {
                classes.resize(classes.len().max(gap.class() + 1), Vec::new());
                if let Some(class) = classes.get_mut(gap.class()) {
                    class.push(*gap);
                }
            }
            let mut known = (near(scaled(first.first), host_origin)?, near(scaled(last.last), host_origin)?);
            if let (Some(first), Some(last)) = (gaps.first(), gaps.last()) {
                known = (known.0.min(first.first), known.1.max(last.last));
            }
            vcpus.push(Vcpu { events, gaps, known, classes });
        }
        let events = vcpus.iter().map(|vcpu| vcpu.events.times().len()).sum();
        let gaps: usize = vcpus.iter().map(|vcpu| vcpu.gaps.len()).sum();
        let looks = MAX_LOOKS.min(LOOKS.0.saturating_add(LOOKS.1.saturating_mul((events + gaps) as u64)));
        let origin = guest_origin.wrapping_sub(host_origin);
        (!vcpus.is_empty()).then_some(Self { vcpus, origin, from, to, events, looks })
    }

    /// The offsets that belong to distances `from..=to`.
    pub(super) fn offsets(&self, from: i64, to: i64) -> OffsetRange {
        let offset = |distance: i64| TscOffset::from_raw(self.origin.wrapping_sub(distance.cast_unsigned()));
        OffsetRange { lo: offset(to), hi: offset(from) }
    }

    /// Without violations if that can be, for it is the quickest to search and a proof; else with some.
    pub(super) fn solve(&self, effort: &Effort) -> Result<Found, Undecided> {
        match self.solve_with(0, effort) {
            Err(Undecided::NothingFits) => self.solve_with(self.events / 200 + 1, effort),
            result => result,
        }
    }

    fn solve_with(&self, allowed: usize, effort: &Effort) -> Result<Found, Undecided> {
        let mut looks = 0;
        let most = self.looks.min(effort.left());
        let places = self.narrow(allowed, most, &mut looks);
        effort.spend(looks);
        let places = places?;
        let swept: Vec<Swept> = places.iter().map(|&(from, to)| self.sweep(from, to)).collect();
        let least = swept.iter().map(|s| s.violations).min().ok_or(Undecided::NothingFits)?;
        if least > allowed {
            return Err(Undecided::NothingFits);
        }
        let mut ranges: Vec<(i64, i64)> =
            swept.iter().filter(|s| s.violations == least).flat_map(|s| s.ranges.iter().copied()).collect();
        ranges.sort_unstable();
        let (first, last) = ranges.first().zip(ranges.last()).ok_or(Undecided::NothingFits)?;
        let hull = (first.0, last.1);
        // If even the best place violates something, one that is hardly worse may be right as well.
        let close = if least == 0 { 0 } else { least + self.events / 1000 + 1 };
        let rival = |s: &Swept| {
            s.violations <= close && s.ranges.iter().any(|r| r.1 < hull.0 - UNIQUE || r.0 > hull.1 + UNIQUE)
        };
        let unique = hull.1 - hull.0 <= UNIQUE && !swept.iter().any(rival);
        Ok(Found { ranges, unique })
    }

    /// The stretches of distances that are left, in order.
    fn narrow(&self, allowed: usize, most: u64, looks: &mut u64) -> Result<Vec<(i64, i64)>, Undecided> {
        let classes = self.vcpus.iter().map(|vcpu| vcpu.classes.len()).max().unwrap_or(0);
        if classes == 0 {
            return Err(Undecided::TooVague);
        }
        if self.from > self.to {
            return Err(Undecided::NothingFits);
        }
        // A quarter of the longest gap.
        let mut width = 1_i64 << classes.saturating_sub(3).max(6);
        let span = self.to - self.from;
        if span / width >= MAX_INTERVALS as i64 || (span / width).unsigned_abs() > most {
            return Err(Undecided::TooVague);
        }
        let mut left: Vec<i64> = (0..=span / width).map(|i| self.from + i * width).collect();
        left.retain(|&at| self.may_hold(at, width, allowed, most, looks));
        loop {
            let places = join(&left, width);
            if places.is_empty() {
                return Err(Undecided::NothingFits);
            }
            if width <= FINE && places.len() <= MAX_PLACES {
                return Ok(places);
            }
            if width <= 64 || left.len() > MAX_INTERVALS / 2 || *looks > most {
                return Err(Undecided::TooVague);
            }
            width /= 2;
            left = left.iter().flat_map(|&at| [at, at + width]).collect();
            left.retain(|&at| self.may_hold(at, width, allowed, most, looks));
        }
    }

    /// Whether a distance in `at..at + width` may violate no more than `allowed`, with half of the events in the known time.
    fn may_hold(&self, at: i64, width: i64, allowed: usize, most: u64, looks: &mut u64) -> bool {
        *looks += 1;
        // Where nothing is known there is no violation, but no proof either.
        let known = |vcpu: &Vcpu| vcpu.events.count(vcpu.known.0 - at - (width - 1), vcpu.known.1 - at);
        if self.vcpus.iter().map(known).sum::<usize>() * 2 < self.events {
            return false;
        }
        let mut violations = 0;
        let shortest = width.ilog2() as usize;
        let classes = self.vcpus.iter().map(|vcpu| vcpu.classes.len()).max().unwrap_or(0);
        // The longest gaps first: they tell most.
        for class in (shortest..classes).rev() {
            for vcpu in &self.vcpus {
                let times = vcpu.events.times();
                let (Some(gaps), Some(first), Some(last)) = (vcpu.classes.get(class), times.first(), times.last())
                else {
                    continue;
                };
                let start = gaps.partition_point(|gap| gap.last < first + at);
                for gap in gaps.iter().skip(start).take_while(|gap| gap.first <= last + at) {
                    *looks += 1;
                    violations += vcpu.events.count(gap.first - at, gap.last - at - (width - 1));
                    if violations > allowed {
                        return false;
                    }
                }
            }
            if *looks > most {
                break;
            }
        }
        true
    }

    /// Counts the violations at every distance in `from..=to`.
    fn sweep(&self, from: i64, to: i64) -> Swept {
        // Where the count rises and falls.
        let mut steps: Vec<(i64, i32)> = Vec::new();
        for vcpu in &self.vcpus {
            let mut start = 0;
            for &event in vcpu.events.times() {
                while vcpu.gaps.get(start).is_some_and(|gap| gap.last < event + from) {
                    start += 1;
                }
                let near = vcpu.gaps.iter().skip(start).take_while(|gap| gap.first <= event + to);
                for gap in near {
                    let (first, last) = ((gap.first - event).max(from), (gap.last - event).min(to));
                    steps.push((first, 1));
                    steps.push((last + 1, -1));
                }
            }
        }
        steps.sort_unstable();
        let mut best = Swept { violations: usize::MAX, ranges: Vec::new() };
        let (mut at, mut violations) = (from, 0_i64);
        let mut steps = steps.into_iter().peekable();
        while at <= to {
            while let Some((_, step)) = steps.next_if(|&(place, _)| place <= at) {
                violations += i64::from(step);
            }
            let end = steps.peek().map_or(to, |&(place, _)| (place - 1).min(to));
            best.offer(usize::try_from(violations).unwrap_or(0), at, end);
            at = end + 1;
        }
        best
    }
}

struct Swept {
    violations: usize,
    ranges: Vec<(i64, i64)>,
}

impl Swept {
    fn offer(&mut self, violations: usize, from: i64, to: i64) {
        if violations < self.violations {
            self.violations = violations;
            self.ranges.clear();
        }
        if violations == self.violations {
            match self.ranges.last_mut() {
                Some(last) if last.1 + 1 == from => last.1 = to,
                _ => self.ranges.push((from, to)),
            }
        }
    }
}

/// Joins neighbouring intervals of one width.
fn join(intervals: &[i64], width: i64) -> Vec<(i64, i64)> {
    let mut places: Vec<(i64, i64)> = Vec::new();
    for &at in intervals {
        match places.last_mut() {
            Some(last) if last.1 + 1 == at => last.1 = at + width - 1,
            _ => places.push((at, at + width - 1)),
        }
    }
    places
}
