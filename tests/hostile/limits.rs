//! What bounds a small file that would make a lot: each limit holds, says how to raise it, and can be raised.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use kvm_timeline::capture::archive::{self, Budget, Unpacked};
use kvm_timeline::capture::limits::{Limit, Limits};
use kvm_timeline::capture::{self, Capture, Chunk};
use kvm_timeline::error::{Error, ErrorKind};
use kvm_timeline::monitor::Monitor;
use kvm_timeline::session::Session;
use kvm_timeline::session::request::Request;

use crate::outcome::{Outcome, directory, outcome};
use crate::perf_data_writer::{PerfData, Sample, tracing_data};
use crate::recording::Recorder;
use crate::ring_pages::{Layout, PageBuilder};
use crate::trace_dat_writer::{Compression, Field, Payload, TraceDat, format_text, format_text_with};
use crate::world::{Plan, World};

fn open(bytes: &[u8], limits: &Limits) -> Result<Capture, Error> {
    capture::open_source_within(Path::new("x"), Arc::new(bytes.to_vec()), limits)
}

fn usual(bytes: &[u8]) -> Result<Capture, Error> {
    open(bytes, &Limits::default())
}

fn refused(result: Result<Capture, Error>, code: &str) -> Error {
    let error = result.err().expect("refused");
    assert_eq!((error.kind(), error.code().name().as_str()), (ErrorKind::Limit, code), "{error}");
    let raise = code.replace("limit-", "--limit ") + "=";
    let hint = error.hint_text().expect("a hint");
    assert!(hint.contains(&raise) || hint.contains("--max-unpacked"), "{hint}");
    assert!(error.file().is_some(), "{error}");
    error
}

fn damaged(capture: &Capture, what: &str) -> bool {
    capture.info.damaged.iter().any(|sentence| sentence.contains(what))
}

const LAYOUT: Layout = Layout::X86_64;

fn ping(pages: &mut PageBuilder, ts: u64) {
    pages.event(ts, &Payload::new(LAYOUT, 100, 42).u32(7).bytes());
}

/// A file with one event.
fn small(version: u8) -> TraceDat {
    let mut pages = PageBuilder::new(LAYOUT);
    ping(&mut pages, 1000);
    TraceDat::new(version, LAYOUT)
        .format("test", &format_text("ping", 100, &[Field::u32("n")]))
        .trace_clock("[x86-tsc]")
        .buffer("", "x86-tsc", vec![(0, pages.finish())])
}

#[test]
fn chunks_that_unpack_to_thousands_of_times_their_size() {
    let layout = Layout { sub_buffer: 65536, ..LAYOUT };
    for compression in [Compression::Zstd, Compression::Zlib] {
        let file = TraceDat::new(7, layout)
            .compression(compression)
            .chunk_pages(64)
            .format("test", &format_text("ping", 100, &[Field::u32("n")]))
            .buffer("", "x86-tsc", vec![(0, vec![vec![0; 65536]; 64])])
            .to_bytes();
        let few = Limits::default().with(Limit::Ratio, 100);
        let capture = open(&file, &few).expect("opens");
        assert!(damaged(&capture, "--limit ratio="), "{:?}", capture.info.damaged);
        assert!(capture.buffers[0].streams.is_empty());
        let capture = open(&file, &Limits::default().with(Limit::Ratio, 1 << 20)).expect("opens");
        assert_eq!(capture.info.damaged, Vec::<String>::new());
        let capture = open(&file, &few.with(Limit::Chunk, 1 << 20)).expect("opens");
        assert!(damaged(&capture, "--limit chunk="), "{:?}", capture.info.damaged);
    }
}

