//! A made-up host with VMs, whose every guest event has a known true host time.
//!
//! [`World::new`] invents, from a seed, vCPU threads that enter and leave guest mode on changing CPUs, offset histories
//! with jumps in both directions, and guest events inside the run windows. It then records them the way kernels do: offset
//! writes in one or two buffers, host events with losses, and guest stamps as a ring buffer stores them, with the wrong
//! times that follow a clock that went backwards.

// Each test that uses it uses a part.
#![allow(dead_code, unreachable_pub)]

use kvm_timeline::clock::history::Write;
use kvm_timeline::clock::place::{FIRST, ZERO_EXTEND};
use kvm_timeline::clock::scaling::{HostRange, Scaling};
use kvm_timeline::time::{GuestTsc, HostTsc, RawStamp, TscOffset};

/// A small random number generator (splitmix64): the same seed makes the same world everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both inclusive.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// From `low` to `high`, but every order of magnitude as likely as the next.
    pub fn log(&mut self, low: u64, high: u64) -> u64 {
        let bits = self.between(u64::from(low.ilog2()), u64::from(high.ilog2()));
        self.between(1 << bits, (2 << bits) - 1).clamp(low, high)
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }
}

/// What kind of world to make.
#[derive(Clone, Debug)]
pub struct Plan {
    pub vms: usize,
    pub vcpus: usize,
    /// Physical CPUs of each vCPU: no two vCPUs share one, so that a CPU never runs two at once.
    pub cpus: u32,
    /// Run windows per vCPU.
    pub windows: usize,
    /// Out of 100 gaps between windows, how many see an offset write.
    pub changes: u64,
    /// Which jumps a write makes.
    pub jumps: Jumps,
    /// Events per guest sub-buffer.
    pub sub_buffer: usize,
    /// Out of 100 host sub-buffers, how many are lost.
    pub losses: u64,
    pub scaling: Scaling,
    /// Host TSC at the start.
    pub start: u64,
    /// Out of 100 windows, how many hold guest events.
    pub busy: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            vms: 1,
            vcpus: 2,
            cpus: 4,
            windows: 400,
            changes: 0,
            jumps: Jumps::Any,
            sub_buffer: 30,
            losses: 0,
            scaling: Scaling::NONE,
            start: 30_000_000_000,
            busy: 70,
        }
    }
}

/// How an offset changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jumps {
    /// Any of the following, and repeats of the same value.
    Any,
    /// The guest's clock stands still while the vCPU is out, as on a host with an unstable TSC.
    StandStill,
    /// Back by up to some seconds.
    Back,
    /// Forward by up to some seconds.
    Forward,
}

/// A guest event.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// When it happened.
    pub truth: HostTsc,
    /// What the guest's clock showed.
    pub clock: GuestTsc,
    /// The stamp that a reader of the ring buffer gets.
    pub stamp: RawStamp,
    /// [`FIRST`] and [`ZERO_EXTEND`].
    pub flags: u8,
}

/// A run window.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub entry: HostTsc,
    pub exit: HostTsc,
    pub cpu: u32,
}

/// A kvm_entry or kvm_exit that was recorded and not lost.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub ts: HostTsc,
    pub cpu: u32,
    pub entry: bool,
}

pub struct Vcpu {
    pub thread: i32,
    pub vcpu_id: u32,
    /// The truth.
    pub windows: Vec<Window>,
    /// (from, offset) in host-time order: the truth.
    pub offsets: Vec<(HostTsc, TscOffset)>,
    /// Recorded writes, copies included.
    pub writes: Vec<Write>,
    /// Recorded entries and exits, CPU by CPU.
    pub marks: Vec<Mark>,
    /// The guest CPU's stream in recording order.
    pub events: Vec<Event>,
}

pub struct Vm {
    /// `a`, `b`, …
    pub name: String,
    /// Its process on the host.
    pub pid: i32,
    /// By guest CPU.
    pub vcpus: Vec<Vcpu>,
    pub scaling: Scaling,
}

pub struct World {
    pub vms: Vec<Vm>,
    /// When the host recorded.
    pub known: HostRange,
    /// What it lost, by CPU.
    pub lost: Vec<(HostRange, u32)>,
}

