//! Small worlds and batches, and what they say in words, independent of any output format.

use std::sync::Arc;

use kvm_timeline::capture::Endian;
use kvm_timeline::capture::event_format::{EventFormat, FormatTable};
use kvm_timeline::time::TraceNs;
use kvm_timeline::timeline::drawing::{
    ARRIVES, Arg, Batch, Category, Correlation, Exporter, FieldSource, Item, Owner, Shape, StringId, Track, TrackId,
    TrackKind, VmInfo, World,
};

pub const START: u64 = 4_300_000_000_123_456;

pub const HOST_CPU: TrackId = TrackId(1);
pub const VCPU: TrackId = TrackId(2);
pub const STATE: TrackId = TrackId(3);
pub const EVENTS: TrackId = TrackId(4);
pub const OFFSET: TrackId = TrackId(5);
pub const OTHER_VCPU: TrackId = TrackId(6);
pub const COUNTER: TrackId = TrackId(7);

/// A host and two VMs; the second VM's process is not known.
pub fn world() -> World {
    let track = |parent: Option<u32>, name: &str, kind, owner| Track {
        parent: parent.map(TrackId),
        name: name.to_owned(),
        description: if kind == TrackKind::Vcpu { format!("help for {name}") } else { String::new() },
        kind,
        owner,
        hidden: false,
    };
    World {
        tracks: vec![
            track(None, "Host", TrackKind::Group, Owner::Host),
            track(Some(0), "Host CPU 0", TrackKind::HostCpu, Owner::Host),
            track(None, "VM web vCPU 0", TrackKind::Vcpu, Owner::Vm(0)),
            track(Some(2), "Host state, web vCPU 0", TrackKind::HostState, Owner::Vm(0)),
            track(Some(2), "Events, web vCPU 0", TrackKind::Events, Owner::Vm(0)),
            track(Some(2), "TSC offset, web vCPU 0", TrackKind::TscOffset, Owner::Vm(0)),
            track(None, "VM \"db\" vCPU 0", TrackKind::Vcpu, Owner::Vm(1)),
            track(Some(6), "exits per second", TrackKind::Counter { pid: None }, Owner::Vm(1)),
        ],
        vms: vec![VmInfo { name: "web".into(), pid: Some(4711) }, VmInfo { name: "\"db\"".into(), pid: None }],
        sources: vec![FieldSource::new(Arc::new(formats()), Endian::Little)],
        start: TraceNs::new(START),
        native: None,
        wall_clock: Some((TraceNs::new(START + 5_000), 1_700_000_000_000_005_000)),
        metadata: serde_json::json!({ "tool": "kvm-timeline", "tsc_hz": 2_400_000_000_u64, "segments": [1, 2] }),
    }
}

/// One event `sample` with a field of each simple kind.
fn formats() -> FormatTable {
    let event = EventFormat::parse(
        "test",
        concat!(
            "name: sample\nID: 7\nformat:\n",
            "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n",
            "\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n",
            "\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n",
            "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n",
            "\tfield:u32 number;\toffset:8;\tsize:4;\tsigned:0;\n",
            "\tfield:int signed;\toffset:12;\tsize:4;\tsigned:1;\n",
            "\tfield:void * address;\toffset:16;\tsize:8;\tsigned:0;\n",
            "\tfield:char comm[16];\toffset:24;\tsize:16;\tsigned:0;\n",
            "\tfield:u64 late;\toffset:64;\tsize:8;\tsigned:0;\n\n",
            "print fmt: \"number=%u\", REC->number\n",
        ),
    );
    let mut formats = FormatTable::new();
    let _ = event.map(|event| formats.add(event));
    formats
}

/// A record of `sample`; too short for the field `late`.
pub fn sample_record() -> Vec<u8> {
    let mut record = vec![0; 8];
    record.extend_from_slice(&3_000_000_000_u32.to_le_bytes());
    record.extend_from_slice(&(-5_i32).to_le_bytes());
    record.extend_from_slice(&0xffff_ffff_8100_0010_u64.to_le_bytes());
    record.extend_from_slice(b"kworker/0:1\0\0\0\0\0");
    record
}