#[test]
fn a_chunk_that_is_larger_than_it_says() {
    let mut pages = PageBuilder::new(LAYOUT);
    (0..2000).for_each(|n| ping(&mut pages, n * 1000));
    let bytes = TraceDat::new(7, LAYOUT)
        .compression(Compression::Zstd)
        .format("test", &format_text("ping", 100, &[Field::u32("n")]))
        .buffer("", "x86-tsc", vec![(0, pages.finish())])
        .to_bytes();
    let capture = usual(&bytes).expect("opens");
    let mut chunk = Chunk::default();
    capture.buffers[0].streams[0].source.read(0, &mut chunk).expect("reads");
    let size = (chunk.data.len() as u32).to_le_bytes();
    // The last place of that number is the chunk's header: it now says 4096.
    let at = bytes.windows(4).rposition(|window| window == size).expect("the size");
    let mut lying = bytes.clone();
    lying[at..at + 4].copy_from_slice(&4096_u32.to_le_bytes());
    let capture = usual(&lying).expect("opens");
    let damage: u64 = (0..capture.buffers[0].streams[0].source.chunks())
        .map(|index| {
            capture.buffers[0].streams[0].source.read(index, &mut chunk).expect("reads");
            assert!(chunk.data.len() <= 64 << 20);
            chunk.damaged
        })
        .sum();
    assert!(damage > 0);
}

#[test]
fn sections_and_texts() {
    let text = "0x1 : \"x\"\n".repeat(200_000);
    let file = small(7).compression(Compression::Zstd).printk(&text).to_bytes();
    let less = Limits::default().with(Limit::Section, 1 << 20);
    let capture = open(&file, &less).expect("events are worth more than texts");
    assert!(damaged(&capture, "more than the limit of 1048576"), "{:?}", capture.info.damaged);
    assert_eq!(usual(&file).expect("opens").info.damaged, Vec::<String>::new());
    // In version 6, what stands behind cannot be found any more.
    let file = small(6).printk(&text).to_bytes();
    refused(open(&file, &less), "limit-section");
    assert!(usual(&file).is_ok());
}

#[test]
fn all_sections_together() {
    let text = "0x1 : \"x\"\n".repeat(200_000);
    let file = small(7).compression(Compression::Zstd).printk(&text).to_bytes();
    let less = Limits::default().with(Limit::Unpacked, 1 << 20);
    let capture = open(&file, &less).expect("events are worth more than texts");
    assert!(damaged(&capture, "unpacks to more than 1 MiB"), "{:?}", capture.info.damaged);
}

