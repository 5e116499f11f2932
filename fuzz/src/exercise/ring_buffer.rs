//! Sub-buffers: two bytes of shape, then the kernel's bytes.

use std::sync::LazyLock;

use kvm_timeline::capture::event_format::{EventFormat, FormatTable};
use kvm_timeline::capture::ring_buffer::{EventIds, Origin, PageLayout, walk};
use kvm_timeline::capture::{Chunk, Endian};

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
    let mut chunk = Chunk { data: pages.to_vec(), ..Chunk::default() };
    walk(&layout, &IDS, Origin { cpu: 0, offset: 0, compressed: flags & 4 != 0 }, &mut chunk, 0);
    drain::check(&chunk);
    assert!(chunk.records.len() <= pages.len() / 4, "more events than there is room for");
    assert!(chunk.damaged <= pages.len().div_ceil(layout.sub_buffer) as u64);
}
