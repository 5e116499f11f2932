//! What a file says of each event that was recorded (`struct perf_event_attr`), and how its samples are laid out.

use crate::capture::Endian;
use crate::capture::bytes::{Cursor, u32_from, u64_from};
use crate::error::{Error, Result};

/// Bits of `sample_type` (`enum perf_event_sample_format`).
mod sample {
    pub(super) const IP: u64 = 1;
    pub(super) const TID: u64 = 1 << 1;
    pub(super) const TIME: u64 = 1 << 2;
    pub(super) const ADDR: u64 = 1 << 3;
    pub(super) const READ: u64 = 1 << 4;
    pub(super) const CALLCHAIN: u64 = 1 << 5;
    pub(super) const ID: u64 = 1 << 6;
    pub(super) const CPU: u64 = 1 << 7;
    pub(super) const PERIOD: u64 = 1 << 8;
    pub(super) const STREAM_ID: u64 = 1 << 9;
    pub(super) const RAW: u64 = 1 << 10;
    pub(super) const IDENTIFIER: u64 = 1 << 16;
}

/// `PERF_TYPE_TRACEPOINT`.
const TRACEPOINT: u32 = 2;
/// The size of `struct perf_event_attr` in its first version.
pub(super) const MIN_SIZE: u32 = 64;

/// An event that was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attr {
    /// Whether it is a tracepoint.
    pub(super) tracepoint: bool,
    /// The clock of its stamps, where the user chose one (`perf record -k`).
    pub(super) clock: Option<i32>,
    /// Its name, where the file says it.
    pub(super) name: Option<String>,
    kind: u32,
    config: u64,
    sample_type: u64,
    read_format: u64,
    sample_id_all: bool,
}

/// Time and CPU of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct When {
    /// Stamp in nanoseconds.
    pub(super) time: u64,
    pub(super) cpu: u32,
}

fn number(bytes: &[u8], at: usize, endian: Endian) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|&bytes| u64_from(endian, bytes))
}

fn half(bytes: &[u8], at: usize, endian: Endian) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|&bytes| u32_from(endian, bytes))
}

impl Attr {
    /// Reads the structure, whose own size field says how much of `cursor` it takes.
    pub(super) fn parse(cursor: &mut Cursor<'_>, endian: Endian) -> Result<Self> {
        let at = cursor.offset();
        let head = cursor.take(8, "an event's attributes")?;
        let (Some(kind), Some(size)) = (half(head, 0, endian), half(head, 4, endian)) else {
            return Err(Error::format("an event's attributes are cut off").at(at));
        };
        // The first version had no size.
        let size = if size == 0 { MIN_SIZE } else { size };
        if size < MIN_SIZE {
            return Err(Error::format(format!("attributes of {size} bytes, expected {MIN_SIZE} or more")).at(at));
        }
        let rest = cursor.take(size as usize - 8, "an event's attributes")?;
        let field = |at: usize| number(rest, at - 8, endian).unwrap_or(0);
        // Bit fields count from the other end in big-endian files.
        let flags = field(40);
        let flag = |bit: u32| flags >> if endian == Endian::Big { 63 - bit } else { bit } & 1 != 0;
        Ok(Self {
            tracepoint: kind == TRACEPOINT,
            clock: flag(25).then(|| half(rest, 92 - 8, endian).unwrap_or(0).cast_signed()),
            name: None,
            kind,
            config: field(8),
            sample_type: field(24),
            read_format: field(32),
            sample_id_all: flag(18),
        })
    }

