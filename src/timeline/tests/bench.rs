//! A bench for the timeline: events as lines of text, and after each one what it drew.
//!
//! A line is `TIME STREAM EVENT field=value …`; streams are `h0`, `h1` (host CPUs), `a0`, `a1` (vCPUs of VM a), `b0`.
//! What an event draws follows it, indented: `TIME ROW` and `+ name` (begin), `-` (end) or `. name` (instant), then the
//! category in brackets, arguments in parentheses and flow ids after `~`. The native layer's events follow as
//! `TIME MACHINE/CPU how EVENT`.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::capture::Endian;
use crate::capture::event_format::{EventFormat, FieldKind, FormatTable, PrintContext, Value};
use crate::clock::rate::TscRate;
use crate::time::HostTsc;
use crate::timeline::drawing::{ARRIVES, Arg, Batch, Correlation, FieldSource, Item, Shape, World};
use crate::timeline::native::NativeShape;
use crate::timeline::setup::{DrawOptions, Setup, StreamRole, VcpuSetup, VmSetup};
use crate::timeline::{Outcome, Timeline};

/// A format text with naturally aligned fields.
pub(super) fn format(system: &str, id: u16, name: &str, fields: &[(&str, u32)], print: &str) -> EventFormat {
    let mut text = format!(
        "name: {name}\nID: {id}\nformat:\n\
         \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
         \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
         \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
         \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
    );
    let mut offset = 8_u32;
    for &(declaration, size) in fields {
        offset = offset.next_multiple_of(if size > 8 { 1 } else { size.max(1) });
        let signed = u8::from(!declaration.contains("unsigned") && !declaration.contains('*'));
        let _ = writeln!(text, "\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:{signed};");
        offset += size;
    }
    let _ = write!(text, "\nprint fmt: {print}\n");
    EventFormat::parse(system, &text).unwrap()
}

const EXITS: &str = r#""reason %s", (REC->isa == 1) ? __print_symbolic(REC->exit_reason & 0xffff, { 1, "EXTERNAL_INTERRUPT" }, { 12, "HLT" }, { 48, "EPT_VIOLATION" }) : __print_symbolic(REC->exit_reason, { 0x078, "hlt" })"#;

