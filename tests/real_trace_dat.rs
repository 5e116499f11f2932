//! A real recording: what trace-cmd says of it, and what is left of it when bytes are missing or wrong.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvm_timeline::capture::source::ReadAt;
use kvm_timeline::capture::{self, Capture, Chunk, Clock, CpuStats, Record};
use kvm_timeline::error::Error;
use support::ring_pages::{Layout, Page};
use support::trace_dat_writer::{Compression, TraceDat};

const FILES: [&str; 2] = ["guest-a-v7-zstd.dat", "guest-a-v7-zlib.dat"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/variants").join(name)
}

fn open(bytes: Vec<u8>) -> Result<Capture, Error> {
    let source: Arc<dyn ReadAt> = Arc::new(bytes);
    capture::open_source(Path::new("test.dat"), source)
}

/// Per CPU: stamps and `common_type`, in recording order.
fn events(capture: &Capture) -> Vec<(u32, Vec<(u64, u16)>)> {
    let mut chunk = Chunk::default();
    let mut cpus = Vec::new();
    for stream in capture.buffers.iter().flat_map(|buffer| &buffer.streams) {
        let mut events = Vec::new();
        for index in 0..stream.source.chunks() {
            stream.source.read(index, &mut chunk).unwrap();
            events.extend(chunk.records.iter().map(|record| {
                let payload = chunk.payload(record);
                (record.ts, u16::from_le_bytes([payload[0], payload[1]]))
            }));
        }
        cpus.push((stream.cpu, events));
    }
    cpus
}

fn count(capture: &Capture) -> usize {
    events(capture).iter().map(|(_, events)| events.len()).sum()
}

/// The sub-buffers themselves, for writing them again.
fn pages(capture: &Capture) -> Vec<(u32, Vec<Page>)> {
    let mut chunk = Chunk::default();
    let mut cpus = Vec::new();
    for stream in &capture.buffers[0].streams {
        let mut pages = Vec::new();
        for index in 0..stream.source.chunks() {
            stream.source.read(index, &mut chunk).unwrap();
            pages.extend(chunk.data.chunks(4096).map(<[u8]>::to_vec));
        }
        cpus.push((stream.cpu, pages));
    }
    cpus
}

/// Numbers from a fixed seed.
fn random() -> impl FnMut(usize) -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    }
}

#[test]
fn counts_and_stamps_are_those_of_trace_cmd() {
    for name in FILES {
        let capture = capture::open(fixture(name)).unwrap();
        assert_eq!(capture.info.damaged, Vec::<String>::new());
        assert_eq!(capture.buffers.len(), 1);
        assert_eq!(capture.buffers[0].clock, Clock::X86Tsc);
        let ends: Vec<_> = events(&capture)
            .into_iter()
            .map(|(cpu, events)| (cpu, events.len(), events[0].0, events[events.len() - 1].0))
            .collect();
        assert_eq!(ends, [(0, 12_192, 25_060_047_885, 32_980_224_793), (1, 10_740, 25_057_421_236, 32_971_057_297)]);
    }
}

#[test]
fn metadata_is_that_of_trace_cmd() {
    let capture = capture::open(fixture(FILES[0])).unwrap();
    let info = &capture.info;
    assert_eq!(info.kind, "trace.dat version 7, zstd");
    assert_eq!(info.uname.as_deref(), Some("Linux a 6.1.0-56-cloud-amd64 x86_64"));
    assert_eq!(info.trace_id, Some(0x0A5A_B5E3_D1F5_BFC4));
    assert_eq!(info.cpu_count, 2);
    let symbols = info.kallsyms.as_ref().expect("symbols");
    // As `trace-cmd dump --kallsyms` shows them; of two names of one address the first.
    for (address, start, name) in [
        (0xffff_ffff_88a0_0007, 0xffff_ffff_88a0_0000, "startup_64"),
        (0xffff_ffff_88b5_8fdf, 0xffff_ffff_88b5_8f60, "tick_sched_timer"),
        (0xffff_ffff_88b5_8fe0, 0xffff_ffff_88b5_8fe0, "tick_nohz_handler"),
        (0xffff_ffff_88d4_cc50, 0xffff_ffff_88d4_cc50, "vfs_read"),
        (0xffff_ffff_c054_b031, 0xffff_ffff_c054_b030, "virtio_vsock_tx_done"),
        (0xffff_ffff_c04f_d041, 0xffff_ffff_c04f_d040, "__virtqueue_break"),
    ] {
        assert_eq!(symbols.find(address), Some((start, name)));
    }
    assert_eq!(symbols.find(0), None);
    let stats = |cpu| CpuStats { buffer: String::new(), cpu, overrun: 0, dropped: 0, entries: 0 };
    assert_eq!(info.cpu_stats, [stats(0), stats(1)]);
    assert!(info.printk_formats.is_sorted());
}

