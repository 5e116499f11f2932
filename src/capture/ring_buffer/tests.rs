//! Sub-buffers made by hand, byte by byte: the expectations are computed from the kernel's rules, not by an encoder.

use super::*;

/// A sub-buffer of 1 KiB under construction.
struct Bytes {
    endian: Endian,
    long: usize,
    data: Vec<u8>,
}

impl Bytes {
    fn new(endian: Endian, long: usize) -> Self {
        Self { endian, long, data: Vec::new() }
    }

    fn layout(&self) -> PageLayout {
        PageLayout { endian: self.endian, long_size: self.long, data_offset: 8 + self.long, sub_buffer: 1024 }
    }

    fn u32(mut self, value: u32) -> Self {
        self.data.extend(if self.endian == Endian::Big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    fn u16s(mut self, values: &[u16]) -> Self {
        for value in values {
            self.data.extend(if self.endian == Endian::Big { value.to_be_bytes() } else { value.to_le_bytes() });
        }
        self
    }

    fn head(self, type_len: u32, delta: u32) -> Self {
        let big = self.endian == Endian::Big;
        self.u32(if big { type_len * 0x800_0000 + delta } else { delta * 32 + type_len })
    }

    /// An event of 8 bytes whose id is `id`.
    fn event(self, delta: u32, id: u16) -> Self {
        self.head(2, delta).u16s(&[id, 0, 0, 0])
    }

    fn page(self, timestamp: u64, commit: u64) -> Vec<u8> {
        let big = self.endian == Endian::Big;
        let mut page = if big { timestamp.to_be_bytes() } else { timestamp.to_le_bytes() }.to_vec();
        match (self.long, big) {
            (8, true) => page.extend(commit.to_be_bytes()),
            (8, false) => page.extend(commit.to_le_bytes()),
            (_, true) => page.extend((commit as u32).to_be_bytes()),
            (_, false) => page.extend((commit as u32).to_le_bytes()),
        }
        page.extend(self.data);
        page.resize(1024, 0xee);
        page
    }

    /// The page with all bytes committed.
    fn whole(self, timestamp: u64) -> Vec<u8> {
        let commit = self.data.len() as u64;
        self.page(timestamp, commit)
    }
}

fn read(layout: PageLayout, pages: &[Vec<u8>]) -> Chunk {
    let mut chunk = Chunk { data: pages.concat(), ..Chunk::default() };
    let ids = EventIds::from_ids([7, 300].into_iter(), 0);
    walk(&layout, &ids, Origin { cpu: 3, offset: 0x1000, compressed: false }, &mut chunk, 0);
    chunk
}

fn stamps(chunk: &Chunk) -> Vec<u64> {
    chunk.records.iter().map(|record| record.ts).collect()
}

const SHAPES: [(Endian, usize); 4] = [(Endian::Little, 8), (Endian::Little, 4), (Endian::Big, 8), (Endian::Big, 4)];

#[test]
fn events_of_all_lengths() {
    for (endian, long) in SHAPES {
        let bytes = Bytes::new(endian, long);
        let layout = bytes.layout();
        let mut bytes = bytes.event(0, 7).head(28, 5).u16s(&[300]).u16s(&[9; 55]);
        // Long form: the length counts itself; 118 bytes of payload are padded to 120.
        bytes = bytes.head(0, 0x7ff_ffff).u32(4 + 118).u16s(&[8]).u16s(&[9; 59]).event(1, 7);
        let chunk = read(layout, &[bytes.whole(1_000_000)]);
        assert_eq!(chunk.damage, Vec::<String>::new());
        assert_eq!(stamps(&chunk), [1_000_000, 1_000_005, 1_000_004 + (1 << 27), 1_000_005 + (1 << 27)]);
        let shape = chunk.records.iter().map(|record| (record.event, record.len, record.flags));
        let expected = [(0, 8, Record::FIRST), (1, 112, 0), (Record::UNKNOWN, 118, 0), (0, 8, 0)];
        assert_eq!(shape.collect::<Vec<_>>(), expected);
        let id = if endian == Endian::Big { [1, 44] } else { [44, 1] };
        assert_eq!(chunk.payload(&chunk.records[1])[..2], id);
        assert_eq!(chunk.payload(&chunk.records[2]).len(), 118);
    }
}

#[test]
fn time_entries() {
    for (endian, long) in SHAPES {
        let bytes = Bytes::new(endian, long);
        let layout = bytes.layout();
        let bytes = bytes.event(0, 7).head(30, 3).u32(2).event(0, 7).head(31, 9).u32(1 << 20).event(4, 7);
        let chunk = read(layout, &[bytes.whole(50)]);
        let extended = 50 + (2 << 27) + 3;
        assert_eq!(stamps(&chunk), [50, extended, (1 << 47) + 9 + 4]);
        assert_eq!(chunk.records[1].flags, 0);
        assert_eq!(chunk.records[2].flags, Record::ABSOLUTE);
    }
}

#[test]
fn absolute_times_take_the_upper_bits_from_the_time_before() {
    let high = 0x11u64 << 59;
    assert_eq!(absolute(100, 50), 100);
    assert_eq!(absolute(50, 100), 50);
    assert_eq!(absolute(100, high | 50), high | 100);
    // Below the time before: the 59 bits have overflowed.
    assert_eq!(absolute(50, high | 100), (0x12u64 << 59) | 50);
    assert_eq!(absolute(5, u64::MAX), 5);
}

#[test]
fn a_zero_extend_marks_a_clock_that_went_back() {
    let bytes = Bytes::new(Endian::Little, 8);
    let layout = bytes.layout();
    let first = bytes.head(30, 0).u32(0).event(0, 7).event(1, 7).head(30, 0).u32(0).event(0, 7).event(1, 7);
    let second = Bytes::new(Endian::Little, 8).event(0, 7);
    let chunk = read(layout, &[first.whole(10), second.whole(5)]);
    let flags: Vec<u8> = chunk.records.iter().map(|record| record.flags).collect();
    assert_eq!(flags, [Record::FIRST, 0, Record::ZERO_EXTEND, 0, Record::FIRST]);
    assert_eq!(stamps(&chunk), [10, 11, 11, 12, 5]);
}

#[test]
fn padding() {
    for (endian, long) in SHAPES {
        let bytes = Bytes::new(endian, long);
        let layout = bytes.layout();
        // Discarded: time goes on. Filler of 1: it does not. Delta 0: the end, whatever follows.
        let bytes = bytes.event(0, 7).head(29, 100).u32(8).u32(0).event(1, 7).head(29, 1).u32(4).event(1, 7);
        let chunk = read(layout, &[bytes.head(29, 0).event(1, 7).whole(1000)]);
        assert_eq!(stamps(&chunk), [1000, 1101, 1102]);
        assert_eq!(chunk.damaged, 0);
    }
}

#[test]
fn lost_events() {
    let bytes = Bytes::new(Endian::Little, 8);
    let layout = bytes.layout();
    let counted = Bytes::new(Endian::Little, 8).event(0, 7).u32(0x1234).u32(0).page(1, 0xffff_ffff_c000_000c);
    let uncounted = Bytes::new(Endian::Little, 8).event(0, 7).page(2, 0xffff_ffff_8000_000c);
    let split = Bytes::new(Endian::Little, 8).event(0, 7).page(3, 0x8000_000c);
    let empty = Bytes::new(Endian::Little, 8).page(4, 0x8000_0000);
    let chunk = read(layout, &[counted, uncounted, split, empty]);
    let lost = |before, count| Lost { before, count };
    assert_eq!(chunk.lost, [lost(0, Some(0x1234)), lost(1, None), lost(2, None), lost(3, None)]);
    assert_eq!(chunk.records.len(), 3);

    let layout = Bytes::new(Endian::Big, 4).layout();
    let counted = Bytes::new(Endian::Big, 4).event(0, 7).u32(0x1234).page(1, 0xc000_000c);
    assert_eq!(read(layout, &[counted]).lost, [lost(0, Some(0x1234))]);
}

#[test]
fn damage_costs_the_rest_of_a_sub_buffer_only() {
    let make = || Bytes::new(Endian::Little, 8);
    let layout = make().layout();
    let pages = [
        make().page(1, 1009),
        make().event(0, 7).head(3, 0).u32(1).whole(2),
        make().event(0, 7).head(0, 0).u32(3).u32(0).whole(3),
        make().event(0, 7).head(0, 0).u32(u32::MAX).u32(0).whole(4),
        make().event(0, 7).u16s(&[1]).whole(5),
        make().event(0, 7).head(31, 0).whole(6),
        make().head(29, 5).u32(2000).whole(7),
        make().event(0, 7).whole(8),
    ];
    let chunk = read(layout, &pages);
    assert_eq!(stamps(&chunk), [2, 3, 4, 5, 6, 8]);
    assert_eq!(chunk.damaged, 7);
    let damage = |index: usize| chunk.damage[index].as_str();
    assert_eq!(damage(0), "CPU 3, sub-buffer at byte 0x1000: claims 1009 bytes of events, has room for 1008; skipped");
    assert_eq!(
        damage(1),
        "CPU 3, sub-buffer at byte 0x1400: an event at its byte 0x1c needs 16 bytes, 8 are left; rest skipped"
    );
}

#[test]
fn an_incomplete_last_sub_buffer_is_reported() {
    let bytes = Bytes::new(Endian::Little, 8);
    let layout = bytes.layout();
    let mut page = bytes.event(0, 7).whole(1);
    let whole = page.clone();
    page.truncate(500);
    let chunk = read(layout, &[whole, page]);
    assert_eq!(chunk.records.len(), 1);
    assert_eq!(chunk.damage, ["CPU 3, sub-buffer at byte 0x1400: cut off after 500 of 1024 bytes, skipped"]);
}

#[test]
fn descriptions_of_damage_are_bounded() {
    let bytes = Bytes::new(Endian::Little, 8);
    let layout = bytes.layout();
    let page = bytes.page(1, 2000);
    let chunk = read(layout, &vec![page; 100]);
    assert_eq!((chunk.damage.len(), chunk.damaged), (DESCRIBED, 100));
}

#[test]
fn header_page_texts() {
    let text = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
                \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
                \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
                \tfield: char data;\toffset:16;\tsize:65520;\tsigned:0;\n";
    let layout = PageLayout::parse(text, Endian::Big).unwrap();
    let expected = PageLayout { endian: Endian::Big, long_size: 8, data_offset: 16, sub_buffer: 65536 };
    assert_eq!(layout, expected);
    let small = text
        .replace("offset:8;\tsize:8", "offset:8;\tsize:4")
        .replace("offset:16;\tsize:65520", "offset:12;\tsize:4084");
    assert_eq!(PageLayout::parse(&small, Endian::Little).unwrap().data_offset, 12);
    for bad in ["", "\tfield: local_t commit;\toffset:8;\tsize:8;\n", &text.replace("65520", "65521")] {
        assert!(PageLayout::parse(bad, Endian::Little).is_err(), "{bad}");
    }
    let huge = text.replace("65520", &u64::MAX.to_string());
    assert!(PageLayout::parse(&huge, Endian::Little).is_err());
}
