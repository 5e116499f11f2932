//! A small writer of Perfetto traces for tests: events of a capture as `traced` would have recorded them.

use std::collections::BTreeMap;
use std::io::Write;

use kvm_timeline::capture::Capture;
use kvm_timeline::capture::event_format::{EventFormat, Value};

/// How events without a message of their own are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kvm {
    /// As Perfetto's recorder does on x86: messages of kvm_entry and kvm_exit are made for arm64, so that nothing is in
    /// them; other events are described in the file.
    Real,
    /// As older recorders do: `GenericFtraceEvent`, kvm_entry and kvm_exit too.
    Generic,
    /// All of them described in the file.
    Described,
}

/// How packets are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pack {
    Plain,
    Deflate,
    Zstd,
}

/// A trace under construction.
pub struct Perfetto {
    pub kvm: Kvm,
    pub pack: Pack,
    /// Context switches and wakeups in columns.
    pub compact: bool,
    /// `ftrace_clock` of the bundles, and its number in snapshots.
    pub clock: (u64, u32),
    /// Readings of the clock and the TSC.
    pub snapshots: Vec<(u64, u64)>,
    /// Whether the TSC is in them.
    pub tsc: bool,
    /// (process, thread, name).
    pub threads: Vec<(i32, i32, String)>,
    /// `machine_id` of all packets.
    pub machine: u64,
    /// By CPU: time, index of the format, payload.
    pub events: BTreeMap<u32, Vec<(u64, u16, Vec<u8>)>>,
    /// (CPU, time): the bundle that begins there lost events before.
    pub lost: Vec<(u32, u64)>,
    /// Nanoseconds per bundle.
    pub round: u64,
}

/// What is in packets of other data sources: a slice on somebody's track.
pub const STRANGER: &str = "a slice of somebody else";
const SEQUENCE: u64 = 1;

pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn uint(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field) << 3);
    varint(out, value);
}

