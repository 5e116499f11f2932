//! Makes the first inputs of every target from the fixtures and the tests' own writers: `seeds DIRECTORY`.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[path = "../../benches/volume/container.rs"]
mod container;
#[path = "../../tests/support/perf_data_writer.rs"]
mod perf_data_writer;
#[path = "../../tests/support/perfetto_writer.rs"]
mod perfetto_writer;
#[path = "../../tests/support/recording.rs"]
mod recording;
#[path = "../../tests/support/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use container::{Container, take};
// Built as the targets are, so that nothing is built twice; what counts their coverage must be there.
use libfuzzer_sys as _;
use kvm_timeline::capture::{self, Capture, Chunk, Endian};
use kvm_timeline_fuzz::model::Shape;
use kvm_timeline_fuzz::ring_pages::{Layout, PageBuilder};
use kvm_timeline_fuzz::trace_dat_writer::Compression;
use kvm_timeline_fuzz::{join, model, pipeline, ring_pages, trace_dat_writer};
use perf_data_writer::{Mode, PerfData, Sample, tracing_data};
use perfetto_writer::{Kvm, Pack, Perfetto};
use recording::{GuestClock, Machine, Recorder, Writer};
use world::{Jumps, Plan, World};

/// Small sub-buffers make small files.
const SMALL: Layout = Layout { endian: Endian::Little, long_size: 8, sub_buffer: 1024 };

fn main() {
    let directory = PathBuf::from(std::env::args().nth(1).expect("a directory"));
    let seeds = Seeds { directory, scratch: std::env::temp_dir().join(format!("seeds-{}", std::process::id())) };
    fs::create_dir_all(&seeds.scratch).expect("a scratch directory");
    seeds.trace_dat();
    seeds.pipeline();
    seeds.formats();
    seeds.perf_data();
    seeds.perfetto();
    seeds.texts();
    seeds.archives();
    seeds.manifests();
    fs::remove_dir_all(&seeds.scratch).expect("removed");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn fixture(name: &str) -> PathBuf {
    root().join("fixtures").join(name)
}

struct Seeds {
    directory: PathBuf,
    scratch: PathBuf,
}

/// A piece: its letter and what it holds.
fn piece(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[kind][..], &parts.concat()].concat()
}

const SHAPE: Shape = Shape {
    version: 7,
    layout: SMALL,
    compression: Compression::None,
    compress_metadata: true,
    chunk_pages: 2,
    old_chunk_sizes: false,
};

/// Which events of a capture become part of a seed: of each CPU so many that are of use.
struct Cut<'a> {
    per_cpu: usize,
    wanted: &'a dyn Fn(&str, u64) -> bool,
}

