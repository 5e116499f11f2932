//! All of it: a host's file, a guest's, a text file and a manifest beside them, from bytes to timelines in both formats.
//! The parts stand behind [`PART`]s; files are in pieces as for `trace_dat`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use kvm_timeline::convert::{ConvertOptions, convert};
use kvm_timeline::error::ErrorKind;
use kvm_timeline::export::Format;
use kvm_timeline::monitor::Monitor;
use kvm_timeline::pipeline::Limits;
use kvm_timeline::report::Report;
use kvm_timeline::selection::{Selection, Span};
use kvm_timeline::session::Session;
use kvm_timeline::session::request::{GuestSpec, Request};
use kvm_timeline::timeline::setup::{DrawOptions, Flows, Layers, NativeEvents};
use kvm_timeline::{check, inspect, print, stats};

use super::model;

/// What stands between the parts.
pub const PART: &[u8] = b"\n=##=\n";

/// Where the files are written; one at a time.
static PLACE: Mutex<()> = Mutex::new(());

pub fn run(data: &[u8]) {
    let parts = parts(data);
    let part = |number: usize| parts.get(number).copied().unwrap_or_default();
    let _one = PLACE.lock();
    let directory = directory();
    let (host, guest) = (directory.join("host.dat"), directory.join("guest.dat"));
    let options = part(4).first().copied().unwrap_or(0);
    write(&host, &model::file(part(0)));
    write(&guest, &model::file(part(1)));
    write(&directory.join("offsets.txt"), part(2));
    let manifest = directory.join("capture.toml");
    if part(3).is_empty() {
        let _ = fs::remove_file(&manifest);
    } else {
        write(&manifest, part(3));
    }
    // By their contents, or as the user says.
    let request = if options & 1 == 0 {
        Request { paths: vec![directory], ..Request::default() }
    } else {
        let guest = GuestSpec { name: "a".into(), pid: None, threads: Vec::new(), path: guest };
        Request { hosts: vec![host], guests: vec![guest], ..Request::default() }
    };
    exercise(&request, options);
}

fn parts(mut data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some(at) = data.windows(PART.len()).position(|window| window == PART) {
        parts.push(&data[..at]);
        data = &data[at + PART.len()..];
    }
    parts.push(data);
    parts
}

/// In memory, where the system has such a place.
fn directory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    let directory = base.join(format!("kvm-timeline-fuzz-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory for files");
    directory
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("room for files");
}

/// Everything that can be asked of a session.
pub fn exercise(request: &Request, options: u8) {
    let monitor = Monitor::silent();
    let session = match Session::open(request, &monitor) {
        Ok(session) => session,
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::Interrupted);
            let _ = inspect::inspect(request, &monitor);
            return;
        }
    };
    let span = if options & 2 == 0 { Span::Guests } else { Span::All };
    let selection = Selection::all(&session, span);
    let flows = if options & 4 == 0 { Flows::All } else { Flows::Stalls };
    let native = [NativeEvents::None, NativeEvents::Sched, NativeEvents::All][usize::from(options >> 3) % 3];
    for format in [Format::Perfetto, Format::ChromeJson] {
        let native = if format == Format::Perfetto { native } else { NativeEvents::None };
        let layers = Layers { overlay: true, native };
        let draw = DrawOptions { flows, layers, ..DrawOptions::default() };
        let options = ConvertOptions { format, compress: false, draw, limits: Limits::default() };
        let mut out = Vec::new();
        let mut write = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok(())
        };
        let report =
            convert(&session, &selection, &options, &mut write, &monitor).expect("what was opened is converted");
        balances(&report);
        match format {
            Format::Perfetto => packets(&out),
            Format::ChromeJson => drop(serde_json::from_slice::<serde_json::Value>(&out).expect("valid JSON")),
        }
        serde_json::to_string(&report).expect("a report");
    }
    let mut lines = 0;
    let mut write = |bytes: &[u8]| {
        lines += bytes.iter().filter(|&&byte| byte == b'\n').count();
        Ok(())
    };
    print::print(&session, &selection, &mut write, &monitor).expect("what was opened is printed");
    check::check(&session, &monitor).expect("what was opened is checked");
    stats::stats(&session, &selection, &monitor).expect("what was opened is counted");
    drop(session);
    inspect::inspect(request, &monitor).expect("what was opened is inspected");
}

/// No event is lost.
fn balances(report: &Report) {
    assert!(report.balances(), "{:?}", report.events);
    let read: u64 = report.inputs.iter().map(|input| input.events_read).sum();
    assert_eq!(read, report.events.read);
}

/// Perfetto's framing: packets, and nothing between or behind them.
pub fn packets(mut bytes: &[u8]) {
    while let Some((&tag, rest)) = bytes.split_first() {
        assert_eq!(tag, 0x0a, "no packet");
        let (mut length, mut shift, mut rest) = (0_u64, 0, rest);
        loop {
            let (&byte, behind) = rest.split_first().expect("a length");
            rest = behind;
            length |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        bytes = rest.get(length as usize..).expect("a whole packet");
    }
}
