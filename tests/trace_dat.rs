//! What is written is what is read: files of both versions, both byte orders, every compression, several buffers.

mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};

use kvm_timeline::capture::source::ReadAt;
use kvm_timeline::capture::{
    self, Capture, Chunk, Clock, CpuStats, Endian, GuestOption, Lost, Record, ShiftSample, TimeShift, Tsc2Nsec,
};
use kvm_timeline::error::{Error, ErrorKind};
use proptest::prelude::*;
use support::ring_pages::{Layout, Page, PageBuilder};
use support::trace_dat_writer::{Compression, Field, Payload, ShiftLayout, TraceDat, format_text, time_shift_payload};

fn open(bytes: Vec<u8>) -> Result<Capture, Error> {
    let source: Arc<dyn ReadAt> = Arc::new(bytes);
    capture::open_source(Path::new("test.dat"), source)
}

/// All that a capture's streams hold: (buffer, CPU, stamp, payload), losses, damage.
#[derive(Debug, Default, PartialEq)]
struct Contents {
    events: Vec<(String, u32, u64, Vec<u8>)>,
    lost: Vec<Lost>,
    damaged: u64,
}

fn contents(capture: &Capture) -> Contents {
    let mut all = Contents::default();
    let mut chunk = Chunk::default();
    for buffer in &capture.buffers {
        for stream in &buffer.streams {
            for index in 0..stream.source.chunks() {
                stream.source.read(index, &mut chunk).unwrap();
                for record in &chunk.records {
                    let payload = chunk.payload(record).to_vec();
                    all.events.push((buffer.name.clone(), stream.cpu, record.ts, payload));
                }
                let base = all.events.len() - chunk.records.len();
                all.lost.extend(chunk.lost.iter().map(|lost| Lost { before: lost.before + base, ..*lost }));
                all.damaged += chunk.damaged;
            }
        }
    }
    all
}

fn layout(endian: Endian, long_size: usize) -> Layout {
    Layout { endian, long_size, sub_buffer: 4096 }
}

/// The shapes of files that exist.
fn shapes() -> Vec<(u8, Layout, Compression)> {
    let mut shapes = Vec::new();
    for endian in [Endian::Little, Endian::Big] {
        for long in [4, 8] {
            shapes.push((6, layout(endian, long), Compression::None));
            for compression in [Compression::None, Compression::Zstd, Compression::Zlib] {
                shapes.push((7, layout(endian, long), compression));
            }
        }
    }
    shapes
}

/// A CPU's pages of `count` events with ids `id`, and what a reader must see of them.
fn pages(layout: Layout, id: u16, count: u32, seed: u64) -> (Vec<Page>, Vec<(u64, Vec<u8>)>) {
    let mut builder = PageBuilder::new(layout);
    let mut events = Vec::new();
    let mut ts = seed << 33;
    for n in 0..count {
        ts += u64::from(n % 7) * 1000 + if n % 50 == 3 { 1 << 29 } else { 0 };
        let payload = Payload::new(layout, id, 42).u32(n).u64(seed).bytes();
        let seen = builder.event(ts, &payload);
        events.push((seen, payload));
    }
    (builder.finish(), events)
}

#[test]
fn every_shape_of_file() {
    for (version, layout, compression) in shapes() {
        let (one, events_one) = pages(layout, 100, 3000, 1);
        let (two, events_two) = pages(layout, 100, 10, 2);
        let (side, events_side) = pages(layout, 100, 500, 3);
        let mut expected = Contents::default();
        for (name, cpu, events) in [("", 0, events_one), ("", 5, events_two), ("side", 1, events_side)] {
            expected.events.extend(events.into_iter().map(|(ts, payload)| (name.to_owned(), cpu, ts, payload)));
        }
        let bytes = TraceDat::new(version, layout)
            .compression(compression)
            .trace_clock("local [x86-tsc]")
            .uname("Linux host 6.1 x86_64")
            .format("test", &format_text("ping", 100, &[Field::u32("n"), Field::u64("seed")]))
            .buffer("side", "mono", vec![(1, side)])
            .buffer("", "x86-tsc", vec![(5, two), (0, one)])
            .to_bytes();
        let capture = open(bytes).unwrap();
        assert_eq!(capture.info.damaged, Vec::<String>::new());
        assert_eq!(capture.endian, layout.endian);
        assert_eq!(capture.info.cpu_count, 6);
        let clocks: Vec<_> = capture.buffers.iter().map(|buffer| (&*buffer.name, &buffer.clock)).collect();
        assert_eq!(clocks, [("", &Clock::X86Tsc), ("side", &Clock::Other("mono".into()))]);
        assert!(contents(&capture) == expected, "version {version}, {layout:?}, {compression:?}");
    }
}