pub(super) fn host_formats() -> FormatTable {
    let mut table = FormatTable::new();
    let wake = [("char comm[16]", 16), ("pid_t pid", 4), ("int prio", 4), ("int target_cpu", 4)];
    let exit = [
        ("unsigned int exit_reason", 4),
        ("unsigned long guest_rip", 8),
        ("unsigned int isa", 4),
        ("unsigned long info1", 8),
        ("unsigned long info2", 8),
    ];
    let switch = [
        ("char prev_comm[16]", 16),
        ("pid_t prev_pid", 4),
        ("int prev_prio", 4),
        ("long prev_state", 8),
        ("char next_comm[16]", 16),
        ("pid_t next_pid", 4),
        ("int next_prio", 4),
    ];
    for event in [
        format("sched", 1, "sched_switch", &switch, "\"\""),
        format("sched", 2, "sched_waking", &wake, "\"\""),
        format("sched", 3, "sched_wakeup", &wake, "\"\""),
        format("sched", 4, "sched_migrate_task", &[("pid_t pid", 4), ("int dest_cpu", 4)], "\"\""),
        format("kvm", 5, "kvm_entry", &[("unsigned int vcpu_id", 4)], "\"\""),
        format("kvm", 6, "kvm_exit", &exit, EXITS),
        format("kvm", 7, "kvm_inj_virq", &[("unsigned int vector", 4)], r#""IRQ 0x%x", REC->vector"#),
        format("irq", 8, "irq_handler_entry", &[("int irq", 4), ("__data_loc char[] name", 4)], "\"\""),
        format("irq", 9, "irq_handler_exit", &[("int irq", 4), ("int ret", 4)], "\"\""),
        format(
            "kvm",
            11,
            "kvm_apic_accept_irq",
            &[("unsigned int apicid", 4), ("unsigned short dm", 2), ("unsigned char vec", 1)],
            "\"\"",
        ),
        format("timer", 10, "timer_start", &[("void * timer", 8)], "\"\""),
        format("kvm", 12, "kvm_eoi", &[("unsigned int apicid", 4), ("int vector", 4)], "\"\""),
        format("kvm", 13, "kvm_mmio", &[("unsigned int type", 4)], "\"\""),
    ] {
        table.add(event).unwrap();
    }
    table
}

pub(super) fn guest_formats() -> FormatTable {
    let mut table = host_formats();
    let softirq = r#""vec=%u [action=%s]", REC->vec, __print_symbolic(REC->vec, { 1, "TIMER" }, { 3, "NET_RX" })"#;
    let hrtimer = [("void * hrtimer", 8), ("s64 now", 8), ("void * function", 8)];
    let work = [("void * work", 8), ("void * function", 8)];
    for event in [
        format("irq", 20, "softirq_entry", &[("unsigned int vec", 4)], softirq),
        format("irq", 21, "softirq_exit", &[("unsigned int vec", 4)], softirq),
        format("timer", 22, "hrtimer_expire_entry", &hrtimer, "\"\""),
        format("timer", 23, "hrtimer_expire_exit", &[("void * hrtimer", 8)], "\"\""),
        format("raw_syscalls", 24, "sys_enter", &[("long id", 8), ("unsigned long args[6]", 48)], "\"\""),
        format("raw_syscalls", 25, "sys_exit", &[("long id", 8), ("long ret", 8)], "\"\""),
        format("irq_vectors", 26, "local_timer_entry", &[("int vector", 4)], "\"\""),
        format("irq_vectors", 27, "local_timer_exit", &[("int vector", 4)], "\"\""),
        format("workqueue", 28, "workqueue_execute_start", &work, "\"\""),
        format("workqueue", 29, "workqueue_execute_end", &work, "\"\""),
        format("syscalls", 30, "sys_enter_openat", &[("int __syscall_nr", 4)], "\"\""),
        format("ftrace", 32, "funcgraph_entry", &[("unsigned long func", 8), ("int depth", 4)], "\"\""),
        format(
            "ftrace",
            33,
            "funcgraph_exit",
            &[
                ("unsigned long func", 8),
                ("int depth", 4),
                ("unsigned long long calltime", 8),
                ("unsigned long long rettime", 8),
            ],
            "\"\"",
        ),
        format("ftrace", 34, "function", &[("unsigned long ip", 8), ("unsigned long parent_ip", 8)], "\"\""),
        format("ftrace", 35, "print", &[("unsigned long ip", 8), ("char buf", 0)], "\"\""),
        format("block", 36, "block_rq_issue", &[("dev_t dev", 4), ("sector_t sector", 8), ("char rwbs[8]", 8)], "\"\""),
        format("block", 37, "block_rq_complete", &[("dev_t dev", 4), ("sector_t sector", 8)], "\"\""),
        format("timer", 38, "timer_expire_entry", &[("void * timer", 8), ("void * function", 8)], "\"\""),
        format("timer", 39, "timer_expire_exit", &[("void * timer", 8)], "\"\""),
        format("syscalls", 31, "sys_exit_openat", &[("int __syscall_nr", 4), ("long ret", 8)], "\"\""),
    ] {
        table.add(event).unwrap();
    }
    table
}

pub(super) fn vcpu(number: u32, thread: Option<i32>) -> VcpuSetup {
    VcpuSetup { number, vcpu_id: Some(number), thread, segments: Vec::new(), description: String::new(), hidden: false }
}

pub(super) fn vm(name: &str, vcpus: Vec<VcpuSetup>) -> VmSetup {
    VmSetup { name: name.into(), pid: Some(100), kernel: None, threads: vec![100], vcpus }
}

/// Two host CPUs; VM a with threads 10 and 11, VM b with thread 20; all recorded.
pub(super) fn setup() -> Setup {
    let source = |formats| FieldSource::new(Arc::new(formats), Endian::Little);
    Setup {
        sources: vec![source(host_formats()), source(guest_formats()), source(guest_formats())],
        streams: vec![
            StreamRole::Host { source: 0, cpu: 0 },
            StreamRole::Host { source: 0, cpu: 1 },
            StreamRole::Guest { source: 1, vm: 0, vcpu: 0 },
            StreamRole::Guest { source: 1, vm: 0, vcpu: 1 },
            StreamRole::Guest { source: 2, vm: 1, vcpu: 0 },
        ],
        vms: vec![vm("a", vec![vcpu(0, Some(10)), vcpu(1, Some(11))]), vm("b", vec![vcpu(0, Some(20))])],
        host_comms: vec![(70, "waker".into())],
        rate: TscRate::UNKNOWN,
        span: (HostTsc::new(0), HostTsc::MAX),
        wall_clock: None,
        machines: Vec::new(),
        metadata: serde_json::Value::Null,
        options: DrawOptions::default(),
    }
}

/// The same host without VMs.
pub(super) fn lone_setup() -> Setup {
    let mut setup = setup();
    setup.sources[0] = setup.sources[1].clone();
    setup.sources.truncate(1);
    setup.streams.truncate(2);
    setup.vms.clear();
    setup
}

pub(super) struct Bench {
    pub(super) timeline: Timeline,
    world: Arc<World>,
    /// Names of all rows so far.
    rows: Vec<String>,
    roles: Vec<StreamRole>,
    pub(super) log: String,
    pub(super) items: Vec<Item>,
}

impl Bench {
    pub(super) fn new(setup: Setup) -> Self {
        let roles = setup.streams.clone();
        let timeline = Timeline::new(setup);
        let world = timeline.world();
        let rows = world.tracks.iter().map(|track| track.name.clone()).collect();
        Self { timeline, world, rows, roles, log: String::new(), items: Vec::new() }
    }

    pub(super) fn stream(&self, name: &str) -> usize {
        let names = ["h0", "h1", "a0", "a1", "b0"];
        names.iter().position(|&other| other == name).unwrap_or_else(|| panic!("no stream {name}"))
    }

    pub(super) fn formats(&self, stream: usize) -> (usize, Arc<FormatTable>) {
        let (StreamRole::Host { source, .. } | StreamRole::Guest { source, .. }) = self.roles[stream];
        (usize::from(source), Arc::clone(&self.world.sources[usize::from(source)].formats))
    }

    /// Feeds lines; what they drew goes to the log.
    pub(super) fn feed(&mut self, lines: &str) -> &mut Self {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let _ = writeln!(self.log, "{line}");
            let words: Vec<&str> = line.split_whitespace().collect();
            let (ts, stream) = (HostTsc::new(words[0].parse().unwrap()), self.stream(words[1]));
            match words[2] {
                "LOST" => self.timeline.lost(stream as u32, ts, words.get(3).map(|count| count.parse().unwrap())),
                "ENDS" => self.timeline.stream_ends(stream as u32, ts),
                name => {
                    let (_, formats) = self.formats(stream);
                    let index = formats.events().iter().position(|event| &*event.name == name);
                    let index = index.unwrap_or_else(|| panic!("no event {name}")) as u16;
                    let payload = payload(&formats.events()[usize::from(index)], &words[3..]);
                    self.timeline.event(stream as u32, ts, index, &payload);
                }
            }
            self.take();
        }
        self
    }

    /// Takes what was drawn into the log.
    pub(super) fn take(&mut self) {
        let batch = self.timeline.take_batch();
        self.show(&batch);
    }

    pub(super) fn finish(mut self) -> (String, Outcome, Vec<Item>) {
        self.log.push_str("FINISH\n");
        let placeholder = Timeline::new(lone_setup());
        let outcome = std::mem::replace(&mut self.timeline, placeholder).finish();
        self.show(&outcome.last);
        (self.log, outcome, self.items)
    }

    fn show(&mut self, batch: &Batch) {
        for late in &batch.tracks {
            assert_eq!(late.new, late.id.0 as usize == self.rows.len(), "a row is new once");
            if late.new {
                let parent = late.track.parent.map(|parent| &self.rows[parent.0 as usize]);
                let _ = writeln!(self.log, "    ROW {} in {}", late.track.name, parent.map_or("", |name| name));
                self.rows.push(late.track.name.clone());
            }
        }
        for item in &batch.items {
            show_item(&self.world, &self.rows, batch, item, &mut self.log);
        }
        show_native(&self.world, batch, &mut self.log);
        self.items.extend(batch.items.iter().cloned());
    }
}

