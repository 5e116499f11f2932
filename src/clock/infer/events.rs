//! Counting events in a range without looking at them.

/// Sorted event times with a table of where each stretch of time starts.
pub(super) struct Events {
    times: Vec<i64>,
    first: i64,
    shift: u32,
    starts: Vec<u32>,
}

impl Events {
    /// `times` must not be empty, nor hold more than `u32::MAX` events.
    pub(super) fn new(mut times: Vec<i64>) -> Option<Self> {
        times.sort_unstable();
        let (first, last) = (*times.first()?, *times.last()?);
        let span = last.checked_sub(first)?.cast_unsigned();
        // About one event per stretch.
        let mut shift = 0;
        while span >> shift > times.len() as u64 {
            shift += 1;
        }
        let stretches = usize::try_from(span >> shift).ok()? + 1;
        let mut starts = vec![0_u32; stretches + 1];
        for &time in &times {
            let stretch = (time.abs_diff(first) >> shift) as usize;
            *starts.get_mut(stretch + 1)? += 1;
        }
        let mut sum: u32 = 0;
        for start in &mut starts {
            sum = sum.checked_add(*start)?;
            *start = sum;
        }
        Some(Self { times, first, shift, starts })
    }

    pub(super) fn times(&self) -> &[i64] {
        &self.times
    }

    /// How many events lie before `time`.
    #[inline]
    fn before(&self, time: i64) -> usize {
        let Ok(distance) = u64::try_from(time.saturating_sub(self.first)) else { return 0 };
        let stretch = usize::try_from(distance >> self.shift).unwrap_or(usize::MAX);
        let Some(&[from, to]) = self.starts.get(stretch..stretch.saturating_add(2)) else { return self.times.len() };
        let (from, to) = (from as usize, to as usize);
        let within = self.times.get(from..to).unwrap_or(&[]);
        from + within.partition_point(|&event| event < time)
    }

    /// How many events lie from `from` to `to`, both inclusive.
    #[inline]
    pub(super) fn count(&self, from: i64, to: i64) -> usize {
        if from > to {
            return 0;
        }
        self.before(to.saturating_add(1)).saturating_sub(self.before(from))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_as_a_plain_filter_does(
            times in prop::collection::vec(-500_i64..5000, 1..60), from in -600_i64..5100, width in -3_i64..3000,
        ) {
            let to = from + width;
            let expected = times.iter().filter(|&&t| from <= t && t <= to).count();
            prop_assert_eq!(Events::new(times).unwrap().count(from, to), expected);
        }
    }
}