impl World {
    pub fn new(seed: u64, plan: &Plan) -> Self {
        let random = &mut Random::new(seed);
        let mut vms = Vec::new();
        for vm in 0..plan.vms {
            let born = plan.start + random.log(1, 1 << 30);
            let vcpus = (0..plan.vcpus).map(|id| vcpu(random, plan, born, vm, id)).collect();
            let name = char::from(b'a' + vm as u8).to_string();
            vms.push(Vm { name, pid: 950 + vm as i32, vcpus, scaling: plan.scaling });
        }
        let all = || vms.iter().flat_map(|vm: &Vm| &vm.vcpus);
        let end = all().filter_map(|v| v.windows.last()).map(|w| w.exit.get()).max().unwrap_or(plan.start) + 1000;
        let known = HostRange { first: HostTsc::new(plan.start), last: HostTsc::new(end) };
        let lost = losses(random, plan, known);
        for vcpu in vms.iter_mut().flat_map(|vm| &mut vm.vcpus) {
            vcpu.marks = marks(&vcpu.windows, &lost);
        }
        Self { vms, known, lost }
    }
}

fn vcpu(random: &mut Random, plan: &Plan, born: u64, vm: usize, id: usize) -> Vcpu {
    let mut now = born + random.between(10, 1000);
    let base = plan.cpus * (vm * plan.vcpus + id) as u32;
    let two_buffers = random.chance(50);
    let mut writes = Vec::new();
    let mut write = |random: &mut Random, at: u64, prev: TscOffset, next: TscOffset| {
        writes.push(Write { at: HostTsc::new(at), prev, next, buffer: 0 });
        if two_buffers {
            let later = HostTsc::new(at + random.between(1, 40));
            writes.push(Write { at: later, prev, next, buffer: 1 });
        }
    };
    // KVM starts a guest's TSC near 0.
    let zero = TscOffset::default();
    let mut offset = TscOffset::from_raw(plan.scaling.guest(HostTsc::new(born), zero).get().wrapping_neg());
    write(random, now, zero, offset);
    let mut offsets = vec![(HostTsc::new(now), offset)];
    now += 100;
    write(random, now, offset, offset);
    now += 100;

    let mut windows = Vec::new();
    let mut times: Vec<(HostTsc, TscOffset)> = Vec::new();
    for _ in 0..plan.windows {
        let out_since = now;
        let gap = if random.chance(10) { random.log(10_000, 30_000_000) } else { random.log(200, 20_000) };
        now += gap;
        if random.chance(plan.changes) {
            let at = out_since + random.between(50, gap - 100);
            let next = jump(random, plan, offset, gap, HostTsc::new(at));
            write(random, at, offset, next);
            if next != offset {
                offset = next;
                offsets.push((HostTsc::new(at), offset));
            }
        }
        let length = random.log(100, 400_000);
        let window = Window {
            entry: HostTsc::new(now),
            exit: HostTsc::new(now + length),
            cpu: base + random.between(0, u64::from(plan.cpus) - 1) as u32,
        };
        if random.chance(plan.busy) {
            let mut inside: Vec<u64> = (0..random.log(1, 32)).map(|_| random.between(now, now + length)).collect();
            inside.sort_unstable();
            times.extend(inside.into_iter().map(|t| (HostTsc::new(t), offset)));
        }
        windows.push(window);
        now += length;
    }
    let clock = |(truth, offset): (HostTsc, TscOffset)| (truth, plan.scaling.guest(truth, offset));
    let events = record(random, plan, times.into_iter().map(clock));
    let thread = 1000 + 100 * vm as i32 + id as i32;
    Vcpu { thread, vcpu_id: id as u32, windows, offsets, writes, marks: Vec::new(), events }
}

fn jump(random: &mut Random, plan: &Plan, offset: TscOffset, out: u64, now: HostTsc) -> TscOffset {
    let by = |cycles: i64| TscOffset::from_raw(offset.raw().wrapping_add(cycles.cast_unsigned()));
    let seconds = 10_000_000_000;
    let kinds = [Jumps::StandStill, Jumps::Back, Jumps::Forward];
    let kind = match plan.jumps {
        Jumps::Any if random.chance(20) => return offset,
        Jumps::Any => kinds[random.between(0, 2) as usize],
        kind => kind,
    };
    // The guest's TSC must not pass 0: a clock that wraps around is another story.
    let clock = plan.scaling.guest(now, offset).get();
    match kind {
        Jumps::StandStill => by(-(random.between(0, out.min(clock / 2)) as i64)),
        Jumps::Back if clock > 100 => by(-(random.log(1, (clock - 1).min(seconds)) as i64)),
        _ => by(random.log(1, seconds) as i64),
    }
}