/// Builds a record from `field=value` words; fields that are not named are 0 and the common type is left out.
pub(super) fn payload(format: &EventFormat, words: &[&str]) -> Vec<u8> {
    let end = format.common.iter().chain(&format.fields).map(|f| usize::from(f.offset + f.size)).max().unwrap_or(8);
    let mut bytes = vec![0; end];
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        let key = if key == "pid" && format.fields.iter().all(|f| &*f.name != "pid") { "common_pid" } else { key };
        let field = format.field(key).unwrap_or_else(|| panic!("{} has no field {key}", format.name));
        let at = usize::from(field.offset);
        match field.kind {
            FieldKind::Text => {
                bytes.resize(bytes.len().max(at + value.len()), 0);
                bytes[at..at + value.len()].copy_from_slice(value.as_bytes());
            }
            FieldKind::DynamicText => {
                let location = (bytes.len() as u32) | ((value.len() as u32 + 1) << 16);
                bytes[at..at + 4].copy_from_slice(&location.to_le_bytes());
                bytes.extend_from_slice(value.as_bytes());
                bytes.push(0);
            }
            _ => {
                let number = match value.strip_prefix("0x") {
                    Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
                    None => value.parse::<i64>().unwrap() as u64,
                };
                let size = usize::from(field.size);
                bytes[at..at + size].copy_from_slice(&number.to_le_bytes()[..size]);
            }
        }
    }
    bytes
}

