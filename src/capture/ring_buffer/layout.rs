//! The shape of sub-buffers, from the text of `events/header_page`.

use crate::capture::Endian;
use crate::capture::bytes::{u32_from, u64_from};
use crate::error::{Error, Result};

/// Smallest size of a sub-buffer that is believed.
pub const MIN_SUB_BUFFER: usize = 1 << 10;
/// Largest size of a sub-buffer that is believed.
pub const MAX_SUB_BUFFER: usize = 16 << 20;

/// The shape of sub-buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLayout {
    /// Byte order.
    pub endian: Endian,
    /// Bytes of a kernel `long`: 4 or 8. The recorder's own may differ.
    pub long_size: usize,
    /// Where entries start in a sub-buffer.
    pub data_offset: usize,
    /// Bytes of a sub-buffer, a power of two.
    pub sub_buffer: usize,
}

impl PageLayout {
    /// Whether `size` can be that of a sub-buffer: a power of two from 1 KiB to 16 MiB.
    pub fn is_sub_buffer(size: usize) -> bool {
        size.is_power_of_two() && (MIN_SUB_BUFFER..=MAX_SUB_BUFFER).contains(&size)
    }

    /// Reads the text of `events/header_page`:
    ///
    /// ```text
    ///     field: u64 timestamp;    offset:0;   size:8;     signed:0;
    ///     field: local_t commit;   offset:8;   size:8;     signed:1;
    ///     field: int overwrite;    offset:8;   size:1;     signed:1;
    ///     field: char data;        offset:16;  size:4080;  signed:0;
    /// ```
    ///
    /// # Errors
    /// Where a field is missing or its place makes no sense.
    pub fn parse(text: &str, endian: Endian) -> Result<Self> {
        let (mut long_size, mut data) = (None, None);
        for line in text.lines() {
            let mut parts = line.split(';').map(str::trim);
            let name = parts.next().and_then(|declaration| declaration.split_whitespace().last());
            let (mut offset, mut size) = (None, None);
            for part in parts {
                match part.split_once(':') {
                    Some(("offset", number)) => offset = number.trim().parse::<usize>().ok(),
                    Some(("size", number)) => size = number.trim().parse::<usize>().ok(),
                    _ => {}
                }
            }
            match name {
                Some("commit") if offset == Some(8) => long_size = size,
                Some("data") => data = offset.zip(size),
                _ => {}
            }
        }
        let wrong = |what: String| {
            Err(Error::format(format!("{what} in header_page"))
                .hint("the capture's description of ring buffer pages is damaged or of a kernel before 2.6.31"))
        };
        let Some(long_size @ (4 | 8)) = long_size else {
            return wrong(format!("expected a commit field of 4 or 8 bytes at offset 8, found {long_size:?}"));
        };
        let Some((data_offset, capacity)) = data else { return wrong("no data field".into()) };
        let sub_buffer = data_offset.saturating_add(capacity);
        if data_offset < 8 + long_size || data_offset > 64 || !Self::is_sub_buffer(sub_buffer) {
            return wrong(format!("data of {capacity} bytes at offset {data_offset}, not a power of two together,"));
        }
        Ok(Self { endian, long_size, data_offset, sub_buffer })
    }

    /// The same shape with sub-buffers of `size` bytes, where that is possible.
    #[must_use]
    pub fn with_sub_buffer(self, size: usize) -> Self {
        if Self::is_sub_buffer(size) { Self { sub_buffer: size, ..self } } else { self }
    }

    /// The number of `size` bytes (4, else 8) at `at`.
    pub(super) fn number(&self, bytes: &[u8], at: usize, size: usize) -> Option<u64> {
        let bytes = bytes.get(at..)?;
        if size == 4 {
            bytes.first_chunk().map(|&bytes| u64::from(u32_from(self.endian, bytes)))
        } else {
            bytes.first_chunk().map(|&bytes| u64_from(self.endian, bytes))
        }
    }
}