pub fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    varint(out, u64::from(field) << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A message of what `fill` writes.
pub fn message(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    fill(&mut out);
    out
}

/// Events with a message of their own: name, number, the kernel's fields for the message's fields 1, 2, ….
const TYPED: [(&str, u32, &[&str]); 13] = [
    ("sched_switch", 4, &["prev_comm", "prev_pid", "prev_prio", "prev_state", "next_comm", "next_pid", "next_prio"]),
    ("sched_waking", 20, &["comm", "pid", "prio", "success", "target_cpu"]),
    ("sched_wakeup", 17, &["comm", "pid", "prio", "success", "target_cpu"]),
    ("sched_wakeup_new", 114, &["comm", "pid", "prio", "success", "target_cpu"]),
    ("sched_process_fork", 239, &["parent_comm", "parent_pid", "child_comm", "child_pid"]),
    ("sched_process_exec", 237, &["filename", "pid", "old_pid"]),
    ("sched_process_exit", 238, &["comm", "pid", "tgid", "prio"]),
    ("sched_process_free", 240, &["comm", "pid", "prio"]),
    ("irq_handler_entry", 36, &["irq", "name"]),
    ("irq_handler_exit", 37, &["irq", "ret"]),
    ("softirq_entry", 24, &["vec"]),
    ("softirq_exit", 25, &["vec"]),
    ("softirq_raise", 26, &["vec"]),
];
/// The same, of kvm.
const KVM: [(&str, u32, &[&str]); 2] =
    [("kvm_entry", 376, &["vcpu_pc"]), ("kvm_exit", 377, &["esr_ec", "ret", "vcpu_pc"])];

impl Perfetto {
    /// Nothing yet, in BOOTTIME.
    pub fn new() -> Self {
        Self {
            kvm: Kvm::Real,
            pack: Pack::Plain,
            compact: true,
            clock: (0, 6),
            snapshots: Vec::new(),
            tsc: true,
            threads: Vec::new(),
            machine: 0,
            events: BTreeMap::new(),
            lost: Vec::new(),
            round: 20_000_000,
        }
    }

    fn packet(&self, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let body = message(|out| {
            fill(out);
            uint(out, 3, 9999);
            uint(out, 10, SEQUENCE);
            if self.machine != 0 {
                uint(out, 98, self.machine);
            }
        });
        message(|out| bytes(out, 1, &body))
    }

    fn snapshot(&self, (ns, tsc): (u64, u64)) -> Vec<u8> {
        let clock = |number: u32, time: u64| {
            message(|out| {
                uint(out, 1, number.into());
                uint(out, 2, time);
            })
        };
        self.packet(|out| {
            let snapshot = message(|out| {
                // The wall clock stands apart, so that nothing is read between the other two.
                bytes(out, 1, &clock(1, 1_700_000_000_000_000_000 + ns));
                if self.clock.1 != 6 {
                    bytes(out, 1, &clock(6, ns + 77));
                }
                bytes(out, 1, &clock(self.clock.1, ns));
                if self.tsc {
                    bytes(out, 1, &clock(9, tsc));
                }
                uint(out, 2, 6);
            });
            bytes(out, 6, &snapshot);
        })
    }

    fn system_info(&self) -> Vec<u8> {
        self.packet(|out| {
            let names = message(|out| {
                for (field, text) in [(1, "Linux"), (2, "#1 SMP"), (3, "6.1.0-56-cloud-amd64"), (4, "x86_64")] {
                    bytes(out, field, text.as_bytes());
                }
            });
            let info = message(|out| {
                bytes(out, 1, &names);
                uint(out, 8, self.events.len() as u64);
            });
            bytes(out, 45, &info);
        })
    }

    fn process_tree(&self) -> Vec<u8> {
        self.packet(|out| {
            let tree = message(|out| {
                for (pid, tid, name) in &self.threads {
                    let entry = message(|out| {
                        uint(out, 1, *tid as u64);
                        if pid == tid {
                            bytes(out, 3, format!("/usr/bin/{name}").as_bytes());
                        } else {
                            bytes(out, 2, name.as_bytes());
                            uint(out, 3, *pid as u64);
                        }
                    });
                    bytes(out, if pid == tid { 1 } else { 2 }, &entry);
                }
            });
            bytes(out, 2, &tree);
        })
    }

    /// A track and a slice on it, a little after `ns`.
    fn stranger(&self, ns: u64) -> Vec<u8> {
        let descriptor = self.packet(|out| {
            let track = message(|out| {
                uint(out, 1, 3);
                bytes(out, 2, b"somebody else");
            });
            bytes(out, 60, &track);
        });
        let event = |ns: u64, kind: u64| {
            self.packet(|out| {
                uint(out, 8, ns);
                uint(out, 58, 6);
                let event = message(|out| {
                    uint(out, 9, kind);
                    uint(out, 11, 3);
                    if kind == 1 {
                        bytes(out, 23, STRANGER.as_bytes());
                    }
                });
                bytes(out, 11, &event);
            })
        };
        [descriptor, event(ns, 1), event(ns + 1000, 2)].concat()
    }

    /// The trace.
    pub fn to_bytes(&self, capture: &Capture) -> Vec<u8> {
        let mut blocks: Vec<Vec<u8>> = vec![self.system_info()];
        let times = || self.events.values().flatten().map(|event| event.0);
        let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        let mut snapshots = self.snapshots.iter().peekable();
        let mut next: BTreeMap<u32, usize> = BTreeMap::new();
        let mut described = Vec::new();
        blocks.extend(snapshots.next().map(|&snapshot| self.snapshot(snapshot)));
        blocks.push(self.process_tree());
        blocks.push(self.stranger(first + 5));
        let mut start = first;
        while start <= last {
            let end = start + self.round;
            while let Some(&snapshot) = snapshots.next_if(|snapshot| snapshot.0 < end) {
                blocks.push(self.snapshot(snapshot));
            }
            for (&cpu, events) in &self.events {
                let at = next.entry(cpu).or_default();
                let count = events[*at..].iter().take_while(|event| event.0 < end).count();
                if count > 0 {
                    blocks.push(self.bundle(capture, cpu, &events[*at..*at + count], end, &mut described));
                }
                *at += count;
            }
            start = end;
        }
        blocks.extend(snapshots.map(|&snapshot| self.snapshot(snapshot)));
        self.packed(blocks)
    }

    fn packed(&self, blocks: Vec<Vec<u8>>) -> Vec<u8> {
        if self.pack == Pack::Plain {
            return blocks.concat();
        }
        let mut out = Vec::new();
        for group in blocks.chunks(20) {
            let plain = group.concat();
            let (field, packed) = if self.pack == Pack::Zstd {
                (133, zstd::bulk::compress(&plain, 1).expect("packed"))
            } else {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&plain).expect("written");
                (50, encoder.finish().expect("packed"))
            };
            out.extend(self.packet(|out| bytes(out, field, &packed)));
        }
        out
    }

    fn bundle(
        &self,
        capture: &Capture,
        cpu: u32,
        events: &[(u64, u16, Vec<u8>)],
        end: u64,
        described: &mut Vec<u16>,
    ) -> Vec<u8> {
        let mut columns = Columns::default();
        let mut new = Vec::new();
        let body = message(|out| {
            uint(out, 1, cpu.into());
            for (ts, index, payload) in events {
                let format = capture.formats.get(*index).expect("a format");
                let number = |name: &str| self::number(format, name, payload);
                match &*format.name {
                    "sched_switch" if self.compact => {
                        let row = [number("prev_state"), number("next_pid"), number("next_prio")];
                        columns.switch(*ts, row, text(format, "next_comm", payload));
                        continue;
                    }
                    "sched_waking" if self.compact => {
                        let row = [number("pid"), number("target_cpu"), number("prio")];
                        columns.waking(*ts, row, text(format, "comm", payload), number("common_flags"));
                        continue;
                    }
                    _ => {}
                }
                let kvm = KVM.iter().filter(|_| self.kvm == Kvm::Real);
                let typed = TYPED.iter().chain(kvm).find(|(name, ..)| *name == &*format.name);
                let (field, inner) = match typed {
                    Some((_, field, names)) => (*field, typed_message(format, names, payload)),
                    None if self.kvm == Kvm::Generic => (327, generic(format, payload)),
                    None => {
                        if !described.contains(index) {
                            described.push(*index);
                            new.push(*index);
                        }
                        (65_536 + u32::from(*index), numbered(format, payload))
                    }
                };
                let event = message(|out| {
                    uint(out, 1, *ts);
                    uint(out, 2, number("common_pid"));
                    bytes(out, field, &inner);
                });
                bytes(out, 2, &event);
            }
            if self.lost.iter().any(|&(lost, time)| lost == cpu && time == events[0].0) {
                uint(out, 3, 1);
            }
            columns.write(out);
            if self.clock.0 != 0 {
                uint(out, 5, self.clock.0);
                uint(out, 6, end);
                uint(out, 7, end + 77);
            }
            for index in &new {
                bytes(out, 11, &descriptor(*index, capture.formats.get(*index).expect("a format")));
            }
        });
        self.packet(|out| bytes(out, 1, &body))
    }
}

