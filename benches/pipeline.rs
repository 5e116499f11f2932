//! Events per second of each stage, on a real capture: read, unpack and walk its pages, decode fields, map to host
//! time, interpret, encode, and all of it as `convert` does it.
//!
//! `cargo bench --bench pipeline [CAPTURE]`; without a path `fixtures/two-vm`. Each figure is the median of five runs on
//! one thread.

#![allow(missing_docs, clippy::print_stdout)]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kvm_timeline::capture::ring_buffer::{EventIds, Origin, PageLayout, walk};
use kvm_timeline::capture::{Chunk, Endian, Record};
use kvm_timeline::clock::stamps::MapStamps;
use kvm_timeline::convert::{ConvertOptions, convert, interpret};
use kvm_timeline::export::Format;
use kvm_timeline::monitor::Monitor;
use kvm_timeline::pipeline::lanes::lanes;
use kvm_timeline::selection::{Selection, Span};
use kvm_timeline::session::Session;
use kvm_timeline::session::request::Request;
use kvm_timeline::timeline::setup::DrawOptions;

const RUNS: usize = 5;

/// The median of five runs.
fn median(mut run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..RUNS).map(|_| run()).collect();
    times.sort_unstable();
    times[RUNS / 2]
}

fn show(stage: &str, events: u64, time: Duration) {
    let ns = time.as_nanos() as u64 / events.max(1);
    let rate = events as u128 * 1_000_000_000 / time.as_nanos().max(1);
    println!("{stage:<28} {ns:>6} ns/event {:>12} events/s", rate);
}

fn main() {
    let path = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let path =
        path.map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/two-vm")), PathBuf::from);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    pool.install(|| measure(path));
}

fn measure(path: PathBuf) {
    let monitor = Monitor::silent();
    let request = Request { paths: vec![path.clone()], ..Request::default() };
    let session = Session::open(&request, &monitor).expect("a capture");
    let events: u64 = session.inputs.iter().map(|i| i.survey.events()).sum();
    println!("{}: {events} events, one thread", path.display());

    let open = median(|| {
        let start = Instant::now();
        black_box(Session::open(&request, &monitor).expect("a capture"));
        start.elapsed()
    });
    show("pass 1: open and survey", events, open);

    let mut chunk = Chunk::default();
    let decode = median(|| {
        let start = Instant::now();
        for input in &session.inputs {
            for stream in input.capture.buffers.iter().flat_map(|b| &b.streams) {
                for index in 0..stream.source.chunks() {
                    chunk.clear();
                    stream.source.read(index, &mut chunk).expect("readable");
                    black_box(&chunk.records);
                }
            }
        }
        start.elapsed()
    });
    show("read, unpack, decode", events, decode);

    rooms_of_capture(&session, events);

    let mut guests: Vec<(usize, Vec<Record>)> = Vec::new();
    for (index, stream) in session.streams.iter().enumerate() {
        let source = &session.inputs[stream.input].capture.buffers[stream.buffer].streams[stream.stream].source;
        let mut records = Vec::new();
        for index in 0..source.chunks() {
            chunk.clear();
            source.read(index, &mut chunk).expect("readable");
            records.extend_from_slice(&chunk.records);
        }
        guests.push((index, records));
    }
    let mapped: u64 = guests.iter().map(|(_, r)| r.len() as u64).sum();
    if mapped > 0 {
        let map = median(|| {
            let start = Instant::now();
            for (index, records) in &guests {
                for (event, record) in (0_u64..).zip(records) {
                    let _ = black_box(session.streams[*index].map(event, record.ts));
                }
            }
            start.elapsed()
        });
        show("map guest to host time", mapped, map);
    }

    let all = Selection::all(&session, Span::All);
    black_box(lanes(&session, &all).lanes.len());
    let interpreted = median(|| {
        let start = Instant::now();
        black_box(interpret(&session, &all, false, Default::default(), &monitor).expect("readable").ledgers.len());
        start.elapsed()
    });
    show("pass 2 without encoding", events, interpreted);

    for (name, format) in [("pass 2, Perfetto", Format::Perfetto), ("pass 2, Chrome JSON", Format::ChromeJson)] {
        let options =
            ConvertOptions { format, compress: false, draw: DrawOptions::default(), limits: Default::default() };
        let mut bytes = 0;
        let time = median(|| {
            bytes = 0;
            let start = Instant::now();
            let mut write = |part: &[u8]| {
                bytes += part.len() as u64;
                Ok(())
            };
            black_box(convert(&session, &all, &options, &mut write, &monitor).expect("readable"));
            start.elapsed()
        });
        show(name, events, time);
        println!("{:<28} {:>6}.{} bytes/event", "", bytes / events, bytes * 10 / events % 10);
    }
}

/// Pages that are in memory already, walked; and every field of every record, decoded.
fn rooms_of_capture(session: &Session, events: u64) {
    // What 64-bit x86 kernels have.
    let layout = PageLayout { endian: Endian::Little, long_size: 8, data_offset: 16, sub_buffer: 4096 };
    let (mut walking, mut decoding) = ([Duration::ZERO; RUNS], [Duration::ZERO; RUNS]);
    let mut chunk = Chunk::default();
    for input in &session.inputs {
        let formats = &input.capture.formats;
        let ids = EventIds::new(formats);
        for stream in input.capture.buffers.iter().flat_map(|b| &b.streams) {
            let origin = Origin { cpu: stream.cpu, offset: 0, compressed: false };
            for index in 0..stream.source.chunks() {
                chunk.clear();
                stream.source.read(index, &mut chunk).expect("readable");
                let records = chunk.records.len();
                for time in &mut walking {
                    chunk.records.clear();
                    chunk.lost.clear();
                    let start = Instant::now();
                    walk(&layout, &ids, origin, &mut chunk, 0);
                    *time += start.elapsed();
                }
                assert_eq!(chunk.records.len(), records, "a capture of 4 KiB pages");
                for time in &mut decoding {
                    let start = Instant::now();
                    for record in &chunk.records {
                        let Some(format) = formats.get(record.event) else { continue };
                        for field in &format.fields {
                            black_box(field.value(chunk.payload(record), Endian::Little));
                        }
                    }
                    *time += start.elapsed();
                }
            }
        }
    }
    for (stage, mut times) in [("walk pages in memory", walking), ("decode all fields", decoding)] {
        times.sort_unstable();
        show(stage, events, times[RUNS / 2]);
    }
}