fn show_native(world: &World, batch: &Batch, out: &mut String) {
    for event in &batch.native {
        let cpu = world.native.as_ref().unwrap().cpus[event.cpu as usize];
        let _ = write!(out, "    {} {}/{} ", event.ts, cpu.machine, cpu.number);
        let (how, recorded) = match &event.shape {
            NativeShape::Full(recorded) => ("full", Some(recorded)),
            NativeShape::Follows(recorded) => ("follows", Some(recorded)),
            NativeShape::Resumes(recorded) => ("resumes", Some(recorded)),
            NativeShape::Ends => ("ends", None),
        };
        out.push_str(how);
        if let Some(recorded) = recorded {
            let formats = &world.sources[usize::from(recorded.source)].formats;
            let _ = write!(out, " {}", formats.get(recorded.event).unwrap().name);
        }
        out.push('\n');
    }
}

fn show_item(world: &World, rows: &[String], batch: &Batch, item: &Item, out: &mut String) {
    let text = |id| String::from_utf8_lossy(batch.strings.get(id)).into_owned();
    let track = &rows[item.track.0 as usize];
    let _ = write!(out, "    {} {track}: ", item.ts);
    match item.shape {
        Shape::Begin => _ = write!(out, "+ {}", text(item.name)),
        Shape::End => out.push('-'),
        Shape::Instant => _ = write!(out, ". {}", text(item.name)),
        Shape::Counter(value) => _ = write!(out, "= {value}"),
    }
    if let Some(category) = item.category.name() {
        let _ = write!(out, " [{category}]");
    }
    match item.correlation {
        Correlation::None => {}
        Correlation::OffCpu => out.push_str(" #off-cpu"),
        Correlation::Halted => out.push_str(" #halted"),
    }
    let args: Vec<String> = batch.args[item.args.start as usize..item.args.end as usize]
        .iter()
        .map(|arg| show_arg(world, batch, arg))
        .collect();
    if !args.is_empty() {
        let _ = write!(out, " ({})", args.join(", "));
    }
    for flow in &batch.flows[item.flows.start as usize..item.flows.end as usize] {
        let arrives = if flow & ARRIVES == 0 { "" } else { ">" };
        let _ = write!(out, " ~{arrives}{}", flow & !ARRIVES);
    }
    out.push('\n');
}

fn show_arg(world: &World, batch: &Batch, arg: &Arg) -> String {
    let text = |id| String::from_utf8_lossy(batch.strings.get(id)).into_owned();
    let bytes = |range: &std::ops::Range<u32>| &batch.bytes[range.start as usize..range.end as usize];
    match arg {
        Arg::Uint(key, value) => format!("{} {value}", text(*key)),
        Arg::Int(key, value) => format!("{} {value}", text(*key)),
        Arg::Hex(key, value) => format!("{} {value:#x}", text(*key)),
        Arg::Bool(key, value) => format!("{} {value}", text(*key)),
        Arg::Name(key, value) => format!("{} {}", text(*key), text(*value)),
        Arg::Text(key, range) => format!("{} {}", text(*key), String::from_utf8_lossy(bytes(range))),
        Arg::Fields { source, event, payload } => {
            let source = &world.sources[usize::from(*source)];
            let format = source.formats.get(*event).unwrap();
            let values = format.fields.iter().map(|field| match field.value(bytes(payload), source.endian) {
                Some(Value::Uint(value) | Value::Pointer(value)) => format!("{}={value}", field.name),
                Some(Value::Int(value)) => format!("{}={value}", field.name),
                other => format!("{}={other:?}", field.name),
            });
            values.collect::<Vec<_>>().join(" ")
        }
        Arg::Rendered { key, source, event, payload } => {
            let source = &world.sources[usize::from(*source)];
            let mut rendered = Vec::new();
            let format = source.formats.get(*event).unwrap();
            format.render(bytes(payload), source.endian, &PrintContext::default(), &mut rendered);
            format!("{}: {}", text(*key), String::from_utf8_lossy(&rendered))
        }
    }
}

/// Compares a log with what is expected; both without indentation of the whole.
#[track_caller]
pub(super) fn assert_log(log: &str, expected: &str) {
    let clean = |text: &str| {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join("\n")
    };
    let (log, expected) = (clean(log), clean(expected));
    assert!(log == expected, "drawn:\n{log}\n\nexpected:\n{expected}\n");
}