/// A file, and where its section of symbols begins.
fn symbols(name: &str) -> (Vec<u8>, usize) {
    let bytes = std::fs::read(fixture(name)).unwrap();
    // The section's id is 19, it is compressed, and its size is at byte 8.
    let is_it = |at: &usize| bytes[*at..].starts_with(&[19, 0, 1, 0]) && number(&bytes, at + 8) > 100_000;
    let section = (0..bytes.len() - 24).find(is_it).expect("symbols");
    (bytes, section)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().unwrap())
}

#[test]
fn more_symbols_than_stated_are_told() {
    for name in FILES {
        let (mut bytes, section) = symbols(name);
        // How much it unpacks to stands at byte 20.
        let stated = number(&bytes, section + 20) - 100;
        bytes[section + 20..section + 24].copy_from_slice(&stated.to_le_bytes());
        let capture = open(bytes).unwrap();
        let symbols = capture.info.kallsyms.as_ref().expect("symbols");
        // Below all of them: everything is read.
        assert_eq!(symbols.find(1), None);
        let error = symbols.failure().expect("too many").to_string();
        assert!(error.ends_with(&format!("data unpacks to more than {stated} bytes")), "{error}");
    }
}

#[test]
fn symbols_that_break_off_have_a_beginning() {
    for (name, why) in FILES.into_iter().zip(["zstd data", "zlib data"]) {
        let (mut bytes, section) = symbols(name);
        // The compressed size stands at byte 16.
        let half = number(&bytes, section + 16) / 2;
        bytes[section + 16..section + 20].copy_from_slice(&half.to_le_bytes());
        let capture = open(bytes).unwrap();
        let symbols = capture.info.kallsyms.as_ref().expect("symbols");
        let early = Some((0xffff_ffff_88b5_8f60, "tick_sched_timer"));
        assert_eq!(symbols.find(0xffff_ffff_88b5_8fdf), early);
        assert!(symbols.failure().is_none());
        // A wrong name would be worse than none.
        assert_eq!(symbols.find(0xffff_ffff_c04f_d041), None);
        let error = symbols.failure().expect("no end").to_string();
        assert!(error.contains(why) && error.starts_with(&format!("at byte {:#x}: ", section + 16)), "{error}");
        // Asking again changes nothing.
        assert_eq!(symbols.find(0xffff_ffff_88b5_8fdf), early);
    }
}

#[test]
fn records_find_their_formats() {
    let capture = capture::open(fixture(FILES[0])).unwrap();
    let index = capture.formats.find("sched", "sched_switch").unwrap();
    let id = capture.formats.get(index).unwrap().id;
    let mut chunk = Chunk::default();
    let (mut switches, mut by_id) = (0, 0);
    for stream in &capture.buffers[0].streams {
        for number in 0..stream.source.chunks() {
            stream.source.read(number, &mut chunk).unwrap();
            switches += chunk.records.iter().filter(|record| record.event == index).count();
            let has_id = |record: &&Record| chunk.payload(record)[..2] == id.to_le_bytes();
            by_id += chunk.records.iter().filter(has_id).count();
            assert!(chunk.records.iter().all(|record| record.event != Record::UNKNOWN));
        }
    }
    // `trace-cmd report` prints 3,845 of them.
    assert_eq!((switches, by_id), (3845, 3845));
    assert_eq!(capture.info.warnings, Vec::<String>::new());
}

#[test]
fn all_compressions_hold_the_same() {
    let [zstd, zlib] = FILES.map(|name| events(&capture::open(fixture(name)).unwrap()));
    assert!(zstd == zlib);
    let pages = pages(&capture::open(fixture(FILES[0])).unwrap());
    for (version, compression) in
        [(6, Compression::None), (7, Compression::None), (7, Compression::Zstd), (7, Compression::Zlib)]
    {
        let file = TraceDat::new(version, Layout::X86_64).compression(compression).trace_clock("[x86-tsc]");
        let file = file.buffer("", "x86-tsc", pages.clone()).to_bytes();
        assert!(events(&open(file).unwrap()) == zstd, "version {version}, {compression:?}");
    }
}

#[test]
fn any_beginning_of_the_file() {
    for name in FILES {
        let bytes = std::fs::read(fixture(name)).unwrap();
        // Byte by byte through the header and the first sections and around the end, in steps between.
        let steps = (0..600)
            .step_by(7)
            .chain((600..bytes.len()).step_by(40_009))
            .chain((bytes.len() - 350..bytes.len()).step_by(3));
        for len in steps {
            let Ok(capture) = open(bytes[..len].to_vec()) else { continue };
            // The very end holds labels of sections only: without it nothing is lost.
            let found = count(&capture);
            assert!(found == 22_932 || !capture.info.damaged.is_empty(), "{len} bytes: {found} events, no word of it");
        }
    }
}