/// A section that a thousand options name is read once.
#[test]
fn one_section_named_again_and_again() {
    let text = "0x1 : \"x\"\n".repeat(100_000);
    let plain = small(7).printk(&text).to_bytes();
    // The printk section is the one of number 20.
    let section = (18..plain.len() - 16)
        .find(|&at| plain[at..at + 2] == [20, 0] && plain[at + 4..at + 8] == [0xff; 4])
        .expect("the section") as u64;
    let mut file = small(7).printk(&text);
    for _ in 0..20_000 {
        file = file.option(20, section.to_le_bytes());
    }
    let started = std::time::Instant::now();
    assert_eq!(usual(&file.to_bytes()).expect("opens").info.printk_formats.len(), 100_000);
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

#[test]
fn descriptions_of_events() {
    let fields: Vec<Field> = (0..5000).map(|n| Field::u32(&format!("f{n}"))).collect();
    let wide = format_text_with("wide", 101, &fields, "\"%d\", REC->f1");
    let long = format_text("long", 102, &[Field::u32("n")]) + &" ".repeat(1 << 20);
    let file = small(7).format("test", &wide).format("test", &long).to_bytes();
    let capture = usual(&file).expect("opens");
    assert!(
        capture.info.warnings.iter().any(|w| w.contains("more than the limit of 4096")),
        "{:?}",
        capture.info.warnings
    );
    assert!(damaged(&capture, "--limit format="), "{:?}", capture.info.damaged);
    assert_eq!(capture.formats.events().len(), 1);
    let more = Limits::default().with(Limit::Fields, 6000).with(Limit::Format, 2 << 20);
    let capture = open(&file, &more).expect("opens");
    assert_eq!(capture.info.damaged, Vec::<String>::new());
    assert_eq!(capture.formats.events().len(), 3);
}

/// The kernel's ids are of 16 bits: a million descriptions are no more than 65,535 events.
#[test]
fn a_million_descriptions() {
    let mut file = small(7);
    for id in 0..70_000_u32 {
        let text = format_text("ping", 0, &[]).replace("ID: 0", &format!("ID: {id}"));
        file = file.format("test", &text);
    }
    let capture = usual(&file.to_bytes()).expect("opens");
    assert!(capture.formats.events().len() <= 65_535);
    assert!(capture.info.warnings.len() <= 101);
}

#[test]
fn four_thousand_million_cpus() {
    // Version 6: the number in front of the options, and a CPUCOUNT option.
    let mut bytes = small(6).option(8, u32::MAX.to_le_bytes()).to_bytes();
    let at = bytes.windows(10).position(|window| window == b"options  \0").expect("the mark") - 4;
    bytes[at..at + 4].fill(0xff);
    let error = refused(usual(&bytes), "limit-cpus");
    assert!(error.offset().is_some());
    // Version 7: a CPU of that number.
    let sound = small(7).to_bytes();
    let capture = usual(&sound).expect("opens");
    assert_eq!(capture.buffers[0].streams[0].cpu, 0);
    let mut bytes = sound.clone();
    // The option: its clock's name, page size, one CPU, and that CPU's number.
    let clock = bytes.windows(8).rposition(|window| window == b"x86-tsc\0").expect("the clock") + 8;
    bytes[clock + 8..clock + 12].fill(0xff);
    let capture = usual(&bytes).expect("opens");
    assert!(damaged(&capture, "CPUs: 4294967296, more than the limit of 65536"), "{:?}", capture.info.damaged);
    // As many as they say.
    bytes[clock + 8..clock + 12].copy_from_slice(&70_000_u32.to_le_bytes());
    let capture = open(&bytes, &Limits::default().with(Limit::Cpus, 100_000)).expect("opens");
    assert_eq!(capture.buffers[0].streams[0].cpu, 70_000);
    // CPUCOUNT alone makes nothing.
    let capture = usual(&small(7).option(8, u32::MAX.to_le_bytes()).to_bytes()).expect("opens");
    assert_eq!(capture.buffers[0].streams.len(), 1);
}

#[test]
fn chains_of_options() {
    // Every buffer has an options section of its own.
    let mut file = small(7);
    for number in 0..5000 {
        file = file.buffer(&format!("b{number}"), "local", Vec::new());
    }
    let bytes = file.to_bytes();
    let error = refused(usual(&bytes), "limit-options");
    assert!(error.offset().is_some(), "{error}");
    assert!(open(&bytes, &Limits::default().with(Limit::Options, 10_000)).is_ok());
    // The last link leads back to the first section.
    let mut bytes = small(7).to_bytes();
    let first = bytes[18..].iter().scan(0, |nuls, &byte| {
        *nuls += u32::from(byte == 0);
        Some(*nuls)
    });
    let link = 18 + first.take_while(|&nuls| nuls < 2).count() + 1;
    let start: [u8; 8] = bytes[link..link + 8].try_into().expect("eight bytes");
    let end = bytes.len();
    bytes[end - 8..].copy_from_slice(&start);
    let capture = usual(&bytes).expect("opens");
    assert!(damaged(&capture, "runs in a circle"), "{:?}", capture.info.damaged);
    assert_eq!(capture.buffers[0].streams.len(), 1);
}

#[test]
fn events_of_perf() {
    let format = format_text("ping", 100, &[Field::u32("n")]);
    let mut file = PerfData::new();
    file.tracing_data = tracing_data(false, &[("test", vec![format])]);
    file.events = vec![(100, "test:ping".into()), (101, "test:pong".into()), (102, "test:pang".into())];
    let raw = Payload::new(LAYOUT, 100, 42).u32(7).bytes();
    file.samples = vec![Sample { cpu: 0, time: 5, tid: 42, raw }];
    let bytes = file.to_bytes();
    refused(open(&bytes, &Limits::default().with(Limit::Ids, 2)), "limit-ids");
    assert!(usual(&bytes).is_ok());
}

/// Field 1 or 2 with bytes in it, as protobuf writes it.
fn field(number: u8, body: &[u8]) -> Vec<u8> {
    let mut length = body.len();
    let mut bytes = vec![number << 3 | 2];
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    [&bytes, body].concat()
}

#[test]
fn packets_of_perfetto() {
    // A packet with one bundle of CPU 0, with one event: time, thread, and what was printed.
    let packet = |time: u8, text: &str| {
        let print = [&[0x08, 1], field(2, text.as_bytes()).as_slice()].concat();
        let event = [&[0x08, time, 0x10, 42], field(3, &print).as_slice()].concat();
        field(1, &field(1, &[&[0x08, 0], field(2, &event).as_slice()].concat()))
    };
    let bytes = [packet(1, "first"), packet(2, &"long ".repeat(1000)), packet(3, "last")].concat();
    for (most, too_large) in [(4096, true), (8192, false)] {
        let capture = open(&bytes, &Limits::default().with(Limit::Packet, most)).expect("opens");
        let source = &capture.buffers[0].streams[0].source;
        let (mut chunk, mut data) = (Chunk::default(), Vec::new());
        for index in 0..source.chunks() {
            source.read(index, &mut chunk).expect("reads");
            data.extend_from_slice(&chunk.data);
        }
        let holds = |text: &str| data.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(holds("first") && holds("last"), "{most}");
        assert_eq!(holds("long long"), !too_large, "{most}");
        let said = damaged(&capture, "1 packets are too large") && damaged(&capture, "--limit packet=");
        assert_eq!(said, too_large, "{:?}", capture.info.damaged);
    }
}

fn tar(members: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, data) in members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(data.len() as u64);
        // As it is: the writer would refuse some of these names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if kind.is_hard_link() || kind.is_symlink() {
            header.set_link_name("/etc/passwd").expect("a name");
        }
        header.set_cksum();
        tar.append(&header, *data).expect("appended");
    }
    tar.into_inner().expect("a tar")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("gzip")
}

