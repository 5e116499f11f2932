//! Two clocks that were read together now and then: straight lines between the readings, in integers, both ways.

use std::sync::Arc;

/// Readings that are nearer together than this say more about how long a reading takes than about the clocks.
const APART_NS: u64 = 1_000_000_000;
/// With less between the first and the last reading the rate is not known.
const SHORTEST_NS: u64 = 10_000_000;
/// Most readings that become corners; more are thinned out.
const MAX_CORNERS: usize = 1 << 16;

/// A clock of nanoseconds against a TSC.
///
/// Nanosecond `n` becomes the first cycle of which [`ClockLine::ns`] makes `n` again; on a TSC of 1 GHz or more there is
/// one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockLine {
    /// (nanoseconds, cycles), both rising; two or more.
    corners: Arc<[(u64, u64)]>,
    /// How far a reading was from the lines, in cycles.
    off: u64,
}

/// A piece of the line: its first corner, and the way to the next.
type Piece = ((u64, u64), (u64, u64));

impl ClockLine {
    /// The line through readings of (nanoseconds, cycles); `None` where they do not tell the rate. What goes back is left
    /// out.
    pub fn through(readings: &[(u64, u64)]) -> Option<Self> {
        let mut rising: Vec<(u64, u64)> = Vec::new();
        for &(ns, tsc) in readings {
            if rising.last().is_none_or(|last| ns > last.0 && tsc > last.1) {
                rising.push((ns, tsc));
            }
        }
        let (first, last) = (*rising.first()?, *rising.last()?);
        if last.0 - first.0 < SHORTEST_NS {
            return None;
        }
        let apart = APART_NS.max((last.0 - first.0) / MAX_CORNERS as u64);
        let mut corners = vec![first];
        for &reading in rising.iter().skip(1) {
            if corners.last().is_some_and(|corner| reading.0 - corner.0 >= apart) {
                corners.push(reading);
            }
        }
        // The last reading is a corner in any case: behind it nothing holds the line.
        if corners.len() > 1 && corners.last().is_some_and(|corner| last.0 - corner.0 < apart) {
            corners.pop();
        }
        if corners.last() != Some(&last) {
            corners.push(last);
        }
        let mut line = Self { corners: corners.into(), off: 0 };
        let between = rising.iter().map(|&(ns, tsc)| line.cycles(ns).unwrap_or(0).abs_diff(tsc)).max().unwrap_or(0);
        line.off = between.max(line.bent());
        Some(line)
    }

    /// How far a corner is from the line between its neighbours, at most: what a corner more would have changed.
    fn bent(&self) -> u64 {
        let of = |three: &[(u64, u64)]| {
            let [a, b, c] = *three else { return 0 };
            let without = Self { corners: [a, c].into(), off: 0 };
            without.cycles(b.0).unwrap_or(0).abs_diff(b.1)
        };
        self.corners.windows(3).map(of).max().unwrap_or(0)
    }

    /// How far off a conversion may be, in cycles, as far as the readings show it: between `first` and `last`
    /// nanoseconds, if readings may be `late` cycles late.
    pub fn uncertainty(&self, first: u64, last: u64, late: u64) -> u64 {
        let (Some(&start), Some(&end)) = (self.corners.first(), self.corners.last()) else { return u64::MAX };
        let off = self.off.saturating_add(late);
        // Beyond the readings a wrong slope leads away from them.
        let beyond = start.0.saturating_sub(first).max(last.saturating_sub(end.0));
        let tilt = u128::from(off) * u128::from(beyond) / u128::from((end.0 - start.0).max(1));
        off.saturating_add(u64::try_from(tilt).unwrap_or(u64::MAX))
    }

    /// The piece in which `value` is, by one of the coordinates; the outer pieces go on for ever.
    #[inline]
    fn piece(&self, value: u64, of: impl Fn(&(u64, u64)) -> u64) -> Option<Piece> {
        let next = self.corners.partition_point(|corner| of(corner) <= value).clamp(1, self.corners.len() - 1);
        let (&from, &to) = (self.corners.get(next - 1)?, self.corners.get(next)?);
        Some((from, (to.0 - from.0, to.1 - from.1)))
    }

    /// The first cycle of a nanosecond; `None` before cycle 0 and beyond the last.
    #[inline]
    pub fn cycles(&self, ns: u64) -> Option<u64> {
        let (from, way) = self.piece(ns, |corner| corner.0)?;
        let since = i128::from(ns) - i128::from(from.0);
        let up = -(-since).saturating_mul(i128::from(way.1)).div_euclid(i128::from(way.0));
        u64::try_from(i128::from(from.1).saturating_add(up)).ok()
    }