/// A file in pieces, without its shape: formats of the events that are in it, options, texts, and its events anew.
fn dissect(path: &Path, cut: &Cut<'_>) -> Vec<Vec<u8>> {
    let capture = capture::open(path).expect("a capture");
    let file = Container::open(path).expect("a trace.dat");
    let mut used = BTreeSet::new();
    let mut buffers = Vec::new();
    for buffer in &capture.buffers {
        let clock = match &buffer.clock {
            capture::Clock::X86Tsc => "x86-tsc",
            capture::Clock::Other(name) => name,
        };
        buffers.push(piece(b'B', &[buffer.name.as_bytes(), b"\0", clock.as_bytes()]));
        for stream in &buffer.streams {
            buffers.push(piece(b'U', &[&(stream.cpu as u16).to_le_bytes()]));
            let mut pages = PageBuilder::new(SMALL);
            let mut left = cut.per_cpu;
            let mut chunk = Chunk::default();
            for index in 0..stream.source.chunks() {
                stream.source.read(index, &mut chunk).expect("readable");
                for record in &chunk.records {
                    let format = capture.formats.get(record.event).expect("a format");
                    let payload = chunk.payload(record);
                    if left > 0 && payload.len() < 600 && (cut.wanted)(&format.name, record.ts) {
                        used.insert(format.id);
                        pages.event(record.ts, payload);
                        left -= 1;
                    }
                }
            }
            for page in pages.finish() {
                // The length is put right when the file is made; losses are bits of it that are not.
                let length = u32::from_le_bytes(page[8..12].try_into().expect("four bytes")) as usize;
                buffers.push(piece(b'E', &[&page[..8], &page[16..16 + (length & 0xfff)]]));
            }
        }
    }
    let mut pieces = Vec::new();
    for option in file.options.iter().filter(|option| !matches!(option.id, 0 | 3 | 8 | 16..=22)) {
        let most = option.payload.len().min(300);
        pieces.push(piece(b'O', &[&option.id.to_le_bytes(), &option.payload[..most]]));
    }
    for section in &file.sections {
        if !matches!(section.id, 17 | 18 | 20 | 21) {
            continue;
        }
        let contents = file.contents(section).expect("readable");
        let mut rest = &contents[..];
        match section.id {
            17 => {
                let count = take::<4>(&mut rest).expect("a count");
                formats(&mut rest, b"ftrace", count, &used, &mut pieces);
            }
            18 => {
                for _ in 0..take::<4>(&mut rest).expect("a count") {
                    let end = rest.iter().position(|&byte| byte == 0).expect("a name");
                    let system = rest[..end].to_vec();
                    rest = &rest[end + 1..];
                    let count = take::<4>(&mut rest).expect("a count");
                    formats(&mut rest, &system, count, &used, &mut pieces);
                }
            }
            20 => pieces.push(piece(b'P', &[&rest[4..rest.len().min(404)]])),
            _ => pieces.push(piece(b'C', &[&rest[8..rest.len().min(408)]])),
        }
    }
    pieces.push(piece(b'K', &[b"ffffffff81000000 T _stext\nffffffff81000100 t a_function\n"]));
    pieces.extend(buffers);
    pieces
}

fn formats(rest: &mut &[u8], system: &[u8], count: u64, used: &BTreeSet<u16>, pieces: &mut Vec<Vec<u8>>) {
    for _ in 0..count {
        let size = take::<8>(rest).expect("a size") as usize;
        let (text, behind) = rest.split_at(size);
        *rest = behind;
        let id = String::from_utf8_lossy(text).lines().find_map(|line| line.strip_prefix("ID: ")?.parse().ok());
        if id.is_some_and(|id| used.contains(&id)) {
            pieces.push(piece(b'F', &[system, b"\0", text]));
        }
    }
}

fn shaped(shape: &Shape, pieces: &[Vec<u8>]) -> Vec<u8> {
    join(&[&[shape.write()], pieces].concat())
}