/// Builds a batch in the order of its calls. Times count from [`START`].
#[derive(Default)]
pub struct Draw {
    pub batch: Batch,
    known: Vec<Vec<u8>>,
}

impl Draw {
    pub fn string(&mut self, text: impl AsRef<[u8]>) -> StringId {
        let text = text.as_ref();
        if let Some(index) = self.known.iter().position(|known| known == text) {
            return StringId(index as u32);
        }
        self.known.push(text.to_vec());
        self.batch.strings.push(text)
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> std::ops::Range<u32> {
        let start = self.batch.bytes.len() as u32;
        self.batch.bytes.extend_from_slice(bytes);
        start..self.batch.bytes.len() as u32
    }

    pub fn item(&mut self, at: i64, track: TrackId, shape: Shape, category: Category, name: &str) -> &mut Item {
        let name = self.string(name);
        let here = (self.batch.args.len() as u32, self.batch.flows.len() as u32);
        self.batch.items.push(Item {
            ts: TraceNs::new(START.checked_add_signed(at).expect("a time")),
            track,
            shape,
            category,
            correlation: Correlation::None,
            name,
            args: here.0..here.0,
            flows: here.1..here.1,
        });
        self.batch.items.last_mut().expect("just pushed")
    }

    pub fn begin(&mut self, at: i64, track: TrackId, category: Category, name: &str) {
        self.item(at, track, Shape::Begin, category, name);
    }

    pub fn end(&mut self, at: i64, track: TrackId) {
        self.item(at, track, Shape::End, Category::None, "");
    }

    /// An argument of the last item.
    pub fn arg(&mut self, arg: Arg) {
        self.batch.args.push(arg);
        self.batch.items.last_mut().expect("an item").args.end += 1;
    }

    /// A flow of the last item.
    pub fn flow(&mut self, id: u64) {
        self.batch.flows.push(id);
        self.batch.items.last_mut().expect("an item").flows.end += 1;
    }
}

/// Two batches: slices across the batch border, a stall with an arrow, late slices, arguments of all kinds.
pub fn story() -> [Batch; 2] {
    let mut a = Draw::default();
    a.begin(0, STATE, Category::Guest, "guest");
    a.begin(0, VCPU, Category::Task, "nginx [812]");
    a.begin(1_001, VCPU, Category::Syscall, "read");
    let fd = a.string("fd");
    a.arg(Arg::Uint(fd, 7));
    let (min, max) = (a.string("min"), a.string("max"));
    a.arg(Arg::Int(min, -9_007_199_254_740_993));
    a.arg(Arg::Uint(max, u64::MAX));
    a.item(1_500, EVENTS, Shape::Instant, Category::Event, "sched_waking");
    let (comm, text) = (a.string("comm"), a.bytes(b"bad \xff \"quote\" \x01"));
    a.arg(Arg::Text(comm, text));
    a.end(1_999, STATE);
    a.begin(1_999, STATE, Category::Exit, "EPT_MISCONFIG");
    let (rip, user) = (a.string("rip"), a.string("user"));
    a.arg(Arg::Hex(rip, 0xffff_ffff_81c0_0000));
    a.arg(Arg::Bool(user, true));
    a.item(2_500, COUNTER, Shape::Counter(1.25), Category::None, "");
    a.begin(2_000, STATE, Category::OffCpu, "preempted");
    a.batch.items.last_mut().expect("an item").correlation = Correlation::OffCpu;
    a.flow(0x7eed_0000_0000_0001);
    a.end(2_999, STATE);
    a.begin(2_100, HOST_CPU, Category::Host, "backup-daemon [812]");
    a.flow(0x7eed_0000_0000_0001);
    a.end(2_950, HOST_CPU);
    a.begin(0, OFFSET, Category::Offset, "offset -33610754878");

    let mut b = Draw::default();
    b.end(3_000, STATE);
    let rip = b.string("rip");
    b.arg(Arg::Hex(rip, 0xffff_ffff_81c0_0000));
    b.arg(Arg::Hex(rip, 0xffff_ffff_81c0_0000));
    b.begin(3_000, STATE, Category::Guest, "guest");
    b.end(3_500, VCPU);
    let result = b.string("result");
    let name = b.string("EAGAIN");
    b.arg(Arg::Name(result, name));
    b.end(4_000, VCPU);
    b.begin(1_200, OTHER_VCPU, Category::Irq, "irq eth0");
    b.end(1_300, OTHER_VCPU);
    b.end(5_000, STATE);
    b.item(6_000, COUNTER, Shape::Counter(-3.0), Category::None, "");
    b.end(6_000, OFFSET);
    [a.batch, b.batch]
}

pub fn export(exporter: &dyn Exporter, world: &World, batches: &[Batch]) -> Vec<u8> {
    let mut out = Vec::new();
    exporter.header(world, &mut out);
    for (number, batch) in batches.iter().enumerate() {
        exporter.batch(world, number as u64, batch, &mut out);
    }
    exporter.footer(world, &mut out);
    out
}

/// A value of an argument as a reader should see it.
#[derive(Clone, Debug, PartialEq)]
pub enum Plain {
    Uint(u64),
    Int(i64),
    Bool(bool),
    Text(String),
}

/// An item in words.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub ts: u64,
    pub shape: Shape,
    pub track: u32,
    pub name: Option<String>,
    pub category: Option<String>,
    pub correlation: Option<String>,
    pub args: Vec<(String, Plain)>,
    pub flows: Vec<u64>,
}

