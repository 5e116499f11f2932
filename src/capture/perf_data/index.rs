//! Where the records of each CPU stand, in chunks that no event leaves in time.
//!
//! perf writes the kernel's buffers one after the other, round after round: a CPU's records stand in runs. A recording
//! of threads instead of CPUs has them in any order, but never far from it. So a chunk is a list of runs, its events
//! are sorted when it is read, and chunks that overlap in time become one.

use super::attr::When;

/// A chunk is closed when it holds this many bytes of records.
const CHUNK: u64 = 128 << 10;
/// Chunks are not joined beyond this many bytes: a record that is older than that is left out.
pub(super) const MAX_CHUNK: u64 = 32 << 20;
/// What lies between two records of a run is read with them, up to this many bytes.
const GAP: u64 = 4 << 10;

/// Some runs of records of one CPU.
#[derive(Clone, Debug, Default)]
pub(super) struct Piece {
    /// Pairs of (distance from the end of the run before, length), in groups of seven bits.
    bytes: Vec<u8>,
    /// The end of the last run in `bytes`.
    encoded: u64,
    /// The run that may still grow.
    run: (u64, u64),
    /// Bytes of its records.
    size: u64,
    max: u64,
}

impl Piece {
    fn push(&mut self, at: u64, size: u64, time: u64, joined: bool) {
        let end = at.saturating_add(size);
        if joined && self.run.1 > self.run.0 && at >= self.run.1 && at - self.run.1 <= GAP {
            self.run.1 = end;
        } else {
            self.flush();
            self.run = (at, end);
        }
        self.size = self.size.saturating_add(size);
        self.max = self.max.max(time);
    }

    fn flush(&mut self) {
        let (start, end) = self.run;
        if end > start {
            number(&mut self.bytes, start.wrapping_sub(self.encoded));
            number(&mut self.bytes, end - start);
            self.encoded = end;
        }
        self.run = (0, 0);
    }

    /// Appends a piece whose records stand behind those of this one.
    fn join(&mut self, mut later: Self) {
        self.flush();
        later.flush();
        for (start, end) in later.runs() {
            self.run = (start, end);
            self.flush();
        }
        self.size = self.size.saturating_add(later.size);
        self.max = self.max.max(later.max);
    }

    /// The runs: where each starts and ends.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        let (mut rest, mut position) = (&*self.bytes, 0_u64);
        std::iter::from_fn(move || {
            let start = position.wrapping_add(take(&mut rest)?);
            position = start.wrapping_add(take(&mut rest)?);
            Some((start, position))
        })
    }
}

fn number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(value)
}

/// The chunks of one CPU.
#[derive(Debug, Default)]
struct CpuIndex {
    closed: Vec<Piece>,
    open: Piece,
}

impl CpuIndex {
    /// Adds a record; false where it is too old.
    fn add(&mut self, at: u64, size: u64, time: u64, joined: bool) -> bool {
        while let Some(mut last) = self.closed.pop_if(|last| time < last.max) {
            if last.size.saturating_add(self.open.size) > MAX_CHUNK {
                self.closed.push(last);
                return false;
            }
            last.join(std::mem::take(&mut self.open));
            self.open = last;
        }
        if time < self.open.max && self.open.size >= MAX_CHUNK {
            return false;
        }
        if self.open.size >= CHUNK && time >= self.open.max {
            self.close();
        }
        self.open.push(at, size, time, joined);
        true
    }

    fn close(&mut self) {
        let mut piece = std::mem::take(&mut self.open);
        piece.flush();
        piece.bytes.shrink_to_fit();
        self.closed.push(piece);
    }
}

/// The chunks of all CPUs.
#[derive(Debug, Default)]
pub(super) struct Index {
    cpus: Vec<CpuIndex>,
    /// The CPU of the record before.
    last: Option<u32>,
    /// Records that are too old.
    pub(super) late: u64,
}

impl Index {
    /// Adds a record of `size` bytes at `at`; records are added in the order of the file. The caller has checked the
    /// number of the CPU.
    pub(super) fn add(&mut self, when: When, at: u64, size: u64) {
        let cpu = when.cpu as usize;
        if self.cpus.len() <= cpu {
            self.cpus.resize_with(cpu + 1, CpuIndex::default);
        }
        let joined = self.last == Some(when.cpu);
        let added = self.cpus.get_mut(cpu).is_some_and(|index| index.add(at, size, when.time, joined));
        self.last = added.then_some(when.cpu);
        self.late += u64::from(!added);
    }

    /// CPUs that have records, with their chunks.
    pub(super) fn finish(self) -> impl Iterator<Item = (u32, Vec<Piece>)> {
        let cpus = (0..).zip(self.cpus).map(|(cpu, mut index)| {
            if index.open.size > 0 {
                index.close();
            }
            (cpu, index.closed)
        });
        cpus.filter(|(_, pieces)| !pieces.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where each run of a chunk starts and ends.
    type Runs = Vec<(u64, u64)>;

    fn index(records: &[(u32, u64, u64)]) -> Vec<(u32, Vec<Runs>)> {
        let mut index = Index::default();
        let mut at = 1000;
        for &(cpu, time, size) in records {
            index.add(When { time, cpu }, at, size);
            at += size;
        }
        assert_eq!(index.late, 0);
        let runs = |pieces: Vec<Piece>| pieces.iter().map(|piece| piece.runs().collect()).collect();
        index.finish().map(|(cpu, pieces)| (cpu, runs(pieces))).collect()
    }

    #[test]
    fn records_of_one_cpu_make_runs() {
        let found = index(&[(2, 1, 100), (2, 2, 50), (0, 1, 10), (2, 3, 20), (0, 2, 10)]);
        let expected = [(0, vec![vec![(1150, 1160), (1180, 1190)]]), (2, vec![vec![(1000, 1150), (1160, 1180)]])];
        assert_eq!(found, expected);
    }

    #[test]
    fn chunks_that_overlap_in_time_are_one() {
        // Three full chunks; then a record as old as the second one.
        let full = CHUNK;
        let in_order = [(0, 10, full), (0, 20, full), (0, 30, full), (0, 40, 8)];
        assert_eq!(index(&in_order)[0].1.len(), 4);
        let late = [(0, 10, full), (0, 20, full), (0, 30, full), (0, 15, 8), (0, 50, 8)];
        let found = index(&late);
        let ends =
            [(1000, 1000 + full), (1000 + full, 1000 + 3 * full + 8), (1000 + 3 * full + 8, 1000 + 3 * full + 16)];
        assert_eq!(found[0].1.iter().map(|p| (p[0].0, p.last().unwrap().1)).collect::<Vec<_>>(), ends);
        // Equal times are in order.
        assert_eq!(index(&[(0, 10, full), (0, 10, 8)])[0].1.len(), 2);
    }

    #[test]
    fn what_is_far_too_old_is_left_out() {
        let mut index = Index::default();
        let mut at = 0;
        for time in 0..2 * MAX_CHUNK / CHUNK {
            index.add(When { time: 100 + time, cpu: 0 }, at, CHUNK);
            at += CHUNK;
        }
        index.add(When { time: 1, cpu: 0 }, at, 8);
        assert_eq!(index.late, 1);
        index.add(When { time: 1 << 20, cpu: 0 }, at + 8, 8);
        assert_eq!(index.late, 1);
        for (_, pieces) in index.finish() {
            assert!(pieces.iter().all(|piece| piece.size <= MAX_CHUNK + CHUNK));
            assert_eq!(pieces.last().unwrap().runs().last(), Some((at + 8, at + 16)));
        }
    }
}
