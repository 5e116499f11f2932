//! What one machine's CPU does, drawn from its own events: a guest's vCPU row, or a Host CPU row.

use super::batch_builder::Canvas;
use super::drawing::{Category, FieldSource};
use super::labels::Labels;
use super::late_rows::{Family, LateRows};
use super::markers::Marker;
use super::names::NameId;
use super::pairs::{Class, Half};
use super::plan::{Function, Kind, Leaving, Plan, Switch, SyscallName, Written};
use super::row::{Closing, Open, Row};
use super::suspended::{Suspended, task};

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

impl Record<'_> {
    fn pid(&self) -> i32 {
        self.plan.pid.map_or(0, |pid| pid.pid(self.payload))
    }
}

/// Where and how a machine's CPU is drawn.
pub(super) struct Brush<'a> {
    pub(super) canvas: &'a mut Canvas,
    pub(super) labels: &'a mut Labels,
    pub(super) late: &'a mut LateRows,
    /// The machine, as [`LateRows`] counts.
    pub(super) machine: u32,
    /// All slices are of category `host`.
    pub(super) host: bool,
    /// For texts.
    pub(super) scratch: &'a mut Vec<u8>,
}

impl Brush<'_> {
    pub(super) fn category(&self, category: Category) -> Category {
        if self.host { Category::Host } else { category }
    }
}

/// Draws an event that shapes the row. Instants and events of other kinds are none of this.
pub(super) fn draw(row: &mut Row, suspended: &mut Suspended, record: Record<'_>, brush: &mut Brush<'_>) {
    let Record { ns, payload, .. } = record;
    match record.plan.kind {
        Kind::Switch(fields) => {
            row.end_calls(brush.canvas);
            let dead = fields.prev_state.get(payload) == Leaving::Dead;
            leave(row, suspended, fields.prev_pid.pid(payload), dead, ns, brush.canvas);
            arrive(row, suspended, &fields, record, brush);
            return;
        }
        Kind::Call(call) => {
            prepare(row, suspended, record, brush.canvas);
            let address = |num: super::accessor::Num| num.get(payload).unwrap_or(0);
            let names = &mut brush.canvas.names;
            let name = brush.labels.function(NameId::EMPTY, address(call.callee), names);
            let parent = brush.labels.function(NameId::EMPTY, address(call.caller), names);
            row.call(brush.canvas, ns, name, parent);
            return;
        }
        _ => {}
    }
    prepare(row, suspended, record, brush.canvas);
    match record.plan.kind {
        Kind::Half(half) => draw_half(row, suspended, half, record, brush),
        Kind::SyscallEnter(name) => {
            let (name, named) = match name {
                SyscallName::Id(id) => {
                    (brush.labels.syscall(id.get(payload).unwrap_or(u64::MAX), &mut brush.canvas.names), false)
                }
                SyscallName::Named(name) => (name, true),
            };
            enter(row, name, named, ns, brush.canvas);
        }
        Kind::SyscallExit => {
            let is = |open: &Open| matches!(open, Open::Syscall { .. });
            match row.stack().iter().rposition(is) {
                // The kernel's way out is a function inside the syscall that lasts longer.
                Some(index) => row.close_around(brush.canvas, ns, index, outlasts_syscall, |_| ()),
                None => suspended.end(task(record.pid(), row.track.0), is),
            }
        }
        Kind::FunctionEntry(function) => function_entry(row, function, record, brush),
        Kind::FunctionExit(function) => function_exit(row, suspended, function, record, brush.canvas),
        _ => {}
    }
}

/// Draws what an event says about what was before it. To be done before arguments and flows of its slice are gathered.
///
/// Where no context switch was recorded, an event of another task says that there was one.
pub(super) fn prepare(row: &mut Row, suspended: &mut Suspended, record: Record<'_>, canvas: &mut Canvas) {
    if !matches!(record.plan.kind, Kind::Call(_)) {
        row.end_calls(canvas);
    }
    let pid = record.pid();
    if row.scheduled || row.pid == Some(pid) || matches!(record.plan.kind, Kind::Switch(_)) {
        return;
    }
    if let Some(before) = row.pid {
        leave(row, suspended, before, false, record.ns, canvas);
    }
    row.pid = Some(pid);
    resume(row, suspended, pid, record.ns, canvas);
}

/// A task leaves: what it is in the middle of goes on when it runs again.
pub(super) fn leave(row: &mut Row, suspended: &mut Suspended, pid: i32, dead: bool, ns: u64, canvas: &mut Canvas) {
    if !dead && row.stack().len() > usize::from(row.stack().first() == Some(&Open::Task)) {
        suspended.keep(task(pid, row.track.0), row.stack());
    }
    row.close_to(canvas, ns, 0);
}

