//! The packets of a trace, front to back: a run of field 1, each a `TracePacket`.

use std::sync::Arc;

use super::wire::{Fields, Value, tag, varint};
use crate::capture::limits::{Limit, Limits};
use crate::capture::source::ReadAt;
use crate::error::{Error, ErrorKind, Result};

/// How much is fetched at once.
const WINDOW: u64 = 1 << 20;
/// The first byte of a packet: field 1, length-delimited.
pub(super) const MARK: u8 = 0x0a;
/// Most bytes before a packet's own: mark and length.
const MAX_HEAD: usize = 11;

/// One packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// Where its mark stands.
    pub(super) at: u64,
    /// Bytes of mark, length and message.
    pub(super) size: u64,
    /// Its fields.
    pub(super) body: &'a [u8],
}

/// Reads the packets of a file.
pub(super) struct Packets {
    source: Arc<dyn ReadAt>,
    /// Packets beyond this size are stepped over; those with events are a few hundred KiB at most.
    most: u64,
    position: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Why nothing more is read, where that is not the end.
    pub(super) broken: Option<String>,
    /// Packets that were stepped over because of their size.
    pub(super) too_large: u64,
}

/// What stands at a place.
enum Next {
    /// A packet: bytes before its fields, and of these.
    Packet(usize, u64),
    /// A field of `Trace` that is no packet: its bytes, with its tag.
    Other(u64),
    /// Nothing that makes sense.
    Nonsense,
}

impl Packets {
    pub(super) fn new(source: Arc<dyn ReadAt>, limits: &Limits) -> Self {
        let end = source.len();
        let most = limits.get(Limit::Packet);
        Self { source, most, position: 0, end, window: Vec::new(), window_at: 0, broken: None, too_large: 0 }
    }

    /// The end of what has been read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next packet; `None` at the end, or where nothing makes sense any more: then `broken` says so.
    ///
    /// # Errors
    /// Where reading fails.
    pub(super) fn next(&mut self) -> Result<Option<Packet<'_>>> {
        loop {
            let (at, left) = (self.position, self.end.saturating_sub(self.position));
            if left == 0 || self.broken.is_some() {
                return Ok(None);
            }
            self.fill(MAX_HEAD.min(usize::try_from(left).unwrap_or(MAX_HEAD)))?;
            let (head, length) = match next(self.ahead()) {
                Next::Packet(head, length) => (head, length),
                Next::Other(size) if size <= left => {
                    self.position += size;
                    continue;
                }
                _ => {
                    self.broken = Some(format!("what stands at byte {at:#x} is no packet; {left} bytes are skipped"));
                    return Ok(None);
                }
            };
            let size = length.saturating_add(head as u64);
            if size > left {
                self.broken = Some(format!("the packet at byte {at:#x} needs {size} bytes, {left} are left"));
                return Ok(None);
            }
            self.position += size;
            if length > self.most {
                self.too_large += 1;
                continue;
            }
            self.position = at;
            self.fill(size as usize)?;
            self.position = at + size;
            let skip = at.saturating_sub(self.window_at) as usize;
            let body = self.window.get(skip + head..skip + size as usize).unwrap_or(&[]);
            return Ok(Some(Packet { at, size, body }));
        }
    }

    fn ahead(&self) -> &[u8] {
        let skip = self.position.saturating_sub(self.window_at);
        usize::try_from(skip).ok().and_then(|skip| self.window.get(skip..)).unwrap_or(&[])
    }

    fn fill(&mut self, needed: usize) -> Result<()> {
        if self.ahead().len() >= needed {
            return Ok(());
        }
        let count = self.end.saturating_sub(self.position).min(WINDOW.max(needed as u64)) as usize;
        self.window.resize(count, 0);
        self.window_at = self.position;
        self.source
            .read_exact_at(&mut self.window, self.position)
            .map_err(|error| Error::new(ErrorKind::Io, format!("cannot read packets: {error}")).at(self.position))
    }
}

fn next(ahead: &[u8]) -> Next {
    let mut rest = ahead;
    let Some((field, kind)) = tag(&mut rest) else { return Next::Nonsense };
    let before = ahead.len() - rest.len();
    let sized = |size: u64| Next::Other(size.saturating_add(before as u64));
    match kind {
        0 if varint(&mut rest).is_some() => sized((ahead.len() - before - rest.len()) as u64),
        1 => sized(8),
        5 => sized(4),
        2 => match varint(&mut rest) {
            Some(length) if field == 1 => Next::Packet(ahead.len() - rest.len(), length),
            Some(length) => sized(length.saturating_add((ahead.len() - before - rest.len()) as u64)),
            None => Next::Nonsense,
        },
        _ => Next::Nonsense,
    }
}

