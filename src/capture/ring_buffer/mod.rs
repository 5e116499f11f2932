//! The kernel's ring buffer pages (`kernel/trace/ring_buffer.c`): sub-buffers of entries with compressed times.
//!
//! A sub-buffer is `u64 timestamp`, a commit word (a kernel `long`), and entries. Each entry starts with 32 bits:
//! 5 of type or length, 27 of time since the entry before. [`walk`] turns sub-buffers into records.

mod layout;

pub use layout::{MAX_SUB_BUFFER, MIN_SUB_BUFFER, PageLayout};

use super::event_format::FormatTable;
use super::{Chunk, DESCRIBED, Endian, Lost, Record};

const DELTA: u32 = (1 << 27) - 1;
const COMMIT: u64 = (1 << 27) - 1;
const MISSED: u64 = 1 << 31;
const MISSED_STORED: u64 = 1 << 30;
/// The bits of a stamp that an absolute time entry does not hold.
const BEYOND_59: u64 = 0x1f << 59;

/// From the `common_type` in a record to the index of its format, without a search.
pub struct EventIds {
    by_id: Box<[u16]>,
    offset: usize,
}

impl EventIds {
    /// The ids of all formats of a capture. Where `common_type` stands comes from the formats, too.
    pub fn new(formats: &FormatTable) -> Self {
        let common_type = formats.events().iter().flat_map(|format| &format.common).find(|f| &*f.name == "common_type");
        let offset = common_type.map_or(0, |field| usize::from(field.offset));
        Self::from_ids(formats.events().iter().map(|format| format.id), offset)
    }

    fn from_ids(ids: impl Iterator<Item = u16>, offset: usize) -> Self {
        let mut by_id = vec![Record::UNKNOWN; 1 << 16].into_boxed_slice();
        for (index, id) in ids.enumerate() {
            if let Some(slot) = by_id.get_mut(usize::from(id))
                && *slot == Record::UNKNOWN
            {
                *slot = u16::try_from(index).unwrap_or(Record::UNKNOWN);
            }
        }
        Self { by_id, offset }
    }

    /// The index of the format of `payload`, or [`Record::UNKNOWN`].
    #[inline]
    pub fn index(&self, endian: Endian, payload: &[u8]) -> u16 {
        let Some(&bytes) = payload.get(self.offset..).and_then(<[u8]>::first_chunk) else { return Record::UNKNOWN };
        let id = super::bytes::u16_from(endian, bytes);
        self.by_id.get(usize::from(id)).copied().unwrap_or(Record::UNKNOWN)
    }
}

/// Where the bytes of a chunk come from, for messages.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// CPU number.
    pub cpu: u32,
    /// File offset of the first sub-buffer, or of the compressed chunk that holds it.
    pub offset: u64,
    /// Whether `offset` is that of a compressed chunk.
    pub compressed: bool,
}

impl Origin {
    fn sub_buffer(&self, index: usize, size: usize) -> String {
        let Self { cpu, offset, compressed } = *self;
        if compressed {
            format!("CPU {cpu}, sub-buffer {index} of the compressed chunk at byte {offset:#x}")
        } else {
            format!("CPU {cpu}, sub-buffer at byte {:#x}", offset.saturating_add((index * size) as u64))
        }
    }
}

/// Reads the sub-buffers that stand in `chunk.data` from byte `from` on, and appends what they hold to `chunk.records` and
/// `chunk.lost`.
///
/// A sub-buffer that contradicts itself is read up to there: the rest of it is lost, described in `chunk.damage` and
/// counted in `chunk.damaged`. So is an incomplete one at the end.
pub fn walk(layout: &PageLayout, ids: &EventIds, origin: Origin, chunk: &mut Chunk, from: usize) {
    let size = layout.sub_buffer.max(MIN_SUB_BUFFER);
    let Chunk { data, records, lost, damage, damaged, .. } = chunk;
    let mut note = |index: usize, what: String| {
        *damaged += 1;
        if damage.len() < DESCRIBED {
            damage.push(format!("{}: {what}", origin.sub_buffer(index, size)));
        }
    };
    for (index, page) in data.get(from..).unwrap_or(&[]).chunks(size).enumerate() {
        let Ok(start) = u32::try_from(from + index * size) else { break };
        if page.len() < size {
            note(index, format!("cut off after {} of {size} bytes, skipped", page.len()));
            break;
        }
        let result = match layout.endian {
            Endian::Little => sub_buffer::<false>(layout, ids, page, start, records, lost),
            Endian::Big => sub_buffer::<true>(layout, ids, page, start, records, lost),
        };
        if let Err(what) = result {
            note(index, what.to_string());
        }
    }
}