fn number(format: &EventFormat, name: &str, payload: &[u8]) -> u64 {
    let field = format.field(name);
    field.and_then(|field| field.number(payload, kvm_timeline::capture::Endian::Little)).unwrap_or(0)
}

fn text<'a>(format: &EventFormat, name: &str, payload: &'a [u8]) -> &'a [u8] {
    match format.field(name).and_then(|field| field.value(payload, kvm_timeline::capture::Endian::Little)) {
        Some(Value::Text(text)) => text,
        _ => b"",
    }
}

fn value(out: &mut Vec<u8>, [text, int, unsigned]: [u32; 3], value: Value<'_>) {
    match value {
        Value::Text(string) => bytes(out, text, string),
        Value::Int(value) => uint(out, int, value as u64),
        Value::Uint(value) | Value::Pointer(value) => uint(out, unsigned, value),
        Value::Bool(value) => uint(out, unsigned, value.into()),
        Value::Array { .. } => {}
    }
}

fn fields<'a>(format: &'a EventFormat, payload: &'a [u8]) -> impl Iterator<Item = (u32, &'a str, Value<'a>)> {
    let value = |field: &kvm_timeline::capture::event_format::Field| {
        field.value(payload, kvm_timeline::capture::Endian::Little)
    };
    (1..).zip(&format.fields).filter_map(move |(number, field)| Some((number, &*field.name, value(field)?)))
}

