//! What the timeline hands to an exporter: tracks that are known beforehand, then batches of drawn items.

use std::ops::Range;
use std::sync::Arc;

use crate::capture::Endian;
use crate::capture::event_format::{FormatTable, PrintContext};
use crate::capture::kallsyms::Kallsyms;
use crate::time::TraceNs;
use crate::timeline::native::{Native, NativeEvent};

/// Index into [`World::tracks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u32);

/// Index into the strings of one [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StringId(pub u32);

/// Who a track belongs to (Chrome JSON: which process).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The host.
    Host,
    /// A VM, index into [`World::vms`].
    Vm(u32),
}

/// What a track shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackKind {
    /// A heading without data of its own.
    Group,
    /// A physical CPU.
    HostCpu,
    /// A VM's vCPU: the row that people look at.
    Vcpu,
    /// What the host did with the vCPU's thread.
    HostState,
    /// Guest events as instants.
    Events,
    /// Offset segments. Not in Chrome JSON.
    TscOffset,
    /// A counter, and the process that counts.
    Counter {
        /// The process, in its own machine.
        pid: Option<i32>,
    },
    /// One of several rows of one name, over which slices are spread that would overlap.
    Overlapping,
}

/// A row of the picture.
#[derive(Clone, Debug)]
pub struct Track {
    /// The row above it, if it is nested.
    pub parent: Option<TrackId>,
    /// Shown name: complete by itself, as pinned rows lose their parents.
    pub name: String,
    /// Help text; may be empty.
    pub description: String,
    /// What it shows.
    pub kind: TrackKind,
    /// Whose it is.
    pub owner: Owner,
    /// Nothing is ever drawn on it, and exporters leave it out: a vCPU that the user does not want to see.
    pub hidden: bool,
}

/// A VM as an exporter sees it.
#[derive(Clone, Debug)]
pub struct VmInfo {
    /// Shown name.
    pub name: String,
    /// The VM's process, where known.
    pub pid: Option<u32>,
}

/// Formats of one capture, for arguments that are drawn from a record's own fields.
#[derive(Clone)]
pub struct FieldSource {
    /// The capture's event formats.
    pub formats: Arc<FormatTable>,
    /// The capture's byte order.
    pub endian: Endian,
    /// The kernel's functions by address.
    pub symbols: Option<Arc<Kallsyms>>,
    /// `printk_formats`, sorted by address.
    pub printk: Arc<[(u64, Box<str>)]>,
}

impl FieldSource {
    /// Formats alone: addresses are shown as numbers.
    pub fn new(formats: Arc<FormatTable>, endian: Endian) -> Self {
        Self { formats, endian, symbols: None, printk: Arc::default() }
    }

    /// What print formats may refer to.
    pub fn context(&self) -> PrintContext<'_> {
        PrintContext { printk: &self.printk, symbols: self.symbols.as_deref() }
    }
}

/// Everything an exporter may need that does not change while items stream by.
pub struct World {
    /// All rows, parents before children, in the order in which they are shown.
    pub tracks: Vec<Track>,
    /// All VMs.
    pub vms: Vec<VmInfo>,
    /// One per capture; [`Arg::Fields`] and [`Arg::Rendered`] refer to it by index.
    pub sources: Vec<FieldSource>,
    /// The earliest time that may be drawn. Chrome JSON counts from here.
    pub start: TraceNs,
    /// Wall-clock time (nanoseconds since 1970) at a trace time, where the host capture knows it.
    pub wall_clock: Option<(TraceNs, u64)>,
    /// The machines, where there is a native layer.
    pub native: Option<Native>,
    /// Facts about the conversion (tool version, TSC rate and its source, offset segments): Chrome JSON's `metadata`.
    pub metadata: serde_json::Value,
}

/// How an item is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A slice begins.
    Begin,
    /// The innermost open slice of the track ends.
    End,
    /// A moment.
    Instant,
    /// A counter's new value.
    Counter(f64),
}

/// A slice's category; fixed names that SQL and colours rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// No category.
    None,
    /// A guest task.
    Task,
    /// A guest syscall.
    Syscall,
    /// A guest irq, softirq or hrtimer.
    Irq,
    /// A guest event drawn as an instant, or a pair of them as a slice.
    Event,
    /// The vCPU is in guest mode.
    Guest,
    /// The vCPU is in the host because of a VM exit.
    Exit,
    /// The vCPU's thread is off its CPU.
    OffCpu,
    /// A TSC offset segment.
    Offset,
    /// Anything on a Host CPU row.
    Host,
    /// A function of the guest's kernel.
    Function,
    /// What a guest's program marked by itself.
    Marker,
}

impl Category {
    /// The name in the output; `None` draws no category.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::None => return None,
            Self::Task => "task",
            Self::Syscall => "syscall",
            Self::Irq => "irq",
            Self::Event => "event",
            Self::Guest => "guest",
            Self::Exit => "exit",
            Self::OffCpu => "off-cpu",
            Self::Offset => "offset",
            Self::Host => "host",
            Self::Function => "function",
            Self::Marker => "marker",
        })
    }
}

/// Slices that share a correlation id share a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correlation {
    /// Coloured by name.
    None,
    /// `off-cpu`.
    OffCpu,
    /// `halted`.
    Halted,
}

