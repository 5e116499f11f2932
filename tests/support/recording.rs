//! Records a made-up [`World`] the way the tools do: a directory with the host's trace.dat, one file per guest, and what
//! people put beside them. Every guest event carries its number, so that a reader's answer can be held against the truth.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use kvm_timeline::capture::{ShiftSample, TimeShift};
use kvm_timeline::clock::scaling::HostRange;
use kvm_timeline::time::{HostTsc, TscOffset};

use super::ring_pages::{Layout, Page, PageBuilder};
use super::trace_dat_writer::{Compression, Field, Payload, ShiftLayout, TraceDat, format_text, format_text_with};
use super::world::{Vcpu, Vm, World};

/// Which of the host's buffers hold the offset writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// As the world says: main buffer, and for some vCPUs the instance too.
    AsMade,
    /// Only the instance `tsc_offset`.
    Instance,
    /// None.
    Withheld,
}

/// Which thread writes the offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The vCPU's own, as QEMU does it.
    Vcpu,
    /// The VM's process for every fourth write, as QEMU's main thread does now and then.
    SomeByProcess,
    /// The VM's process, as other programs do it.
    Process,
}

/// The clock of the guests' ring buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestClock {
    /// x86-tsc.
    Tsc,
    /// `local`: kvm-clock less this constant, with `kvm_pvclock_update` events on the host.
    Local(i64),
    /// Nanoseconds since the guest's start in a file that says x86-tsc.
    FalseTsc,
    /// TSC cycles in a file that says `local`.
    FalseLocal,
}

/// The machines, as their kernels record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    X86,
    /// No TSC and so no `x86-tsc`, no offset writes; kvm_entry does not say which vCPU, and kvm_exit has other fields.
    /// Host and guest record with these clocks.
    Arm64(&'static str, &'static str),
}

/// How a world is recorded.
#[derive(Clone, Copy, Debug)]
pub struct Recorder {
    pub version: u8,
    pub compression: Compression,
    pub layout: Layout,
    pub writes: Writes,
    pub writer: Writer,
    /// sched_process_fork of the vCPU threads.
    pub forks: bool,
    /// debugfs files beside the captures.
    pub debugfs: bool,
    /// GUEST and TIME_SHIFT, as in a session of trace-cmd.
    pub time_shift: Option<ShiftLayout>,
    /// TSC2NSEC in the host's file.
    pub tsc2nsec: bool,
    pub guest_clock: GuestClock,
    pub machine: Machine,
    /// Each guest has a file for the events up to this host time, and one for the others.
    pub split: Option<HostTsc>,
    /// Bytes of padding in each guest event: larger events fill a sub-buffer sooner.
    pub padding: usize,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            version: 7,
            compression: Compression::Zstd,
            layout: Layout::X86_64,
            writes: Writes::AsMade,
            writer: Writer::Vcpu,
            forks: true,
            debugfs: false,
            time_shift: None,
            tsc2nsec: false,
            guest_clock: GuestClock::Tsc,
            machine: Machine::X86,
            split: None,
            padding: 40,
        }
    }
}

/// The host's TSC rate: mult and shift for 2.5 GHz, 0.4 ns per cycle.
pub const MULT: u32 = 13_421_773;
pub const SHIFT: u32 = 25;
pub const HOST_HZ: u64 = 2_500_000_000;

const ENTRY: u16 = 301;
const EXIT: u16 = 302;
const WRITE: u16 = 303;
const PVCLOCK: u16 = 304;
const SWITCH: u16 = 310;
const WAKING: u16 = 311;
const FORK: u16 = 312;
const SERIAL: u16 = 320;

/// One event on its way into a ring buffer.
struct Event {
    cpu: u32,
    ts: HostTsc,
    instance: bool,
    bytes: Vec<u8>,
}

impl Recorder {
    /// Writes `host.dat`, `guest-NAME.dat` and the rest into `directory`.
    pub fn record(&self, world: &World, directory: &Path) {
        fs::write(directory.join("host.dat"), self.host(world)).expect("writable");
        for (nth, vm) in world.vms.iter().enumerate() {
            let halves: &[(Option<bool>, &str)] = match self.split {
                None => &[(None, "")],
                Some(_) => &[(Some(false), "-boot1"), (Some(true), "-boot2")],
            };
            for (half, suffix) in halves {
                let bytes = self.guest(vm, nth, *half);
                fs::write(guest_path(directory, &vm.name, suffix), bytes).expect("writable");
            }
            if self.debugfs {
                self.write_debugfs(vm, directory);
            }
        }
    }

