//! How fast batches are encoded, and how large they get: `cargo bench --bench encode`.
//!
//! The batch imitates a busy vCPU: exits with registers, guest tasks and syscalls, host tasks, and guest events with
//! arguments. Names and numbers repeat about as often as in a capture.

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::ops::Range;
use std::time::{Duration, Instant};

use kvm_timeline::export::chrome_json::ChromeJson;
use kvm_timeline::export::perfetto::Perfetto;
use kvm_timeline::time::TraceNs;
use kvm_timeline::timeline::drawing::{
    Arg, Batch, Category, Correlation, Exporter, Item, Owner, Shape, StringId, Track, TrackId, TrackKind, VmInfo, World,
};

const START: u64 = 86_400_000_000_000 * 30;
const ROUNDS: u64 = 5_000;

fn main() {
    let world = world();
    let kinds: [(&str, Kind); 4] =
        [("host state", exits), ("guest tasks", tasks), ("guest events", events), ("host CPU", host)];
    println!("{:14} {:>10} {:>9} {:>12} {:>9} {:>9}", "", "format", "items", "items/s", "ns/item", "B/item");
    for (name, kind) in kinds {
        measure(name, &world, &draw(&[kind]));
    }
    measure("all", &world, &draw(&kinds.map(|(_, kind)| kind)));
}

fn measure(name: &str, world: &World, batch: &Batch) {
    for (format, exporter) in [("perfetto", &Perfetto as &dyn Exporter), ("json", &ChromeJson)] {
        let mut out = Vec::new();
        let mut best = Duration::MAX;
        for _ in 0..15 {
            out.clear();
            let start = Instant::now();
            exporter.batch(black_box(world), 0, black_box(batch), &mut out);
            best = best.min(start.elapsed());
        }
        let items = batch.items.len() as f64;
        let ns = best.as_nanos() as f64 / items;
        println!("{name:14} {format:>10} {items:>9} {:>12.0} {ns:>9.1} {:>9.1}", 1e9 / ns, out.len() as f64 / items);
    }
}

fn world() -> World {
    let track = |index: u32| Track {
        parent: None,
        name: format!("row {index}"),
        description: String::new(),
        kind: TrackKind::Vcpu,
        owner: Owner::Vm(0),
        hidden: false,
    };
    World {
        tracks: (0..20).map(track).collect(),
        vms: vec![VmInfo { name: "vm".into(), pid: Some(4711) }],
        sources: Vec::new(),
        start: TraceNs::new(START),
        native: None,
        wall_clock: None,
        metadata: serde_json::Value::Null,
    }
}

type Kind = fn(&mut Draw, u64, u64);

/// Rounds of all `kinds`, each on the rows of four vCPUs in turn.
fn draw(kinds: &[Kind]) -> Batch {
    let mut draw = Draw { batch: Batch::default(), strings: Vec::new(), random: 1 };
    for round in 0..ROUNDS {
        for &kind in kinds {
            kind(&mut draw, START + 1_000_000_000 + round * 30_000, round % 4);
        }
    }
    draw.batch
}

/// The thread runs the guest, exits, and is handled.
fn exits(draw: &mut Draw, now: u64, vcpu: u64) {
    let row = 4 * vcpu as u32 + 1;
    draw.item(now, row, Shape::End, Category::None, "");
    let reason =
        ["MSR_WRITE", "HLT", "EXTERNAL_INTERRUPT", "EPT_VIOLATION", "PREEMPTION_TIMER"][draw.below(5) as usize];
    draw.item(now, row, Shape::Begin, Category::Exit, reason);
    let rip = 0xffff_ffff_8100_0000 + draw.below(300) * 0x91;
    draw.arg("rip", |key| Arg::Hex(key, rip));
    draw.arg("info1", |key| Arg::Uint(key, 0));
    draw.arg("info2", |key| Arg::Uint(key, 0x8000_00ec));
    draw.arg("cpu", |key| Arg::Uint(key, vcpu));
    let later = now + 2_000 + draw.below(1_000);
    draw.item(later, row, Shape::End, Category::None, "");
    draw.item(later, row, Shape::Begin, Category::Guest, "guest");
}

