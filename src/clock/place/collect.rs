//! Pass 1 over a stream: which runs of events fit which tracks.

use std::sync::Arc;

use crate::clock::place::cells::Cells;
use crate::clock::place::{FIRST, Placing, Track, ZERO_EXTEND};
use crate::time::RawStamp;

/// How far stamps may step back without a change of the clock: readers differ by a unit behind discarded events.
pub(super) const TOLERANCE: u64 = 64;
/// More tracks than these for one stamp are not looked at.
const MAX_FITS: usize = 64;
/// Stamps that are kept because several tracks fit; beyond that every second one is given up, and again.
const MAX_GROUPS: usize = 1 << 18;
/// Stale stamps that are kept; a sub-buffer of 64 KiB holds some thousands.
const MAX_STALE: usize = 1 << 20;

/// Events in recording order that fit the same tracks, with stamps that do not step back.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Index of the first event.
    pub(super) start: u64,
    /// First stamp.
    pub(super) first: u64,
    /// Last stamp.
    pub(super) last: u64,
    /// A stale run: recorded behind a clock that went backwards. It fits nothing as it is.
    pub(super) stale: bool,
    /// The tracks that fit: a range of [`Runs::fits`].
    pub(super) fits: (usize, usize),
    /// The stamps that were kept: a range of [`Runs::groups`], or of [`Runs::stale`].
    pub(super) kept: (usize, usize),
}

/// An event whose stamp was kept; it stands for the events up to the next kept one as well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) start: u64,
    pub(super) stamp: u64,
}

/// What pass 1 remembers of a stream.
#[derive(Debug, Default)]
pub(super) struct Runs {
    pub(super) runs: Vec<Run>,
    pub(super) fits: Vec<u32>,
    pub(super) groups: Vec<Group>,
    pub(super) stale: Vec<u64>,
    pub(super) events: u64,
    pub(super) out_of_order: u64,
}

/// Takes one guest CPU's events in recording order.
///
/// Memory does not grow with the events: only with the offset changes the stream goes through, and with the events for
/// which several segments fit, up to a limit of some megabytes.
#[derive(Debug)]
pub struct Placer {
    tracks: Arc<[Track]>,
    cells: Cells,
    runs: Runs,
    /// The present run goes on up to this stamp.
    end: u64,
    last: u64,
    /// Whether a stamp between `last` and `end` needs no thought.
    simple: bool,
    /// Whether several tracks fit the present run.
    keep: bool,
    stride: u64,
    limit: usize,
    scratch: Vec<u32>,
}

impl Placer {
    /// Places along `tracks`, which are in host-time order.
    pub fn new(tracks: Vec<Track>) -> Self {
        Self {
            cells: Cells::new(&tracks),
            tracks: tracks.into(),
            runs: Runs::default(),
            end: 0,
            last: 0,
            simple: false,
            keep: false,
            stride: 1,
            limit: MAX_GROUPS,
            scratch: Vec::new(),
        }
    }

    /// The next event of the stream. `flags`: [`FIRST`], [`ZERO_EXTEND`]; other bits are ignored.
    #[inline]
    pub fn push(&mut self, stamp: RawStamp, flags: u8) {
        let stamp = stamp.get();
        if self.simple && flags & ZERO_EXTEND == 0 && stamp >= self.last && stamp <= self.end {
            self.last = stamp;
            if self.keep {
                self.keep(stamp);
            }
        } else {
            self.think(stamp, flags);
        }
        self.runs.events += 1;
    }

    /// The next `events` events of the stream, of which only the first and the last stamp are known: no stamp between
    /// them steps back, and no [`ZERO_EXTEND`] is among them. Returns false where each of them must be seen.
    #[must_use]
    pub fn pass(&mut self, first: RawStamp, last: RawStamp, events: u64) -> bool {
        let passes = self.simple && !self.keep && first.get() >= self.last && first <= last && last.get() <= self.end;
        if passes {
            self.last = last.get();
            self.runs.events += events;
        }
        passes
    }

