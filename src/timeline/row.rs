//! A row of nested slices that is drawn as its events come: what is open, innermost last.

use super::batch_builder::Canvas;
use super::drawing::{Category, Correlation, TrackId};
use super::names::NameId;

/// Deeper slices are not drawn: a begin whose end never comes must not grow the stack for ever.
const MAX_DEPTH: usize = 128;

/// An open slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// The running task.
    Task,
    /// A syscall of the running task.
    Syscall {
        /// Its name.
        name: NameId,
        /// Drawn from an event of its own (`sys_enter_openat`), not from `raw_syscalls`.
        named: bool,
    },
    /// The first half of a pair of events.
    Pair {
        /// Which pair.
        pair: u16,
        /// What both halves have in common.
        key: u64,
        /// Its name.
        name: NameId,
    },
}

/// Why a slice ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// It ended.
    Over,
    /// The recording ended.
    Truncated,
    /// Events were lost, perhaps this many.
    Lost(Option<u64>),
}

impl Closing {
    pub(super) fn args(self, canvas: &mut Canvas) {
        match self {
            Self::Over => {}
            Self::Truncated => canvas.truth(NameId::TRUNCATED, true),
            Self::Lost(Some(count)) => canvas.uint(NameId::EVENTS_LOST, count),
            Self::Lost(None) => canvas.truth(NameId::EVENTS_LOST, true),
        }
    }
}

/// A row and its open slices.
pub(super) struct Row {
    pub(super) track: TrackId,
    stack: Vec<Open>,
    last: u64,
}

impl Row {
    pub(super) fn new(track: TrackId) -> Self {
        Self { track, stack: Vec::new(), last: 0 }
    }

    /// The time of its last item: nothing is drawn before it any more.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// What is open, innermost last.
    pub(super) fn stack(&self) -> &[Open] {
        &self.stack
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stack.is_empty()
    }

    #[inline]
    fn at(&mut self, ns: u64) -> u64 {
        self.last = self.last.max(ns);
        self.last
    }

    /// Opens a slice with the arguments that the canvas has gathered.
    pub(super) fn open(&mut self, canvas: &mut Canvas, ns: u64, category: Category, what: Open, name: NameId) {
        if self.stack.len() >= MAX_DEPTH {
            canvas.discard();
            return;
        }
        let ns = self.at(ns);
        canvas.begin(ns, self.track, category, Correlation::None, name);
        self.stack.push(what);
    }

    /// Closes the innermost slice.
    pub(super) fn close(&mut self, canvas: &mut Canvas, ns: u64, why: Closing) -> Option<Open> {
        let open = self.stack.pop()?;
        let ns = self.at(ns);
        why.args(canvas);
        canvas.end(ns, self.track);
        Some(open)
    }

    /// Closes the innermost slice for which `is` holds and all inside it; false where there is none.
    pub(super) fn close_where(&mut self, canvas: &mut Canvas, ns: u64, is: impl Fn(&Open) -> bool) -> bool {
        let Some(index) = self.stack.iter().rposition(is) else { return false };
        while self.stack.len() > index {
            self.close(canvas, ns, Closing::Over);
        }
        true
    }

    /// Closes all slices.
    pub(super) fn close_all(&mut self, canvas: &mut Canvas, ns: u64, why: Closing) {
        while self.close(canvas, ns, why).is_some() {}
    }

    /// Draws a finished slice inside all that are open.
    pub(super) fn pair(
        &mut self,
        canvas: &mut Canvas,
        (begin, end): (u64, u64),
        category: Category,
        correlation: Correlation,
        name: NameId,
        why: Closing,
    ) {
        let begin = self.at(begin);
        canvas.begin(begin, self.track, category, correlation, name);
        let end = self.at(end);
        why.args(canvas);
        canvas.end(end, self.track);
    }

    /// Draws an instant inside all that are open.
    pub(super) fn instant(&mut self, canvas: &mut Canvas, ns: u64, category: Category, name: NameId) {
        let ns = self.at(ns);
        canvas.instant(ns, self.track, category, name);
    }
}
