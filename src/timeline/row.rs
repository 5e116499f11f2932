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
        /// It interrupts the task, and ends before another one runs.
        interrupt: bool,
    },
    /// A function of function_graph.
    Function {
        /// Its address.
        address: u64,
        /// How many traced functions it is inside of.
        depth: u64,
        /// Its name.
        name: NameId,
    },
    /// A call that the function tracer saw.
    Call {
        /// Its name.
        name: NameId,
    },
    /// What a program marked by itself.
    Marker {
        /// Its name.
        name: NameId,
    },
}

impl Open {
    /// Whether it interrupts the task.
    pub(super) fn is_interrupt(&self) -> bool {
        matches!(self, Self::Pair { interrupt: true, .. })
    }

    /// How it is drawn when it goes on; `None` for what does not.
    fn goes_on(&self) -> Option<(Category, NameId)> {
        Some(match *self {
            Self::Task | Self::Call { .. } => return None,
            Self::Syscall { name, .. } => (Category::Syscall, name),
            Self::Pair { name, interrupt, .. } => (if interrupt { Category::Irq } else { Category::Event }, name),
            Self::Function { name, .. } => (Category::Function, name),
            Self::Marker { name } => (Category::Marker, name),
        })
    }
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
    /// All of its slices are of category `host`.
    host: bool,
    stack: Vec<Open>,
    last: u64,
    /// When the last call was made that the function tracer saw.
    last_call: u64,
    /// The task that is known to run.
    pub(super) pid: Option<i32>,
    /// Whether a context switch says so; else an event of the task.
    pub(super) scheduled: bool,
}

impl Row {
    /// A guest's row.
    pub(super) fn new(track: TrackId) -> Self {
        Self { track, host: false, stack: Vec::new(), last: 0, last_call: 0, pid: None, scheduled: false }
    }

    /// A host's row.
    pub(super) fn of_host(track: TrackId) -> Self {
        Self { host: true, ..Self::new(track) }
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

    fn category(&self, category: Category) -> Category {
        if self.host { Category::Host } else { category }
    }

    fn begin(&mut self, canvas: &mut Canvas, ns: u64, category: Category, name: NameId) {
        let ns = self.at(ns);
        canvas.begin(ns, self.track, self.category(category), Correlation::None, name);
    }

    /// Opens a slice with the arguments that the canvas has gathered.
    pub(super) fn open(&mut self, canvas: &mut Canvas, ns: u64, category: Category, what: Open, name: NameId) {
        if self.stack.len() >= MAX_DEPTH {
            canvas.discard();
            return;
        }
        self.begin(canvas, ns, category, name);
        self.stack.push(what);
    }

    /// Opens a slice around those that are open from `index` on: they are closed, and go on inside it.
    pub(super) fn open_around(
        &mut self,
        canvas: &mut Canvas,
        ns: u64,
        index: usize,
        category: Category,
        what: Open,
        name: NameId,
    ) {
        if self.stack.len() >= MAX_DEPTH || index > self.stack.len() {
            canvas.discard();
            return;
        }
        let now = self.at(ns);
        for _ in index..self.stack.len() {
            canvas.end(now, self.track);
        }
        self.stack.insert(index, what);
        self.begin(canvas, ns, category, name);
        self.go_on(canvas, ns, index + 1);
    }

    /// Opens a slice that was open before.
    pub(super) fn resume(&mut self, canvas: &mut Canvas, ns: u64, what: Open) {
        let Some((category, name)) = what.goes_on() else { return };
        canvas.truth(NameId::CONTINUED, true);
        self.open(canvas, ns, category, what, name);
    }

    /// Draws the slices from `index` on as going on.
    fn go_on(&mut self, canvas: &mut Canvas, ns: u64, index: usize) {
        for at in index..self.stack.len() {
            let Some((category, name)) = self.stack[at].goes_on() else { continue };
            canvas.truth(NameId::CONTINUED, true);
            self.begin(canvas, ns, category, name);
        }
    }

    /// Closes the innermost slice.
    pub(super) fn close(&mut self, canvas: &mut Canvas, ns: u64, why: Closing) -> Option<Open> {
        let open = self.stack.pop()?;
        let ns = self.at(ns);
        why.args(canvas);
        canvas.end(ns, self.track);
        Some(open)
    }

    /// Closes slices until no more than `depth` are open.
    pub(super) fn close_to(&mut self, canvas: &mut Canvas, ns: u64, depth: usize) {
        while self.stack.len() > depth {
            self.close(canvas, ns, Closing::Over);
        }
    }

    /// Closes the innermost slice for which `is` holds and all inside it; false where there is none.
    pub(super) fn close_where(&mut self, canvas: &mut Canvas, ns: u64, is: impl Fn(&Open) -> bool) -> bool {
        let Some(index) = self.stack.iter().rposition(is) else { return false };
        self.close_to(canvas, ns, index);
        true
    }

    /// Closes the slice at `index` with what `args` adds. Slices inside it for which `stays` holds go on outside it, the
    /// others end with it.
    pub(super) fn close_around(
        &mut self,
        canvas: &mut Canvas,
        ns: u64,
        index: usize,
        stays: impl Fn(&Open) -> bool,
        args: impl FnOnce(&mut Canvas),
    ) {
        if index >= self.stack.len() {
            return;
        }
        let now = self.at(ns);
        for _ in index + 1..self.stack.len() {
            canvas.end(now, self.track);
        }
        args(canvas);
        canvas.end(now, self.track);
        let mut kept = index;
        for at in index + 1..self.stack.len() {
            if stays(&self.stack[at]) && !matches!(self.stack[at], Open::Task | Open::Call { .. }) {
                self.stack[kept] = self.stack[at];
                kept += 1;
            }
        }
        self.stack.truncate(kept);
        self.go_on(canvas, ns, index);
    }

    /// Closes all slices. Where they do not simply end, it is not known any more who runs.
    pub(super) fn close_all(&mut self, canvas: &mut Canvas, ns: u64, why: Closing) {
        self.end_calls(canvas);
        while self.close(canvas, ns, why).is_some() {}
        if why != Closing::Over {
            (self.pid, self.scheduled) = (None, false);
        }
    }

    /// A call that the function tracer saw, made by the function `parent`.
    ///
    /// The tracer does not see returns. A call's slice lasts to the last moment at which the call is known to be active:
    /// that of the last call made inside it.
    pub(super) fn call(&mut self, canvas: &mut Canvas, ns: u64, name: NameId, parent: NameId) {
        let caller = self.stack.iter().rev().take_while(|open| matches!(open, Open::Call { .. }));
        let returned = caller.take_while(|&&open| open != Open::Call { name: parent }).count();
        for _ in 0..returned {
            self.close(canvas, self.last_call, Closing::Over);
        }
        canvas.name(NameId::PARENT, parent);
        self.open(canvas, ns, Category::Function, Open::Call { name }, name);
        self.last_call = self.last;
    }

    /// Anything else happens: whether the calls are still active is not known.
    #[inline]
    pub(super) fn end_calls(&mut self, canvas: &mut Canvas) {
        while let Some(Open::Call { .. }) = self.stack.last() {
            self.close(canvas, self.last_call, Closing::Over);
        }
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
        let category = self.category(category);
        canvas.instant(ns, self.track, category, name);
    }
}