fn typed_message(format: &EventFormat, names: &[&str], payload: &[u8]) -> Vec<u8> {
    message(|out| {
        for (field, name) in (1..).zip(names) {
            if let Some((.., found)) = fields(format, payload).find(|(_, known, _)| known == name) {
                value(out, [field; 3], found);
            }
        }
    })
}

fn generic(format: &EventFormat, payload: &[u8]) -> Vec<u8> {
    message(|out| {
        bytes(out, 1, format.name.as_bytes());
        for (_, name, found) in fields(format, payload) {
            let field = message(|out| {
                bytes(out, 1, name.as_bytes());
                value(out, [3, 4, 5], found);
            });
            bytes(out, 2, &field);
        }
    })
}

fn numbered(format: &EventFormat, payload: &[u8]) -> Vec<u8> {
    message(|out| fields(format, payload).for_each(|(number, _, found)| value(out, [number; 3], found)))
}

fn descriptor(index: u16, format: &EventFormat) -> Vec<u8> {
    let inner = message(|out| {
        bytes(out, 1, format.name.as_bytes());
        // Any payload tells the types.
        for (number, name, found) in fields(format, &[0; 512]) {
            let kind = match found {
                Value::Text(_) => 9,
                Value::Int(_) => 3,
                Value::Bool(_) => 8,
                _ => 4,
            };
            let field = message(|out| {
                bytes(out, 1, name.as_bytes());
                uint(out, 3, number.into());
                uint(out, 4, 1);
                uint(out, 5, kind);
            });
            bytes(out, 2, &field);
        }
    });
    message(|out| {
        uint(out, 1, 65_536 + u64::from(index));
        bytes(out, 2, &inner);
        bytes(out, 3, format.system.as_bytes());
    })
}

#[derive(Default)]
struct Columns {
    comms: Vec<Vec<u8>>,
    columns: [Vec<u8>; 13],
    last: [u64; 2],
}

impl Columns {
    fn comm(&mut self, comm: &[u8]) -> u64 {
        let known = self.comms.iter().position(|known| known == comm);
        known.unwrap_or_else(|| {
            self.comms.push(comm.to_vec());
            self.comms.len() - 1
        }) as u64
    }

    fn put(&mut self, field: usize, value: u64) {
        varint(&mut self.columns[field], value);
    }

    fn switch(&mut self, ts: u64, [state, pid, prio]: [u64; 3], comm: &[u8]) {
        let comm = self.comm(comm);
        let distance = ts - std::mem::replace(&mut self.last[0], ts);
        for (field, value) in [(1, distance), (2, state), (3, pid), (4, prio), (6, comm)] {
            self.put(field, value);
        }
    }

    fn waking(&mut self, ts: u64, [pid, cpu, prio]: [u64; 3], comm: &[u8], flags: u64) {
        let comm = self.comm(comm);
        let distance = ts - std::mem::replace(&mut self.last[1], ts);
        for (field, value) in [(7, distance), (8, pid), (9, cpu), (10, prio), (11, comm), (12, flags)] {
            self.put(field, value);
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let compact = message(|out| {
            self.comms.iter().for_each(|comm| bytes(out, 5, comm));
            for (field, column) in (0..).zip(&self.columns).filter(|(_, column)| !column.is_empty()) {
                bytes(out, field, column);
            }
        });
        if !compact.is_empty() {
            bytes(out, 4, &compact);
        }
    }
}