/// The next task runs.
fn arrive(row: &mut Row, suspended: &mut Suspended, fields: &Switch, record: Record<'_>, brush: &mut Brush<'_>) {
    let Record { ns, payload, .. } = record;
    let next = fields.next_pid.pid(payload);
    if next != 0 {
        let name = brush.canvas.names.task(next, &fields.next_comm.comm(payload));
        row.open(brush.canvas, ns, brush.category(Category::Task), Open::Task, name);
    }
    arrived(row, suspended, next, ns, brush.canvas);
}

/// A context switch says that this task runs now; its own slice is open.
pub(super) fn arrived(row: &mut Row, suspended: &mut Suspended, pid: i32, ns: u64, canvas: &mut Canvas) {
    (row.pid, row.scheduled) = (Some(pid), true);
    resume(row, suspended, pid, ns, canvas);
}

fn resume(row: &mut Row, suspended: &mut Suspended, pid: i32, ns: u64, canvas: &mut Canvas) {
    if suspended.is_empty() {
        return;
    }
    if let Some(list) = suspended.take(task(pid, row.track.0)) {
        for &open in &list {
            row.resume(canvas, ns, open);
        }
        suspended.recycle(list);
    }
}

/// Draws half of a slice.
fn draw_half(row: &mut Row, suspended: &mut Suspended, half: Half, record: Record<'_>, brush: &mut Brush<'_>) {
    let Record { ns, payload, .. } = record;
    match half {
        Half::Begin { pair, key, label, class, .. } => {
            let name = brush.labels.name(label, record.formats, record.event, payload, &mut brush.canvas.names);
            if class == Class::Other {
                brush.canvas.fields(record.source, record.event, payload);
            }
            let category = brush.category(class.category());
            let open = Open::Pair { pair, key: key.get(payload), name, interrupt: class.interrupts() };
            row.open(brush.canvas, ns, category, open, name);
        }
        Half::End { pair, key, .. } => {
            let key = key.get(payload);
            let is = |open: &Open| matches!(*open, Open::Pair { pair: p, key: k, .. } if (p, k) == (pair, key));
            if !row.close_where(brush.canvas, ns, is) {
                suspended.end(task(record.pid(), row.track.0), is);
            }
        }
    }
}

/// Draws half of a request. Returns false where it is to be drawn as an instant.
pub(super) fn draw_request(half: Half, record: Record<'_>, brush: &mut Brush<'_>) -> bool {
    let Record { ns, payload, .. } = record;
    match half {
        Half::Begin { pair, key, label, class, row } => {
            let name = brush.labels.name(label, record.formats, record.event, payload, &mut brush.canvas.names);
            let family = Family::Pair { source: record.source, pair };
            let key = (brush.machine, family, key.get(payload));
            brush.canvas.fields(record.source, record.event, payload);
            let category = brush.category(class.category());
            let drawn = brush.late.start(brush.canvas, key, ns, category, (row, name));
            if !drawn {
                brush.canvas.discard();
            }
            drawn
        }
        Half::End { pair, key, .. } => {
            let family = Family::Pair { source: record.source, pair };
            brush.late.finish(brush.canvas, (brush.machine, family, key.get(payload)), ns, Closing::Over)
        }
    }
}

fn enter(row: &mut Row, name: NameId, named: bool, ns: u64, canvas: &mut Canvas) {
    let open = row.stack().iter().find_map(|open| match *open {
        Open::Syscall { named, .. } => Some(named),
        _ => None,
    });
    match open {
        // Both raw_syscalls and the syscall's own event were recorded: the first one is drawn.
        Some(drawn) if drawn != named => return,
        // A syscall that never returns, or whose end is missing.
        Some(_) => _ = row.close_where(canvas, ns, |open| matches!(open, Open::Syscall { .. })),
        // A syscall is never inside an interrupt or other work: whatever is open there has lost its end. Only the kernel's
        // way into the syscall may be around it, as functions, and what the program marked.
        None => {
            let lost = row.stack().iter().position(|open| matches!(open, Open::Pair { .. }));
            if let Some(index) = lost {
                row.close_to(canvas, ns, index);
            }
        }
    }
    row.open(canvas, ns, Category::Syscall, Open::Syscall { name, named }, name);
}

fn outlasts_syscall(open: &Open) -> bool {
    matches!(open, Open::Function { .. } | Open::Marker { .. })
}

fn outlasts_function(open: &Open) -> bool {
    matches!(open, Open::Syscall { .. } | Open::Marker { .. })
}

