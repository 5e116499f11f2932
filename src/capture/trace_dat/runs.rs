//! How many of a CPU's compressed chunks are read at a time.

/// Chunks of the file that are read together: one, or neighbours where there would be too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Where the first one's sizes stand.
    pub(super) offset: u64,
    /// Bytes up to the end of the last one.
    pub(super) len: u64,
    /// Bytes after decompression.
    pub(super) unpacked: u64,
}

/// How many runs a CPU may have before neighbours are joined: the program keeps something of each. Trace-cmd's chunks
/// are of 40 KiB, which is a small part of a recording of gigabytes. No fuzzer makes so many.
const MAX_RUNS: usize = if cfg!(fuzzing) { 4 } else { 1 << 15 };
/// Runs are not joined beyond this many bytes, packed or unpacked.
const MAX_JOINED: u64 = 1 << 19;

/// The runs of a CPU in the order of the file.
pub(super) struct Runs {
    runs: Vec<Run>,
    /// With this many, neighbours are joined.
    most: usize,
    /// Up to which size they are.
    size: u64,
}

impl Runs {
    pub(super) fn new() -> Self {
        Self { runs: Vec::new(), most: MAX_RUNS, size: 0 }
    }

    /// Appends a chunk.
    pub(super) fn push(&mut self, next: Run) {
        let size = self.size;
        if self.runs.last_mut().is_some_and(|last| last.join(&next, size)) {
            return;
        }
        if self.runs.len() >= self.most {
            while self.is_crowded() && self.size < MAX_JOINED {
                self.size = (self.size * 2).max(MAX_JOINED >> 3);
                let size = self.size;
                self.runs.dedup_by(|next, last| last.join(next, size));
            }
            if self.is_crowded() {
                self.most *= 2;
            }
        }
        self.runs.push(next);
    }

    pub(super) fn done(mut self) -> Vec<Run> {
        self.runs.shrink_to_fit();
        self.runs
    }

    /// Whether it would be full again soon.
    fn is_crowded(&self) -> bool {
        self.runs.len() > self.most / 4 * 3
    }
}

impl Run {
    /// Makes one of two, if one begins where the other ends and together they have at most `size` bytes.
    fn join(&mut self, next: &Self, size: u64) -> bool {
        let (len, unpacked) = (self.len.saturating_add(next.len), self.unpacked.saturating_add(next.unpacked));
        let fits = self.offset + self.len == next.offset && len.max(unpacked) <= size;
        if fits {
            (self.len, self.unpacked) = (len, unpacked);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand chunks of 40 KiB that are packed into 10, with a hole behind every `hole`th.
    fn joined(most: usize, hole: u64) -> (Vec<Run>, Runs) {
        let mut at = 0;
        let mut chunks = Vec::new();
        let mut runs = Runs { most, ..Runs::new() };
        for number in 1..=1000 {
            let chunk = Run { offset: at, len: 10 << 10, unpacked: 40 << 10 };
            at += chunk.len + if number % hole == 0 { 5 } else { 0 };
            chunks.push(chunk);
            runs.push(chunk);
        }
        (chunks, runs)
    }

    fn covers(run: &Run, chunk: &Run) -> bool {
        (run.offset..run.offset + run.len).contains(&chunk.offset)
    }

    #[test]
    fn chunks_stay_as_they_are_while_they_are_few() {
        let (chunks, runs) = joined(1000, 2000);
        assert_eq!(runs.runs, chunks);
    }

    #[test]
    fn neighbours_are_joined_where_they_are_many() {
        let (chunks, runs) = joined(100, 2000);
        assert!(runs.runs.len() <= 100, "{}", runs.runs.len());
        for sums in [|run: &Run| run.len, |run: &Run| run.unpacked] {
            assert_eq!(runs.runs.iter().map(sums).sum::<u64>(), chunks.iter().map(sums).sum::<u64>());
        }
        assert!(runs.runs.iter().all(|run| run.unpacked <= MAX_JOINED));
        assert!(chunks.iter().all(|chunk| runs.runs.iter().filter(|run| covers(run, chunk)).count() == 1));
    }

    #[test]
    fn what_is_skipped_stays_outside() {
        let (chunks, runs) = joined(100, 3);
        assert_eq!(
            runs.runs.iter().map(|run| run.unpacked).sum::<u64>(),
            chunks.iter().map(|chunk| chunk.unpacked).sum::<u64>()
        );
        let holes = chunks.chunks(3).map(|three| three.last().map_or(0, |last| last.offset + last.len));
        for hole in holes {
            assert!(!runs.runs.iter().any(|run| run.offset < hole + 5 && hole < run.offset + run.len));
        }
    }
}
