//! The one pass over all packets that opening a trace takes: where each CPU's events stand, what they are, who is who.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bundle::Bundle;
use super::clock::Snapshots;
use super::discover::Discovery;
use super::known::SWITCH;
use super::native::{Native, Taken};
use super::packets::{Packets, field};
use super::running::{Running, next_of};
use super::unpack::compressed;
use super::wire::{Fields, Value};
use crate::capture::cpu_runs::Index;
use crate::capture::limits::Limits;
use crate::capture::source::ReadAt;
use crate::capture::trace_dat::notes::Notes;
use crate::capture::{CaptureInfo, CpuStats};
use crate::error::Result;

/// Most CPUs of a machine.
const MAX_CPUS: u32 = 65_536;
/// Most threads whose names are kept: the kernel's limit of thread ids.
const MAX_THREADS: usize = 1 << 22;
/// Most other machines and clocks that are told apart.
const MAX_TOLD: usize = 64;

/// What the packets of a trace are.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) discovery: Discovery,
    pub(super) index: Index,
    pub(super) snapshots: Snapshots,
    /// By CPU: who runs at the beginning of each packet.
    pub(super) starts: Vec<Vec<(u64, Running)>>,
    running: Vec<Running>,
    /// The clocks of bundles with events, as they number them.
    pub(super) clocks: Vec<u64>,
    /// Events of the machine itself.
    pub(super) events: u64,
    /// First and last time.
    pub(super) span: Option<(u64, u64)>,
    pub(super) packets: u64,
    /// The end of the packet with the first clock snapshot.
    pub(super) settled: u64,
    /// The end of the last packet.
    pub(super) end: u64,
    pub(super) sequences: Taken,
    pub(super) machines: Taken,
    pub(super) largest_track: u64,
    pub(super) made_by: Option<String>,
    /// Events of other machines.
    others: BTreeMap<u64, u64>,
    /// Packets that make no sense.
    broken: u64,
    too_large: u64,
    comms: BTreeMap<i32, Box<str>>,
    tgids: BTreeMap<i32, i32>,
    /// By process, from its command line; the kernel's own name is better.
    commands: BTreeMap<i32, Box<str>>,
    kernel: Option<String>,
    cpus: u32,
    cpu_stats: Vec<CpuStats>,
}

/// What a scan found.
pub(super) enum Scanned {
    /// Everything.
    All(Box<Scan>),
    /// Compressed packets: the scan is to be repeated on what they unpack to.
    Compressed,
}

/// Reads all packets.
pub(super) fn scan(source: &Arc<dyn ReadAt>, limits: &Limits, notes: &mut Notes) -> Result<Scanned> {
    let mut packets = Packets::new(Arc::clone(source), limits);
    let mut scan = Scan::default();
    while let Some(packet) = packets.next()? {
        if compressed(packet.body).is_some() {
            return Ok(Scanned::Compressed);
        }
        scan.packets += 1;
        scan.packet(packet.body, packet.at, packet.size);
    }
    scan.end = packets.position();
    scan.too_large = packets.too_large;
    if let Some(broken) = packets.broken {
        notes.damaged(broken);
    }
    Ok(Scanned::All(Box::new(scan)))
}

impl Scan {
    fn packet(&mut self, body: &[u8], at: u64, size: u64) {
        let (mut machine, mut bundle) = (0, None);
        let mut fields = Fields::new(body);
        for (number, value) in &mut fields {
            match (number, value) {
                (field::MACHINE, Value::Number(number)) => machine = number,
                (field::FTRACE_EVENTS, Value::Bytes(bytes)) => bundle = Some(bytes),
                (field::SEQUENCE, Value::Number(number)) => self.sequences.add(number as u32),
                _ => {}
            }
        }
        if fields.broken {
            self.broken += 1;
            return;
        }
        if machine != 0 {
            self.machines.add(machine as u32);
            if let Some(bundle) = bundle.map(Bundle::parse)
                && (self.others.contains_key(&machine) || self.others.len() < MAX_TOLD)
            {
                let compact = bundle.compact.switches().count() + bundle.compact.wakings().count();
                *self.others.entry(machine).or_default() += (bundle.events().count() + compact) as u64;
            }
            return;
        }
        if let Some(bundle) = bundle {
            return self.bundle(&Bundle::parse(bundle), at, size);
        }
        for (number, value) in Fields::new(body) {
            let Value::Bytes(message) = value else { continue };
            match number {
                field::CLOCK_SNAPSHOT => {
                    self.snapshots.add(message);
                    if self.settled == 0 {
                        self.settled = at.saturating_add(size);
                    }
                }
                field::PROCESS_TREE => self.process_tree(message),
                field::SYSTEM_INFO => self.system_info(message),
                field::FTRACE_STATS => self.ftrace_stats(message),
                field::TRACK_DESCRIPTOR => {
                    let uuid =
                        Fields::new(message).find_map(|(number, value)| (number == 1).then(|| value.number())?);
                    Native::track(&mut self.largest_track, uuid.unwrap_or(0));
                }
                field::TRACE_ATTRIBUTES => self.attributes(message),
                _ => {}
            }
        }
    }

