//! Sub-buffers: two bytes of shape, then the kernel's bytes.

use std::sync::LazyLock;

use kvm_timeline::capture::event_format::{EventFormat, FormatTable};
use kvm_timeline::capture::ring_buffer::{EventIds, Origin, PageLayout, walk};
use kvm_timeline::capture::{Chunk, Endian, Record};

use super::drain;

const FORMAT: &str = include_str!("../../../tests/data/formats/kvm.kvm_entry.txt");

static IDS: LazyLock<EventIds> = LazyLock::new(|| {
    let mut formats = FormatTable::new();
    let _ = formats.add(EventFormat::parse("kvm", FORMAT).expect("a kernel's format"));
    EventIds::new(&formats)
});

pub fn run(data: &[u8]) {
    let [flags, size, pages @ ..] = data else { return };
    let long_size = if flags & 2 != 0 { 4 } else { 8 };
    let layout = PageLayout {
        endian: if flags & 1 != 0 { Endian::Big } else { Endian::Little },
        long_size,
        data_offset: 8 + long_size,
        sub_buffer: 1024 << (size & 3),
    };
    let origin = Origin { cpu: 0, offset: 0, compressed: flags & 4 != 0 };
    let read = |pages: &[u8], from| {
        let mut chunk = Chunk { data: pages.to_vec(), ..Chunk::default() };
        walk(&layout, &IDS, origin, &mut chunk, from);
        drain::check(&chunk);
        assert!(chunk.records.len() <= (pages.len() - from) / 4, "more events than there is room for");
        assert!(chunk.damaged <= (pages.len() - from).div_ceil(layout.sub_buffer) as u64);
        chunk
    };
    read(pages, 0);
    // What stands behind other bytes is read as if it stood alone.
    let from = usize::from(size >> 2) * 97 % (pages.len() + 1);
    let (joined, alone) = (read(pages, from), read(&pages[from..], 0));
    assert_eq!((joined.records.len(), &joined.lost, joined.damaged), (alone.records.len(), &alone.lost, alone.damaged));
    for (a, b) in joined.records.iter().zip(&alone.records) {
        let place =
            |record: &Record, from| (record.at as usize - from, record.len, record.ts, record.event, record.flags);
        assert_eq!(place(a, from), place(b, 0));
    }
}
