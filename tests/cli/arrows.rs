//! `--flows all`: every arrow in the output against what a reading of `print`'s lines makes of the same capture.
//!
//! [`Reading`] goes through the lines with a few words of state per vCPU and knows nothing of how the arrows are made.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use crate::run::{Scratch, fixture, succeeds};
use crate::trace_processor::{COMPLAINTS, Rows, queries};

/// (time of the tail, time of the head) in nanoseconds. An exit stands for whatever leaves from it.
type Arrows = BTreeSet<(u64, u64)>;

/// All arrows by kind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Kinds {
    /// What injected or accepted an interrupt, and its handler.
    interrupts: Arrows,
    /// A wakeup of a vCPU's thread, and when it comes to a CPU.
    wakeups: Arrows,
    /// When it comes to a CPU after that, and its entry.
    entries: Arrows,
    /// An exit, and when the thread that it wakes comes to a CPU.
    kicks: Arrows,
    /// An exit, the interrupts and syscalls because of it, and the entry: each and the next.
    work: Arrows,
}

struct Line<'a> {
    host: bool,
    tid: i32,
    cpu: usize,
    ns: u64,
    event: &'a str,
    fields: &'a str,
}

fn parts(line: &str) -> Line<'_> {
    let (machine, rest) = line.split_once(": ").expect("a machine");
    let (task, rest) = rest.split_once(" [").expect("a CPU");
    let (cpu, rest) = rest.split_once(']').expect("a CPU");
    let (stamp, rest) = rest.split_once(": ").expect("a stamp");
    let (event, fields) = rest.trim_start().split_once(':').expect("an event");
    Line {
        host: machine == "host",
        tid: task.trim_end().rsplit_once('-').expect("a thread").1.parse().expect("a thread"),
        cpu: cpu.parse().expect("a CPU"),
        ns: stamp.trim().replace('.', "").parse().expect("a stamp"),
        event,
        fields: fields.trim_start(),
    }
}

impl Line<'_> {
    /// The word after `key`, be it `key=word` or `key word`.
    fn word(&self, key: &str) -> &str {
        let words = self.fields.split([' ', '=']).filter(|word| !word.is_empty());
        words.skip_while(|word| *word != key).nth(1).unwrap_or("")
    }

    fn number(&self, key: &str) -> i32 {
        self.word(key).parse().unwrap_or(-1)
    }
}

/// An interrupt on its way.
#[derive(Clone, Copy)]
struct Sent {
    vector: i32,
    from: u64,
    injected: bool,
    /// The run window, by number, that follows the injection.
    next: u64,
    /// The last run window, by number, in which its handler may begin.
    last: Option<u64>,
}

#[derive(Default)]
struct Vcpu {
    known: bool,
    entered: bool,
    /// When its exit began; `None` in the guest.
    exit: Option<u64>,
    interrupt: bool,
    wrote: bool,
    /// Run windows that have ended.
    windows: u64,
    asleep: bool,
    /// When it was woken, and since when it runs because of that.
    woken: Option<u64>,
    runs: Option<u64>,
    sent: Vec<Sent>,
    /// The last piece of its exit's work, or of an exit that is to come.
    work: Option<u64>,
}

/// A reading of the lines.
struct Reading {
    /// By thread.
    vcpus: BTreeMap<i32, Vcpu>,
    /// By guest and its CPU.
    threads: HashMap<(String, usize), i32>,
    /// Thread to VM, for all threads of the VMs' processes.
    kin: HashMap<i32, String>,
    vm_of_pid: HashMap<i32, String>,
    running: HashMap<usize, i32>,
    /// Interrupts that a CPU is in.
    depth: HashMap<usize, u32>,
    kicked: HashMap<i32, u64>,
    sees_vectors: BTreeSet<i32>,
    found: Kinds,
}

impl Reading {
    /// `vms`: name, process, threads of its vCPUs.
    fn new(vms: &[(&str, i32, &[i32])]) -> Self {
        let mut reading = Self {
            vcpus: BTreeMap::new(),
            threads: HashMap::new(),
            kin: HashMap::new(),
            vm_of_pid: HashMap::new(),
            running: HashMap::new(),
            depth: HashMap::new(),
            kicked: HashMap::new(),
            sees_vectors: BTreeSet::new(),
            found: Kinds::default(),
        };
        for (name, pid, threads) in vms {
            for (cpu, &tid) in threads.iter().enumerate() {
                reading.vcpus.insert(tid, Vcpu::default());
                reading.threads.insert(((*name).to_owned(), cpu), tid);
                reading.kin.insert(tid, (*name).to_owned());
            }
            reading.kin.insert(*pid, (*name).to_owned());
            reading.vm_of_pid.insert(*pid, (*name).to_owned());
        }
        reading
    }