    fn bundle(&mut self, bundle: &Bundle<'_>, at: u64, size: u64) {
        bundle.descriptors.iter().for_each(|descriptor| self.discovery.describe(descriptor));
        if bundle.cpu >= MAX_CPUS {
            self.broken += 1;
            return;
        }
        let cpu = bundle.cpu as usize;
        if self.running.len() <= cpu {
            self.running.resize(cpu + 1, Running::default());
            self.starts.resize_with(cpu + 1, Vec::new);
        }
        let mut times: Option<(u64, u64)> = None;
        let mut saw = |ts: u64| times = Some(times.map_or((ts, ts), |(first, last)| (first.min(ts), last.max(ts))));
        let mut count = 0;
        let mut last: Option<(u64, Running)> = None;
        for event in bundle.events().flatten() {
            self.discovery.add(&event);
            saw(event.ts);
            count += 1;
            if event.number == SWITCH {
                let next = next_of(event.message);
                self.comm(&next);
                last = Some((event.ts, next));
            } else if last.as_ref().is_none_or(|(_, running)| running.pid != Some(event.pid)) {
                last = Some((event.ts, Running::after(event.pid, 0, &[])));
            }
        }
        let mut wakings = 0;
        for waking in bundle.compact.wakings() {
            saw(waking.ts);
            wakings += 1;
            self.comm(&Running::after(waking.pid, waking.prio, waking.comm));
        }
        let mut switches = 0;
        let mut last_switch = None;
        for switch in bundle.compact.switches() {
            saw(switch.ts);
            switches += 1;
            let next = Running::after(switch.next_pid, switch.next_prio, switch.next_comm);
            self.comm(&next);
            last_switch = Some((switch.ts, next));
        }
        // Of one thread a switch says more than an event.
        last = match (last, last_switch) {
            (Some(event), Some(switch)) if event.0 > switch.0 && event.1.pid != switch.1.pid => Some(event),
            (event, switch) => switch.or(event),
        };
        self.discovery.columns(switches > 0, wakings > 0);
        if let Some((first, until)) = times {
            if let (Some(starts), Some(running)) = (self.starts.get_mut(cpu), self.running.get_mut(cpu)) {
                starts.push((at, *running));
                if let Some((_, next)) = last {
                    *running = next;
                }
            }
            self.index.add(bundle.cpu, (first, until), at, size);
            self.span = Some(self.span.map_or((first, until), |(a, b)| (a.min(first), b.max(until))));
            if !self.clocks.contains(&bundle.clock) && self.clocks.len() < MAX_TOLD {
                self.clocks.push(bundle.clock);
            }
        }
        self.events += count + switches + wakings;
    }

    fn comm(&mut self, thread: &Running) {
        let Some(tid) = thread.pid.filter(|&tid| tid > 0 && !thread.comm().is_empty()) else { return };
        let known = self.comms.get(&tid);
        if known.is_none_or(|known| known.as_bytes() != thread.comm())
            && (known.is_some() || self.comms.len() < MAX_THREADS)
        {
            self.comms.insert(tid, String::from_utf8_lossy(thread.comm()).into());
        }
    }

    /// `ProcessTree`: processes 1 (pid 1, cmdline 3), threads 2 (tid 1, name 2, tgid 3).
    fn process_tree(&mut self, message: &[u8]) {
        for (number, value) in Fields::new(message) {
            let Value::Bytes(entry) = value else { continue };
            let (mut tid, mut tgid, mut text) = (None, None, None);
            for (field, value) in Fields::new(entry) {
                match (number, field, value) {
                    (1 | 2, 1, Value::Number(id)) => tid = Some(id as i32),
                    (2, 3, Value::Number(id)) => tgid = Some(id as i32),
                    (1, 3, Value::Bytes(word)) if text.is_none() => text = Some(word),
                    (2, 2, Value::Bytes(name)) => text = Some(name),
                    _ => {}
                }
            }
            let Some(tid) = tid.filter(|&tid| tid > 0 && self.tgids.len() < MAX_THREADS) else { continue };
            self.tgids.insert(tid, if number == 1 { tid } else { tgid.unwrap_or(tid) });
            let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
            let name = text.rsplit(|&byte| byte == b'/').next().filter(|_| number == 1).unwrap_or(text);
            let name: Box<str> = String::from_utf8_lossy(name.get(..15).unwrap_or(name)).into();
            let names = if number == 1 { &mut self.commands } else { &mut self.comms };
            names.entry(tid).or_insert(name);
        }
    }

