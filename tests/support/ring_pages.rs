//! Ring buffer sub-buffers for tests, encoded the way the kernel's `ring_buffer.c` does it.
//!
//! Written apart from the reader and sharing no code with it, so that the two can disagree.

use kvm_timeline::capture::Endian;

/// One sub-buffer, exactly [`Layout::sub_buffer`] bytes.
pub type Page = Vec<u8>;

/// The shape of sub-buffers: what `events/header_page` says.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Byte order of file and records.
    pub endian: Endian,
    /// Size of the kernel's `long`, 4 or 8.
    pub long_size: usize,
    /// Bytes of a sub-buffer.
    pub sub_buffer: usize,
}

impl Layout {
    /// An x86-64 kernel: little endian, 8 byte long, 4 KiB.
    pub const X86_64: Self = Self { endian: Endian::Little, long_size: 8, sub_buffer: 4096 };

    /// Where event data starts in a sub-buffer.
    pub fn data_offset(&self) -> usize {
        8 + self.long_size
    }

    /// The text of `events/header_page`.
    pub fn header_page(&self) -> String {
        let (long, data) = (self.long_size, self.data_offset());
        format!(
            "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
             \tfield: local_t commit;\toffset:8;\tsize:{long};\tsigned:1;\n\
             \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
             \tfield: char data;\toffset:{data};\tsize:{};\tsigned:0;\n",
            self.sub_buffer - data
        )
    }