/// Neighbours are read together where there are so many.
#[test]
fn more_chunks_than_are_kept_one_by_one() {
    let layout = Layout { sub_buffer: 1024, ..layout(Endian::Big, 8) };
    let mut builder = PageBuilder::new(layout);
    let mut expected = Contents::default();
    for n in 0..40_000_u32 {
        let payload = Payload::new(layout, 100, 42).u32(n).u64(7).bytes();
        let seen = builder.event(u64::from(n) << 10, &payload);
        builder.end_page();
        expected.events.push((String::new(), 0, seen, payload));
    }
    let mut bytes = TraceDat::new(7, layout)
        .compression(Compression::Zstd)
        .compress_metadata(false)
        .chunk_pages(1)
        .format("test", &format_text("ping", 100, &[Field::u32("n"), Field::u64("seed")]))
        .buffer("", "x86-tsc", vec![(0, builder.finish())])
        .to_bytes();
    let capture = open(bytes.clone()).unwrap();
    let chunks = capture.buffers[0].streams[0].source.chunks();
    assert!((500..33_000).contains(&chunks), "{chunks}");
    assert!(contents(&capture) == expected);

    // One of them does not unpack: its neighbours do.
    let magic = [0x28, 0xb5, 0x2f, 0xfd];
    let frame = bytes.windows(4).enumerate().filter(|(_, four)| *four == magic).nth(12_345).unwrap().0;
    bytes[frame] ^= 1;
    expected.events.remove(12_345);
    expected.damaged = 1;
    assert!(contents(&open(bytes.clone()).unwrap()) == expected);

    // Nor does any: all are counted, and memory is not full of words about it.
    let frames: Vec<usize> = (0..bytes.len() - 4).filter(|&at| bytes[at..at + 4] == magic).collect();
    frames.into_iter().for_each(|frame| bytes[frame] ^= 1);
    let capture = open(bytes).unwrap();
    let source = &capture.buffers[0].streams[0].source;
    let (mut chunk, mut damaged) = (Chunk::default(), 0);
    for index in 0..source.chunks() {
        source.read(index, &mut chunk).unwrap();
        assert!(chunk.records.is_empty() && (1..=16).contains(&chunk.damage.len()), "{}", chunk.damage.len());
        damaged += chunk.damaged;
    }
    assert_eq!(damaged, 40_000);
}

/// A file that somebody writes to while it is read.
struct Changing(Mutex<Vec<u8>>);

impl ReadAt for Changing {
    fn len(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.0.lock().unwrap().read_exact_at(buffer, offset)
    }
}

