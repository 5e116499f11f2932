//! What each kind of event does to the picture, decided once per capture.

use super::accessor::{Num, Text};
use super::drawing::FieldSource;
use super::names::{NameId, Names};
use super::pairs::{self, Class, Half};
use crate::capture::event_format::EventFormat;

/// Whose events are planned for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A host with VMs: only what shapes its CPUs and the vCPUs' states is drawn.
    Host,
    /// A host without VMs: drawn like a guest.
    LoneHost,
    /// A guest.
    Guest,
}

/// What to do with an event.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// What it does.
    pub(super) kind: Kind,
    /// The event's name.
    pub(super) name: NameId,
    /// The thread that was running.
    pub(super) pid: Option<Num>,
    /// Whether it came from an interrupt.
    pub(super) flags: Option<Num>,
    /// The thread that the event says is woken.
    pub(super) woken: Option<Num>,
}

/// TRACE_FLAG_HARDIRQ and TRACE_FLAG_SOFTIRQ of include/linux/trace_events.h.
pub(super) const HARDIRQ: u64 = 0x08;
const SOFTIRQ: u64 = 0x10;

impl Plan {
    /// The record's `common_flags`.
    #[inline]
    pub(super) fn flags(&self, payload: &[u8]) -> u64 {
        self.flags.and_then(|flags| flags.get(payload)).unwrap_or(0)
    }

    /// Whether an interrupt recorded it, not the thread that it names.
    #[inline]
    pub(super) fn in_interrupt(&self, payload: &[u8]) -> bool {
        self.flags(payload) & (HARDIRQ | SOFTIRQ) != 0
    }
}

/// What an event does.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Nothing: counted as filtered.
    Filtered,
    /// It is drawn as an instant with its fields.
    Instant,
    /// A context switch.
    Switch(Switch),
    /// A thread is woken.
    Wake(Wake),
    /// A waiting thread moves to another CPU.
    Migrate(Wake),
    /// The vCPU enters guest mode.
    KvmEntry,
    /// The vCPU leaves guest mode.
    KvmExit(Exit),
    /// A detail of the exit that is being handled.
    KvmDetail(Cause),
    /// Half of a slice.
    Half(Half),
    /// A syscall begins.
    SyscallEnter(SyscallName),
    /// A syscall ends.
    SyscallExit,
    /// A function begins.
    FunctionEntry(Function),
    /// A function returns.
    FunctionExit(Function),
    /// The function tracer saw a call.
    Call(Call),
    /// Somebody wrote a text into the trace.
    Marker(Written),
}

/// Fields of `funcgraph_entry` and `funcgraph_exit`.
#[derive(Clone, Copy)]
pub(super) struct Function {
    pub(super) address: Num,
    pub(super) depth: Num,
    /// When it was called and when it returned, in nanoseconds of the kernel's local clock; only at its return.
    pub(super) times: Option<(Num, Num)>,
}

/// Fields of `function`: addresses.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) callee: Num,
    /// Where in the caller.
    pub(super) caller: Num,
}

/// Where a text is.
#[derive(Clone, Copy)]
pub(super) enum Written {
    /// In the record.
    Here(Text),
    /// In the kernel, with arguments in the record.
    Printf,
}

/// Whether a kvm event has to do with what one side makes the other do.
#[derive(Clone, Copy)]
pub(super) enum Cause {
    /// It has not.
    None,
    /// An interrupt into the guest that the thread runs.
    Inject { vector: Num },
    /// To the vCPU with this id, in this delivery mode (APIC_MODE_MASK of asm/apicdef.h: bits 8 to 10).
    Accept { vcpu: Num, vector: Num, mode: Option<Num> },
    /// The guest that the thread runs acknowledges one.
    Acknowledge { vector: Num },
    /// The guest writes to a device, unless it reads.
    Write { read: Option<Read> },
}

/// How an access to a device is told to be a read: this field is not that.
#[derive(Clone, Copy)]
pub(super) struct Read {
    field: Num,
    write: u64,
}

impl Read {
    pub(super) fn holds(self, payload: &[u8]) -> bool {
        self.field.get(payload) != Some(self.write)
    }
}

/// How a syscall is known.
#[derive(Clone, Copy)]
pub(super) enum SyscallName {
    /// By number.
    Id(Num),
    /// By the event's own name.
    Named(NameId),
}

/// Fields of `sched_switch`.
#[derive(Clone, Copy)]
pub(super) struct Switch {
    pub(super) prev_pid: Num,
    pub(super) prev_state: State,
    pub(super) next_pid: Num,
    pub(super) next_comm: Text,
}