    fn read(mut self, text: &str) -> Kinds {
        let lines: Vec<Line<'_>> = text.lines().map(parts).collect();
        for line in lines.iter().filter(|line| line.event == "sched_process_fork") {
            if let Some(vm) = self.kin.get(&line.number("pid")).cloned() {
                self.kin.insert(line.number("child_pid"), vm);
            }
        }
        for line in lines.iter().filter(|line| line.event == "sched_switch") {
            let pid =
                ["vhost-", "kvm-pit/"].iter().find_map(|kind| line.word("next_comm").strip_prefix(kind)?.parse().ok());
            if let Some(vm) = pid.and_then(|pid: i32| self.vm_of_pid.get(&pid)) {
                self.kin.insert(line.number("next_pid"), vm.clone());
            }
        }
        for (line, text) in lines.iter().zip(text.lines()) {
            match line.host {
                true => self.host(line),
                false => self.guest(text.split_once(": ").expect("a machine").0, line),
            }
        }
        self.found
    }

    fn host(&mut self, line: &Line<'_>) {
        let depth = self.depth.entry(line.cpu).or_default();
        let interrupted = *depth > 0;
        let in_irq = line.event.ends_with("_entry") && line.event != "kvm_entry";
        match line.event {
            _ if in_irq => *depth += 1,
            "kvm_exit" => {}
            event if event.ends_with("_exit") && event != "kvm_userspace_exit" && event != "sys_exit" => {
                *depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        match line.event {
            "sched_switch" => return self.switch(line),
            "sched_waking" | "sched_wakeup" => return self.waking(line, interrupted),
            "kvm_apic_accept_irq" => return self.accept(line, interrupted),
            _ => {}
        }
        let Some(vcpu) = self.vcpus.get_mut(&line.tid) else { return };
        vcpu.known |= line.event.starts_with("kvm_") && !interrupted;
        if !interrupted && self.running.get(&line.cpu) == Some(&line.tid) {
            // The first interrupts of a halt or msr exit are none of its work.
            let of_exit = if in_irq { vcpu.interrupt } else { line.event == "sys_enter" };
            let early = in_irq && vcpu.entered && vcpu.exit.is_none();
            if vcpu.exit.is_some() && of_exit || early {
                if let Some(before) = vcpu.work.or(vcpu.exit) {
                    self.found.work.insert((before, line.ns));
                }
                vcpu.work = Some(line.ns);
            }
        }
        if interrupted {
            return;
        }
        match line.event {
            "kvm_exit" => {
                if let Some(early) = vcpu.work.take().filter(|_| vcpu.exit.is_none()) {
                    self.found.work.insert((early, line.ns));
                }
                (vcpu.entered, vcpu.exit, vcpu.wrote) = (true, Some(line.ns), false);
                vcpu.interrupt = line.word("reason") == "interrupt";
                vcpu.windows += 1;
            }
            "kvm_entry" => {
                if let Some(work) = vcpu.work.take().filter(|_| vcpu.exit.is_some()) {
                    self.found.work.insert((work, line.ns));
                }
                if let (Some(runs), Some(_)) = (vcpu.runs.take(), vcpu.woken.take()) {
                    self.found.entries.insert((runs, line.ns));
                }
                (vcpu.entered, vcpu.exit) = (true, None);
            }
            "kvm_mmio" | "kvm_pio" => vcpu.wrote |= line.fields.contains("write"),
            "kvm_inj_virq" => {
                let vector = i32::from_str_radix(line.word("IRQ").trim_start_matches("0x"), 16).expect("a vector");
                let Some(exit) = vcpu.exit else { return };
                // Only the last injection counts, and what the guest has acknowledged was another interrupt.
                vcpu.sent.retain(|sent| {
                    sent.vector != vector || !sent.injected || sent.last.is_none() && sent.from > 1 << 63
                });
                vcpu.sent.iter_mut().filter(|sent| sent.vector == vector).for_each(|sent| {
                    (sent.injected, sent.next) = (true, sent.next.max(vcpu.windows));
                });
                vcpu.sent.push(Sent { vector, from: exit, injected: true, next: vcpu.windows, last: None });
            }
            "kvm_eoi" => {
                let (vector, window) = (line.number("vector"), vcpu.windows + u64::from(vcpu.exit.is_none()));
                let given = vcpu.sent.iter_mut().filter(|sent| sent.vector == vector && sent.injected);
                given.for_each(|sent| sent.last = Some(window));
            }
            _ => {}
        }
    }

    fn switch(&mut self, line: &Line<'_>) {
        self.depth.insert(line.cpu, 0);
        let (prev, next) = (line.number("prev_pid"), line.number("next_pid"));
        if let Some(vcpu) = self.vcpus.get_mut(&prev)
            && !line.word("prev_state").starts_with('R')
        {
            vcpu.asleep = true;
            (vcpu.woken, vcpu.runs) = (None, None);
        }
        self.kicked.remove(&prev);
        if let Some(vcpu) = self.vcpus.get_mut(&next) {
            vcpu.asleep = false;
            if let (Some(woken), None) = (vcpu.woken, vcpu.runs) {
                self.found.wakeups.insert((woken, line.ns));
                vcpu.runs = Some(line.ns);
            }
        } else if let Some(exit) = self.kicked.remove(&next) {
            self.found.kicks.insert((exit, line.ns));
        }
        self.running.insert(line.cpu, next);
    }

    fn waking(&mut self, line: &Line<'_>, interrupted: bool) {
        let pid = line.number("pid");
        if let Some(vcpu) = self.vcpus.get_mut(&pid) {
            if vcpu.known && std::mem::take(&mut vcpu.asleep) {
                vcpu.woken = Some(line.ns);
            }
            return;
        }
        let vm = self.kin.get(&pid);
        let waker = self.vcpus.get(&line.tid).filter(|vcpu| !interrupted && vcpu.wrote);
        if let (Some(vm), Some(exit)) = (vm, waker.and_then(|vcpu| vcpu.exit))
            && self.kin.get(&line.tid) == Some(vm)
            && self.running.values().all(|&running| running != pid)
        {
            self.kicked.entry(pid).or_insert(exit);
        }
    }

    /// Tails are times with the highest bit set, until the handler: so they differ from those of injections.
    fn accept(&mut self, line: &Line<'_>, interrupted: bool) {
        let Some(vm) = self.kin.get(&line.tid).filter(|_| !interrupted) else { return };
        let Some(&target) = self.threads.get(&(vm.clone(), line.number("apicid") as usize)) else { return };
        if target == line.tid || !line.fields.contains("(Fixed") {
            return;
        }
        let from = self.vcpus.get(&line.tid).and_then(|vcpu| vcpu.exit).unwrap_or(line.ns) | 1 << 63;
        let (vector, vcpu) = (line.number("vec"), self.vcpus.get_mut(&target).expect("a vCPU"));
        vcpu.sent.push(Sent { vector, from, injected: false, next: vcpu.windows, last: None });
    }

    fn guest(&mut self, vm: &str, line: &Line<'_>) {
        let Some(tid) = self.threads.get(&(vm.to_owned(), line.cpu)) else { return };
        let vcpu = self.vcpus.get_mut(tid).expect("a vCPU");
        let may = |sent: &Sent| sent.injected && sent.last.is_none_or(|last| vcpu.windows <= last);
        let soon = |sent: &Sent| sent.next == vcpu.windows || sent.last.is_some();
        let by_vector = line.fields.starts_with("vector=");
        let vectors = match line.event {
            "hrtimer_expire_entry" if !self.sees_vectors.contains(tid) => vec![0xec],
            "irq_handler_entry" => {
                vcpu.sent.iter().filter(|s| may(s) && (0x20..0xec).contains(&s.vector)).map(|s| s.vector).collect()
            }
            event if event.ends_with("_entry") && by_vector => {
                self.sees_vectors.insert(*tid);
                vec![line.number("vector")]
            }
            _ => return,
        };
        let Some(&vector) = vectors.first().filter(|first| vectors.iter().all(|vector| vector == *first)) else {
            return;
        };
        let arrived = vcpu.sent.iter().filter(|sent| sent.vector == vector && may(sent) && (by_vector || soon(sent)));
        self.found.interrupts.extend(arrived.map(|sent| (sent.from & !(1 << 63), line.ns)));
        vcpu.sent.retain(|sent| sent.vector != vector || !sent.injected);
    }
}

/// All arrows but those of stalls: names and categories of both ends, and when they are. What leaves from a slice of its
/// own inside an exit counts as the exit's.
const ARROWS: &str = "
    SELECT tail.name, tail.category, head.name, head.category, head.depth, head_row.name,
      iif(tail_row.name GLOB 'Host state, *' AND tail.category = 'host', outer.ts, tail.ts), head.ts
    FROM flow
    JOIN slice AS tail ON flow.slice_out = tail.id JOIN slice AS head ON flow.slice_in = head.id
    JOIN track AS tail_row ON tail.track_id = tail_row.id JOIN track AS head_row ON head.track_id = head_row.id
    LEFT JOIN slice AS outer ON tail.parent_id = outer.id
    WHERE 'off-cpu' NOT IN (tail.category, head.category)";

fn kinds(rows: &Rows) -> Kinds {
    let mut found = Kinds::default();
    for row in rows {
        let [tail, tail_category, head, head_category, depth, head_row, from, to] = row.as_slice() else {
            panic!("eight cells: {row:?}")
        };
        let from_task = tail_category == "host" && tail.contains(" vCPU ");
        let set = match (&**head_category, &**depth) {
            ("irq", _) => &mut found.interrupts,
            ("host", _) if tail.starts_with("wakes ") => &mut found.wakeups,
            ("guest", _) if from_task => &mut found.entries,
            ("host", "0") if head_row.starts_with("Host CPU ") => &mut found.kicks,
            ("host" | "exit" | "guest", _) => &mut found.work,
            _ => panic!("an arrow of no kind: {row:?} {head}"),
        };
        set.insert((from.parse().expect("a time"), to.parse().expect("a time")));
    }
    found
}

fn compare(what: &str, drawn: &Arrows, read: &Arrows) -> String {
    let first = |arrows: &Arrows, others: &Arrows| arrows.difference(others).take(3).copied().collect::<Vec<_>>();
    let (wrong, missing) = (first(drawn, read), first(read, drawn));
    if wrong.is_empty() && missing.is_empty() {
        return String::new();
    }
    format!("{what}: {} drawn and {} read; wrong: {wrong:?}, missing: {missing:?}\n", drawn.len(), read.len())
}

/// Draws a capture and reads it, and compares all arrows. `timers`: the host recorded its `irq_vectors`. `counts`: interrupts, wakeups, entries, kicks, work.
fn check(name: &str, vms: &[(&str, i32, &[i32])], timers: bool, counts: [usize; 5]) {
    let scratch = Scratch::new();
    let out = scratch.path("o.pftrace");
    convert(name, &out);
    let mut read = Reading::new(vms).read(&succeeds(["print", &fixture(name), "--span", "all"]).stdout);
    let Some(answers) = queries(&out, &[COMPLAINTS, ARROWS]) else { return };
    assert!(answers[0].is_empty(), "{:?}", answers[0]);
    let drawn = kinds(&answers[1]);
    if !timers {
        // Where the host's own timer interrupts were not recorded, the lines do not tell what those woke.
        read.kicks.retain(|kick| drawn.kicks.contains(kick));
    }
    let differences = [
        compare("interrupts", &drawn.interrupts, &read.interrupts),
        compare("wakeups", &drawn.wakeups, &read.wakeups),
        compare("entries", &drawn.entries, &read.entries),
        compare("kicks", &drawn.kicks, &read.kicks),
        compare("work", &drawn.work, &read.work),
    ];
    assert_eq!(differences.concat(), "");
    let Kinds { interrupts, wakeups, entries, kicks, work } = &drawn;
    assert_eq!([interrupts, wakeups, entries, kicks, work].map(BTreeSet::len), counts);
}

fn convert(name: &str, out: &Path) {
    succeeds(["convert", &fixture(name), "--flows", "all", "--span", "all", "-o", &out.display().to_string()]);
}

#[test]
fn chrome_json_has_the_same_arrows() {
    let scratch = Scratch::new();
    let (out, json) = (scratch.path("o.pftrace"), scratch.path("o.json"));
    convert("arrows", &out);
    convert("arrows", &json);
    // JSON counts from the start of the drawing, and its rows are threads.
    let ends = "SELECT tail.name, tail.category, tail.dur, head.name, head.category, head.dur, head.depth, \
                head.ts - tail.ts FROM flow JOIN slice AS tail ON flow.slice_out = tail.id \
                JOIN slice AS head ON flow.slice_in = head.id \
                WHERE 'off-cpu' NOT IN (tail.category, head.category) ORDER BY 1, 2, 3, 4, 5, 6, 7, 8";
    let (Some(a), Some(b)) = (queries(&out, &[COMPLAINTS, ends]), queries(&json, &[COMPLAINTS, ends])) else { return };
    assert!(a[0].is_empty() && b[0].is_empty(), "{:?} {:?}", a[0], b[0]);
    assert!(a[1].len() > 10_000);
    let different = a[1].iter().zip(&b[1]).find(|(a, b)| a != b);
    assert!(a[1].len() == b[1].len() && different.is_none(), "{} {} {different:?}", a[1].len(), b[1].len());
}

#[test]
fn a_guest_that_recorded_its_vectors() {
    check("arrows", &[("a", 194, &[202, 203])], true, [1069, 410, 407, 575, 8218]);
}

#[test]
fn vhost_and_its_interrupts() {
    check("agent", &[("a", 194, &[204, 205])], false, [8, 3163, 3163, 37, 1214]);
}

#[test]
fn two_vms_whose_timers_show_as_hrtimers() {
    check("two-vm", &[("a", 197, &[205, 206]), ("b", 210, &[218, 219])], false, [1703, 4124, 3811, 174, 3487]);
}