impl Seeds {
    fn write(&self, target: &str, name: &str, bytes: &[u8]) {
        let directory = self.directory.join(target);
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join(name), bytes).expect("written");
    }

    fn recorded(&self, recorder: &Recorder, plan: &Plan, seed: u64) -> (PathBuf, PathBuf) {
        let world = World::new(seed, plan);
        recorder.record(&world, &self.scratch);
        (self.scratch.join("host.dat"), self.scratch.join("guest-a.dat"))
    }

    fn trace_dat(&self) {
        let all: &dyn Fn(&str, u64) -> bool = &|_, _| true;
        let shapes = [
            ("v7", SHAPE),
            ("v7-zstd", Shape { compression: Compression::Zstd, ..SHAPE }),
            ("v7-zlib", Shape { compression: Compression::Zlib, old_chunk_sizes: true, ..SHAPE }),
            ("v7-bare", Shape { compression: Compression::Zstd, compress_metadata: false, ..SHAPE }),
            ("v6", Shape { version: 6, ..SHAPE }),
            ("v6-big", Shape { version: 6, layout: Layout { endian: Endian::Big, ..SMALL }, ..SHAPE }),
            ("v7-32", Shape { layout: Layout { long_size: 4, ..SMALL }, ..SHAPE }),
        ];
        for (name, file) in [
            ("host", "two-vm/host.dat"),
            ("guest", "unstable/guest-a.dat"),
            ("agent", "agent/host-a.dat"),
            ("function", "markers/function.dat"),
        ] {
            let path = fixture(file);
            if Container::open(&path).is_err() {
                continue;
            }
            let mut seen = BTreeMap::<String, usize>::new();
            // Of each event a few.
            let seen = std::cell::RefCell::new(&mut seen);
            let few = |name: &str, _: u64| {
                let mut seen = seen.borrow_mut();
                let count = seen.entry(name.to_owned()).or_default();
                *count += 1;
                *count <= 3
            };
            let pieces = dissect(&path, &Cut { per_cpu: 40, wanted: &few });
            for (shape_name, shape) in &shapes {
                let bytes = shaped(shape, &pieces);
                self.write("trace_dat", &format!("{name}-{shape_name}"), &bytes);
                self.write("any_bytes", &format!("{name}-{shape_name}"), &model::file(&bytes));
            }
        }
        let (host, guest) = self.recorded(
            &Recorder { time_shift: Some(trace_dat_writer::ShiftLayout::Fractions), tsc2nsec: true, ..recorder() },
            &plan(),
            1,
        );
        for (name, path) in [("world-host", host), ("world-guest", guest)] {
            let pieces = dissect(&path, &Cut { per_cpu: 30, wanted: all });
            for (shape_name, shape) in &shapes {
                self.write("trace_dat", &format!("{name}-{shape_name}"), &shaped(shape, &pieces));
            }
            let file = model::file(&shaped(&SHAPE, &pieces));
            // Sub-buffers as they stand in a file.
            let pages: Vec<u8> = capture_pages(&path);
            self.write("ring_buffer", name, &[&[0, 0], &pages[..]].concat());
            self.write("ring_buffer", &format!("{name}-big"), &[&[1, 0], &pages[..]].concat());
            self.write("any_bytes", name, &file);
        }
        let mut pages = PageBuilder::new(SMALL);
        pages.event(1 << 60, &[1, 0, 0, 0, 5, 0, 0, 0, 1, 2, 3, 4]);
        pages.absolute();
        pages.event((1 << 60) + 5, &[1; 200]);
        pages.discarded((1 << 60) + 9, 20);
        pages.event(1 << 30, &[2; 40]);
        pages.event(1 << 40, &[2; 40]);
        pages.lost(Some(7));
        pages.event(1 << 41, &[3; 8]);
        pages.lost(None);
        pages.event(1 << 42, &[3; 8]);
        self.write("ring_buffer", "all", &[&[0, 0], &pages.finish().concat()[..]].concat());
    }

    fn pipeline(&self) {
        let worlds: [(&str, Recorder, Plan); 6] = [
            ("plain", recorder(), plan()),
            ("jumps", recorder(), Plan { changes: 30, jumps: Jumps::Any, ..plan() }),
            ("process", Recorder { writer: Writer::Process, forks: false, debugfs: true, ..recorder() }, plan()),
            ("lost", recorder(), Plan { losses: 20, changes: 10, ..plan() }),
            ("local", Recorder { guest_clock: GuestClock::Local(12_345), ..recorder() }, plan()),
            ("arm64", Recorder { machine: Machine::Arm64("mono", "mono"), ..recorder() }, plan()),
        ];
        for (seed, (name, recorder, plan)) in (1..).zip(worlds) {
            let (host, guest) = self.recorded(&recorder, &plan, seed);
            let cut = Cut { per_cpu: 200, wanted: &|_, _| true };
            let shape = Shape { version: if seed % 2 == 0 { 6 } else { 7 }, ..SHAPE };
            let [host, guest] = [host, guest].map(|path| shaped(&shape, &dissect(&path, &cut)));
            let offsets = b"/sys/kernel/debug/kvm/950-9/vcpu0 tsc-offset=-30000000000 ratio= frac=\n".to_vec();
            let toml = b"tsc_hz = 2500000000\n[[vm]]\nname = \"a\"\npid = 950\n".to_vec();
            for options in [0_u8, 1 + 4 + 8, 2 + 16] {
                let (offsets, toml) = if options == 2 + 16 { (&offsets[..], &toml[..]) } else { (&[][..], &[][..]) };
                let parts = [&host[..], &guest[..], offsets, toml, &[options]];
                self.write("pipeline", &format!("{name}-{options}"), &parts.join(pipeline::PART));
            }
        }
        // A real host and a real guest, a few milliseconds of both. The offset is that of the fixture's debugfs file.
        let offset = 33_610_754_878_u64;
        let guest = capture::open(fixture("two-vm/guest-a.dat")).expect("a capture");
        let middle = middle(&guest);
        let of_host = |name: &str, ts: u64| {
            name == "kvm_write_tsc_offset" || (middle + offset).checked_sub(1_000_000).is_some_and(|from| ts > from)
        };
        let cut = Cut { per_cpu: 150, wanted: &of_host };
        let host = shaped(&SHAPE, &dissect(&fixture("two-vm/host.dat"), &cut));
        let cut = Cut { per_cpu: 60, wanted: &|_, ts| ts > middle };
        let guest = shaped(&SHAPE, &dissect(&fixture("two-vm/guest-a.dat"), &cut));
        for options in [0_u8, 1 + 2 + 8 + 8] {
            let parts = [&host[..], &guest[..], &[], &[], &[options]];
            self.write("pipeline", &format!("real-{options}"), &parts.join(pipeline::PART));
        }
    }

    fn formats(&self) {
        let payload: Vec<u8> = (0..96_u8).map(|n| n.wrapping_mul(37)).collect();
        for entry in fs::read_dir(root().join("tests/data/formats")).expect("formats") {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = fs::read(&path).expect("readable");
            self.write("event_format", &name, &join(&[text.clone(), payload.clone(), payload[..20].to_vec()]));
            let text = String::from_utf8_lossy(&text).into_owned();
            if let Some((_, print)) = text.split_once("print fmt: ") {
                self.write("print_format", &name, &join(&[print.as_bytes().to_vec(), payload.clone()]));
            }
        }
        let prints = [
            "\"%d %s %llx\", REC->b, REC->comm, REC->a",
            "\"%s\", __get_str(s)",
            "\"%s %d\", __get_rel_str(r), __get_dynamic_array_len(s)",
            "\"%s\", __print_symbolic(REC->a & 0xff, { 0, \"zero\" }, { 1, \"one\" })",
            "\"%s\", __print_flags(REC->b, \"|\", { 1, \"A\" }, { 2, \"B\" })",
            "\"%s\", __print_hex(REC->x, 4)",
            "\"%s\", __print_array(REC->x, 4, 4)",
            "\"%s\", __print_hex_str(__get_dynamic_array(s), __get_dynamic_array_len(s))",
            "\"%pI4 %pI6c %pM %pU %pS %ps %pK\", &REC->x, REC->x, REC->comm, REC->x, REC->p, (void *)REC->a, REC->p",
            "\"%*pbl %s\", 64, __get_bitmask(m), __get_cpumask(m)",
            "\"%08x %-10d %+d %#llo %c %%\", (u8)REC->a, REC->b << 3, -REC->b, REC->a, REC->c",
            "\"%s\", REC->a ? \"yes\" : REC->b > 3 && REC->c != 'x' ? \"maybe\" : \"no\"",
            "\"%u.%03u\", REC->a / 1000, REC->a % 1000",
            "\"%.*s %*d\", REC->b, __get_str(s), REC->b, REC->c",
            "\"%d\", sizeof(u64) + htonl(REC->b) + ntohs(REC->c) + ((u32)(REC->a >> 32))",
            "\"%ld %s\", __print_ns_to_secs(REC->a), __print_ns_without_secs(REC->a)",
        ];
        for (number, print) in prints.iter().enumerate() {
            self.write("print_format", &format!("own-{number}"), &join(&[print.as_bytes().to_vec(), payload.clone()]));
        }
    }

    fn perf_data(&self) {
        for name in ["software.data", "zstd.data"] {
            self.write("perf_data", name, &fs::read(fixture("perf").join(name)).expect("readable"));
        }
        let formats = ["sched.sched_switch", "kvm.kvm_entry", "kvm.kvm_exit"].map(|name| {
            let text = fs::read_to_string(root().join("tests/data/formats").join(format!("{name}.txt"))).expect("a format");
            let id: u16 = text.lines().find_map(|l| l.strip_prefix("ID: ")?.parse().ok()).expect("an id");
            (name, id, text)
        });
        for (name, big, mode) in [
            ("file", false, Mode::File),
            ("pipe", false, Mode::Pipe),
            ("packed", false, Mode::Zstd),
            ("big", true, Mode::File),
        ] {
            let mut file = PerfData::new();
            (file.big, file.mode) = (big, mode);
            file.tracing_data = tracing_data(
                big,
                &[("sched", vec![formats[0].2.clone()]), ("kvm", vec![formats[1].2.clone(), formats[2].2.clone()])],
            );
            file.events = formats.iter().map(|(name, id, _)| (*id, name.replacen('.', ":", 1))).collect();
            file.comms = vec![(10, 10, "qemu".into()), (10, 11, "CPU 0/KVM".into())];
            file.time_conv = Some((31, (1_000_000_000 << 31) / 2_500_000_000, 77));
            file.clockid = (name == "pipe").then_some(1);
            file.lost = vec![(1, 2500, 5)];
            for number in 0..30_u64 {
                let id = formats[number as usize % 3].1;
                let mut raw = if big { id.to_be_bytes().to_vec() } else { id.to_le_bytes().to_vec() };
                raw.resize(72, number as u8);
                file.samples.push(Sample { cpu: (number % 2) as u32, time: 1000 + number * 100, tid: 11, raw });
            }
            file.round = 1000;
            self.write("perf_data", name, &file.to_bytes());
        }
    }

    fn perfetto(&self) {
        let capture = capture::open(fixture("two-vm/host.dat")).expect("a capture");
        let mut events = BTreeMap::new();
        for stream in &capture.buffers[0].streams {
            let mut chunk = Chunk::default();
            stream.source.read(stream.source.chunks() / 2, &mut chunk).expect("readable");
            let list = chunk.records.iter().take(60).map(|r| (r.ts / 3, r.event, chunk.payload(r).to_vec()));
            events.insert(stream.cpu, list.collect::<Vec<_>>());
        }
        let first = events.values().flatten().map(|event| event.0).min().expect("an event");
        for (name, kvm, pack, compact) in [
            ("real", Kvm::Real, Pack::Plain, true),
            ("generic", Kvm::Generic, Pack::Deflate, false),
            ("described", Kvm::Described, Pack::Zstd, true),
            ("described-plain", Kvm::Described, Pack::Plain, false),
            ("generic-plain", Kvm::Generic, Pack::Plain, true),
        ] {
            let mut trace = Perfetto::new();
            (trace.kvm, trace.pack, trace.compact) = (kvm, pack, compact);
            trace.events.clone_from(&events);
            trace.snapshots = (0..3).map(|n| (first + n * 1000, (first + n * 1000) * 3)).collect();
            trace.threads = vec![(197, 205, "CPU 0/KVM".into())];
            trace.lost = vec![(0, first)];
            self.write("perfetto", name, &trace.to_bytes(&capture));
        }
    }

    fn texts(&self) {
        let archive = capture::source::FileSource::open(fixture("text/text.tar.xz")).expect("a fixture");
        let name = Path::new("text.tar.xz");
        let budget = capture::archive::Budget::new(1 << 30);
        let packing = capture::archive::Packing::Xz;
        let opened = capture::archive::open(name, std::sync::Arc::new(archive), packing, &budget, &|| false);
        let Ok(capture::archive::Unpacked::Tree(tree, _)) = opened else { panic!("no tree") };
        let read = |path: &str, most: usize| -> Vec<u8> {
            let source = tree.open(Path::new(path)).expect("a member");
            let mut bytes = vec![0; source.len().min(most as u64) as usize];
            source.read_exact_at(&mut bytes, 0).expect("readable");
            bytes
        };
        let text = read("guest-a/trace.txt", 4000);
        self.write("text", "kernel", &text);
        self.write("text", "instance", &read("host/instances/tsc_offset/trace.txt", 3000));
        let own = include_str!("../../src/capture/text/tests/mod.rs");
        let own: String = own.lines().skip_while(|l| !l.starts_with("# tracer")).take_while(|l| *l != "\";").fold(
            String::new(),
            |text, line| text + line + "\n",
        );
        self.write("text", "all", own.as_bytes());
        let report = "cpus=2\n          init-1     [001]  6124.471838: sched_switch:         init:1 [120] R ==> CPU 0/KVM:204 [120]\n\
            CPU:1 [EVENTS DROPPED]\n CPU 0/KVM-204   [000] 69743647960: kvm_entry:            vcpu 0, rip 0xffffffff83e6a13b\n\
            CPU 0/KVM-204   [000] 69744065832: kvm_exit:             vcpu 0 reason vintr rip 0xffffffff843a95cc info1 0x0\n";
        self.write("text", "report", report.as_bytes());

        let file = |path: &str, bytes: &[u8]| [path.as_bytes(), b"\0", bytes].concat();
        let whole = |path: &str| file(path.strip_prefix("guest-a/").unwrap_or(path), &read(path, 8192));
        let mut tree: Vec<Vec<u8>> = [
            "guest-a/events/header_page",
            "guest-a/events/irq/irq_handler_entry/format",
            "guest-a/events/irq/softirq_entry/format",
            "guest-a/per_cpu/cpu0/stats",
            "guest-a/per_cpu/cpu0/trace_pipe_raw",
            "guest-a/per_cpu/cpu1/trace_pipe_raw",
            "guest-a/trace_clock",
        ]
        .map(whole)
        .to_vec();
        self.write("tracefs", "raw", &join(&tree));
        tree.push(file("trace", &text));
        tree.push(file("saved_cmdlines", b"1 init\n204 CPU 0/KVM\n"));
        tree.push(file("saved_tgids", b"204 203\n"));
        tree.push(file("printk_formats", b"0xffffffff82 : \"a %d\\n\"\n"));
        tree.push(file("buffer_subbuf_size_kb", b"4\n"));
        tree.push(file("instances/x/trace", own.as_bytes()));
        tree.push(file("instances/x/trace_clock", b"local [x86-tsc]\n"));
        self.write("tracefs", "raw-and-text", &join(&tree));
        let texts = [file("trace", &text), file("trace_clock", b"[x86-tsc]\n"), file("per_cpu/cpu0/stats", b"entries: 5\n")];
        self.write("tracefs", "text", &join(&texts));
    }

    fn archives(&self) {
        let small = b"0123456789abcdef".repeat(20);
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind) in [
            ("a/b.dat", tar::EntryType::Regular),
            ("a", tar::EntryType::Directory),
            ("link", tar::EntryType::Link),
            ("sym", tar::EntryType::Symlink),
            ("dev", tar::EntryType::Char),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o644);
            let data: &[u8] = if kind == tar::EntryType::Regular { &small } else { b"" };
            header.set_size(data.len() as u64);
            if matches!(kind, tar::EntryType::Link | tar::EntryType::Symlink) {
                header.set_link_name("a/b.dat").expect("a name");
            }
            tar.append_data(&mut header, name, data).expect("added");
        }
        let long = "d/".repeat(80) + "name";
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        tar.append_data(&mut header, &long, &b"abc"[..]).expect("added");
        let tar = tar.into_inner().expect("a tar");
        for mode in 0..4_u8 {
            self.write("archive", &format!("tar-{mode}"), &[&[mode], &tar[..]].concat());
        }
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, method) in [("a/stored", zip::CompressionMethod::Stored), ("b", zip::CompressionMethod::Deflated)] {
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            zip.start_file(name, options).expect("started");
            zip.write_all(&small).expect("written");
        }
        let zip = zip.finish().expect("a zip").into_inner();
        self.write("archive", "zip", &[&[0], &zip[..]].concat());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&small).expect("written");
        self.write("archive", "gzip", &[&[0], &gzip.finish().expect("gzip")[..]].concat());
        let zstd = zstd::encode_all(&small[..], 3).expect("zstd");
        self.write("archive", "zstd", &[&[0], &zstd[..]].concat());
        // "hello" and a line end, by xz and by bzip2.
        let xz = [
            0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01, 0x16, 0x00,
            0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x05, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x0a, 0x00, 0x00, 0x00,
            0xa5, 0x60, 0x97, 0xf1, 0x94, 0xf6, 0xfd, 0xe0, 0x00, 0x01, 0x1e, 0x06, 0xc1, 0x2f, 0xa4, 0x1d, 0x1f, 0xb6,
            0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
        ];
        self.write("archive", "xz", &[&[0], &xz[..]].concat());
        let bzip2 = [
            0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, 0xc1, 0xc0, 0x80, 0xe2, 0x00, 0x00, 0x01, 0x41,
            0x00, 0x00, 0x10, 0x02, 0x44, 0xa0, 0x00, 0x30, 0xcd, 0x00, 0xc3, 0x46, 0x29, 0x97, 0x17, 0x72, 0x45, 0x38,
            0x50, 0x90, 0xc1, 0xc0, 0x80, 0xe2,
        ];
        self.write("archive", "bzip2", &[&[0], &bzip2[..]].concat());
    }

    fn manifests(&self) {
        let text = "notes = \"database stalls\"\nwall_clock = \"2026-11-26T15:00:00Z\"\ntsc_hz = 2596116000\n\
            [[file]]\npath = \"host.dat\"\nrole = \"host\"\n[[file]]\npath = \"db/./db.dat\"\nrole = \"guest\"\nvm = \"db\"\n\
            [[file]]\npath = \"x\"\nrole = \"ignore\"\n[[vm]]\nname = \"db\"\npid = 1234\nthreads = [1240, 1241]\n\
            offsets = [-33610754878, \"18446744040098796738\"]\n[[vm]]\nname = \"arm\"\ncntvoff = [5, 0x10]\n";
        self.write("manifest", "all", text.as_bytes());
    }
}

fn recorder() -> Recorder {
    Recorder { compression: Compression::None, layout: SMALL, padding: 4, ..Recorder::default() }
}

/// Some run windows of one VM.
fn plan() -> Plan {
    Plan { vcpus: 2, cpus: 2, windows: 12, busy: 90, ..Plan::default() }
}

/// Some sub-buffers of a file that is not compressed.
fn capture_pages(path: &Path) -> Vec<u8> {
    let file = Container::open(path).expect("a trace.dat");
    let buffer = &file.buffers[0];
    let cpu = buffer.cpus.iter().find(|cpu| cpu.size > 0).expect("a CPU");
    file.read(cpu.at, (cpu.size as usize).min(4096)).expect("readable")
}

/// The stamp in the middle of a capture.
fn middle(capture: &Capture) -> u64 {
    let stream = &capture.buffers[0].streams[0];
    let mut chunk = Chunk::default();
    stream.source.read(stream.source.chunks() / 2, &mut chunk).expect("readable");
    chunk.records[chunk.records.len() / 2].ts
}
