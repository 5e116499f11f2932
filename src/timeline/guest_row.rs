//! What one machine's CPU does, drawn from its own events: a guest's vCPU row, or a Host CPU row without VMs.

use rustc_hash::FxHashMap;

use super::batch_builder::Canvas;
use super::drawing::{Category, FieldSource};
use super::labels::Labels;
use super::names::NameId;
use super::pairs::Half;
use super::plan::{Kind, Leaving, Plan, Switch, SyscallName};
use super::row::{Closing, Open, Row};

/// Syscalls of a machine's tasks that a context switch interrupted, by task.
#[derive(Default)]
pub(super) struct Suspended {
    tasks: FxHashMap<i32, (NameId, bool)>,
}

impl Suspended {
    /// The task leaves its CPU in the midst of a syscall.
    pub(super) fn keep(&mut self, task: i32, name: NameId, named: bool) {
        if self.tasks.len() < MAX_SUSPENDED {
            self.tasks.insert(task, (name, named));
        }
    }

    /// The syscall in whose midst the task comes to a CPU.
    pub(super) fn resume(&mut self, task: i32) -> Option<(NameId, bool)> {
        if self.tasks.is_empty() { None } else { self.tasks.remove(&task) }
    }
}

/// More tasks than Linux can have (`PID_MAX_LIMIT`); damaged records must not fill the memory.
const MAX_SUSPENDED: usize = 1 << 22;

/// An event and what is known of its capture.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) plan: &'a Plan,
    pub(super) ns: u64,
    pub(super) source: u16,
    pub(super) formats: &'a FieldSource,
    pub(super) event: u16,
    pub(super) payload: &'a [u8],
}

/// Where and how a machine's CPU is drawn.
pub(super) struct Brush<'a> {
    pub(super) canvas: &'a mut Canvas,
    pub(super) labels: &'a mut Labels,
    /// All slices are of category `host`.
    pub(super) host: bool,
}

impl Brush<'_> {
    fn category(&self, category: Category) -> Category {
        if self.host { Category::Host } else { category }
    }
}

/// Draws an event that shapes the row. Instants and events of other kinds are none of this.
pub(super) fn draw(row: &mut Row, suspended: &mut Suspended, record: Record<'_>, brush: &mut Brush<'_>) {
    let Record { ns, payload, .. } = record;
    match record.plan.kind {
        Kind::Switch(fields) => switch(row, suspended, &fields, record, brush),
        Kind::Half(half) => draw_half(row, half, record, brush),
        Kind::SyscallEnter(name) => {
            let (name, named) = match name {
                SyscallName::Id(id) => {
                    (brush.labels.syscall(id.get(payload).unwrap_or(u64::MAX), &mut brush.canvas.names), false)
                }
                SyscallName::Named(name) => (name, true),
            };
            enter(row, name, named, ns, brush);
        }
        Kind::SyscallExit => {
            let open = row.close_where(brush.canvas, ns, |open| matches!(open, Open::Syscall { .. }));
            if !open {
                // It may be remembered as suspended where stamps of two CPUs do not quite fit together.
                suspended.tasks.remove(&record.plan.pid.map_or(0, |pid| pid.pid(payload)));
            }
        }
        _ => {}
    }
}

/// Draws half of a slice.
pub(super) fn draw_half(row: &mut Row, half: Half, record: Record<'_>, brush: &mut Brush<'_>) {
    let Record { ns, payload, .. } = record;
    match half {
        Half::Begin { pair, key, label, class } => {
            let name = brush.labels.name(label, record.formats, record.event, payload, &mut brush.canvas.names);
            if class == super::pairs::Class::Other {
                brush.canvas.fields(record.source, record.event, payload);
            }
            let key = key.and_then(|key| key.get(payload)).unwrap_or(0);
            let category = brush.category(class.category());
            row.open(brush.canvas, ns, category, Open::Pair { pair, key, name }, name);
        }
        Half::End { pair, key, .. } => {
            let key = key.and_then(|key| key.get(payload)).unwrap_or(0);
            row.close_where(
                brush.canvas,
                ns,
                |open| matches!(*open, Open::Pair { pair: p, key: k, .. } if (p, k) == (pair, key)),
            );
        }
    }
}

fn enter(row: &mut Row, name: NameId, named: bool, ns: u64, brush: &mut Brush<'_>) {
    let open = row.stack().iter().find_map(|open| match *open {
        Open::Syscall { named, .. } => Some(named),
        _ => None,
    });
    match open {
        // Both raw_syscalls and the syscall's own event were recorded: the first one is drawn.
        Some(drawn) if drawn != named => return,
        // A syscall that never returns, or whose end is missing.
        Some(_) => _ = row.close_where(brush.canvas, ns, |open| matches!(open, Open::Syscall { .. })),
        // A syscall is never inside an interrupt: whatever is open there has lost its end.
        None => {
            let tasks = usize::from(row.stack().first() == Some(&Open::Task));
            while row.stack().len() > tasks {
                row.close(brush.canvas, ns, Closing::Over);
            }
        }
    }
    let category = brush.category(Category::Syscall);
    row.open(brush.canvas, ns, category, Open::Syscall { name, named }, name);
}

/// The next task runs. A syscall of the old one is closed, and goes on when its task runs again.
fn switch(row: &mut Row, suspended: &mut Suspended, fields: &Switch, record: Record<'_>, brush: &mut Brush<'_>) {
    let Record { ns, payload, .. } = record;
    let dead = fields.prev_state.get(payload) == Leaving::Dead;
    while let Some(open) = row.close(brush.canvas, ns, Closing::Over) {
        if let Open::Syscall { name, named } = open
            && !dead
            && suspended.tasks.len() < MAX_SUSPENDED
        {
            suspended.tasks.insert(fields.prev_pid.pid(payload), (name, named));
        }
    }
    let next = fields.next_pid.pid(payload);
    if next == 0 {
        return;
    }
    let name = brush.canvas.names.task(next, &fields.next_comm.comm(payload));
    row.open(brush.canvas, ns, brush.category(Category::Task), Open::Task, name);
    if !suspended.tasks.is_empty()
        && let Some((name, named)) = suspended.tasks.remove(&next)
    {
        brush.canvas.truth(NameId::CONTINUED, true);
        let category = brush.category(Category::Syscall);
        row.open(brush.canvas, ns, category, Open::Syscall { name, named }, name);
    }
}