/// A task switch, and a syscall inside the task.
fn tasks(draw: &mut Draw, now: u64, vcpu: u64) {
    let row = 4 * vcpu as u32;
    let task = format!("worker-{} [{}]", draw.below(40), 4000 + draw.below(40));
    draw.item(now + 3_000, row, Shape::End, Category::None, "");
    draw.item(now + 3_000, row, Shape::Begin, Category::Task, &task);
    let syscall = ["read", "write", "futex", "epoll_wait"][draw.below(4) as usize];
    draw.item(now + 3_500, row, Shape::Begin, Category::Syscall, syscall);
    let later = now + 5_000 + draw.below(2_000);
    draw.item(later, row, Shape::End, Category::None, "");
    let result = draw.below(5_000) as i64 - 11;
    draw.arg("result", |key| Arg::Int(key, result));
}

/// A wake-up and a timer, as instants with their fields.
fn events(draw: &mut Draw, now: u64, vcpu: u64) {
    let row = 4 * vcpu as u32 + 2;
    draw.item(now + 8_000, row, Shape::Instant, Category::Event, "sched_waking");
    let comm = format!("worker-{}", draw.below(40));
    draw.text("comm", comm.as_bytes());
    let pid = 4_000 + draw.below(40);
    draw.arg("pid", |key| Arg::Int(key, pid as i64));
    draw.arg("prio", |key| Arg::Int(key, 120));
    draw.arg("target_cpu", |key| Arg::Int(key, vcpu as i64));
    draw.item(now + 8_100, row, Shape::Instant, Category::Event, "hrtimer_start");
    let timer = 0xffff_8880_0000_0000 + draw.below(60) * 0x40;
    draw.arg("hrtimer", |key| Arg::Hex(key, timer));
    draw.arg("expires", |key| Arg::Int(key, now as i64 + 4_000_000));
    draw.arg("mode", |key| Arg::Uint(key, 10));
}

/// A task on a physical CPU.
fn host(draw: &mut Draw, now: u64, cpu: u64) {
    let row = 16 + cpu as u32;
    let task = format!("kworker/{cpu}:{} [{}]", draw.below(3), 50 + draw.below(9));
    draw.item(now + 9_000, row, Shape::Begin, Category::Host, &task);
    let later = now + 9_500 + draw.below(500);
    draw.item(later, row, Shape::End, Category::None, "");
}

struct Draw {
    batch: Batch,
    strings: Vec<Vec<u8>>,
    random: u64,
}

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % limit
    }

    fn string(&mut self, text: &[u8]) -> StringId {
        if let Some(index) = self.strings.iter().position(|known| known == text) {
            return StringId(index as u32);
        }
        self.strings.push(text.to_vec());
        self.batch.strings.push(text)
    }

    fn item(&mut self, ts: u64, track: u32, shape: Shape, category: Category, name: &str) {
        let name = self.string(name.as_bytes());
        let args = self.batch.args.len() as u32;
        self.batch.items.push(Item {
            ts: TraceNs::new(ts),
            track: TrackId(track),
            shape,
            category,
            correlation: Correlation::None,
            name,
            args: args..args,
            flows: 0..0,
        });
    }

    fn arg(&mut self, key: &str, arg: impl FnOnce(StringId) -> Arg) {
        let key = self.string(key.as_bytes());
        self.batch.args.push(arg(key));
        if let Some(item) = self.batch.items.last_mut() {
            item.args.end += 1;
        }
    }

    fn text(&mut self, key: &str, text: &[u8]) {
        let start = self.batch.bytes.len() as u32;
        self.batch.bytes.extend_from_slice(text);
        let range: Range<u32> = start..self.batch.bytes.len() as u32;
        self.arg(key, |key| Arg::Text(key, range));
    }
}