fn function_entry(row: &mut Row, function: Function, record: Record<'_>, brush: &mut Brush<'_>) {
    let Record { ns, payload, .. } = record;
    let address = function.address.get(payload).unwrap_or(0);
    let depth = function.depth.get(payload).unwrap_or(0);
    // Right after a context switch, functions still run as the old task, whose depth is not that of the new one.
    if row.pid == Some(record.pid()) {
        // A function as deep as this one, or deeper, has returned unseen.
        let returned = |open: &Open| matches!(*open, Open::Function { depth: other, .. } if other >= depth);
        while let Some(index) = row.stack().iter().position(returned) {
            row.close_around(brush.canvas, ns, index, outlasts_function, |_| ());
        }
    }
    let name = brush.labels.function(NameId::EMPTY, address, &mut brush.canvas.names);
    let category = brush.category(Category::Function);
    row.open(brush.canvas, ns, category, Open::Function { address, depth, name }, name);
}

fn function_exit(
    row: &mut Row,
    suspended: &mut Suspended,
    function: Function,
    record: Record<'_>,
    canvas: &mut Canvas,
) {
    let payload = record.payload;
    let func = function.address.get(payload).unwrap_or(0);
    let is = |open: &Open| matches!(*open, Open::Function { address, .. } if address == func);
    let Some(index) = row.stack().iter().rposition(is) else {
        return suspended.end(task(record.pid(), row.track.0), is);
    };
    let (call, ret) = function.times.map_or((None, None), |(call, ret)| (call.get(payload), ret.get(payload)));
    row.close_around(canvas, record.ns, index, outlasts_function, |canvas| {
        if let Some(lasted) = ret.zip(call).and_then(|(ret, call)| ret.checked_sub(call)) {
            canvas.uint(NameId::FUNCTION_NS, lasted);
        }
    });
}

/// Draws what somebody wrote into the trace. `Some` is the name of an instant to be drawn for it.
pub(super) fn draw_marker(
    row: &mut Row,
    suspended: &mut Suspended,
    written: Written,
    record: Record<'_>,
    brush: &mut Brush<'_>,
) -> Option<NameId> {
    let Record { ns, payload, .. } = record;
    prepare(row, suspended, record, brush.canvas);
    let text = match written {
        Written::Here(text) => text.get(payload),
        Written::Printf => {
            render(record, brush.scratch);
            brush.scratch.as_slice()
        }
    };
    let names = &mut brush.canvas.names;
    let mut named = |text: &[u8]| names.intern_some(&text[..text.len().min(MAX_NAME)]);
    match Marker::parse(text) {
        Marker::Begin(text) => {
            let name = named(text);
            if name.is_none() || text.len() > MAX_NAME {
                brush.canvas.fields(record.source, record.event, payload);
            }
            let name = name.unwrap_or(NameId::A_MARKER);
            // It begins inside the syscall that writes it, and lasts longer: it is drawn around.
            let outside = row.stack().iter().rposition(|open| matches!(open, Open::Task | Open::Marker { .. }));
            let outside = outside.map_or(0, |index| index + 1);
            let interrupted = row.stack().iter().skip(outside).any(Open::is_interrupt);
            let index = if interrupted { row.stack().len() } else { outside };
            row.open_around(brush.canvas, ns, index, Category::Marker, Open::Marker { name }, name);
            None
        }
        Marker::End => {
            let is = |open: &Open| matches!(open, Open::Marker { .. });
            match row.stack().iter().rposition(is) {
                Some(index) => row.close_around(brush.canvas, ns, index, |_| true, |_| ()),
                None => suspended.end(task(record.pid(), row.track.0), is),
            }
            None
        }
        Marker::Counter { pid, name, value } => {
            let Some(name) = named(name) else { return Some(NameId::A_MARKER) };
            let drawn = brush.late.counter(brush.canvas, (brush.machine, pid, name), ns, value);
            (!drawn).then_some(name)
        }
        Marker::Start { pid, track, name, cookie } => {
            let Some((track, name)) = named(track).zip(named(name)) else { return Some(NameId::A_MARKER) };
            let key = (brush.machine, Family::Marked { pid, track }, cookie);
            let category = brush.category(Category::Marker);
            let drawn = brush.late.start(brush.canvas, key, ns, category, (track, name));
            (!drawn).then_some(name)
        }
        Marker::Finish { pid, track, cookie } => {
            let Some(track) = named(track) else { return Some(NameId::A_MARKER) };
            let key = (brush.machine, Family::Marked { pid, track }, cookie);
            brush.late.finish(brush.canvas, key, ns, Closing::Over);
            None
        }
        Marker::Instant([]) => Some(record.plan.name),
        Marker::Instant(text) => Some(named(text).unwrap_or(NameId::A_MARKER)),
    }
}

/// The longest name of a marker; the whole text is in the arguments of an instant.
const MAX_NAME: usize = 128;

/// The text of a record as the kernel prints it.
fn render(record: Record<'_>, out: &mut Vec<u8>) {
    out.clear();
    if let Some(format) = record.formats.formats.get(record.event) {
        format.render(record.payload, record.formats.endian, &record.formats.context(), out);
    }
}