#[test]
fn chunks_that_change_after_they_were_listed_are_damage() {
    let layout = layout(Endian::Little, 8);
    let (pages, events) = pages(layout, 100, 3000, 1);
    let bytes = TraceDat::new(7, layout)
        .compression(Compression::Zstd)
        .compress_metadata(false)
        .chunk_pages(pages.len())
        .format("test", &format_text("ping", 100, &[Field::u32("n"), Field::u64("seed")]))
        .buffer("", "x86-tsc", vec![(0, pages)])
        .to_bytes();
    let frame = bytes.windows(4).position(|four| four == [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    let source = Arc::new(Changing(Mutex::new(bytes)));
    let capture = capture::open_source(Path::new("test.dat"), source.clone()).unwrap();
    assert_eq!(contents(&capture).events.len(), events.len());
    // A chunk's two sizes stand before it: packed, unpacked. Either grows to what nothing was made for.
    for at in [frame - 8, frame - 4] {
        let before = source.0.lock().unwrap()[at + 3];
        source.0.lock().unwrap()[at + 3] = 0x7f;
        let mut chunk = Chunk::default();
        capture.buffers[0].streams[0].source.read(0, &mut chunk).unwrap();
        assert!(chunk.records.is_empty() && chunk.damaged > 1, "{} {:?}", chunk.damaged, chunk.damage);
        assert!(chunk.damage[0].ends_with("changed while the file was read"), "{:?}", chunk.damage);
        source.0.lock().unwrap()[at + 3] = before;
    }
    assert_eq!(contents(&capture).events.len(), events.len());
}

#[test]
fn metadata() {
    for (version, layout, compression) in shapes() {
        let bytes = TraceDat::new(version, layout)
            .compression(compression)
            .kallsyms("ffffffff81000000 T _text\n")
            .printk("0xffffffff82000010 : \"b\"\n0xffffffff82000000 : \"a\"\n")
            .cmdlines("1 init\n205 CPU 0/KVM\n")
            .uname("Linux host 6.1 x86_64")
            .recorder("3.1.6")
            .trace_id(0x1234_5678_9abc_def0)
            .date(0x5_0000)
            .option(7, *b"-12\0")
            .cpu_stat("CPU: 3\nentries: 1\noverrun: 2\ndropped events: 4\n")
            .cpu_stat("\nBuffer: side\n\n")
            .cpu_stat("CPU: 0\noverrun: 5\n")
            .guest("vm", 77, &[(0, 205), (1, -1)])
            .tsc2nsec(3_000_000_000, 31, 9)
            .option(999, *b"what is this")
            .buffer("", "local", vec![])
            .to_bytes();
        let info = open(bytes).unwrap().info;
        let words = if version == 6 { "trace.dat version 6, uncompressed" } else { "trace.dat version 7, " };
        assert!(info.kind.starts_with(words), "{}", info.kind);
        let symbols = info.kallsyms.as_ref().expect("symbols");
        assert_eq!(symbols.find(0xffff_ffff_8100_0010), Some((0xffff_ffff_8100_0000, "_text")));
        assert_eq!(info.printk_formats, [(0xffff_ffff_8200_0000, "a".into()), (0xffff_ffff_8200_0010, "b".into())]);
        assert_eq!(info.cmdlines, [(1, "init".into()), (205, "CPU 0/KVM".into())]);
        assert_eq!(info.uname.as_deref(), Some("Linux host 6.1 x86_64"));
        assert_eq!(info.trace_id, Some(0x1234_5678_9abc_def0));
        assert_eq!(info.date_ns, Some(0x5_0000 * 1000));
        assert_eq!(info.ts_offset, Some(-12));
        let stats = |buffer: &str, cpu, overrun, dropped, entries| CpuStats {
            buffer: buffer.into(),
            cpu,
            overrun,
            dropped,
            entries,
        };
        assert_eq!(info.cpu_stats, [stats("", 3, 2, 4, 1), stats("side", 0, 5, 0, 0)]);
        let guest = GuestOption { name: "vm".into(), trace_id: 77, vcpus: vec![(0, 205), (1, -1)] };
        assert_eq!(info.guests, [guest]);
        assert_eq!(info.tsc2nsec, Some(Tsc2Nsec { mult: 3_000_000_000, shift: 31, offset: 9 }));
        assert_eq!(info.damaged, Vec::<String>::new());
        assert!(info.warnings.iter().any(|text| text.starts_with("1 options of a kind unknown")));
    }
}

fn sample(time: u64, offset: i64, scaling: u64, fraction_bits: Option<u8>) -> ShiftSample {
    ShiftSample { time, offset, scaling, fraction_bits }
}

#[test]
fn time_shift_in_all_layouts_and_byte_orders() {
    let vcpus = vec![
        vec![sample(100, -5, 1, Some(0)), sample(200, 7, 1 << 47, Some(48))],
        vec![sample(150, i64::MIN, 3, Some(1)), sample(250, i64::MAX, 4, Some(2))],
    ];
    let full = TimeShift { peer_trace_id: 0xabcd, interpolate: true, vcpus, all_cpus: false };
    let mut scaling = full.clone();
    scaling.vcpus.iter_mut().flatten().for_each(|sample| sample.fraction_bits = Some(0));
    let mut single = full.clone();
    single.vcpus = vec![vec![sample(100, -5, 1, Some(0)), sample(200, 7, 1, Some(0)), sample(1, 1, 1, Some(0))]];
    single.all_cpus = true;
    for (shift, kind) in
        [(&full, ShiftLayout::Fractions), (&scaling, ShiftLayout::Scaling), (&single, ShiftLayout::Single)]
    {
        for (version, layout, _) in shapes() {
            for order in [Endian::Little, Endian::Big] {
                let file = TraceDat::new(version, layout).option(12, time_shift_payload(order, shift, kind));
                let info = open(file.buffer("", "local", vec![]).to_bytes()).unwrap().info;
                let warned = info.warnings.iter().any(|text| text.contains("other byte order"));
                assert_eq!(warned, order != layout.endian);
                let mut expected = shift.clone();
                // Sizes tell the byte order.
                expected.peer_trace_id = 0xabcd;
                assert_eq!(info.time_shift.as_ref(), Some(&expected));
            }
        }
    }
}

#[test]
fn fractions_out_of_step_are_not_believed() {
    // The writer repeats the last vCPU's count: 1 + 1 fractions for 2 + 1 samples.
    let vcpus = vec![vec![sample(1, 2, 1, None), sample(3, 4, 1 << 40, None)], vec![sample(5, 6, 1 << 40, None)]];
    let shift = TimeShift { peer_trace_id: 1, interpolate: false, vcpus, all_cpus: false };
    let mut payload = time_shift_payload(Endian::Little, &shift, ShiftLayout::Fractions);
    payload.truncate(payload.len() - 8);
    let file = TraceDat::new(7, Layout::X86_64).option(12, payload).buffer("", "local", vec![]);
    let mut expected = shift;
    expected.vcpus[0][0].fraction_bits = Some(0);
    assert_eq!(open(file.to_bytes()).unwrap().info.time_shift, Some(expected));
}

#[test]
fn options_that_make_no_sense_are_warnings() {
    let file = TraceDat::new(7, Layout::X86_64)
        .option(1, *b"yesterday\0")
        .option(11, *b"short")
        .option(12, vec![0xff; 40])
        .option(13, *b"no end")
        .tsc2nsec(0, 0, 0)
        .buffer("", "local", vec![]);
    let info = open(file.to_bytes()).unwrap().info;
    assert_eq!((info.date_ns, info.trace_id, info.tsc2nsec), (None, None, None));
    assert!(info.time_shift.is_none() && info.guests.is_empty());
    assert!(info.warnings.len() >= 5, "{:?}", info.warnings);
    assert_eq!(info.damaged, Vec::<String>::new());
}

#[test]
fn guest_and_rate_in_the_other_byte_order() {
    let big = layout(Endian::Big, 8);
    let guest = [&b"vm\0"[..], &big.u64(77), &big.u32(1), &big.u32(0), &big.u32(205)].concat();
    let rate = [&big.u32(99)[..], &big.u32(22), &big.u64(0)].concat();
    let file = TraceDat::new(7, Layout::X86_64).option(13, guest).option(14, rate).buffer("", "local", vec![]);
    let info = open(file.to_bytes()).unwrap().info;
    assert_eq!(info.guests, [GuestOption { name: "vm".into(), trace_id: 77, vcpus: vec![(0, 205)] }]);
    assert_eq!(info.tsc2nsec, Some(Tsc2Nsec { mult: 99, shift: 22, offset: 0 }));
}

#[test]
fn sizes_of_old_recorders() {
    let (pages, events) = pages(Layout::X86_64, 100, 3000, 1);
    let file = TraceDat::new(7, Layout::X86_64).compression(Compression::Zstd).chunk_pages(3).old_chunk_sizes();
    let capture = open(file.buffer("", "local", vec![(0, pages)]).to_bytes()).unwrap();
    assert_eq!(capture.info.damaged, Vec::<String>::new());
    assert_eq!(contents(&capture).events.len(), events.len());
    assert!(!capture.info.warnings.iter().any(|text| text.contains("chunks take")));
}

#[test]
fn sub_buffers_larger_than_the_recorder_knew() {
    for (version, compression) in [(6, Compression::None), (7, Compression::None), (7, Compression::Zstd)] {
        let layout = Layout { sub_buffer: 65536, ..Layout::X86_64 };
        let (pages, events) = pages(layout, 100, 9000, 1);
        let file = TraceDat::new(version, layout).stated_page_size(4096).compression(compression).chunk_pages(1);
        let capture = open(file.buffer("", "local", vec![(0, pages)]).to_bytes()).unwrap();
        assert_eq!(contents(&capture).events.len(), events.len());
        assert!(capture.info.warnings.iter().any(|text| text.contains("the kernel's 65536")));
    }
}

#[test]
fn an_instance_with_sub_buffers_of_its_own() {
    let (top, _) = pages(Layout::X86_64, 100, 1000, 1);
    let (side, _) = pages(Layout { sub_buffer: 16384, ..Layout::X86_64 }, 100, 1000, 1);
    let file = TraceDat::new(7, Layout::X86_64).buffer("", "local", vec![(0, top)]);
    let capture = open(file.buffer("side", "local", vec![(0, side)]).to_bytes()).unwrap();
    let contents = contents(&capture);
    assert_eq!((contents.events.len(), contents.damaged), (2000, 0));
}

#[test]
fn lost_events_and_a_clock_that_goes_back() {
    let mut builder = PageBuilder::new(Layout::X86_64);
    let payload = Payload::new(Layout::X86_64, 100, 1).u64(0).bytes();
    let seen: Vec<u64> = [1000, 1010, 500, 507, 520].map(|ts| builder.event(ts, &payload)).to_vec();
    assert_eq!(seen, [1000, 1010, 1010, 1017, 1030]);
    builder.lost(Some(44));
    builder.event(530, &payload);
    builder.lost(None);
    builder.absolute();
    builder.event(540, &payload);
    let file = TraceDat::new(7, Layout::X86_64).buffer("", "x86-tsc", vec![(0, builder.finish())]);
    let capture = open(file.to_bytes()).unwrap();
    let mut chunk = Chunk::default();
    capture.buffers[0].streams[0].source.read(0, &mut chunk).unwrap();
    let seen: Vec<_> = chunk.records.iter().map(|record| (record.ts, record.flags)).collect();
    let (first, zero) = (Record::FIRST, Record::ZERO_EXTEND);
    let last = (540, first | Record::ABSOLUTE);
    assert_eq!(seen, [(1000, first), (1010, 0), (1010, zero), (1017, 0), (1030, 0), (530, first), last]);
    assert_eq!(chunk.lost, [Lost { before: 5, count: Some(44) }, Lost { before: 6, count: None }]);
}

#[test]
fn output_of_split_is_suspected() {
    let suspected = |file: TraceDat, clock| {
        let (pages, _) = pages(Layout::X86_64, 100, 10, 1);
        let info = open(file.buffer("", clock, vec![(0, pages)]).to_bytes()).unwrap().info;
        info.warnings.iter().any(|text| text.contains("trace-cmd split"))
    };
    assert!(suspected(TraceDat::new(7, Layout::X86_64), "x86-tsc"));
    assert!(!suspected(TraceDat::new(7, Layout::X86_64), "local"));
    assert!(!suspected(TraceDat::new(7, Layout::X86_64).recorder("3.1.6"), "x86-tsc"));
}

#[test]
fn no_byte_belongs_to_two_cpus() {
    let (pages, events) = pages(Layout::X86_64, 100, 1000, 1);
    let file = TraceDat::new(7, Layout::X86_64).buffer("", "local", vec![(0, pages.clone()), (1, pages)]);
    let mut bytes = file.to_bytes();
    // The BUFFER option stands in the last section: its CPU 1 gets the offset of CPU 0.
    let entry = bytes.len() - 14 - 20 - 20;
    let offset: Vec<u8> = bytes[entry + 4..entry + 12].to_vec();
    bytes[entry + 24..entry + 32].copy_from_slice(&offset);
    let capture = open(bytes).unwrap();
    assert_eq!(contents(&capture).events.len(), events.len());
    assert!(capture.info.damaged.iter().any(|text| text.contains("overlap")), "{:?}", capture.info.damaged);
}

#[test]
fn formats_that_cannot_be_read_cost_names_only() {
    for (version, layout, compression) in shapes() {
        let (pages, events) = pages(layout, 100, 20, 1);
        let file = TraceDat::new(version, layout)
            .compression(compression)
            .format("test", "name: broken\nID: none\n")
            .format("test", &format_text("ping", 100, &[Field::u32("n")]))
            .format("other", &format_text("pong", 100, &[]))
            .format("other", &"x".repeat((1 << 20) + 1))
            .format("ftrace", &format_text("own", 5, &[]))
            .buffer("", "local", vec![(0, pages)]);
        let capture = open(file.to_bytes()).unwrap();
        let names: Vec<_> = capture.formats.events().iter().map(|format| (&*format.system, &*format.name)).collect();
        assert_eq!(names, [("ftrace", "own"), ("test", "ping")]);
        let count = |all: &[String], text: &str| all.iter().filter(|words| words.contains(text)).count();
        let warned = |text: &str| count(&capture.info.warnings, text);
        assert_eq!((warned("test:broken"), warned("other:pong has id 100")), (1, 1));
        // One beyond the limit was not even looked at.
        assert_eq!(count(&capture.info.damaged, "1048577 bytes"), 1, "{:?}", capture.info.damaged);
        let mut chunk = Chunk::default();
        capture.buffers[0].streams[0].source.read(0, &mut chunk).unwrap();
        assert_eq!(chunk.records.len(), events.len());
        assert!(chunk.records.iter().all(|record| record.event == 1));
    }
}

#[test]
fn kinds_of_files_that_hold_no_events() {
    let error = |bytes| open(bytes).map(|_| ()).unwrap_err();
    let header = |version: &[u8]| [b"\x17\x08\x44tracing", version].concat();
    assert_eq!(error(header(b"8\0\0\x08\0\x10\0\0")).kind(), ErrorKind::Unsupported);
    assert_eq!(error(header(b"7\0\x02\x08\0\x10\0\0")).kind(), ErrorKind::Format);
    assert_eq!(error(header(b"7\0\0\x08\0\x10\0\0lzma\0\0")).kind(), ErrorKind::Unsupported);

    let mut latency = TraceDat::new(6, Layout::X86_64).to_bytes();
    let at = latency.windows(9).position(|bytes| bytes == b"flyrecord").unwrap();
    latency[at..at + 10].copy_from_slice(b"latency  \0");
    let latency = error(latency);
    assert_eq!(latency.kind(), ErrorKind::Unsupported);
    assert_eq!(latency.file(), Some(Path::new("test.dat")));

    let text = [&[0; 8][..], b"\0local\0"].concat();
    let text = error(TraceDat::new(7, Layout::X86_64).option(22, text).to_bytes());
    assert_eq!(text.kind(), ErrorKind::Unsupported);

    // Killed before the list of sections was written: metadata, but no events.
    let mut killed = TraceDat::new(7, Layout::X86_64).cmdlines("1 init\n").to_bytes();
    let link = b"\x17\x08\x44tracing7\0".len() + 6 + b"none\0\0".len();
    killed[link..link + 8].fill(0);
    let killed = open(killed).unwrap();
    assert_eq!(killed.info.cmdlines, [(1, "init".into())]);
    assert!(killed.buffers.is_empty());
    assert!(killed.info.damaged.iter().any(|text| text.starts_with("no event data")), "{:?}", killed.info.damaged);
}

#[test]
fn a_circle_of_options_ends() {
    let mut bytes = TraceDat::new(7, Layout::X86_64).buffer("", "local", vec![]).to_bytes();
    let end = bytes.len() - 8;
    let link = b"\x17\x08\x44tracing7\0".len() + 6 + b"none\0\0".len();
    let first: Vec<u8> = bytes[link..link + 8].to_vec();
    bytes[end..].copy_from_slice(&first);
    let capture = open(bytes).unwrap();
    assert!(capture.info.damaged.iter().any(|text| text.contains("circle")));
    assert_eq!(capture.buffers.len(), 1);
}

/// Events as steps of the clock and payload sizes; now and then a loss, a discarded event, an absolute stamp.
#[derive(Clone, Debug)]
enum Step {
    Event(i64, usize),
    Lost(Option<u64>),
    Discarded(u64, usize),
    Absolute,
    EndPage,
}

fn step() -> impl Strategy<Value = Step> {
    let advance = prop_oneof![
        6 => 0i64..5000,
        1 => Just((1i64 << 27) - 1),
        1 => (1i64 << 27)..(1 << 40),
        1 => -(1i64 << 34)..0,
    ];
    prop_oneof![
        20 => (advance, 2usize..400).prop_map(|(by, len)| Step::Event(by, len)),
        1 => proptest::option::of(1u64..1 << 31).prop_map(Step::Lost),
        // A discarded event whose delta is 1 cannot be told from a filler.
        1 => (2u64..5000, 4usize..200).prop_map(|(by, len)| Step::Discarded(by, len)),
        1 => Just(Step::Absolute),
        1 => Just(Step::EndPage),
    ]
}

/// Sub-buffers, and the stamps, payloads and losses that a reader must find in them.
type Encoded = (Vec<Page>, Vec<(u64, Vec<u8>)>, Vec<Lost>);

fn encode(layout: Layout, steps: &[Step]) -> Encoded {
    let mut builder = PageBuilder::new(layout);
    let mut clock = 1u64 << 45;
    let (mut events, mut lost) = (Vec::new(), Vec::new());
    let mut pending = None;
    for (n, step) in steps.iter().enumerate() {
        match *step {
            Step::Event(by, len) => {
                clock = clock.wrapping_add_signed(by);
                let payload: Vec<u8> = (0..len).map(|i| (i * 31 + n) as u8).collect();
                lost.extend(pending.take().map(|count| Lost { before: events.len(), count }));
                events.push((builder.event(clock, &payload), payload));
            }
            Step::Lost(count) => {
                builder.lost(count);
                pending = Some(count);
            }
            Step::Discarded(by, len) => {
                clock += by;
                lost.extend(pending.take().map(|count| Lost { before: events.len(), count }));
                builder.discarded(clock, len);
            }
            Step::Absolute => builder.absolute(),
            Step::EndPage => builder.end_page(),
        }
    }
    (builder.finish(), events, lost)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        steps in proptest::collection::vec(step(), 0..400),
        shape in proptest::sample::select(shapes()),
        size in proptest::sample::select(vec![1024usize, 4096, 65536]),
        chunk_pages in 1usize..5,
    ) {
        let (version, layout, compression) = shape;
        let layout = Layout { sub_buffer: size, ..layout };
        let (pages, events, lost) = encode(layout, &steps);
        let file = TraceDat::new(version, layout).compression(compression).chunk_pages(chunk_pages);
        let capture = open(file.buffer("", "x86-tsc", vec![(2, pages)]).to_bytes()).unwrap();
        let found = contents(&capture);
        prop_assert_eq!(found.damaged, 0);
        prop_assert_eq!(found.events.len(), events.len());
        for ((_, cpu, ts, payload), (expected_ts, expected)) in found.events.iter().zip(&events) {
            prop_assert_eq!(*cpu, 2);
            prop_assert_eq!(ts, expected_ts);
            // At most padding is added.
            prop_assert!(payload.starts_with(expected) && payload.len() < expected.len() + 4);
        }
        prop_assert_eq!(found.lost, lost);
    }

    #[test]
    fn garbled_files_do_no_harm(
        shape in proptest::sample::select(shapes()),
        hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        keep in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let (version, layout, compression) = shape;
        let (pages, _) = pages(layout, 100, 300, 1);
        let file = TraceDat::new(version, layout)
            .compression(compression)
            .format("test", &format_text("ping", 100, &[Field::u32("n")]))
            .trace_clock("[local]")
            .guest("vm", 1, &[(0, 1)])
            .buffer("", "local", vec![(0, pages.clone())])
            .buffer("side", "local", vec![(1, pages)]);
        let mut bytes = file.to_bytes();
        if let Some(keep) = keep {
            bytes.truncate(keep.index(bytes.len()));
        }
        let len = bytes.len();
        for (at, byte) in hits {
            // Mostly in metadata: the pages are tested by themselves.
            if len > 0 { bytes[at.index(len)] = byte; }
        }
        if let Ok(capture) = open(bytes) {
            contents(&capture);
        }
    }
}