/// What a batch says. Knows the simple arguments only, no records.
pub fn said(batch: &Batch) -> Vec<Said> {
    let string = |id: StringId| String::from_utf8_lossy(batch.strings.get(id)).into_owned();
    let plain = |arg: &Arg| match arg {
        Arg::Uint(key, value) if *value < 1 << 63 => (string(*key), Plain::Uint(*value)),
        Arg::Uint(key, value) | Arg::Hex(key, value) => (string(*key), Plain::Text(format!("{value:#x}"))),
        Arg::Int(key, value) => (string(*key), Plain::Int(*value)),
        Arg::Bool(key, value) => (string(*key), Plain::Bool(*value)),
        Arg::Name(key, text) => (string(*key), Plain::Text(string(*text))),
        Arg::Text(key, range) => {
            let text = &batch.bytes[range.start as usize..range.end as usize];
            (string(*key), Plain::Text(String::from_utf8_lossy(text).into_owned()))
        }
        Arg::Fields { .. } | Arg::Rendered { .. } => unreachable!("no simple argument"),
    };
    let of = |item: &Item| {
        let named = matches!(item.shape, Shape::Begin | Shape::Instant);
        let counter = matches!(item.shape, Shape::Counter(_));
        let begin = item.shape == Shape::Begin;
        Said {
            ts: item.ts.get(),
            shape: item.shape,
            track: item.track.0,
            name: named.then(|| string(item.name)),
            category: item.category.name().filter(|_| named).map(str::to_owned),
            correlation: match item.correlation {
                Correlation::OffCpu if begin => Some("off-cpu".to_owned()),
                Correlation::Halted if begin => Some("halted".to_owned()),
                _ => None,
            },
            args: if counter {
                Vec::new()
            } else {
                batch.args[item.args.start as usize..item.args.end as usize].iter().map(plain).collect()
            },
            flows: if counter {
                Vec::new()
            } else {
                let flows = &batch.flows[item.flows.start as usize..item.flows.end as usize];
                // Which end of the arrow an item is, the mark says; the id is without it.
                flows.iter().map(|flow| flow & !ARRIVES).collect()
            },
        }
    };
    batch.items.iter().map(of).collect()
}
