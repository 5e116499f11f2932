//! The records of a perf.data file, front to back: `u32 type, u16 misc, u16 size`, then the rest of `size` bytes.

use std::sync::Arc;

use crate::capture::Endian;
use crate::capture::bytes::{u16_from, u32_from, u64_from};
use crate::capture::source::ReadAt;
use crate::error::{Error, Result};

/// How much is fetched at once; no record is larger than 64 KiB.
const WINDOW: u64 = 1 << 20;
/// Bytes of a record's header.
pub(super) const HEADER: usize = 8;

/// Types of records (`enum perf_event_type`, and perf's own from 64 on).
pub(super) mod kind {
    pub(in crate::capture::perf_data) const LOST: u32 = 2;
    pub(in crate::capture::perf_data) const COMM: u32 = 3;
    pub(in crate::capture::perf_data) const FORK: u32 = 7;
    pub(in crate::capture::perf_data) const SAMPLE: u32 = 9;
    pub(in crate::capture::perf_data) const LOST_SAMPLES: u32 = 13;
    pub(in crate::capture::perf_data) const SWITCH: u32 = 14;
    pub(in crate::capture::perf_data) const SWITCH_CPU_WIDE: u32 = 15;
    pub(in crate::capture::perf_data) const HEADER_ATTR: u32 = 64;
    pub(in crate::capture::perf_data) const HEADER_TRACING_DATA: u32 = 66;
    pub(in crate::capture::perf_data) const AUXTRACE: u32 = 71;
    pub(in crate::capture::perf_data) const TIME_CONV: u32 = 79;
    pub(in crate::capture::perf_data) const HEADER_FEATURE: u32 = 80;
    pub(in crate::capture::perf_data) const COMPRESSED: u32 = 81;
    pub(in crate::capture::perf_data) const COMPRESSED2: u32 = 83;
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub(super) struct PerfRecord<'a> {
    /// Where it stands.
    pub(super) at: u64,
    pub(super) kind: u32,
    /// What stands behind its header.
    pub(super) body: &'a [u8],
    /// Bytes that stand behind it and belong to it: tracing data, AUX data.
    pub(super) behind: u64,
}

impl PerfRecord<'_> {
    /// Bytes of header and body.
    pub(super) fn size(&self) -> u64 {
        (HEADER + self.body.len()) as u64
    }

    /// Splits the first record off `bytes`, which stand at `at`; `Err` with the number of bytes that it takes if they
    /// are not all there, with 0 if it makes no sense.
    pub(super) fn split(bytes: &[u8], at: u64, endian: Endian) -> Result<PerfRecord<'_>, usize> {
        let header: &[u8; HEADER] = bytes.first_chunk().ok_or(HEADER)?;
        let [a, b, c, d, _, _, e, f] = *header;
        let (kind, size) = (u32_from(endian, [a, b, c, d]), usize::from(u16_from(endian, [e, f])));
        if size < HEADER {
            return Err(0);
        }
        let body = bytes.get(HEADER..size).ok_or(size)?;
        let behind = match kind {
            kind::HEADER_TRACING_DATA => {
                body.first_chunk().map_or(0, |&size| u64::from(u32_from(endian, size)).next_multiple_of(8))
            }
            kind::AUXTRACE => body.first_chunk().map_or(0, |&size| u64_from(endian, size)),
            _ => 0,
        };
        Ok(PerfRecord { at, kind, body, behind })
    }
}

/// Reads records from a part of a file.
pub(super) struct Records {
    source: Arc<dyn ReadAt>,
    endian: Endian,
    position: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Why nothing more is read, where that is not the end.
    pub(super) broken: Option<String>,
}

impl Records {
    /// The records in bytes `start..end`, clipped to what is there.
    pub(super) fn new(source: Arc<dyn ReadAt>, start: u64, end: u64, endian: Endian) -> Self {
        let end = end.min(source.len());
        Self { source, endian, position: start, end, window: Vec::new(), window_at: start, broken: None }
    }

    /// The next record; `None` at the end, or where a record makes no sense: then `broken` says so.
    ///
    /// # Errors
    /// Where reading fails.
    pub(super) fn next(&mut self) -> Result<Option<PerfRecord<'_>>> {
        let (at, left) = (self.position, self.end.saturating_sub(self.position));
        if left == 0 || self.broken.is_some() {
            return Ok(None);
        }
        let mut needed = HEADER;
        for _ in 0..3 {
            if needed as u64 > left {
                self.broken = Some(format!("the record at byte {at:#x} needs {needed} bytes, {left} are left"));
                return Ok(None);
            }
            self.fill(needed)?;
            match PerfRecord::split(self.ahead(), at, self.endian) {
                Ok(_) => break,
                Err(0) => {
                    self.broken = Some(format!(
                        "the record at byte {at:#x} claims fewer bytes than its header has; {left} bytes are skipped"
                    ));
                    return Ok(None);
                }
                Err(size) => needed = size,
            }
        }
        let skip = self.position.saturating_sub(self.window_at) as usize;
        let Ok(record) = PerfRecord::split(self.window.get(skip..).unwrap_or(&[]), at, self.endian) else {
            return Ok(None);
        };
        let whole = record.size().saturating_add(record.behind);
        if whole > left {
            self.broken = Some(format!("the record at byte {at:#x} needs {whole} bytes, {left} are left"));
            return Ok(None);
        }
        self.position += whole;
        Ok(Some(record))
    }

    fn ahead(&self) -> &[u8] {
        let skip = self.position.saturating_sub(self.window_at);
        usize::try_from(skip).ok().and_then(|skip| self.window.get(skip..)).unwrap_or(&[])
    }

    fn fill(&mut self, needed: usize) -> Result<()> {
        if self.ahead().len() >= needed {
            return Ok(());
        }
        let count = self.end.saturating_sub(self.position).min(WINDOW) as usize;
        self.window.resize(count, 0);
        self.window_at = self.position;
        self.source.read_exact_at(&mut self.window, self.position).map_err(|error| {
            Error::new(crate::error::ErrorKind::Io, format!("cannot read records: {error}")).at(self.position)
        })
    }
}