    /// `value` as 2 bytes in this byte order.
    pub fn u16(&self, value: u16) -> [u8; 2] {
        if self.endian == Endian::Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    /// `value` as 4 bytes in this byte order.
    pub fn u32(&self, value: u32) -> [u8; 4] {
        if self.endian == Endian::Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    /// `value` as 8 bytes in this byte order.
    pub fn u64(&self, value: u64) -> [u8; 8] {
        if self.endian == Endian::Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    /// `value` as a kernel long.
    pub fn long(&self, value: u64) -> Vec<u8> {
        if self.long_size == 4 { self.u32(value as u32).to_vec() } else { self.u64(value).to_vec() }
    }

    /// An event header: `type_len` and a delta of 27 bits.
    pub fn entry(&self, type_len: u32, delta: u32) -> [u8; 4] {
        assert!(type_len < 32 && delta < 1 << 27);
        self.u32(if self.endian == Endian::Big { type_len << 27 | delta } else { delta << 5 | type_len })
    }
}

/// Encodes the events of one CPU into sub-buffers, starting new ones as they fill up.
///
/// Deltas, time extends and the filler at the end of a full sub-buffer are what the kernel writes. A clock that goes
/// backwards is recorded as the kernel does it: a TIME_EXTEND of 0, after which deltas are those of the true clock, so
/// that a reader continues the old base until the next sub-buffer.
pub struct PageBuilder {
    layout: Layout,
    pages: Vec<Page>,
    /// Data bytes of the open sub-buffer; `None` before its first entry.
    open: Option<Open>,
    /// Losses to be marked on the next sub-buffer.
    lost: Option<Option<u64>>,
    absolute_next: bool,
}

struct Open {
    start: u64,
    data: Vec<u8>,
    /// The kernel's write stamp: the true time of the last event.
    clock: u64,
    /// What a reader that adds up deltas has arrived at.
    reader: u64,
    lost: Option<Option<u64>>,
}

impl PageBuilder {
    /// An encoder without any event.
    pub fn new(layout: Layout) -> Self {
        Self { layout, pages: Vec::new(), open: None, lost: None, absolute_next: false }
    }

    /// Appends an event at clock reading `ts`. `payload` starts with `common_type`. Returns the stamp that a reader
    /// will see: `ts`, except after the clock went backwards within a sub-buffer.
    pub fn event(&mut self, ts: u64, payload: &[u8]) -> u64 {
        let body = self.body(payload);
        self.append(ts, body.0, &body.1)
    }

    /// Appends an event that was reserved, then discarded (a filter did not match): padding with a length.
    /// Returns the running time of a reader behind it.
    pub fn discarded(&mut self, ts: u64, payload_len: usize) -> u64 {
        let padded = payload_len.max(4).next_multiple_of(4);
        let mut body = self.layout.u32(padded as u32).to_vec();
        body.resize(padded, 0xdd);
        self.append(ts, 29, &body)
    }

    /// Lets the next event stand behind an absolute time stamp, as if it had been interrupted by another.
    pub fn absolute(&mut self) {
        self.absolute_next = true;
    }

    /// Ends the open sub-buffer and marks the next one: `count` events (`None`: not known how many) were lost before
    /// its first event. Room for a known count is kept.
    pub fn lost(&mut self, count: Option<u64>) {
        self.end_page();
        self.lost = Some(count);
    }

    /// Ends the open sub-buffer as if the recording had been stopped there: no filler.
    pub fn end_page(&mut self) {
        self.close(false);
    }

    /// The sub-buffers.
    pub fn finish(mut self) -> Vec<Page> {
        self.end_page();
        self.pages
    }

    /// type_len and what follows the event header.
    fn body(&self, payload: &[u8]) -> (u32, Vec<u8>) {
        let padded = payload.len().max(1).next_multiple_of(4);
        let mut body = Vec::with_capacity(padded + 4);
        let type_len = if padded > 112 {
            body.extend(self.layout.u32(padded as u32 + 4));
            0
        } else {
            padded as u32 / 4
        };
        body.extend_from_slice(payload);
        let end = padded + if type_len == 0 { 4 } else { 0 };
        body.resize(end, 0);
        (type_len, body)
    }

    fn append(&mut self, ts: u64, type_len: u32, body: &[u8]) -> u64 {
        let layout = self.layout;
        let capacity = layout.sub_buffer - layout.data_offset();
        // 8 bytes for a stamp of its own, 4 for the header.
        let worst = 12 + body.len();
        assert!(worst + layout.long_size <= capacity, "event of {} bytes does not fit a sub-buffer", body.len());
        if let Some(open) = &self.open {
            let reserve = if matches!(open.lost, Some(Some(_))) { layout.long_size } else { 0 };
            if open.data.len() + worst + reserve > capacity {
                self.close(reserve == 0);
            }
        }
        let lost = &mut self.lost;
        let open = self.open.get_or_insert_with(|| Open {
            start: ts,
            data: Vec::new(),
            clock: ts,
            reader: ts,
            lost: lost.take(),
        });
        let delta = ts.wrapping_sub(open.clock);
        let mut own = 0;
        if std::mem::take(&mut self.absolute_next) {
            open.data.extend(layout.entry(31, (ts & ((1 << 27) - 1)) as u32));
            open.data.extend(layout.u32((ts >> 27) as u32));
            open.reader = ts;
        } else if delta >= 1 << 59 {
            open.data.extend(layout.entry(30, 0));
            open.data.extend(layout.u32(0));
        } else if delta >= 1 << 27 {
            open.data.extend(layout.entry(30, (delta & ((1 << 27) - 1)) as u32));
            open.data.extend(layout.u32((delta >> 27) as u32));
            open.reader = open.reader.wrapping_add(delta);
        } else {
            own = delta as u32;
            open.reader = open.reader.wrapping_add(delta);
        }
        // A discarded event has no delta of 0: that would end the sub-buffer; the kernel writes 1.
        let stored = if type_len == 29 { own.max(1) } else { own };
        open.data.extend(layout.entry(type_len, stored));
        open.data.extend_from_slice(body);
        open.clock = ts;
        open.reader
    }

    fn close(&mut self, full: bool) {
        let Some(mut open) = self.open.take() else { return };
        let layout = self.layout;
        let capacity = layout.sub_buffer - layout.data_offset();
        let left = capacity - open.data.len();
        if full && left >= 8 {
            open.data.extend(layout.entry(29, 1));
            open.data.extend(layout.u32(left as u32 - 4));
            open.data.resize(capacity, 0);
        } else if full && left >= 4 {
            open.data.extend(layout.entry(29, 0));
            open.data.resize(capacity, 0);
        }
        let mut commit = open.data.len() as u64;
        if let Some(count) = open.lost {
            commit = commit.wrapping_add(0xffff_ffff_8000_0000);
            if let Some(count) = count
                && open.data.len() + layout.long_size <= capacity
            {
                commit = commit.wrapping_add(0x4000_0000);
                open.data.extend(layout.long(count));
            }
        }
        let mut page = layout.u64(open.start).to_vec();
        page.extend(layout.long(commit));
        page.extend(open.data);
        page.resize(layout.sub_buffer, 0);
        self.pages.push(page);
    }
}