/// One drawn item. Items of a track come in time order, except that a finished slice may be handed over as a
/// Begin/End pair after later-stamped items of *other* depth have gone by; equal times keep hand-over order.
#[derive(Clone, Debug)]
pub struct Item {
    /// When.
    pub ts: TraceNs,
    /// Where.
    pub track: TrackId,
    /// How.
    pub shape: Shape,
    /// Its category; `Begin` and `Instant` only.
    pub category: Category,
    /// Its colour group; `Begin` only.
    pub correlation: Correlation,
    /// Its name in [`Batch::strings`]; `Begin` and `Instant` only.
    pub name: StringId,
    /// Its arguments in [`Batch::args`].
    pub args: Range<u32>,
    /// Flow ids in [`Batch::flows`]; the earliest slice with an id is the arrow's tail.
    pub flows: Range<u32>,
}

/// An argument of an item.
#[derive(Clone, Debug)]
pub enum Arg {
    /// An unsigned number. Values from 2^63 on are shown as hexadecimal text.
    Uint(StringId, u64),
    /// A signed number.
    Int(StringId, i64),
    /// A number shown as hexadecimal text, `0x…`.
    Hex(StringId, u64),
    /// A truth.
    Bool(StringId, bool),
    /// A text from the batch's strings (worth interning).
    Name(StringId, StringId),
    /// A text of its own, a range of [`Batch::bytes`]; not always UTF-8.
    Text(StringId, Range<u32>),
    /// All fields of a record except the common ones, each an argument of its own name and type.
    Fields {
        /// Index into [`World::sources`].
        source: u16,
        /// Index into the source's format table.
        event: u16,
        /// The payload, a range of [`Batch::bytes`].
        payload: Range<u32>,
    },
    /// One argument whose text is the record as the kernel's print format renders it.
    Rendered {
        /// The argument's name.
        key: StringId,
        /// Index into [`World::sources`].
        source: u16,
        /// Index into the source's format table.
        event: u16,
        /// The payload, a range of [`Batch::bytes`].
        payload: Range<u32>,
    },
}

/// Marks a flow id in [`Batch::flows`] where an arrow arrives: its tail is an earlier item. It is no part of the id. Arrows
/// between a stall mark and who ran instead are without: there the earlier of the two is the tail.
pub const ARRIVES: u64 = 1 << 63;

/// A run of drawn items that can be encoded without its neighbours.
#[derive(Default)]
pub struct Batch {
    /// Items in hand-over order.
    pub items: Vec<Item>,
    /// Arguments, shared by range.
    pub args: Vec<Arg>,
    /// Flow ids, shared by range; with [`ARRIVES`] where the arrow ends here or goes on from here.
    pub flows: Vec<u64>,
    /// Every string that the batch uses, once: [`StringId`] indexes `string_ends`.
    pub strings: StringTable,
    /// Payloads and texts.
    pub bytes: Vec<u8>,
    /// Events of the native layer, in time order per CPU.
    pub native: Vec<NativeEvent>,
    /// Payloads of the native layer.
    pub records: Vec<u8>,
    /// The tracks that the batch uses and [`World::tracks`] does not hold, parents before children.
    pub tracks: Vec<LateTrack>,
}

/// A track that was not known before the first event. Its number is beyond those of [`World::tracks`].
#[derive(Clone, Debug)]
pub struct LateTrack {
    /// Its number, the same in all batches.
    pub id: TrackId,
    /// What it is.
    pub track: Arc<Track>,
    /// No batch before this one has it.
    pub new: bool,
}

impl Batch {
    /// Empties the batch, keeping its allocations.
    pub fn clear(&mut self) {
        self.clear_overlay();
        self.native.clear();
        self.records.clear();
    }

    /// Empties all but the native layer.
    pub(super) fn clear_overlay(&mut self) {
        self.items.clear();
        self.args.clear();
        self.flows.clear();
        self.strings.text.clear();
        self.strings.ends.clear();
        self.bytes.clear();
        self.tracks.clear();
    }
}

/// Strings laid end to end.
#[derive(Default)]
pub struct StringTable {
    text: Vec<u8>,
    ends: Vec<u32>,
}

impl StringTable {
    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Appends a string and returns its id. Does not look for an equal one.
    pub fn push(&mut self, text: &[u8]) -> StringId {
        self.text.extend_from_slice(text);
        self.ends.push(self.text.len() as u32);
        StringId(self.ends.len() as u32 - 1)
    }

    /// The text of a string; empty for an id that was never given out.
    pub fn get(&self, id: StringId) -> &[u8] {
        let index = id.0 as usize;
        let Some(&end) = self.ends.get(index) else { return &[] };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start as usize..end as usize]
    }
}

/// An output format. Timeline knows nothing else of output.
///
/// [`Exporter::batch`] is called from many threads; what it writes depends on the batch and its number alone, so that
/// the output is the same for any number of threads.
pub trait Exporter: Send + Sync {
    /// What stands before the first batch.
    fn header(&self, world: &World, out: &mut Vec<u8>);
    /// Encodes one batch; `number` counts from 0 in output order.
    fn batch(&self, world: &World, number: u64, batch: &Batch, out: &mut Vec<u8>);
    /// What stands after the last batch.
    fn footer(&self, world: &World, out: &mut Vec<u8>);
}
