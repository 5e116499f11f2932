//! The merged events of host and guests as text, one line each, in host-time order: for grep and for diff.

use std::io::Write;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::capture::event_format::{Field, Value};
use crate::capture::{Endian, Record};
use crate::convert::event_report;
use crate::error::Result;
use crate::monitor::Monitor;
use crate::pipeline::lanes::{Lanes, lanes};
use crate::pipeline::{self, Consumer, Limits, run};
use crate::printable::{self, tidy_bytes};
use crate::report::EventReport;
use crate::selection::{Selection, machine};
use crate::session::Session;
use crate::time::HostTsc;
use crate::timeline::drawing::FieldSource;

/// Lines per batch.
const BATCH_LINES: usize = 4096;
/// Width of "comm-pid", as in the kernel's own trace file.
const TASK_WIDTH: usize = 20;
/// Width of the event's name with its colon.
const NAME_WIDTH: usize = 20;

/// Where a lane's lines say they come from.
struct Place {
    /// The machine's name with a colon, padded to the longest.
    machine: Box<str>,
    cpu: u32,
    source: usize,
    /// Index into [`Printer::running`]: one for all buffers of a CPU.
    task: usize,
}

/// A comm, cut to 16 bytes.
type Comm = [u8; 16];

const UNKNOWN: Comm = *b"<...>\0\0\0\0\0\0\0\0\0\0\0";
const IDLE: Comm = *b"<idle>\0\0\0\0\0\0\0\0\0\0";

/// What tells who runs: the fields of events that name tasks.
struct Source {
    fields: FieldSource,
    comms: FxHashMap<i32, Comm>,
    switch: Option<(u16, [Field; 4])>,
    rename: Option<(u16, Field)>,
}

/// The task on a CPU.
#[derive(Clone, Copy)]
struct Running {
    pid: i32,
    comm: Comm,
}

/// A line to be written.
struct Line {
    lane: u32,
    ns: u64,
    pid: i32,
    comm: Comm,
    what: What,
}

enum What {
    /// An event and its payload's place in the batch.
    Event { event: u16, at: u32, len: u32 },
    /// The ring buffer lost events.
    Lost(Option<u64>),
}

/// Lines on their way to the encoder.
#[derive(Default)]
struct Batch {
    lines: Vec<Line>,
    bytes: Vec<u8>,
}

struct Printer<'a> {
    session: &'a Session,
    places: &'a [Place],
    sources: &'a [Source],
    running: Vec<Option<Running>>,
    batch: Batch,
}

/// Writes every event of `session` that `selection` wants; `write` gets the text in order.
///
/// A line is `MACHINE: comm-pid [CPU] seconds.nanoseconds: event: fields`. The machine is `host` or a VM's name, the CPU
/// is physical or virtual accordingly, the time is that of the output's axis, and the fields are as the kernel's print
/// format shows them. A comm is that of the context switch that put the task on its CPU, if `selection` wants it;
/// otherwise the capture's saved command lines tell it, which know only the last name.
///
/// # Errors
///
/// If an input can no longer be read, if `write` fails, or if the monitor asks to stop.
pub fn print(
    session: &Session,
    selection: &Selection,
    write: &mut pipeline::Write<'_>,
    monitor: &Monitor<'_>,
) -> Result<EventReport> {
    let lanes = lanes(session, selection);
    let places = places(session, &lanes);
    let sources: Vec<Source> = session.inputs.iter().map(source).collect();
    let running = vec![None; places.iter().map(|p| p.task + 1).max().unwrap_or(0)];
    let mut printer = Printer { session, places: &places, sources: &sources, running, batch: Batch::default() };
    let encode = |_, batch: &Batch, out: &mut Vec<u8>| {
        out.reserve(batch.lines.len() * 128);
        for line in &batch.lines {
            show(line, &batch.bytes, &places, &sources, out);
        }
    };
    let done = run(&lanes.lanes, Limits::default(), &mut printer, &encode, write, monitor)?;
    let mut last = Vec::new();
    encode(done.batches, &printer.batch, &mut last);
    write(&last)?;
    let printed: Vec<u64> = done.ledgers.iter().map(|l| l.passed).collect();
    Ok(event_report(session, &lanes, &done.ledgers, &printed, &[]))
}

fn places(session: &Session, lanes: &Lanes<'_>) -> Vec<Place> {
    let name = |input: usize| machine(session, session.inputs[input].role);
    let shown = |input: usize| printable::line(name(input));
    let width = lanes.inputs.iter().map(|&input| shown(input).chars().count()).max().unwrap_or(0) + 1;
    let mut cpus: Vec<(&str, u32)> = Vec::new();
    let list = lanes.lanes.iter().zip(&lanes.inputs).map(|(lane, &source)| {
        let key = (name(source), lane.stream.cpu);
        let task = cpus.iter().position(|other| *other == key).unwrap_or_else(|| {
            cpus.push(key);
            cpus.len() - 1
        });
        let machine = format!("{:<width$}", format!("{}:", shown(source)));
        Place { machine: machine.into(), cpu: lane.stream.cpu, source, task }
    });
    list.collect()
}