/// How a task left its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It would have gone on.
    Runnable,
    /// It waits for something.
    Asleep,
    /// It is gone for good.
    Dead,
}

/// The field `prev_state`: a number in raw records, letters in text.
#[derive(Clone, Copy)]
pub(super) enum State {
    Number(Num),
    Letters(Text),
}

/// TASK_REPORT of include/linux/sched.h: bits below the "preempted" one; the preempted bit and 0 mean runnable.
const ASLEEP: u64 = 0xff;
/// EXIT_DEAD and EXIT_ZOMBIE of include/linux/sched.h.
const DEAD: u64 = 0x30;

impl State {
    #[inline]
    pub(super) fn get(self, payload: &[u8]) -> Leaving {
        match self {
            Self::Number(num) => match num.get(payload).unwrap_or(0) & ASLEEP {
                0 => Leaving::Runnable,
                state if state & DEAD != 0 => Leaving::Dead,
                _ => Leaving::Asleep,
            },
            Self::Letters(text) => match text.get(payload).first() {
                None | Some(b'R') => Leaving::Runnable,
                Some(b'X' | b'Z') => Leaving::Dead,
                Some(_) => Leaving::Asleep,
            },
        }
    }
}

/// Fields of `sched_waking`, `sched_wakeup`, `sched_wakeup_new`, `sched_migrate_task`.
#[derive(Clone, Copy)]
pub(super) struct Wake {
    pub(super) pid: Num,
    pub(super) comm: Option<Text>,
    pub(super) cpu: Option<Num>,
    /// Whether the CPU is the one that was chosen, not the one where it ran last.
    pub(super) sure: bool,
}

/// Fields of `kvm_exit`.
#[derive(Clone, Copy)]
pub(super) struct Exit {
    pub(super) reason: Reason,
    pub(super) isa: Option<Num>,
    pub(super) rip: Option<Num>,
    pub(super) info1: Option<Num>,
    pub(super) info2: Option<Num>,
}

