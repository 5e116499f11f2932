//! From bytes to records: everything that knows a file format, and nothing that knows what a VM is.
//!
//! A [`Capture`] is what one kernel recorded: metadata, the event formats, and one or more [`Buffer`]s (the top
//! buffer and ftrace instances), each with a [`Stream`] per CPU. A stream is read in *chunks* that can be decoded in
//! any order and in parallel; within a stream, chunk order and record order are recording order.

pub mod archive;
pub mod bytes;
mod cpu_runs;
pub mod event_format;
pub mod kallsyms;
pub mod limits;
mod open;
pub mod perf_data;
pub mod perfetto;
pub mod raw_pages;
pub mod ring_buffer;
pub mod source;
pub mod text;
pub mod trace_dat;
pub mod tracefs;
pub mod tree;

pub use open::{Content, content, open, open_source, open_source_within, why_not};

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;
use event_format::FormatTable;
use kallsyms::Kallsyms;

/// Byte order of a capture's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endian {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// The clock of a ring buffer, from `trace_clock` or the BUFFER option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Raw TSC cycles: `x86-tsc`, and trace-cmd's `tsc2nsec`, whose pages hold cycles too.
    X86Tsc,
    /// Any other clock by its kernel name: `local`, `global`, `mono`, `boot`, …
    Other(String),
}

/// How to turn TSC cycles into nanoseconds: `ns = cycles * mult >> shift` (the TSC2NSEC option).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tsc2Nsec {
    /// Multiplier.
    pub mult: u32,
    /// Right shift, at most 63.
    pub shift: u32,
    /// Stored by trace-cmd, zero in all known files, never applied by it.
    pub offset: u64,
}

/// One sample of a guest's clock against the host's (TIME_SHIFT option), as stored: trace-cmd's sign,
/// `host = guest + offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShiftSample {
    /// The guest's raw clock when the sample was taken.
    pub time: u64,
    /// What trace-cmd adds to a guest stamp. The negated KVM offset for the `kvm` protocol.
    pub offset: i64,
    /// TSC scaling ratio with `fraction_bits` fraction bits; 1 with 0 bits means none.
    pub scaling: u64,
    /// Fraction bits of `scaling`; `None` where the file's block of fractions cannot be trusted.
    pub fraction_bits: Option<u8>,
}

/// The TIME_SHIFT option of a guest's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeShift {
    /// TRACEID of the host's file.
    pub peer_trace_id: u64,
    /// Whether the protocol asks to interpolate between samples (`ptp`) or not (`kvm`).
    pub interpolate: bool,
    /// Samples per vCPU, in vCPU order. A single list from trace-cmd 2.9 (all CPUs) is repeated by nobody: it stands
    /// alone with `all_cpus`.
    pub vcpus: Vec<Vec<ShiftSample>>,
    /// The one list holds for all CPUs.
    pub all_cpus: bool,
}

/// A GUEST option of a host's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestOption {
    /// VM name; empty after `trace-cmd attach`.
    pub name: String,
    /// TRACEID of the guest's file.
    pub trace_id: u64,
    /// (vCPU index, host thread id) pairs.
    pub vcpus: Vec<(u32, i32)>,
}

/// The kernel's own counters of one ring buffer CPU (`per_cpu/cpuN/stats`, CPUSTAT option).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Buffer (instance) name, empty for the top one.
    pub buffer: String,
    /// CPU number.
    pub cpu: u32,
    /// Events overwritten before they were read.
    pub overrun: u64,
    /// Events dropped because the buffer was full.
    pub dropped: u64,
    /// Events still in the kernel when the recording ended.
    pub entries: u64,
}

/// Everything a capture says about itself apart from events.
#[derive(Clone, Debug, Default)]
pub struct CaptureInfo {
    /// What the input is, in words for a person: "trace.dat version 7, zstd".
    pub kind: String,
    /// `Linux nodename release machine` where recorded.
    pub uname: Option<String>,
    /// TRACEID.
    pub trace_id: Option<u64>,
    /// GUEST options.
    pub guests: Vec<GuestOption>,
    /// TIME_SHIFT option.
    pub time_shift: Option<TimeShift>,
    /// TSC2NSEC option.
    pub tsc2nsec: Option<Tsc2Nsec>,
    /// How many TSC cycles a stamp may stand for, of which it is the first; 0 where stamps are what was read.
    pub stamp_cycles: u64,
    /// Nanoseconds that the DATE option adds to get wall-clock time.
    pub date_ns: Option<u64>,
    /// OFFSET option: what trace-cmd adds to every stamp after conversion.
    pub ts_offset: Option<i64>,
    /// Saved command lines: thread id and comm, as the kernel last knew them.
    pub cmdlines: Vec<(i32, Box<str>)>,
    /// Saved thread groups: thread id and process id (tracefs `saved_tgids`).
    pub tgids: Vec<(i32, i32)>,
    /// `printk_formats`: address and format, for events that refer to a string by address.
    pub printk_formats: Vec<(u64, Box<str>)>,
    /// The kernel's functions by address.
    pub kallsyms: Option<Arc<Kallsyms>>,
    /// Kernel counters per buffer and CPU.
    pub cpu_stats: Vec<CpuStats>,
    /// What a Perfetto trace holds beyond its events, where the input is one.
    pub perfetto: Option<Arc<perfetto::Native>>,
    /// CPUs of the machine, 0 where unknown.
    pub cpu_count: u32,
    /// What is odd about the file, one sentence each; damage that cost data is in `damaged`.
    pub warnings: Vec<String>,
    /// What of the input was damaged, cut short or skipped, one sentence each (exit code 3).
    pub damaged: Vec<String>,
}