fn source(input: &crate::session::Input) -> Source {
    let capture = &input.capture;
    let fields = FieldSource {
        symbols: capture.info.kallsyms.clone(),
        printk: capture.info.printk_formats.as_slice().into(),
        ..FieldSource::new(Arc::clone(&capture.formats), capture.endian)
    };
    let formats = &capture.formats;
    let field = |event: u16, name: &str| formats.get(event)?.field(name).cloned();
    let switch = formats.find("sched", "sched_switch").and_then(|event| {
        let of = |name| field(event, name);
        Some((event, [of("prev_pid")?, of("prev_comm")?, of("next_pid")?, of("next_comm")?]))
    });
    let rename = formats.find("task", "task_rename").and_then(|event| Some((event, field(event, "newcomm")?)));
    let comms = capture.info.cmdlines.iter().map(|(pid, comm)| (*pid, cut(comm.as_bytes()))).collect();
    Source { fields, comms, switch, rename }
}

/// The first 16 bytes.
fn cut(text: &[u8]) -> Comm {
    let mut comm = [0; 16];
    let len = text.len().min(comm.len());
    comm[..len].copy_from_slice(&text[..len]);
    comm
}

fn text(field: &Field, payload: &[u8], endian: Endian) -> Comm {
    match field.value(payload, endian) {
        Some(Value::Text(text)) => cut(text),
        _ => UNKNOWN,
    }
}

impl Printer<'_> {
    fn line(&mut self, lane: u32, ts: HostTsc, pid: i32, comm: Comm, what: What) {
        let ns = self.session.rate.rate.ns(ts).get();
        self.batch.lines.push(Line { lane, ns, pid, comm, what });
    }
}

impl Consumer for Printer<'_> {
    type Batch = Batch;

    fn event(&mut self, lane: u32, ts: HostTsc, record: &Record, payload: &[u8]) {
        let Some(place) = self.places.get(lane as usize) else { return };
        let Some(source) = self.sources.get(place.source) else { return };
        let endian = source.fields.endian;
        let pid = source.fields.formats.get(record.event).and_then(|f| f.pid(payload, endian)).unwrap_or(0);
        let number = |field: &Field| field.number(payload, endian).unwrap_or(0) as i32;
        let running = &mut self.running[place.task];
        let mut comm = match *running {
            _ if pid == 0 => IDLE,
            Some(known) if known.pid == pid => known.comm,
            _ => source.comms.get(&pid).copied().unwrap_or(UNKNOWN),
        };
        match (&source.switch, &source.rename) {
            (Some((event, [prev_pid, prev_comm, next_pid, next_comm])), _) if *event == record.event => {
                if pid != 0 && number(prev_pid) == pid {
                    comm = text(prev_comm, payload, endian);
                }
                *running = Some(Running { pid: number(next_pid), comm: text(next_comm, payload, endian) });
            }
            (_, Some((event, new))) if *event == record.event => {
                *running = Some(Running { pid, comm: text(new, payload, endian) });
            }
            _ => {}
        }
        let at = self.batch.bytes.len() as u32;
        self.batch.bytes.extend_from_slice(payload);
        let what = What::Event { event: record.event, at, len: payload.len() as u32 };
        self.line(lane, ts, pid, comm, what);
    }

    fn lost(&mut self, lane: u32, ts: HostTsc, count: Option<u64>) {
        if let Some(place) = self.places.get(lane as usize) {
            self.running[place.task] = None;
        }
        self.line(lane, ts, 0, UNKNOWN, What::Lost(count));
    }

    fn ends(&mut self, _lane: u32, _ts: HostTsc) {}

    fn take(&mut self, out: &mut Vec<Batch>) {
        if self.batch.lines.len() >= BATCH_LINES {
            out.push(std::mem::take(&mut self.batch));
        }
    }
}

/// Appends a line.
fn show(line: &Line, bytes: &[u8], places: &[Place], sources: &[Source], out: &mut Vec<u8>) {
    let Some(place) = places.get(line.lane as usize) else { return };
    out.extend_from_slice(place.machine.as_bytes());
    out.push(b' ');
    let start = out.len();
    if let What::Event { .. } = line.what {
        let end = line.comm.iter().position(|&b| b == 0).unwrap_or(line.comm.len());
        let comm = out.len();
        out.extend_from_slice(&line.comm[..end]);
        tidy_bytes(out, comm);
        out.push(b'-');
        out.extend_from_slice(itoa::Buffer::new().format(line.pid).as_bytes());
    }
    pad(start, TASK_WIDTH, out);
    // Writing to memory cannot fail.
    let _ = write!(out, " [{:03}] {:>6}.{:09}: ", place.cpu, line.ns / 1_000_000_000, line.ns % 1_000_000_000);
    match line.what {
        What::Event { event, at, len } => {
            let payload = bytes.get(at as usize..at as usize + len as usize).unwrap_or(&[]);
            if let Some(source) = sources.get(place.source).map(|s| &s.fields)
                && let Some(format) = source.formats.get(event)
            {
                let name = out.len();
                out.extend_from_slice(format.name.as_bytes());
                tidy_bytes(out, name);
                out.push(b':');
                pad(name, NAME_WIDTH, out);
                out.push(b' ');
                let fields = out.len();
                format.render(payload, source.endian, &source.context(), out);
                tidy_bytes(out, fields);
            }
        }
        What::Lost(Some(count)) => {
            let _ = write!(out, "[{count} events lost]");
        }
        What::Lost(None) => out.extend_from_slice(b"[events lost]"),
    }
    while out.last() == Some(&b' ') {
        out.pop();
    }
    out.push(b'\n');
}

fn pad(start: usize, width: usize, out: &mut Vec<u8>) {
    let used = String::from_utf8_lossy(&out[start..]).chars().count();
    out.extend(std::iter::repeat_n(b' ', width.saturating_sub(used)));
}
