//! What a user asks for: which events, which vCPUs, which times. [`Filter::select`] finds out what that means in a
//! session.

mod around;
mod time;

use std::str::FromStr;

pub use time::{TimeSpec, first_at, nanoseconds};

use crate::clock::scaling::HostRange;
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::selection::{EventPattern, Selection, Span, machine, recorded};
use crate::session::{Session, Vm};

/// What a user wants to see; the default is everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only events that match one of these, if there are any.
    pub events: Vec<EventPattern>,
    /// No events that match one of these.
    pub exclude: Vec<EventPattern>,
    /// Only these VMs, if there are any.
    pub vms: Vec<String>,
    /// Only these vCPUs, if there are any.
    pub vcpus: Vec<VcpuSpec>,
    /// From this moment on.
    pub from: Option<TimeSpec>,
    /// Up to this moment.
    pub to: Option<TimeSpec>,
    /// Only around these events, if there are any.
    pub around: Vec<Around>,
}

/// `[VM/]VCPU`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VcpuSpec {
    /// The VM; every one that is wanted otherwise.
    pub vm: Option<String>,
    /// The number in the rows' names.
    pub number: u32,
}

impl FromStr for VcpuSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (vm, number) = match text.rsplit_once('/') {
            Some((vm, number)) => (Some(vm.to_owned()), number),
            None => (None, text),
        };
        match number.parse() {
            Ok(number) if vm.as_deref() != Some("") => Ok(Self { vm, number }),
            _ => Err(Error::new(ErrorKind::Usage, format!("vCPU `{text}` is no number"))
                .hint("write the number in the vCPU's row, such as 0, or VM/0")),
        }
    }
}

/// `PATTERN[,WINDOW]`: a window around each event that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Around {
    /// The events.
    pub pattern: EventPattern,
    /// How far the window reaches before and after each, in nanoseconds.
    pub window_ns: u64,
}

/// How far a window reaches before and after its event unless the user says.
const WINDOW_NS: u64 = 10_000_000;

impl FromStr for Around {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((pattern, window)) = text.split_once(',') else {
            return Ok(Self { pattern: text.parse()?, window_ns: WINDOW_NS });
        };
        let window_ns = nanoseconds(window, 1).map_err(|why| {
            Error::new(ErrorKind::Usage, format!("window `{window}`: {why}"))
                .hint("write PATTERN,WINDOW such as kvm:kvm_write_tsc_offset,5ms")
        })?;
        Ok(Self { pattern: pattern.parse()?, window_ns })
    }
}

impl Filter {
    /// Finds out what is wanted of `session`, drawn with `span`. A time that the user gives takes the place of that
    /// end of the span. Reads all events once if there is something to look around.
    ///
    /// # Errors
    ///
    /// If a VM, a vCPU or an event does not exist, if nothing is left, or if an input can no longer be read.
    pub fn select(&self, session: &Session, span: Span, monitor: &Monitor<'_>) -> Result<Selection> {
        for pattern in self.events.iter().chain(&self.exclude).chain(self.around.iter().map(|a| &a.pattern)) {
            exists(session, pattern)?;
        }
        let mut selection = Selection::all(session, span);
        selection.events.clone_from(&self.events);
        selection.exclude.clone_from(&self.exclude);
        selection.vcpus = self.vcpus(session)?;
        if self.from.is_none() && self.to.is_none() && self.around.is_empty() {
            return Ok(selection);
        }
        let drawn = selection.span();
        let base = if self.around.is_empty() { drawn } else { HostRange::ALL };
        let start = recorded(session).and_then(|r| r.intersect(drawn)).unwrap_or(drawn).first;
        let first = self.from.as_ref().map(|t| t.resolve(session, start)).transpose()?.map_or(base.first, |r| r.first);
        let last = self.to.as_ref().map(|t| t.resolve(session, start)).transpose()?.map_or(base.last, |r| r.last);
        let range = HostRange::new(first, last).ok_or_else(|| {
            Error::new(ErrorKind::Usage, "the time of --to lies before that of --from")
                .hint("both are host time; `+1s` counts from the start of what is drawn without them")
        })?;
        let times = match self.around.is_empty() {
            true => vec![range],
            false => around::windows(session, &self.around, range, monitor)?,
        };
        selection.host.clone_from(&times);
        selection.guests = times;
        Ok(selection)
    }

    fn vcpus(&self, session: &Session) -> Result<Vec<Vec<bool>>> {
        for vm in self.vms.iter().chain(self.vcpus.iter().filter_map(|v| v.vm.as_ref())) {
            find_vm(session, vm)?;
        }
        let mut any = vec![false; self.vcpus.len()];
        let mut wanted = |vm: &Vm, number: u32| {
            let of = |spec: &VcpuSpec| spec.number == number && spec.vm.as_ref().is_none_or(|name| *name == vm.name);
            let in_vm = self.vms.is_empty() || self.vms.contains(&vm.name);
            let mut found = self.vcpus.is_empty();
            for (spec, any) in self.vcpus.iter().zip(&mut any) {
                *any |= of(spec) && in_vm;
                found |= of(spec);
            }
            in_vm && found
        };
        let vcpus = session.vms.iter().map(|vm| vm.vcpus.iter().map(|v| wanted(vm, v.number)).collect()).collect();
        match any.iter().position(|any| !any) {
            Some(missing) => {
                let number = self.vcpus[missing].number;
                Err(Error::new(ErrorKind::Usage, format!("no VM that is wanted has a vCPU {number}"))
                    .hint("see `kvm-timeline offsets` for the vCPUs"))
            }
            None => Ok(vcpus),
        }
    }
}

/// A VM by name.
fn find_vm<'a>(session: &'a Session, name: &str) -> Result<&'a Vm> {
    session.vms.iter().find(|vm| vm.name == name).ok_or_else(|| {
        let names: Vec<&str> = session.vms.iter().map(|vm| vm.name.as_str()).collect();
        let known =
            if names.is_empty() { "there is none".to_owned() } else { format!("there is {}", names.join(", ")) };
        Error::new(ErrorKind::Usage, format!("no VM is called `{name}`")).hint(known)
    })
}

fn exists(session: &Session, pattern: &EventPattern) -> Result<()> {
    let found = session.inputs.iter().any(|input| {
        let machine = machine(session, input.role);
        input.capture.formats.events().iter().any(|f| pattern.matches(machine, &f.system, &f.name))
    });
    if found {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, format!("no event of the captures matches `{}`", pattern.text()))
        .hint("patterns are SYSTEM:EVENT such as kvm:* or sched:sched_switch, or host/SYSTEM:EVENT, VM/SYSTEM:EVENT"))
}