fn unpack(bytes: &[u8], limits: &Limits) -> Result<Unpacked, Error> {
    let packing = archive::packing(bytes).expect("an archive");
    archive::open(Path::new("x"), Arc::new(bytes.to_vec()), packing, &Budget::within(0, limits), &|| false)
}

fn unpack_error(bytes: &[u8], limits: &Limits, code: &str) {
    let error = unpack(bytes, limits).err().expect("refused");
    assert_eq!(error.code().name(), code, "{error}");
    assert!(error.file().is_some() && error.hint_text().is_some(), "{error}");
}

#[test]
fn bombs() {
    let zeros = vec![0; 8 << 20];
    let few = Limits::default().with(Limit::Unpacked, 4 << 20);
    for bytes in [gzip(&zeros), zstd::encode_all(&zeros[..], 3).expect("zstd"), gzip(&gzip(&zeros))] {
        if bytes.len() > 1000 {
            unpack_error(&bytes, &few, "limit-unpacked");
        }
        assert!(unpack(&bytes, &Limits::default()).is_ok());
    }
    let packed = gzip(&tar(&[("a", tar::EntryType::Regular, &zeros)]));
    unpack_error(&packed, &few, "limit-unpacked");
}

#[test]
fn members_of_archives() {
    let regular = tar::EntryType::Regular;
    let many: Vec<_> = (0..30).map(|_| ("same", regular, &b"x"[..])).collect();
    for bytes in [tar(&many), gzip(&tar(&many))] {
        unpack_error(&bytes, &Limits::default().with(Limit::Members, 20), "limit-members");
        let Ok(Unpacked::Tree(tree, _)) = unpack(&bytes, &Limits::default()) else { panic!("no tree") };
        // Of one name, the last one counts, as for tar.
        assert_eq!(tree.list(Path::new("")).expect("listed").len(), 1);
    }
    // Links, devices and the like are members too, though they are left out.
    let devices: Vec<_> = (0..30).map(|_| ("dev", tar::EntryType::Char, &b""[..])).collect();
    unpack_error(&tar(&devices), &Limits::default().with(Limit::Members, 20), "limit-members");
}