    /// The bytes of the host's file.
    pub fn host(&self, world: &World) -> Vec<u8> {
        let mut events = Vec::new();
        let mut cmdlines = String::new();
        for vm in &world.vms {
            let _ = writeln!(cmdlines, "{} qemu-{}", vm.pid, vm.name);
            for (cpu, vcpu) in vm.vcpus.iter().enumerate() {
                let _ = writeln!(cmdlines, "{} CPU {cpu}/KVM", vcpu.thread);
                self.vcpu_events(vm, vcpu, &mut events);
            }
        }
        // What is lost at a CPU's very end, nobody is told of: such losses are not made.
        let mut ends = std::collections::BTreeMap::new();
        for event in &events {
            let hit = world.lost.iter().any(|(range, cpu)| *cpu == event.cpu && range.contains(event.ts));
            let end = ends.entry(event.cpu).or_insert(HostTsc::MIN);
            *end = (*end).max(if hit || event.instance { HostTsc::MIN } else { event.ts });
        }
        let in_hole = |e: &Event| {
            !e.instance && e.ts < ends[&e.cpu] && world.lost.iter().any(|(r, cpu)| *cpu == e.cpu && r.contains(e.ts))
        };
        // The kernel tells of a loss only where it lost something.
        let lost: Vec<_> = (world.lost.iter())
            .filter(|(range, cpu)| events.iter().any(|e| *cpu == e.cpu && range.contains(e.ts) && in_hole(e)))
            .collect();
        events.retain(|e| !in_hole(e));
        events.sort_by_key(|e| (e.cpu, e.ts));
        let cpus = events.iter().map(|e| e.cpu).max().unwrap_or(0) + 1;
        let buffer = |instance: bool| -> Vec<(u32, Vec<Page>)> {
            let pages = |cpu: u32| {
                let mut pages = PageBuilder::new(self.layout);
                let mut last = HostTsc::MIN;
                for event in events.iter().filter(|e| e.cpu == cpu && e.instance == instance) {
                    let hole = |range: &HostRange| last < range.first && range.last < event.ts;
                    if !instance && lost.iter().any(|(range, on)| *on == cpu && hole(range)) {
                        pages.lost(Some(7));
                    }
                    last = event.ts;
                    pages.event(event.ts.get(), &event.bytes);
                }
                (cpu, pages.finish())
            };
            (0..cpus).map(pages).collect()
        };
        let (clock, arch) = match self.machine {
            Machine::X86 => ("x86-tsc", "x86_64"),
            Machine::Arm64(host, _) => (host, "aarch64"),
        };
        let mut file = TraceDat::new(self.version, self.layout)
            .compression(self.compression)
            .trace_clock(&format!("local global [{clock}]\n"))
            .uname(&format!("Linux metal 6.1.0 {arch}"))
            .trace_id(0x4051)
            .cmdlines(&cmdlines)
            .cpu_count(cpus);
        for (system, text) in host_formats(self.machine) {
            file = file.format(system, &text);
        }
        if self.tsc2nsec {
            file = file.tsc2nsec(MULT, SHIFT, 0);
        }
        if self.time_shift.is_some() {
            for (nth, vm) in world.vms.iter().enumerate() {
                let vcpus: Vec<(u32, i32)> = (0..).zip(vm.vcpus.iter().map(|v| v.thread)).collect();
                file = file.guest(&vm.name, trace_id(nth), &vcpus);
            }
        }
        let instance = buffer(true);
        file = file.buffer("", clock, buffer(false));
        if instance.iter().any(|(_, pages)| !pages.is_empty()) {
            file = file.buffer("tsc_offset", "x86-tsc", instance);
        }
        file.to_bytes()
    }