/// The whole packets at the start of `bytes`, which stand at `at`.
pub(super) fn whole(bytes: &[u8], at: u64) -> impl Iterator<Item = Packet<'_>> {
    let mut position = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = bytes.get(position..).filter(|rest| !rest.is_empty())?;
            let (head, length) = match next(rest) {
                Next::Packet(head, length) => (head, usize::try_from(length).ok()?),
                Next::Other(size) => {
                    position = position.checked_add(usize::try_from(size).ok()?)?;
                    continue;
                }
                Next::Nonsense => return None,
            };
            let size = head.checked_add(length)?;
            let body = rest.get(head..size)?;
            let packet = Packet { at: at + position as u64, size: size as u64, body };
            position += size;
            return Some(packet);
        }
    })
}

/// Fields of `TracePacket`.
pub(super) mod field {
    pub(in crate::capture::perfetto) const FTRACE_EVENTS: u32 = 1;
    pub(in crate::capture::perfetto) const PROCESS_TREE: u32 = 2;
    pub(in crate::capture::perfetto) const CLOCK_SNAPSHOT: u32 = 6;
    pub(in crate::capture::perfetto) const SEQUENCE: u32 = 10;
    pub(in crate::capture::perfetto) const FTRACE_STATS: u32 = 34;
    pub(in crate::capture::perfetto) const SYSTEM_INFO: u32 = 45;
    pub(in crate::capture::perfetto) const COMPRESSED: u32 = 50;
    pub(in crate::capture::perfetto) const TRACK_DESCRIPTOR: u32 = 60;
    pub(in crate::capture::perfetto) const MACHINE: u32 = 98;
    pub(in crate::capture::perfetto) const TRACE_ATTRIBUTES: u32 = 126;
    pub(in crate::capture::perfetto) const ZSTD_COMPRESSED: u32 = 133;
}

/// The highest field of `TracePacket` that a first packet is believed to have; the tests of Perfetto itself use 900 and
/// beyond.
const LIKELY: u32 = 1_000;

/// Fields that a packet in which they stand shows to be one, and whether they are numbers.
const TELLING: [(u32, bool); 14] = [
    (field::FTRACE_EVENTS, false),
    (field::PROCESS_TREE, false),
    // The user who wrote the packet.
    (3, true),
    (field::CLOCK_SNAPSHOT, false),
    // Its time.
    (8, true),
    (field::SEQUENCE, true),
    // A track event.
    (11, false),
    // The configuration.
    (33, false),
    (field::SYSTEM_INFO, false),
    (field::COMPRESSED, false),
    (field::TRACK_DESCRIPTOR, false),
    // The trace's UUID.
    (89, false),
    (field::TRACE_ATTRIBUTES, false),
    (field::ZSTD_COMPRESSED, false),
];

/// Whether a file that starts with `first` is a run of packets: each field of each packet that is there must make sense.
pub(super) fn is_trace(first: &[u8]) -> bool {
    let (mut rest, mut told) = (first, false);
    while let Some((&mark, behind)) = rest.split_first() {
        if mark != MARK {
            return false;
        }
        rest = behind;
        let Some(length) = varint(&mut rest) else { return told && rest.len() < MAX_HEAD };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let whole = rest.len() >= length;
        let (body, next) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        let mut fields = Fields::new(body);
        for (field, value) in &mut fields {
            if field > LIKELY {
                return false;
            }
            let number = matches!(value, Value::Number(_));
            match TELLING.iter().find(|(known, _)| *known == field) {
                Some((_, expected)) if *expected != number => return false,
                Some(_) => told = true,
                None => {}
            }
        }
        if fields.broken && whole {
            return false;
        }
        if !whole {
            // The field that is cut tells as much as one that is not.
            return told || cut_field_tells(body, length);
        }
        rest = next;
    }
    told
}

/// Of a packet of `length` bytes of which the first are `body`.
fn cut_field_tells(body: &[u8], length: usize) -> bool {
    let mut rest = body;
    let mut fields = Fields::new(body);
    if fields.by_ref().count() > 0 {
        return false;
    }
    let telling = |field| TELLING.iter().any(|&(known, number)| known == field && !number);
    let room = |rest: &[u8]| (length - (body.len() - rest.len()).min(length)) as u64;
    tag(&mut rest).is_some_and(|(field, kind)| kind == 2 && telling(field))
        && varint(&mut rest).is_some_and(|inner| inner <= room(rest))
}