    /// The nanosecond of a cycle, saturating.
    #[inline]
    pub fn ns(&self, tsc: u64) -> u64 {
        let Some((from, way)) = self.piece(tsc, |corner| corner.1) else { return 0 };
        let since = i128::from(tsc) - i128::from(from.1);
        let ns =
            i128::from(from.0).saturating_add(since.saturating_mul(i128::from(way.0)).div_euclid(i128::from(way.1)));
        u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
    }

    /// Cycles per second from the first to the last reading, rounded.
    pub fn hz(&self) -> u64 {
        let (Some(first), Some(last)) = (self.corners.first(), self.corners.last()) else { return 0 };
        let ns = u128::from((last.0 - first.0).max(1));
        u64::try_from((u128::from(last.1 - first.1) * 1_000_000_000 + ns / 2) / ns).unwrap_or(u64::MAX)
    }

    /// How many cycles have the same nanosecond, at most.
    pub fn step(&self) -> u64 {
        let pieces = self.corners.windows(2).filter_map(|two| Some((two.first()?, two.last()?)));
        pieces.map(|(a, b)| (b.1 - a.1).div_ceil((b.0 - a.0).max(1))).max().unwrap_or(1).max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_clock_that_is_slewed() {
        // 2.5 GHz; then the clock of nanoseconds is 100 ppm fast; readings in between that were interrupted.
        let fast = |s: u64| (10 * SECOND + s * (SECOND + 100_000), 5_000 + s * 2_500_000_000);
        let mut readings: Vec<_> = (0..=10).map(|s| (s * SECOND, 5_000 + s * 2_500_000_000)).collect();
        let (ns, tsc) = *readings.last().unwrap();
        readings.extend((1..=10).map(fast).map(|(ns, cycles)| (ns, cycles + tsc - 5_000)));
        let line = ClockLine::through(&readings).unwrap();
        assert_eq!((line.cycles(ns), line.ns(tsc)), (Some(tsc), ns));
        assert_eq!(line.cycles(5 * SECOND + 400_000), Some(5_000 + 12_500_000_000 + 1_000_000));
        assert_eq!(line.step(), 3);
        assert_eq!(line.hz(), 2_499_875_006);
        // Half of what one second of 100 ppm is.
        assert!((124_000..126_000).contains(&line.uncertainty(0, 20 * SECOND, 0)), "{}", line.uncertainty(0, 0, 0));
    }

    #[test]
    fn late_readings_are_told() {
        let mut readings: Vec<_> = (0..40).map(|i| (i * SECOND / 4, i * SECOND / 2)).collect();
        readings[6].1 += 700;
        let line = ClockLine::through(&readings).unwrap();
        assert_eq!(line.uncertainty(0, 9 * SECOND, 0), 700);
        // A fifth beyond.
        let (first, last) = (0, readings[39].0 * 6 / 5);
        assert_eq!(line.uncertainty(first, last, 300), 1_200);
    }

    #[test]
    fn what_tells_no_rate() {
        for readings in
            [&[][..], &[(1, 2)], &[(5, 2), (5, 3)], &[(0, 0), (9_999_999, 20_000_000)], &[(0, 9), (SECOND, 8)]]
        {
            assert_eq!(ClockLine::through(readings), None, "{readings:?}");
        }
        // The second went back, the third is sound.
        assert!(ClockLine::through(&[(0, 9), (SECOND, 8), (2 * SECOND, 4 * SECOND)]).is_some());
    }

    proptest! {
        #[test]
        fn each_nanosecond_comes_back(
            start in (0..1_u64 << 60, 0..1_u64 << 60),
            ways in proptest::collection::vec((SECOND..1 << 36, 1.0..6.0_f64), 1..6),
            at in 0..1_u64 << 61,
        ) {
            let mut readings = vec![start];
            for (ns, rate) in ways {
                let last = *readings.last().unwrap();
                readings.push((last.0 + ns, last.1 + (ns as f64 * rate) as u64 + 1));
            }
            let line = ClockLine::through(&readings).unwrap();
            for &(ns, _) in &readings {
                for ns in [ns.saturating_sub(1), ns, ns + 1, at] {
                    if let Some(cycles) = line.cycles(ns).filter(|&cycles| cycles > 0) {
                        prop_assert_eq!(line.ns(cycles), ns);
                        prop_assert!(line.ns(cycles - 1) < ns.max(1));
                    }
                }
            }
        }
    }
}