/// What a reader gets from a ring buffer into which these clock values were written.
fn record(random: &mut Random, plan: &Plan, clocks: impl Iterator<Item = (HostTsc, GuestTsc)>) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut room = 0;
    let (mut written, mut read) = (0, 0);
    for (truth, clock) in clocks {
        let now = clock.get();
        let mut flags = 0;
        if room == 0 {
            // The sub-buffer's own stamp is absolute.
            room = random.between(1, 2 * plan.sub_buffer as u64);
            flags = FIRST;
            read = now;
        } else if now < written {
            flags = ZERO_EXTEND;
        } else {
            read += now - written;
        }
        written = now;
        room -= 1;
        events.push(Event { truth, clock, stamp: RawStamp::new(read), flags });
    }
    events
}

fn losses(random: &mut Random, plan: &Plan, known: HostRange) -> Vec<(HostRange, u32)> {
    let mut lost = Vec::new();
    if plan.losses == 0 {
        return lost;
    }
    for cpu in 0..plan.cpus * (plan.vms * plan.vcpus) as u32 {
        let mut at = known.first.get();
        while at < known.last.get() {
            let end = (at + random.log(1_000, 5_000_000)).min(known.last.get());
            if random.chance(plan.losses) {
                lost.push((HostRange { first: HostTsc::new(at), last: HostTsc::new(end) }, cpu));
            }
            at = end + 1;
        }
    }
    lost
}

fn marks(windows: &[Window], lost: &[(HostRange, u32)]) -> Vec<Mark> {
    let mut marks: Vec<Mark> = windows
        .iter()
        .flat_map(|w| [Mark { ts: w.entry, cpu: w.cpu, entry: true }, Mark { ts: w.exit, cpu: w.cpu, entry: false }])
        .filter(|mark| !lost.iter().any(|(range, cpu)| *cpu == mark.cpu && range.contains(mark.ts)))
        .collect();
    // Streams come CPU by CPU.
    marks.sort_by_key(|mark| (mark.cpu, mark.ts));
    marks
}

/// Changes of a finished world.
impl World {
    /// From the first moment after `when` at which each vCPU of VM `vm` is out of guest mode, its offset is another one by
    /// `cycles`. Events between `when` and then are dropped. The write is recorded in buffer 0.
    pub fn shift(&mut self, vm: usize, when: HostTsc, cycles: i64) {
        let scaling = self.vms[vm].scaling;
        for vcpu in &mut self.vms[vm].vcpus {
            let Some(window) = vcpu.windows.iter().find(|w| w.exit >= when) else { continue };
            let at = HostTsc::new(window.exit.get() + 50);
            let prev = vcpu.offsets.last().map_or(TscOffset::default(), |(_, offset)| *offset);
            let next = TscOffset::from_raw(prev.raw().wrapping_add(cycles.cast_unsigned()));
            vcpu.writes.push(Write { at, prev, next, buffer: 0 });
            vcpu.offsets.push((at, next));
            vcpu.events.retain(|e| e.truth < when || e.truth > at);
            for event in vcpu.events.iter_mut().filter(|e| e.truth > at) {
                event.clock = scaling.guest(event.truth, next);
            }
        }
    }

    /// The host time at which `part` in `of` of the guests' events are over.
    pub fn moment(&self, part: usize, of: usize) -> HostTsc {
        let mut times: Vec<HostTsc> =
            self.vms.iter().flat_map(|vm| &vm.vcpus).flat_map(|v| &v.events).map(|e| e.truth).collect();
        times.sort_unstable();
        times[(times.len() - 1) * part / of]
    }

    /// Forgets the writes that `gone` picks.
    pub fn forget(&mut self, gone: impl Fn(&Write) -> bool) {
        self.vms.iter_mut().flat_map(|vm| &mut vm.vcpus).for_each(|v| v.writes.retain(|w| !gone(w)));
    }
}