    /// `SystemInfo`: utsname 1 (sysname 1, release 3, machine 4), num_cpus 8.
    fn system_info(&mut self, message: &[u8]) {
        for (number, value) in Fields::new(message) {
            match (number, value) {
                (1, Value::Bytes(names)) => {
                    let of = |wanted: u32| {
                        let text =
                            Fields::new(names).find_map(|(number, value)| (number == wanted).then(|| value.bytes())?);
                        text.filter(|text| !text.is_empty()).map(|text| String::from_utf8_lossy(text).replace(' ', "_"))
                    };
                    let [system, release, machine] = [1, 3, 4].map(|wanted| of(wanted).unwrap_or_else(|| "?".into()));
                    // Perfetto does not keep the machine's name.
                    self.kernel = Some(format!("{system} ? {release} {machine}"));
                }
                (8, Value::Number(cpus)) => self.cpus = u32::try_from(cpus).unwrap_or(0).min(MAX_CPUS),
                _ => {}
            }
        }
    }

    /// `FtraceStats`: phase 1 (2 at the end), cpu_stats 2 (cpu 1, entries 2, overrun 3, dropped_events 8).
    fn ftrace_stats(&mut self, message: &[u8]) {
        let end = Fields::new(message).any(|(number, value)| (number, value) == (1, Value::Number(2)));
        if !end {
            return;
        }
        self.cpu_stats.clear();
        for (_, value) in Fields::new(message).filter(|(number, _)| *number == 2).take(MAX_CPUS as usize) {
            let mut stats = CpuStats::default();
            for (number, value) in value.bytes().map(Fields::new).into_iter().flatten() {
                let Value::Number(value) = value else { continue };
                match number {
                    1 => stats.cpu = u32::try_from(value).unwrap_or(0),
                    2 => stats.entries = value,
                    3 => stats.overrun = value,
                    8 => stats.dropped = value,
                    _ => {}
                }
            }
            self.cpu_stats.push(stats);
        }
    }

    /// `TraceAttributes`: attribute 1 (key 1, text 3). Our own outputs name their tool.
    fn attributes(&mut self, message: &[u8]) {
        for (_, value) in Fields::new(message) {
            let (mut key, mut text) = (None, None);
            for (number, value) in value.bytes().map(Fields::new).into_iter().flatten() {
                match number {
                    1 => key = value.bytes(),
                    3 => text = value.bytes(),
                    _ => {}
                }
            }
            if key == Some(b"tool") && text.is_some_and(|text| text.starts_with(b"kvm-timeline ")) {
                self.made_by = text.map(|text| String::from_utf8_lossy(text.get(..40).unwrap_or(text)).into_owned());
            }
        }
    }

    /// Says what is not read, and who the threads are.
    pub(super) fn report(&mut self, unread: &BTreeMap<u32, u64>, info: &mut CaptureInfo, notes: &mut Notes) {
        let events: u64 = unread.values().sum();
        if events > 0 {
            let mut kinds: Vec<(&u32, &u64)> = unread.iter().collect();
            kinds.sort_by_key(|(number, count)| (std::cmp::Reverse(**count), **number));
            let names: Vec<String> =
                kinds.iter().take(5).map(|(number, count)| format!("{number} ({count})")).collect();
            let more = kinds.len().saturating_sub(names.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            notes.warn(format!(
                "{events} ftrace events of kinds that are not read here are not drawn: numbers {}{more} of FtraceEvent",
                names.join(", ")
            ));
        }
        for (machine, events) in &self.others {
            notes.warn(format!(
                "{events} ftrace events of machine {machine} are left out: one recording is one machine"
            ));
        }
        if self.broken > 0 {
            notes.damaged(format!("{} packets make no sense and are skipped", self.broken));
        }
        if self.too_large > 0 {
            notes.damaged(format!(
                "{} packets are too large to be ftrace events (--limit packet=VALUE) and are skipped",
                self.too_large
            ));
        }
        if self.index.late > 0 {
            notes.damaged(format!("{} packets of events stand far behind later ones and are skipped", self.index.late));
        }
        if self.discovery.contradictions > 0 {
            notes.damaged("some events are described in two ways; the first is taken");
        }
        for (tid, name) in std::mem::take(&mut self.commands) {
            self.comms.entry(tid).or_insert(name);
        }
        info.cmdlines = std::mem::take(&mut self.comms).into_iter().collect();
        info.tgids = std::mem::take(&mut self.tgids).into_iter().collect();
        info.uname = self.kernel.take();
        info.cpu_count = self.cpus;
        info.cpu_stats = std::mem::take(&mut self.cpu_stats);
    }
}