/// What one kernel recorded.
pub struct Capture {
    /// The file or directory it came from.
    pub path: PathBuf,
    /// Byte order of the data.
    pub endian: Endian,
    /// Metadata.
    pub info: CaptureInfo,
    /// The event formats; a record's `event` is an index into it.
    pub formats: Arc<FormatTable>,
    /// Top buffer first, then instances by name.
    pub buffers: Vec<Buffer>,
}

/// One ring buffer: the top one or an instance.
pub struct Buffer {
    /// Instance name, empty for the top buffer.
    pub name: String,
    /// The clock of its stamps.
    pub clock: Clock,
    /// Streams by ascending CPU number; only CPUs that have data.
    pub streams: Vec<Stream>,
}

/// The records of one CPU of one buffer, in recording order, in chunks.
pub struct Stream {
    /// CPU number in the machine that recorded.
    pub cpu: u32,
    /// Where the chunks come from.
    pub source: Box<dyn ChunkSource>,
}

/// A stream's chunks. Implementations decode a chunk without knowing its neighbours.
pub trait ChunkSource: Send + Sync {
    /// How many chunks there are.
    fn chunks(&self) -> usize;

    /// Reads and decodes chunk `index` into `chunk`, whose buffers are reused.
    ///
    /// Damage inside a chunk costs what it hits, is noted in `chunk.damage`, and is no error. An error means that the
    /// file cannot be read.
    fn read(&self, index: usize, chunk: &mut Chunk) -> Result<()>;
}

/// Damage is described for this many places per chunk; the rest is counted.
const DESCRIBED: usize = 16;

/// A decoded chunk.
#[derive(Default)]
pub struct Chunk {
    /// Payload bytes; records point into it.
    pub data: Vec<u8>,
    /// Records in recording order.
    pub records: Vec<Record>,
    /// Losses that the recording itself reports.
    pub lost: Vec<Lost>,
    /// Damage found, one sentence each with the file offset; bounded, the rest is only counted.
    pub damage: Vec<String>,
    /// How many damaged sub-buffers or lines there were.
    pub damaged: u64,
    /// Scratch space for compressed bytes.
    pub scratch: Vec<u8>,
}

impl Chunk {
    /// Empties the chunk, keeping its allocations.
    pub fn clear(&mut self) {
        self.data.clear();
        self.records.clear();
        self.lost.clear();
        self.damage.clear();
        self.damaged = 0;
    }

    /// Counts damaged sub-buffers and describes what happened, if not too much is described already.
    fn note_damage(&mut self, damaged: u64, what: impl FnOnce() -> String) {
        self.damaged += damaged;
        if self.damage.len() < DESCRIBED {
            self.damage.push(what());
        }
    }

    /// The payload of a record, from its first common field on.
    #[inline]
    pub fn payload(&self, record: &Record) -> &[u8] {
        let start = record.at as usize;
        self.data.get(start..start + record.len as usize).unwrap_or(&[])
    }
}

/// One event as recorded.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Raw stamp of the buffer's clock.
    pub ts: u64,
    /// Where its payload starts in [`Chunk::data`].
    pub at: u32,
    /// Payload length in bytes; may include up to 7 bytes of padding.
    pub len: u32,
    /// Index into the capture's [`FormatTable`], or [`Record::UNKNOWN`] where the id has no format.
    pub event: u16,
    /// What stood before the event; see the constants.
    pub flags: u8,
}

impl Record {
    /// `event` of a record whose id has no format in the file.
    pub const UNKNOWN: u16 = u16::MAX;
    /// First event of its sub-buffer: its stamp is absolute.
    pub const FIRST: u8 = 1;
    /// A TIME_EXTEND of zero stands before it, not at the start of the sub-buffer: the clock went backwards there, and
    /// this and the later stamps of the sub-buffer continue the old base (the mark is on the first such event only).
    pub const ZERO_EXTEND: u8 = 2;
    /// An absolute time entry stands before it: its stamp does not depend on those before. A run of stale stamps ends.
    pub const ABSOLUTE: u8 = 4;
}

/// Events that the ring buffer lost before a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Index into [`Chunk::records`] of the record before which they were lost; may equal the length.
    pub before: usize,
    /// How many, where the kernel had room to say.
    pub count: Option<u64>,
}