#[test]
fn names_that_lead_elsewhere() {
    let bytes = tar(&[
        ("../../escape", tar::EntryType::Regular, b"1"),
        ("a/../../escape", tar::EntryType::Regular, b"2"),
        ("/etc/absolute", tar::EntryType::Regular, b"3"),
        ("hard", tar::EntryType::Link, b""),
        ("soft", tar::EntryType::Symlink, b""),
        ("char", tar::EntryType::Char, b""),
        ("block", tar::EntryType::Block, b""),
        ("pipe", tar::EntryType::Fifo, b""),
        ("good", tar::EntryType::Regular, b"4"),
    ]);
    for bytes in [bytes.clone(), gzip(&bytes)] {
        let Ok(Unpacked::Tree(tree, notes)) = unpack(&bytes, &Limits::default()) else { panic!("no tree") };
        let names: Vec<_> = tree.list(Path::new("")).expect("listed").into_iter().map(|e| e.name).collect();
        // An absolute name loses its slash, as for tar; nothing is ever written under any of these.
        assert_eq!(names, ["etc", "good"]);
        assert_eq!(notes.len(), 7, "{notes:?}");
    }
}

#[test]
fn headers_of_a_member() {
    // A long name of two megabytes, as GNU tar writes it.
    let name = vec![b'n'; 2 << 20];
    let bytes = tar(&[("././@LongLink", tar::EntryType::GNULongName, &name), ("n", tar::EntryType::Regular, b"x")]);
    for bytes in [bytes.clone(), gzip(&bytes)] {
        unpack_error(&bytes, &Limits::default(), "limit-headers");
        let Ok(Unpacked::Tree(tree, notes)) = unpack(&bytes, &Limits::default().with(Limit::Headers, 4 << 20)) else {
            panic!("no tree")
        };
        assert!(notes[0].contains("its name is too long"), "{notes:?}");
        assert!(tree.list(Path::new("")).expect("listed").is_empty());
    }
}

#[test]
fn archives_in_archives() {
    let plan = Plan { windows: 10, ..Plan::default() };
    let world = World::new(3, &plan);
    let mut bytes = Recorder::default().host(&world);
    for _ in 0..5 {
        bytes = gzip(&bytes);
    }
    let place = directory(&[("host.dat.gz", &bytes)]);
    let request = |limits| Request { paths: vec![place.path().to_path_buf()], limits, ..Request::default() };
    let open = |limits| Session::open(&request(limits), &Monitor::silent());
    let error = open(Limits::default()).err().expect("too deep");
    assert!(error.hint_text().unwrap_or_default().contains("--limit nesting="), "{:?}", error.hint_text());
    assert!(open(Limits::default().with(Limit::Nesting, 6)).is_ok());
}

/// Time stamps anywhere on the axis of 64 bits: what cannot be drawn is counted, nothing wraps around.
#[test]
fn stamps_beyond_the_axis() {
    for start in [1, 1 << 40, (1 << 63) - (1 << 33), 1 << 63, u64::MAX - (1 << 35)] {
        let plan = Plan { windows: 20, start, ..Plan::default() };
        let world = World::new(9, &plan);
        let recorder = Recorder { tsc2nsec: true, ..Recorder::default() };
        let (host, guest) = (recorder.host(&world), recorder.guest(&world.vms[0], 0, None));
        let place = directory(&[("host.dat", &host), ("guest.dat", &guest)]);
        let result = outcome(place.path());
        assert!(matches!(result, Outcome::Timeline(_)), "{start:#x}: {result:?}");
    }
}

/// Strings of a hundred thousand bytes: of a VM, of a buffer, of a clock, of an event.
#[test]
fn giant_strings() {
    let giant = "x".repeat(100_000);
    let world = World::new(4, &Plan { windows: 10, ..Plan::default() });
    let host = Recorder::default().host(&world);
    let mut pages = PageBuilder::new(LAYOUT);
    ping(&mut pages, 1000);
    let guest = TraceDat::new(7, LAYOUT)
        .format("test", &format_text(&giant, 100, &[Field::u32(&giant)]))
        .guest(&giant, 5, &[(u32::MAX, i32::MIN)])
        .uname(&giant)
        .cmdlines(&format!("42 {giant}\n"))
        .buffer("", "x86-tsc", vec![(0, pages.finish())])
        .buffer(&giant, &giant, Vec::new())
        .to_bytes();
    let place = directory(&[("host.dat", &host), ("guest.dat", &guest)]);
    // Whatever becomes of it, it is quick and whole.
    let _ = outcome(place.path());
    let capture = usual(&guest).expect("opens");
    assert_eq!(capture.buffers.len(), 2);
}
