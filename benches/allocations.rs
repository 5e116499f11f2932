//! How often `convert` asks for memory, and how much it holds at once: `cargo bench --bench allocations [CAPTURE…]`.
//!
//! Nothing is allocated per event. What is allocated per chunk, per batch, per name and per slice of time shows up as a
//! small fraction of one allocation per event; with several captures of growing size, as `volume multiply` makes them,
//! the last column is what the further events of the next one cost.

// An allocator cannot be written without it. It only counts, and passes everything on.
#![allow(missing_docs, unsafe_code, clippy::print_stdout)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use kvm_timeline::convert::{ConvertOptions, convert};
use kvm_timeline::export::Format;
use kvm_timeline::monitor::Monitor;
use kvm_timeline::selection::{Selection, Span};
use kvm_timeline::session::Session;
use kvm_timeline::session::request::Request;
use kvm_timeline::timeline::setup::DrawOptions;

struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);
static HELD: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

fn grown(bytes: usize) {
    CALLS.fetch_add(1, Relaxed);
    let held = HELD.fetch_add(bytes as u64, Relaxed) + bytes as u64;
    PEAK.fetch_max(held, Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_sub(layout.size() as u64, Relaxed);
        grown(size);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let mut paths: Vec<PathBuf> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).map(PathBuf::from).collect();
    if paths.is_empty() {
        paths.push(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/two-vm").into());
    }
    println!(
        "{:<10} {:>11} {:>11} {:>11} {:>11} {:>12} {:>12}",
        "format", "events", "pass 1", "pass 2", "per event", "peak KiB", "per further"
    );
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    pool.install(|| {
        for (name, format) in [("perfetto", Format::Perfetto), ("json", Format::ChromeJson)] {
            let mut before = None;
            for path in &paths {
                let (events, calls) = count(name, format, path, before);
                before = Some((events, calls));
            }
        }
    });
}

/// Events, and calls in both passes.
fn count(name: &str, format: Format, path: &Path, before: Option<(u64, u64)>) -> (u64, u64) {
    let monitor = Monitor::silent();
    let request = Request { paths: vec![path.to_path_buf()], ..Request::default() };
    let start = CALLS.load(Relaxed);
    PEAK.store(HELD.load(Relaxed), Relaxed);
    let session = Session::open(&request, &monitor).expect("a capture");
    let opened = CALLS.load(Relaxed) - start;
    let events: u64 = session.inputs.iter().map(|i| i.survey.events()).sum();
    let all = Selection::all(&session, Span::All);
    let options = ConvertOptions { format, compress: false, draw: DrawOptions::default(), limits: Default::default() };
    let start = CALLS.load(Relaxed);
    convert(&session, &all, &options, &mut |_| Ok(()), &monitor).expect("readable");
    let converted = CALLS.load(Relaxed) - start;
    let calls = opened + converted;
    let share = |calls: u64, events: u64| format!("{:.5}", calls as f64 / events.max(1) as f64);
    let further = before.map(|(e, c)| share(calls.saturating_sub(c), events.saturating_sub(e)));
    println!(
        "{name:<10} {events:>11} {opened:>11} {converted:>11} {:>11} {:>12} {:>12}",
        share(calls, events),
        PEAK.load(Relaxed) / 1024,
        further.unwrap_or_default()
    );
    (events, calls)
}