/// What is wrong with a sub-buffer; offsets count from its start.
enum Damage {
    Commit { commit: usize, room: usize },
    NoCount,
    Entry { at: usize, what: &'static str, needs: usize, left: usize },
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Commit { commit, room } => {
                write!(f, "claims {commit} bytes of events, has room for {room}; skipped")
            }
            Self::NoCount => write!(f, "no room for the number of lost events that it announces"),
            Self::Entry { at, what, needs, left } => {
                write!(f, "{what} at its byte {at:#x} needs {needs} bytes, {left} are left; rest skipped")
            }
        }
    }
}

#[inline]
fn word<const BIG: bool>(bytes: &[u8], at: usize) -> Option<u32> {
    let &bytes = bytes.get(at..)?.first_chunk()?;
    Some(if BIG { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
}

/// `u32 high; 27 bits low`, as time extends and absolute stamps hold them.
#[inline]
fn stamp(high: u32, low: u32) -> u64 {
    (u64::from(high) << 27) + u64::from(low)
}

/// The kernel's rule for the 5 bits that an absolute entry lacks (`rb_fix_abs_ts`): those of the time before, carried
/// on where that would step back.
#[inline]
fn absolute(stored: u64, before: u64) -> u64 {
    let high = before & BEYOND_59;
    if high == 0 {
        return stored;
    }
    let time = stored | high;
    if time < before { time.wrapping_add(1 << 59) } else { time }
}

fn sub_buffer<const BIG: bool>(
    layout: &PageLayout,
    ids: &EventIds,
    page: &[u8],
    start: u32,
    records: &mut Vec<Record>,
    lost: &mut Vec<Lost>,
) -> Result<(), Damage> {
    let endian = if BIG { Endian::Big } else { Endian::Little };
    let (Some(mut now), Some(commit)) = (layout.number(page, 0, 8), layout.number(page, 8, layout.long_size)) else {
        return Err(Damage::Commit { commit: 0, room: page.len() });
    };
    let length = (commit & COMMIT) as usize;
    let body = page.get(layout.data_offset..).unwrap_or(&[]);
    let Some((data, behind)) = body.split_at_checked(length) else {
        return Err(Damage::Commit { commit: length, room: body.len() });
    };
    let mut result = Ok(());
    if commit & MISSED != 0 {
        let stored = commit & MISSED_STORED != 0;
        let count = if stored { layout.number(behind, 0, layout.long_size) } else { None };
        if stored && count.is_none() {
            result = Err(Damage::NoCount);
        }
        lost.push(Lost { before: records.len(), count });
    }

    let start = start + layout.data_offset as u32;
    let mut flags = Record::FIRST;
    let mut at = 0usize;
    while at < data.len() {
        let broken =
            |what, needs| Err(Damage::Entry { at: layout.data_offset + at, what, needs, left: data.len() - at });
        let Some(head) = word::<BIG>(data, at) else { return broken("an entry", 4) };
        let (type_len, delta) = if BIG { (head >> 27, head & DELTA) } else { (head & 31, head >> 5) };
        let (payload_at, payload_len, next) = match type_len {
            1..=28 => {
                let len = type_len as usize * 4;
                (at + 4, len, at + 4 + len)
            }
            29 if delta == 0 => break,
            0 | 29 => {
                let Some(len) = word::<BIG>(data, at + 4) else { return broken("a long entry", 8) };
                // The length counts its own four bytes and is rounded up, in bounds by the check below.
                let len = len as usize;
                if len < 4 {
                    return broken("an entry of impossible length", 8);
                }
                (at + 8, len - 4, at.saturating_add(4).saturating_add(len.saturating_add(3) & !3))
            }
            _ => (at + 4, 0, at + 8),
        };
        if next > data.len() {
            let what = if type_len < 29 { "an event" } else { "padding or a time entry" };
            return broken(what, next - at);
        }
        match type_len {
            0..=28 => {
                now = now.wrapping_add(u64::from(delta));
                let payload = data.get(payload_at..payload_at + payload_len).unwrap_or(&[]);
                records.push(Record {
                    ts: now,
                    at: start + payload_at as u32,
                    len: payload_len as u32,
                    event: ids.index(endian, payload),
                    flags,
                });
                flags = 0;
            }
            // A discarded event: time went on, unless the delta is the 1 that means "not zero".
            29 => now = now.wrapping_add(if delta == 1 { 0 } else { u64::from(delta) }),
            30 => {
                let add = stamp(word::<BIG>(data, at + 4).unwrap_or(0), delta);
                if add == 0 && at != 0 {
                    flags |= Record::ZERO_EXTEND;
                }
                now = now.wrapping_add(add);
            }
            _ => {
                now = absolute(stamp(word::<BIG>(data, at + 4).unwrap_or(0), delta), now);
                flags = flags & !Record::ZERO_EXTEND | Record::ABSOLUTE;
            }
        }
        at = next;
    }
    result
}

#[cfg(test)]
mod tests;
