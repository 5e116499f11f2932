//! The test writer's own files, looked at by hand.

mod support;

use support::ring_pages::{Layout, PageBuilder};
use support::trace_dat_writer::{Compression, Field, Payload, TraceDat, format_text};

/// `KVM_TIMELINE_WRITE_SAMPLES=DIR cargo test --test writer_self` leaves files for a second opinion
/// (`trace-cmd report -t -R`).
#[test]
fn samples() {
    for (name, version, compression) in [
        ("v6", 6, Compression::None),
        ("v7", 7, Compression::None),
        ("v7-zstd", 7, Compression::Zstd),
        ("v7-zlib", 7, Compression::Zlib),
    ] {
        let layout = Layout::X86_64;
        let mut cpus = Vec::new();
        for cpu in 0..2u32 {
            let mut pages = PageBuilder::new(layout);
            for n in 0..1000u32 {
                if n == 500 {
                    pages.lost(Some(7));
                }
                if n == 600 {
                    pages.absolute();
                }
                let ts = 1_000_000 + u64::from(n) * 1000 + if n > 700 { 1 << 30 } else { 0 };
                pages.event(ts, &Payload::new(layout, 100, 42).u32(n).u64(u64::from(cpu)).bytes());
            }
            cpus.push((cpu, pages.finish()));
        }
        let file = TraceDat::new(version, layout)
            .compression(compression)
            .format("test", &format_text("ping", 100, &[Field::u32("n"), Field::u64("cpu")]))
            .trace_clock("[local]")
            .trace_id(0x1234)
            .cmdlines("42 pinger\n")
            .buffer("", "local", cpus.clone())
            .buffer("side", "local", cpus)
            .to_bytes();
        assert_eq!(&file[..10], b"\x17\x08\x44tracing");
        if let Some(dir) = std::env::var_os("KVM_TIMELINE_WRITE_SAMPLES") {
            std::fs::write(std::path::Path::new(&dir).join(format!("{name}.dat")), file).unwrap();
        }
    }
}