/// How the exit reason stands in the record.
#[derive(Clone, Copy)]
pub(super) enum Reason {
    /// As a number in this field.
    Number(Num, &'static str),
    /// As arm64 has it: `ret` says why, unless it is a trap, whose class is in `esr_ec`.
    Trap {
        /// `ret`.
        ret: Num,
        /// `esr_ec`.
        class: Num,
    },
    /// By name.
    Name(Text),
    /// Not at all.
    Unrecorded,
}

/// The plans for all events of a capture, by event index.
pub(super) fn plans(source: &FieldSource, role: Role, names: &mut Names) -> Vec<Plan> {
    let halves = pairs::find(source, names);
    let events = source.formats.events().iter().zip(halves);
    events
        .map(|(format, half)| Plan {
            kind: kind(format, half, source, role, names),
            name: names.intern(format.name.as_bytes()),
            pid: Num::named(format, "common_pid", source.endian),
            flags: Num::named(format, "common_flags", source.endian),
            woken: match (&*format.system, &*format.name) {
                ("sched", "sched_waking" | "sched_wakeup" | "sched_wakeup_new") => {
                    Num::named(format, "pid", source.endian)
                }
                _ => None,
            },
        })
        .collect()
}

fn kind(format: &EventFormat, half: Option<Half>, source: &FieldSource, role: Role, names: &mut Names) -> Kind {
    let rest = if role == Role::Host { Kind::Filtered } else { Kind::Instant };
    let special = match (&*format.system, &*format.name, role) {
        ("sched", "sched_switch", _) => switch(format, source),
        ("sched", "sched_waking", Role::Host) => wake(format, source, false),
        ("sched", "sched_wakeup" | "sched_wakeup_new", Role::Host) => wake(format, source, true),
        ("sched", "sched_migrate_task", Role::Host) => migrate(format, source),
        ("kvm", "kvm_entry", Role::Host) => Some(Kind::KvmEntry),
        ("kvm", "kvm_exit", Role::Host) => exit(format, source),
        ("kvm" | "kvmmmu", _, Role::Host) => Some(Kind::KvmDetail(cause(format, source))),
        ("raw_syscalls", "sys_enter", _) => {
            Num::named(format, "id", source.endian).map(|id| Kind::SyscallEnter(SyscallName::Id(id)))
        }
        ("raw_syscalls", "sys_exit", _) => Some(Kind::SyscallExit),
        ("syscalls", name, _) => syscall(name, names),
        ("ftrace", name, _) => ftrace(name, format, source),
        _ => None,
    };
    special.unwrap_or_else(|| match half {
        Some(half @ (Half::Begin { class, .. } | Half::End { class, .. }))
            if role != Role::Host || matches!(class, Class::Irq | Class::Vector) || &*format.system == "workqueue" =>
        {
            Kind::Half(half)
        }
        _ => rest,
    })
}

fn ftrace(name: &str, format: &EventFormat, source: &FieldSource) -> Option<Kind> {
    let num = |name| Num::named(format, name, source.endian);
    let function = || {
        let times = num("calltime").zip(num("rettime"));
        Some(Function { address: num("func")?, depth: num("depth")?, times })
    };
    Some(match name {
        "funcgraph_entry" => Kind::FunctionEntry(function()?),
        "funcgraph_exit" => Kind::FunctionExit(function()?),
        "function" => Kind::Call(Call { callee: num("ip")?, caller: num("parent_ip")? }),
        "print" => Kind::Marker(Written::Here(Text::named(format, "buf", source.endian)?)),
        "bprint" | "bputs" => Kind::Marker(Written::Printf),
        _ => return None,
    })
}

fn switch(format: &EventFormat, source: &FieldSource) -> Option<Kind> {
    let num = |name| Num::named(format, name, source.endian);
    let letters = || Text::named(format, "prev_state", source.endian).map(State::Letters);
    Some(Kind::Switch(Switch {
        prev_pid: num("prev_pid")?,
        prev_state: num("prev_state").map(State::Number).or_else(letters)?,
        next_pid: num("next_pid")?,
        next_comm: Text::named(format, "next_comm", source.endian)?,
    }))
}

fn wake(format: &EventFormat, source: &FieldSource, sure: bool) -> Option<Kind> {
    let num = |name| Num::named(format, name, source.endian);
    let comm = Text::named(format, "comm", source.endian);
    Some(Kind::Wake(Wake { pid: num("pid")?, comm, cpu: num("target_cpu"), sure }))
}

fn migrate(format: &EventFormat, source: &FieldSource) -> Option<Kind> {
    let num = |name| Num::named(format, name, source.endian);
    Some(Kind::Migrate(Wake { pid: num("pid")?, comm: None, cpu: Some(num("dest_cpu")?), sure: true }))
}

fn exit(format: &EventFormat, source: &FieldSource) -> Option<Kind> {
    let num = |name| Num::named(format, name, source.endian);
    let trap = num("ret").zip(num("esr_ec")).map(|(ret, class)| Reason::Trap { ret, class });
    let by_number =
        || ["exit_reason", "esr_ec", "ret"].into_iter().find_map(|name| Some(Reason::Number(num(name)?, name)));
    let by_name = || {
        let text = ["exit_reason", "reason"].into_iter().find_map(|name| Text::named(format, name, source.endian));
        text.map(Reason::Name)
    };
    Some(Kind::KvmExit(Exit {
        reason: trap.or_else(by_number).or_else(by_name).unwrap_or(Reason::Unrecorded),
        isa: num("isa"),
        rip: ["guest_rip", "rip", "vcpu_pc"].into_iter().find_map(num),
        info1: num("info1"),
        info2: num("info2"),
    }))
}

fn cause(format: &EventFormat, source: &FieldSource) -> Cause {
    let num = |name| Num::named(format, name, source.endian);
    let cause = match &*format.name {
        "kvm_inj_virq" => num("vector").or_else(|| num("irq")).map(|vector| Cause::Inject { vector }),
        "kvm_apic_accept_irq" => {
            num("apicid").zip(num("vec")).map(|(vcpu, vector)| Cause::Accept { vcpu, vector, mode: num("dm") })
        }
        "kvm_eoi" => num("vector").map(|vector| Cause::Acknowledge { vector }),
        "kvm_fast_mmio" => Some(Cause::Write { read: None }),
        // KVM_TRACE_MMIO_WRITE and KVM_PIO_OUT.
        "kvm_mmio" => num("type").map(|field| Cause::Write { read: Some(Read { field, write: 2 }) }),
        "kvm_pio" => num("rw").map(|field| Cause::Write { read: Some(Read { field, write: 1 }) }),
        _ => None,
    };
    cause.unwrap_or(Cause::None)
}

fn syscall(name: &str, names: &mut Names) -> Option<Kind> {
    if let Some(syscall) = name.strip_prefix("sys_enter_") {
        return Some(Kind::SyscallEnter(SyscallName::Named(names.intern(syscall.as_bytes()))));
    }
    name.strip_prefix("sys_exit_").map(|_| Kind::SyscallExit)
}