    /// What to call it.
    pub(super) fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("event type {} config {:#x}", self.kind, self.config))
    }

    fn has(&self, bit: u64) -> bool {
        self.sample_type & bit != 0
    }

    /// Whether its samples say when and where they were taken, and hold the tracepoint's fields.
    pub(super) fn complete(&self) -> bool {
        self.has(sample::TIME) && self.has(sample::CPU) && self.has(sample::RAW)
    }

    /// Bytes of the fields in `bits`, each 8.
    fn width(&self, bits: &[u64]) -> usize {
        8 * bits.iter().filter(|&&bit| self.has(bit)).count()
    }

    /// The id in a sample, which tells whose it is.
    pub(super) fn sample_id(&self, body: &[u8], endian: Endian) -> Option<u64> {
        if self.has(sample::IDENTIFIER) {
            return number(body, 0, endian);
        }
        let before = self.width(&[sample::IP, sample::TID, sample::TIME, sample::ADDR]);
        self.has(sample::ID).then(|| number(body, before, endian))?
    }

    /// When and where a sample was taken.
    pub(super) fn when(&self, body: &[u8], endian: Endian) -> Option<When> {
        let time = self.width(&[sample::IDENTIFIER, sample::IP, sample::TID]);
        let cpu = time + self.width(&[sample::TIME, sample::ADDR, sample::ID, sample::STREAM_ID]);
        if !self.has(sample::TIME) || !self.has(sample::CPU) {
            return None;
        }
        Some(When { time: number(body, time, endian)?, cpu: half(body, cpu, endian)? })
    }

    /// The fields of the tracepoint in a sample, common ones first.
    pub(super) fn raw<'a>(&self, body: &'a [u8], endian: Endian) -> Option<&'a [u8]> {
        use sample::{ADDR, CPU, ID, IDENTIFIER, IP, PERIOD, STREAM_ID, TID, TIME};
        let mut at = self.width(&[IDENTIFIER, IP, TID, TIME, ADDR, ID, STREAM_ID, CPU, PERIOD]);
        if self.has(sample::READ) {
            at = at.checked_add(self.read_width(body.get(at..)?, endian)?)?;
        }
        if self.has(sample::CALLCHAIN) {
            let entries = usize::try_from(number(body, at, endian)?).ok()?;
            at = at.checked_add(8)?.checked_add(entries.checked_mul(8)?)?;
        }
        if !self.has(sample::RAW) {
            return None;
        }
        let size = half(body, at, endian)? as usize;
        body.get(at.checked_add(4)?..)?.get(..size)
    }

    /// Bytes of the counts in a sample (`PERF_SAMPLE_READ`).
    fn read_width(&self, bytes: &[u8], endian: Endian) -> Option<usize> {
        let format = |bit: u32| usize::from(self.read_format >> bit & 1 != 0);
        let (times, id, group, lost) = (format(0) + format(1), format(2), format(3), format(4));
        if group == 0 {
            return Some(8 * (1 + times + id + lost));
        }
        let members = usize::try_from(number(bytes, 0, endian)?).ok()?;
        members.checked_mul(1 + id + lost)?.checked_add(1 + times)?.checked_mul(8)
    }

    /// When and where another record was written, from the fields at its end (`sample_id_all`).
    pub(super) fn when_at_end(&self, body: &[u8], endian: Endian) -> Option<When> {
        use sample::{CPU, ID, IDENTIFIER, STREAM_ID, TID, TIME};
        if !self.sample_id_all || !self.has(TIME) || !self.has(CPU) {
            return None;
        }
        let all = self.width(&[TID, TIME, ID, STREAM_ID, CPU, IDENTIFIER]);
        let end = body.get(body.len().checked_sub(all)?..)?;
        let (time, cpu) = (self.width(&[TID]), self.width(&[TID, TIME, ID, STREAM_ID]));
        Some(When { time: number(end, time, endian)?, cpu: half(end, cpu, endian)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(sample_type: u64, read_format: u64) -> Attr {
        Attr { tracepoint: true, sample_type, read_format, sample_id_all: true, ..Attr::default() }
    }

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn every_field_before_the_raw_data_is_stepped_over() {
        let all = attr(0x1_07ff, 0b1_0111);
        // identifier, ip, pid and tid, time, addr, id, stream, cpu, period; value, two times, id, lost; two callers.
        let mut body = words(&[7, 1, 2, 1000, 3, 7, 4, 5, 1, 10, 11, 12, 13, 14, 2, 20, 21]);
        body.extend([6, 0, 0, 0, b'a', b'b', b'c', b'd', b'e', b'f', 0, 0]);
        assert_eq!(all.sample_id(&body, Endian::Little), Some(7));
        assert_eq!(all.when(&body, Endian::Little), Some(When { time: 1000, cpu: 5 }));
        assert_eq!(all.raw(&body, Endian::Little), Some(&b"abcdef"[..]));
        // As a group of two: the number, two times, and three words of each.
        let group = attr(0x1_07ff, 0b1_1111);
        let mut body = words(&[7, 1, 2, 1000, 3, 7, 4, 5, 1, 2, 11, 12, 1, 2, 3, 4, 5, 6, 0]);
        body.extend([1, 0, 0, 0, b'x', 0, 0, 0]);
        assert_eq!(group.raw(&body, Endian::Little), Some(&b"x"[..]));
    }

    #[test]
    fn lengths_beyond_the_record_are_no_data() {
        let chain = attr(0x420, 0);
        for entries in [1, u64::MAX, u64::MAX / 8, 1 << 61] {
            assert_eq!(chain.raw(&words(&[entries]), Endian::Little), None, "{entries:#x}");
        }
        let group = attr(0x410, 0b1_1111);
        assert_eq!(group.raw(&words(&[u64::MAX, 0]), Endian::Little), None);
        assert_eq!(attr(0x400, 0).raw(&[9, 0, 0, 0, 1, 2], Endian::Little), None);
        assert_eq!(attr(0x86, 0).when(&[0; 19], Endian::Little), None);
    }

    #[test]
    fn other_records_say_at_their_end_when_they_were_written() {
        let attr = attr(0x1_0087, 0);
        let body = words(&[0xdead, 0xbeef, 2, 1000, 5, 7]);
        assert_eq!(attr.when_at_end(&body, Endian::Little), Some(When { time: 1000, cpu: 5 }));
        assert_eq!(attr.when_at_end(&body[..24], Endian::Little), None);
    }
}
