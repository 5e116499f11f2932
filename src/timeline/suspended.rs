//! What tasks were in the middle of when another one ran.

use rustc_hash::FxHashMap;

use super::row::Open;

/// What waits with its tasks, for one machine: syscalls, functions, markers, outermost first.
#[derive(Default)]
pub(super) struct Suspended {
    tasks: FxHashMap<i64, Vec<Open>>,
    /// How many slices there are.
    slices: usize,
    /// Memory for later.
    spare: Vec<Vec<Open>>,
}

/// Beyond this, what is interrupted does not go on; damaged records must not fill the memory.
const MAX_SLICES: usize = 1 << 20;
/// Lists whose memory is kept.
const MAX_SPARE: usize = 64;

/// Who a task is. Idle tasks all have process id 0, but each belongs to its CPU, here given by its row.
pub(super) fn task(pid: i32, row: u32) -> i64 {
    if pid == 0 { -1 - i64::from(row) } else { i64::from(pid) }
}

impl Suspended {
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Keeps what is open in a row above its task: all that does not interrupt it.
    pub(super) fn keep(&mut self, task: i64, stack: &[Open]) {
        let own = stack.iter().filter(|open| !matches!(open, Open::Task | Open::Call { .. }));
        let own = own.take_while(|open| !open.is_interrupt());
        let mut list = self.spare.pop().unwrap_or_default();
        list.extend(own.copied());
        if list.is_empty() || self.slices + list.len() > MAX_SLICES {
            return self.recycle(list);
        }
        self.slices += list.len();
        if let Some(old) = self.tasks.insert(task, list) {
            self.slices -= old.len();
            self.recycle(old);
        }
    }

    /// What the task was in the middle of; to be given back by [`Suspended::recycle`].
    pub(super) fn take(&mut self, task: i64) -> Option<Vec<Open>> {
        let list = self.tasks.remove(&task)?;
        self.slices -= list.len();
        Some(list)
    }

    /// Keeps the memory of a list.
    pub(super) fn recycle(&mut self, mut list: Vec<Open>) {
        if self.spare.len() < MAX_SPARE {
            list.clear();
            self.spare.push(list);
        }
    }

    /// Something ends although its task does not seem to run, where stamps of two CPUs do not quite fit together.
    pub(super) fn end(&mut self, task: i64, is: impl Fn(&Open) -> bool) {
        let Some(list) = self.tasks.get_mut(&task) else { return };
        let Some(index) = list.iter().rposition(is) else { return };
        list.remove(index);
        self.slices -= 1;
        if list.is_empty() {
            self.tasks.remove(&task);
        }
    }

    /// It is not known any more what any task is in the middle of.
    pub(super) fn clear(&mut self) {
        self.tasks.clear();
        self.slices = 0;
    }
}