    fn vcpu_events(&self, vm: &Vm, vcpu: &Vcpu, events: &mut Vec<Event>) {
        let layout = self.layout;
        let record = |id, pid| Payload::new(layout, id, pid);
        let home = vcpu.windows.first().map_or(0, |w| w.cpu);
        let first = vcpu.windows.first().map_or(0, |w| w.entry.get());
        let mut add = |cpu: u32, ts: u64, instance: bool, payload: Payload| {
            events.push(Event { cpu, ts: HostTsc::new(ts), instance, bytes: payload.bytes() });
        };
        let born = vcpu.writes.first().map_or(first, |w| w.at.get().min(first)).saturating_sub(5);
        let comm = |payload: Payload, name: &str, pid: i32| payload.text(name, 16).i32(pid);
        if self.forks {
            let fork = comm(record(FORK, vm.pid), "qemu", vm.pid);
            add(home, born, false, comm(fork, "qemu", vcpu.thread));
        }
        let switch = |from: i32, to: i32, state: u64| {
            let out = comm(record(SWITCH, from), "from", from).i32(120).u64(state);
            comm(out, "to", to).i32(120)
        };
        // Between two windows the thread sleeps in the host, except that it stays on its CPU through short gaps.
        let mut on: Option<(u32, u64)> = None;
        for window in &vcpu.windows {
            let entry = window.entry.get();
            let stays = on.is_some_and(|(cpu, exit)| cpu == window.cpu && entry - exit < 1000);
            if !stays {
                if let Some((cpu, exit)) = on {
                    add(cpu, exit + 30, false, switch(vcpu.thread, 0, 1));
                    let waking = comm(record(WAKING, 0), "CPU/KVM", vcpu.thread).i32(120).i32(window.cpu as i32);
                    add(window.cpu, entry - 60, false, waking);
                }
                add(window.cpu, entry - 40, false, switch(0, vcpu.thread, 0));
            }
            let (entered, left) = (record(ENTRY, vcpu.thread), record(EXIT, vcpu.thread));
            let (entered, left) = match self.machine {
                Machine::X86 => (
                    entered.u32(vcpu.vcpu_id).u64(0x1000),
                    left.u32(if stays { 0x78 } else { 0x60 })
                        .u64(0x1000)
                        .u32(2)
                        .u64(0)
                        .u64(0)
                        .u32(0)
                        .u32(0)
                        .u32(vcpu.vcpu_id),
                ),
                // An interrupt, or a trap of class 1.
                Machine::Arm64(..) if stays => (entered.u64(0x1000), left.u32(2).u32(1).u64(0x1000)),
                Machine::Arm64(..) => (entered.u64(0x1000), left.u32(0).u32(0).u64(0x1000)),
            };
            add(window.cpu, entry, false, entered);
            add(window.cpu, window.exit.get(), false, left);
            on = Some((window.cpu, window.exit.get()));
        }
        for (nth, write) in vcpu.writes.iter().enumerate() {
            let by = match self.writer {
                Writer::Vcpu => vcpu.thread,
                Writer::SomeByProcess if nth % 4 != 3 => vcpu.thread,
                Writer::SomeByProcess | Writer::Process => vm.pid,
            };
            let payload = || record(WRITE, by).u32(vcpu.vcpu_id).u64(write.prev.raw()).u64(write.next.raw());
            match self.writes {
                Writes::AsMade => add(home, write.at.get(), write.buffer == 1, payload()),
                Writes::Instance => add(home, write.at.get(), true, payload()),
                Writes::Withheld => {}
            }
        }
        if let GuestClock::Local(_) = self.guest_clock {
            // One update when the guest starts: 0.4 ns per cycle at tsc_shift -1, from the first entry on.
            let update = pvclock(vm, vcpu);
            let payload = record(PVCLOCK, vcpu.thread).u32(vcpu.vcpu_id).u32(2).u64(update.tsc).u64(update.ns);
            add(home, first - 10, false, payload.u32(PVCLOCK_MUL).raw(&[255, 0]));
        }
    }

