//! One event with its place.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::{Capture, Certainty, Placed};
use crate::capture::Endian;
use crate::capture::event_format::{EventFormat, Field, PrintContext, Value};
use crate::clock::place::{Piece, PieceKind};
use crate::selection::machine;
use crate::session::{GuestStream, Input};
use crate::time::{GuestTsc, HostTsc, TraceNs};

/// What an iterator's events have in common.
pub(super) struct World<'a> {
    pub(super) capture: &'a Capture,
    /// By lane.
    pub(super) places: Vec<Place<'a>>,
}

/// Where a lane's events come from.
pub(super) struct Place<'a> {
    pub(super) input: usize,
    pub(super) cpu: u32,
    /// `None` for the host's.
    pub(super) stream: Option<&'a GuestStream>,
}

/// Some events, with copies of their payloads.
pub(super) struct Block<'a> {
    pub(super) world: Arc<World<'a>>,
    pub(super) rows: Vec<Row>,
    pub(super) bytes: Vec<u8>,
}

pub(super) struct Row {
    pub(super) ts: HostTsc,
    pub(super) lost: Gap,
    pub(super) at: u32,
    pub(super) len: u32,
    pub(super) lane: u32,
    pub(super) piece: u32,
    pub(super) event: u16,
}

/// Events that the ring buffer of a CPU lost before an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gap {
    /// None that is known of.
    #[default]
    None,
    /// So many.
    Events(u64),
    /// Some; the kernel did not say how many.
    Uncounted,
}

impl Gap {
    /// Both losses together.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, gap) | (gap, Self::None) => gap,
            (Self::Events(a), Self::Events(b)) => Self::Events(a.saturating_add(b)),
            _ => Self::Uncounted,
        }
    }
}

/// Which event of which capture: the same for all that have one [`Event::format`]. For tables by kind that need no
/// comparing of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKind {
    input: u32,
    event: u16,
}

/// An event of the host or of a guest, with its place in host time.
///
/// Cloning is cheap. An event that is kept keeps some hundred kilobytes of its neighbours with it: of many, keep what you
/// need of them.
#[derive(Clone)]
pub struct Event<'a> {
    pub(super) block: Arc<Block<'a>>,
    pub(super) at: usize,
}

impl<'a> Event<'a> {
    fn row(&self) -> &Row {
        // The iterator makes events of rows that there are, and blocks do not change.
        &self.block.rows[self.at]
    }