    /// All events have been pushed.
    pub fn finish(mut self) -> Placing {
        self.close();
        Placing::new(self.tracks, self.runs)
    }

    fn think(&mut self, stamp: u64, flags: u8) {
        let first = flags & FIRST != 0;
        let marked = flags & ZERO_EXTEND != 0 && !first;
        let was_stale = self.runs.runs.last().is_some_and(|run| run.stale);
        if marked && !self.runs.runs.is_empty() {
            self.open(stamp, true);
            self.stale(stamp);
            return;
        }
        if was_stale && !first && stamp >= self.last {
            self.last = stamp;
            self.stale(stamp);
            return;
        }
        // The end of a stale run is no step of the clock; whether it went back is seen from the run before.
        let back = !was_stale && stamp < self.last;
        // At the start of a sub-buffer it may be a real, small change of the clock.
        if back && !first && self.last - stamp <= TOLERANCE && self.simple {
            self.runs.out_of_order += 1;
            // It belongs where the event before it belongs.
            if self.keep {
                self.keep(self.last);
            }
            return;
        }
        self.open(stamp, false);
    }

    /// Closes the present run and opens the next with the present event.
    fn open(&mut self, stamp: u64, stale: bool) {
        let back = stamp < self.last;
        self.close();
        self.end = self.cells.end(stamp);
        self.last = stamp;
        self.simple = !stale;
        if stale {
            self.scratch.clear();
            self.keep = false;
        } else {
            self.cells.fits(stamp, MAX_FITS, &mut self.scratch);
            self.keep = self.scratch.len() > 1;
            // A neighbouring cell with the same answer is no new run.
            let same = self.runs.runs.last().filter(|run| !run.stale && !back);
            if same.is_some_and(|run| self.runs.fits.get(run.fits.0..run.fits.1) == Some(&self.scratch)) {
                if self.keep {
                    self.keep(stamp);
                }
                return;
            }
        }
        let fits = self.runs.fits.len();
        self.runs.fits.extend_from_slice(&self.scratch);
        let kept = if stale { self.runs.stale.len() } else { self.runs.groups.len() };
        self.runs.runs.push(Run {
            start: self.runs.events,
            first: stamp,
            last: stamp,
            stale,
            fits: (fits, self.runs.fits.len()),
            kept: (kept, kept),
        });
        if self.keep {
            self.runs.groups.push(Group { start: self.runs.events, stamp });
        }
    }

    fn close(&mut self) {
        let Runs { runs, groups, stale, .. } = &mut self.runs;
        if let Some(run) = runs.last_mut() {
            run.last = self.last;
            run.kept.1 = if run.stale { stale.len() } else { groups.len() };
        }
    }

    fn stale(&mut self, stamp: u64) {
        if self.runs.stale.len() < MAX_STALE {
            self.runs.stale.push(stamp);
        }
    }

    fn keep(&mut self, stamp: u64) {
        if self.runs.events.is_multiple_of(self.stride) {
            self.runs.groups.push(Group { start: self.runs.events, stamp });
            if self.runs.groups.len() >= self.limit {
                self.thin_out();
            }
        }
    }

    /// Gives up every second kept stamp, but never a run's first.
    fn thin_out(&mut self) {
        self.close();
        self.stride *= 2;
        let mut kept = Vec::with_capacity(self.runs.groups.len() / 2);
        for run in self.runs.runs.iter_mut().filter(|run| !run.stale) {
            let groups = self.runs.groups.get(run.kept.0..run.kept.1).unwrap_or(&[]);
            let start = kept.len();
            let stride = self.stride;
            kept.extend(groups.iter().filter(|g| g.start == run.start || g.start.is_multiple_of(stride)));
            run.kept = (start, kept.len());
        }
        // Many short runs cannot be thinned.
        if kept.len() > self.limit / 2 {
            self.limit *= 2;
        }
        self.runs.groups = kept;
    }
}