#[test]
fn a_cut_file_gives_the_whole_sub_buffers_that_are_left() {
    let pages = pages(&capture::open(fixture(FILES[0])).unwrap());
    let whole: usize = 22_932;
    let file = TraceDat::new(6, Layout::X86_64).trace_clock("[x86-tsc]").buffer("", "x86-tsc", pages.clone());
    let bytes = file.to_bytes();
    let last = pages[1].1.len();
    let mut before = whole;
    for kept in (0..last).rev() {
        // The data of CPU 1 ends the file.
        let cut = bytes.len() - (last - kept) * 4096 + 100;
        let capture = open(bytes[..cut].to_vec()).unwrap();
        assert_eq!(capture.info.damaged.len(), 1, "{:?}", capture.info.damaged);
        let now = count(&capture);
        assert!(now < before && (kept > 0 || now == 12_192), "{now} events with {kept} sub-buffers");
        before = now;
    }
}

#[test]
fn a_recording_that_stops_within_its_events_keeps_those_before() {
    // zstd and zlib as trace-cmd wrote them, and the same pages uncompressed.
    let mut files: Vec<Vec<u8>> = FILES.iter().map(|name| std::fs::read(fixture(name)).unwrap()).collect();
    let pages = pages(&capture::open(fixture(FILES[0])).unwrap());
    let stats = "entries: 9\noverrun: 0\ndropped events: 0\nread events: 3";
    let mut plain = TraceDat::new(7, Layout::X86_64).trace_clock("[x86-tsc]").buffer("", "x86-tsc", pages);
    for cpu in 0..2 {
        plain = plain.cpu_stat(&format!("CPU: {cpu}\n{stats}"));
    }
    files.push(plain.to_bytes());
    for (number, bytes) in files.into_iter().enumerate() {
        let whole = events(&open(bytes.clone()).unwrap());
        assert_eq!(
            whole.iter().map(|(cpu, events)| (*cpu, events.len())).collect::<Vec<_>>(),
            [(0, 12_192), (1, 10_740)]
        );
        let mut most = 0;
        for cut in (0..bytes.len()).rev().step_by(10_007) {
            let capture = open(bytes[..cut].to_vec());
            let Ok(capture) = capture else { continue };
            let left = events(&capture);
            for (cpu, events) in &left {
                let (_, all) = &whole[*cpu as usize];
                assert!(all.starts_with(events), "file {number} cut at {cut}: CPU {cpu} has other events");
            }
            assert!(left == whole || !capture.info.damaged.is_empty(), "file {number} cut at {cut}: no word of it");
            most = most.max(left.iter().map(|(_, events)| events.len()).sum());
            if left.len() == 1 {
                assert_eq!(left[0].0, 0, "the data of CPU 0 comes first");
            }
        }
        assert!(most > 15_000, "file {number}: {most} events at most");
    }
}

#[test]
fn wrong_bytes_do_no_harm() {
    let mut random = random();
    for name in FILES {
        let bytes = std::fs::read(fixture(name)).unwrap();
        // Symbols fill most of the file and prove little: aim at everything else.
        let symbols = 5_000..bytes.len() - 226_000;
        for _ in 0..60 {
            let mut garbled = bytes.clone();
            for _ in 0..=random(8) {
                let at = random(bytes.len() - symbols.len());
                let at = if at < symbols.start { at } else { at + symbols.len() };
                garbled[at] ^= 1 << random(8);
            }
            if let Ok(capture) = open(garbled) {
                let found = count(&capture);
                assert!(found <= 200_000, "{found} events");
            }
        }
    }
}

#[test]
fn a_damaged_chunk_costs_only_itself() {
    let mut bytes = std::fs::read(fixture(FILES[0])).unwrap();
    // CPU 0's data stands at 843776: the count of chunks, the first chunk's two sizes, then its bytes.
    bytes[843_776 + 12..][..4].fill(0xff);
    let capture = open(bytes).unwrap();
    let mut chunk = Chunk::default();
    let source = &capture.buffers[0].streams[0].source;
    source.read(0, &mut chunk).unwrap();
    assert_eq!((chunk.records.len(), chunk.damaged), (0, 10));
    assert!(chunk.damage[0].starts_with("CPU 0, chunk at byte 0xce00c: zstd data "), "{}", chunk.damage[0]);
    source.read(1, &mut chunk).unwrap();
    assert_eq!(chunk.damaged, 0);
    let left = count(&capture);
    assert!(left > 20_000 && left < 22_932, "{left}");
}