    /// The bytes of a guest's file, or of one half of it.
    pub fn guest(&self, vm: &Vm, nth: usize, half: Option<bool>) -> Vec<u8> {
        let split = self.split.unwrap_or(HostTsc::MAX);
        let pages = |(cpu, vcpu): (u32, &Vcpu)| {
            let mut pages = PageBuilder::new(self.layout);
            for (number, event) in vcpu.events.iter().enumerate() {
                if half.is_some_and(|late| late != (event.truth > split)) {
                    continue;
                }
                let stamp = match self.guest_clock {
                    GuestClock::Tsc | GuestClock::FalseLocal => event.clock.get(),
                    GuestClock::Local(constant) => {
                        let update = pvclock(vm, vcpu);
                        let distance = u128::from((event.clock.get() - update.tsc) >> 1) * u128::from(PVCLOCK_MUL);
                        update.ns.wrapping_add((distance >> 32) as u64).wrapping_sub(constant.cast_unsigned())
                    }
                    GuestClock::FalseTsc => {
                        (event.clock.get() - vm.vcpus[0].events[0].clock.get().min(event.clock.get())) * 2 / 5
                    }
                };
                let payload = Payload::new(self.layout, SERIAL, 77).u64(number as u64).text("", self.padding);
                pages.event(stamp, &payload.bytes());
            }
            (cpu, pages.finish())
        };
        let clock = match self.guest_clock {
            GuestClock::Tsc if let Machine::Arm64(_, guest) = self.machine => guest,
            GuestClock::Tsc | GuestClock::FalseTsc => "x86-tsc",
            GuestClock::Local(_) | GuestClock::FalseLocal => "local",
        };
        let serial = [Field::u64("serial"), Field::text("pad", self.padding)];
        let mut file = TraceDat::new(self.version, self.layout)
            .compression(self.compression)
            .trace_clock(&format!("global [{clock}]\n"))
            .uname(&format!("Linux {} 6.1.0 x86_64", vm.name))
            .trace_id(trace_id(nth))
            .cpu_count(vm.vcpus.len() as u32)
            .format("test", &format_text_with("serial", SERIAL, &serial, "\"serial=%llu\", REC->serial"));
        if self.tsc2nsec {
            file = file.tsc2nsec(MULT, SHIFT, 0);
        }
        if let Some(layout) = self.time_shift {
            file = file.time_shift(&time_shift(vm, layout), layout);
        }
        file.buffer("", clock, (0..).zip(&vm.vcpus).map(pages).collect()).to_bytes()
    }

    fn write_debugfs(&self, vm: &Vm, directory: &Path) {
        for vcpu in &vm.vcpus {
            let folder = directory.join(format!("debugfs/kvm/{}-9/vcpu{}", vm.pid, vcpu.vcpu_id));
            fs::create_dir_all(&folder).expect("writable");
            let offset = vcpu.offsets.last().map_or(TscOffset::default(), |(_, offset)| *offset);
            fs::write(folder.join("tsc-offset"), format!("{}\n", offset.signed())).expect("writable");
            if !vm.scaling.is_none() {
                let bits = vm.scaling.frac_bits();
                fs::write(folder.join("tsc-scaling-ratio"), format!("{}\n", vm.scaling.ratio())).expect("writable");
                fs::write(folder.join("tsc-scaling-ratio-frac-bits"), format!("{bits}\n")).expect("writable");
            }
        }
    }
}

/// Where a guest's file is.
pub fn guest_path(directory: &Path, name: &str, suffix: &str) -> PathBuf {
    directory.join(format!("guest-{name}{suffix}.dat"))
}

/// TRACEID of a guest's file.
fn trace_id(vm: usize) -> u64 {
    0xa000 + vm as u64
}

/// 0.8 ns per half-cycle, with 32 fraction bits.
const PVCLOCK_MUL: u32 = 3_435_973_837;

/// kvm-clock at a guest TSC.
struct PvClock {
    tsc: u64,
    ns: u64,
}

fn pvclock(vm: &Vm, vcpu: &Vcpu) -> PvClock {
    let entry = vcpu.windows[0].entry;
    let tsc = vm.scaling.guest(entry, vcpu.offsets[0].1).get() - 1;
    // The VM's kvm-clock counts from one moment for all vCPUs.
    let origin = vm.vcpus[0].windows[0].entry.get();
    PvClock { tsc, ns: (entry.get().wrapping_sub(origin).cast_signed() * 2 / 5 + 5_000_000_000).cast_unsigned() }
}