    fn place(&self) -> &Place<'a> {
        &self.block.world.places[self.row().lane as usize]
    }

    fn input(&self) -> &'a Input {
        &self.block.world.capture.session.inputs[self.place().input]
    }

    fn piece(&self) -> Option<&'a Piece> {
        self.place().stream?.placement.pieces.get(self.row().piece as usize)
    }

    fn payload(&self) -> &[u8] {
        let row = self.row();
        self.block.bytes.get(row.at as usize..).and_then(|rest| rest.get(..row.len as usize)).unwrap_or(&[])
    }

    /// The byte order of the machine that recorded it, for [`Value::elements`].
    pub fn endian(&self) -> Endian {
        self.input().capture.endian
    }

    /// When it happened, on the host's TSC (on machines without one, the clock that host and guests share). Never
    /// before the event before it.
    pub fn host_tsc(&self) -> HostTsc {
        self.row().ts
    }

    /// When it happened, in nanoseconds on the axis of all outputs.
    pub fn time(&self) -> TraceNs {
        self.block.world.capture.session.rate.rate.ns(self.row().ts)
    }

    /// What the guest's TSC read at that moment; `None` for the host's events.
    pub fn guest_tsc(&self) -> Option<GuestTsc> {
        Some(self.piece()?.mapping()?.guest_tsc(self.row().ts))
    }

    /// How far its place can be believed.
    pub fn certainty(&self) -> Certainty {
        let Some(stream) = self.place().stream else {
            return Certainty { placed: Placed::Host, source: None, uncertainty_ns: 0 };
        };
        let session = &self.block.world.capture.session;
        let Some(piece) = self.piece() else {
            return Certainty { placed: Placed::Ambiguous, source: None, uncertainty_ns: u64::MAX };
        };
        let vcpu = stream.vcpu.and_then(|vcpu| session.vms.get(stream.vm)?.vcpus.get(vcpu));
        let segment = vcpu.and_then(|vcpu| vcpu.history.segments.get(piece.segment));
        let whole = session.rate.rate.duration(piece.uncertainty);
        Certainty {
            placed: match piece.kind {
                PieceKind::Plain => Placed::Stamp,
                PieceKind::Repaired => Placed::Repaired,
                PieceKind::Ambiguous | PieceKind::NotPlaced(_) => Placed::Ambiguous,
            },
            source: segment.map(|segment| segment.source),
            uncertainty_ns: if piece.uncertainty == 0 { 0 } else { whole.saturating_add(1) },
        }
    }

    /// Whether the host recorded it.
    pub fn is_host(&self) -> bool {
        self.place().stream.is_none()
    }

    /// Who recorded it: `host`, or the VM's name.
    pub fn machine(&self) -> &'a str {
        machine(&self.block.world.capture.session, self.input().role)
    }

    /// Index of VM and vCPU.
    fn about(&self) -> Option<(usize, usize)> {
        match self.place().stream {
            Some(stream) => Some((stream.vm, stream.vcpu?)),
            None => self.block.world.capture.threads.get(&self.pid()?).copied(),
        }
    }

    /// The VM that it is about: the guest's own, or for a host's event that of the vCPU whose thread recorded it.
    pub fn vm(&self) -> Option<&'a str> {
        let capture: &'a Capture = self.block.world.capture;
        Some(&capture.vcpu_at(self.about()?)?.0.name)
    }

    /// The number of the vCPU in [`Event::vm`] that it is about.
    pub fn vcpu(&self) -> Option<u32> {
        Some(self.block.world.capture.vcpu_at(self.about()?)?.1.number)
    }

    /// The CPU that recorded it: a physical one of the host, or the guest's own number.
    pub fn cpu(&self) -> u32 {
        self.place().cpu
    }

    /// The thread that recorded it, on its machine; 0 is idle.
    pub fn pid(&self) -> Option<i32> {
        self.format().pid(self.payload(), self.endian())
    }

    /// What its CPU's ring buffer lost since the last event of that CPU that was not filtered.
    pub fn lost_before(&self) -> Gap {
        self.row().lost
    }

    /// Its system, such as `sched`.
    pub fn system(&self) -> &'a str {
        &self.format().system
    }

    /// Its name, such as `sched_switch`.
    pub fn name(&self) -> &'a str {
        &self.format().name
    }

    /// Equal for events of one kind.
    pub fn kind(&self) -> EventKind {
        EventKind { input: self.place().input as u32, event: self.row().event }
    }

    /// The kernel's description of it. Events without one have no place, and are not among these.
    pub fn format(&self) -> &'a EventFormat {
        let input: &'a Input = self.input();
        &input.capture.formats.events()[usize::from(self.row().event)]
    }

    /// A field by name, common ones too; `None` where there is none of that name, or where it does not fit into the
    /// record.
    pub fn field(&self, name: &str) -> Option<Value<'_>> {
        self.format().field(name)?.value(self.payload(), self.endian())
    }

    /// A field of [`Event::format`], or of that of another event of the same [`EventKind`]: without looking for its name.
    pub fn read(&self, field: &Field) -> Option<Value<'_>> {
        field.value(self.payload(), self.endian())
    }

    /// A field that is a number, an address or a truth, as 64 bits: sign-extended where its type is signed.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.format().field(name)?.number(self.payload(), self.endian()).map(u64::cast_signed)
    }

    /// A field that is text. What is not UTF-8 in it is replaced.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.field(name)? {
            Value::Text(text) => Some(String::from_utf8_lossy(text)),
            _ => None,
        }
    }

    /// The name that the kernel's print format gives the value of a field, as for the `exit_reason` of `kvm_exit`.
    pub fn symbol(&self, name: &str) -> Option<&str> {
        self.format().symbol(name, self.payload(), self.endian())
    }

    /// Its own fields in the kernel's order, without the common ones.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, Option<Value<'_>>)> {
        let (payload, endian) = (self.payload(), self.endian());
        self.format().fields.iter().map(move |field| (&*field.name, field.value(payload, endian)))
    }

    /// Appends its fields as the kernel's print format shows them.
    pub fn render(&self, out: &mut Vec<u8>) {
        let info = &self.input().capture.info;
        let context = PrintContext { printk: &info.printk_formats, symbols: info.kallsyms.as_deref() };
        self.format().render(self.payload(), self.endian(), &context, out);
    }
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: [{:03}] {} {}:{}", self.machine(), self.cpu(), self.time(), self.system(), self.name())
    }
}

impl fmt::Display for Event<'_> {
    /// The fields as the kernel's print format shows them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        self.render(&mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}