/// Two exact samples per vCPU, as the kvm protocol takes them: when the recording starts and when it ends.
fn time_shift(vm: &Vm, layout: ShiftLayout) -> TimeShift {
    let sample = |event: Option<&super::world::Event>, offset: Option<&(HostTsc, TscOffset)>| {
        let offset = offset.map_or(TscOffset::default(), |(_, offset)| *offset);
        let (scaling, bits) = if vm.scaling.is_none() { (1, 0) } else { (vm.scaling.ratio(), vm.scaling.frac_bits()) };
        ShiftSample {
            time: event.map_or(1, |e| e.clock.get()),
            offset: offset.signed().wrapping_neg(),
            scaling,
            fraction_bits: (layout == ShiftLayout::Fractions).then_some(bits),
        }
    };
    let samples =
        |v: &Vcpu| vec![sample(v.events.first(), v.offsets.first()), sample(v.events.last(), v.offsets.last())];
    TimeShift {
        peer_trace_id: 0x4051,
        interpolate: false,
        vcpus: vm.vcpus.iter().map(samples).collect(),
        all_cpus: false,
    }
}

fn host_formats(machine: Machine) -> Vec<(&'static str, String)> {
    let u32 = Field::u32;
    let u64 = Field::u64;
    let text = |name: &str| Field::text(name, 16);
    let exit = [
        u32("exit_reason"),
        u64("guest_rip"),
        u32("isa"),
        u64("info1"),
        u64("info2"),
        u32("intr_info"),
        u32("error_code"),
        u32("vcpu_id"),
    ];
    let exits = "\"reason %s\", __print_symbolic(REC->exit_reason, { 0x060, \"interrupt\" }, { 0x078, \"hlt\" })";
    let write = [u32("vcpu_id"), u64("previous_tsc_offset"), u64("next_tsc_offset")];
    let byte = |name: &str| Field { declaration: format!("__s8 {name}"), size: 1, align: 1, signed: true };
    let pvclock = [
        u32("vcpu_id"),
        u32("version"),
        u64("tsc_timestamp"),
        u64("system_time"),
        u32("tsc_to_system_mul"),
        byte("tsc_shift"),
        byte("flags"),
    ];
    let switch = [
        text("prev_comm"),
        Field::i32("prev_pid"),
        Field::i32("prev_prio"),
        u64("prev_state"),
        text("next_comm"),
        Field::i32("next_pid"),
        Field::i32("next_prio"),
    ];
    let waking = [text("comm"), Field::i32("pid"), Field::i32("prio"), Field::i32("target_cpu")];
    let fork = [text("parent_comm"), Field::i32("parent_pid"), text("child_comm"), Field::i32("child_pid")];
    let trap = [u32("ret"), u32("esr_ec"), u64("vcpu_pc")];
    let traps = "\"%s: HSR_EC: 0x%04x (%s), PC: 0x%016lx\", __print_symbolic(REC->ret, {0, \"IRQ\"}, {1, \"EL1_SERROR\"}, \
                 {2, \"TRAP\"}), REC->esr_ec, __print_symbolic(REC->esr_ec, {0, \"UNKNOWN\"}, {1, \"WFx\"}), REC->vcpu_pc";
    let (entry, exit) = match machine {
        Machine::X86 => (
            format_text("kvm_entry", ENTRY, &[u32("vcpu_id"), u64("rip")]),
            format_text_with("kvm_exit", EXIT, &exit, exits),
        ),
        Machine::Arm64(..) => {
            (format_text("kvm_entry", ENTRY, &[u64("vcpu_pc")]), format_text_with("kvm_exit", EXIT, &trap, traps))
        }
    };
    vec![
        ("kvm", entry),
        ("kvm", exit),
        ("kvm", format_text("kvm_write_tsc_offset", WRITE, &write)),
        ("kvm", format_text("kvm_pvclock_update", PVCLOCK, &pvclock)),
        ("sched", format_text("sched_switch", SWITCH, &switch)),
        ("sched", format_text("sched_waking", WAKING, &waking)),
        ("sched", format_text("sched_process_fork", FORK, &fork)),
    ]
}
