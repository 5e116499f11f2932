//! Who is who: which capture is the host's and which are guests', which threads are whose vCPUs, and with which clock
//! history each guest CPU is placed.

mod clocks;
mod contradictions;
mod evidence;
pub mod facts;
mod fields;
mod fit;
pub mod groups;
mod inputs;
pub mod inside;
pub mod manifest;
mod matching;
mod nested;
mod pairs;
mod placement;
mod rate;
pub mod request;
mod rivals;
mod roles;
pub mod runs;
mod samples;
pub mod survey;
mod threads;
mod words;
mod writers;

use crate::capture::{Capture, Clock};
use crate::clock::history::History;
use crate::clock::place::Placement;
use crate::clock::scaling::HostRange;
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::time::HostTsc;

use facts::Facts;
use manifest::Manifest;
use request::Request;
use runs::Host;
use survey::Survey;

pub use inputs::LeftOut;
pub(crate) use inputs::{is_report, is_sound_text};
pub use rate::RateChoice;
pub use rivals::{Rival, better_vm, stamps_are_nanoseconds};
pub(crate) use survey::shows_runs;
pub use words::conflict_words;

/// What a capture is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The host's: its events are drawn, its offset writes are evidence.
    Host,
    /// Offset writes of the host and nothing else that is drawn.
    Offsets,
    /// A guest's, index into [`Session::vms`].
    Guest(usize),
    /// A guest's without a single event, so that nothing tells whose.
    Nobody,
}

impl Role {
    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Offsets => "offsets",
            Self::Guest(_) | Self::Nobody => "guest",
        }
    }
}

/// A capture that was opened and surveyed.
pub struct Input {
    /// The capture.
    pub capture: Capture,
    /// What pass 1 found in it.
    pub survey: Survey,
    /// What it is for.
    pub role: Role,
    /// It holds further buffers of the input before it, from the same directory.
    pub beside: bool,
}

/// A VM.
#[derive(Debug, Default)]
pub struct Vm {
    /// Name.
    pub name: String,
    /// Process on the host, where something shows it.
    pub pid: Option<u32>,
    /// vCPUs in row order.
    pub vcpus: Vec<Vcpu>,
    /// The VM that it runs in, where that is not the host.
    pub outer: Option<Outer>,
}

/// The VM around a nested one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outer {
    /// Index into [`Session::vms`].
    pub vm: usize,
    /// The nested VM's vCPU threads in that VM, in the order of the vCPUs.
    pub threads: Vec<i32>,
}

/// A vCPU.
#[derive(Debug, Default)]
pub struct Vcpu {
    /// The number in its rows' names: the guest's CPU number, or vcpu_id without a guest file.
    pub number: u32,
    /// KVM's number.
    pub vcpu_id: Option<u32>,
    /// Its host thread.
    pub thread: Option<i32>,
    /// Its offset history.
    pub history: History,
    /// What else is worth saying about its clock, in words: an inferred range, a clock constant.
    pub note: Option<String>,
    /// How far the guest file's TIME_SHIFT is from the history that goes before it ([`History::apart`]), in host cycles.
    pub time_shift_apart: Option<i64>,
    /// How many host cycles one reading of the guest's clock may last, at least 1.
    pub reading_cycles: u64,
}

/// A guest CPU's stream with its place in time.
pub struct GuestStream {
    /// Index into [`Session::inputs`].
    pub input: usize,
    /// Index into the capture's buffers.
    pub buffer: usize,
    /// Index into the buffer's streams.
    pub stream: usize,
    /// Index into [`Session::vms`].
    pub vm: usize,
    /// Index into the VM's vCPUs; `None` where no vCPU is known for the CPU, so that nothing can be placed.
    pub vcpu: Option<usize>,
    /// Where its events belong.
    pub placement: Placement,
    /// Host time of its first and last placed event.
    pub span: Option<HostRange>,
}

/// What was opened, before it is known who is who.
pub(crate) struct OpenedInputs<'a> {
    /// Captures with what pass 1 found in them.
    pub(crate) captures: Vec<(&'a Capture, &'a Survey)>,
    /// What lies beside them.
    pub(crate) left_out: &'a [LeftOut],
    /// The manifests.
    pub(crate) manifests: &'a [Manifest],
}

/// Everything that pass 2 needs to know.
pub struct Session {
    /// All captures.
    pub inputs: Vec<Input>,
    /// All VMs, in the order of their rows.
    pub vms: Vec<Vm>,
    /// All guest streams.
    pub streams: Vec<GuestStream>,
    /// Host TSC to nanoseconds.
    pub rate: RateChoice,
    /// The clock of the host's time, which `HostTsc` counts: its TSC, or on machines without one another that host and
    /// guests have.
    pub clock: Clock,
    /// What small files beside the captures say.
    pub facts: Facts,
    /// What lies beside the inputs and was not read.
    pub left_out: Vec<LeftOut>,
    /// The `capture.toml` that were read.
    pub manifests: Vec<Manifest>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl Session {
    /// Opens and surveys everything that was asked for, and finds out who is who.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or is no capture, if there is no host, or if a guest cannot be placed at all.
    pub fn open(request: &Request, monitor: &Monitor<'_>) -> Result<Self> {
        Self::open_noting(request, monitor, &mut |_| {})
    }

    /// As [`Session::open`], and shows what was opened before it is found out who is who, which may fail.
    pub(crate) fn open_noting(
        request: &Request,
        monitor: &Monitor<'_>,
        note: &mut dyn FnMut(OpenedInputs<'_>),
    ) -> Result<Self> {
        let opened = inputs::open(request, monitor)?;
        note(OpenedInputs {
            captures: opened.captures.iter().map(|o| (&o.capture, &o.survey)).collect(),
            left_out: &opened.left_out,
            manifests: &opened.manifests,
        });
        Self::from_opened(opened, request, monitor)
    }

    /// Finds out who is who.
    fn from_opened(opened: inputs::OpenedAll, flags: &Request, monitor: &Monitor<'_>) -> Result<Self> {
        let request = opened.request(flags);
        let mut session = matching::assemble(opened, &request, monitor)?;
        session.fits(flags)?;
        let mut warnings = Vec::new();
        session.rate = rate::choose(&session, &request, &mut warnings);
        for vm in &session.vms {
            for vcpu in &vm.vcpus {
                let said = vcpu.history.conflicts.iter().map(conflict_words);
                warnings.extend(said.map(|words| format!("VM {} vCPU {}: {words}", vm.name, vcpu.number)));
            }
        }
        session.warnings.extend(warnings);
        session.warnings.extend(contradictions::find(&session));
        Ok(session)
    }

    /// What the user said must be about something that there is.
    fn fits(&self, flags: &Request) -> Result<()> {
        let known = |name: &str| self.vms.iter().any(|vm| vm.name == name);
        if let Some(spec) = flags.offsets.iter().find(|spec| !known(&spec.vm)) {
            let names: Vec<&str> = self.vms.iter().map(|vm| vm.name.as_str()).collect();
            let names = if names.is_empty() { "there is none".to_owned() } else { names.join(", ") };
            let message = format!("an offset is given for VM \"{}\", which is not in the capture", spec.vm);
            return Err(Error::new(ErrorKind::Usage, message).hint(format!("the VMs: {names}")));
        }
        if let Some(input) = self.inputs.iter().find(|i| i.role == Role::Offsets && i.survey.writes.is_empty()) {
            return Err(Error::new(ErrorKind::Evidence, "holds no kvm_write_tsc_offset event")
                .in_file(&input.capture.path)
                .hint("--offsets takes a capture with the host's offset writes; what debugfs says goes beside the captures"));
        }
        Ok(())
    }

    /// Words for people from manifests.
    pub(crate) fn manifest_notes(&self) -> Option<String> {
        self.manifests.iter().find_map(|manifest| manifest.notes.clone())
    }

    /// Whether the buffer's stamps are host time.
    pub fn on_axis(&self, capture: &Capture, buffer: usize) -> bool {
        capture.buffers.get(buffer).is_some_and(|b| b.clock == self.clock)
    }

    /// The captures of the host that have run windows.
    pub fn hosts(&self) -> Vec<Host<'_>> {
        self.inputs.iter().filter(|i| i.role == Role::Host).map(|i| (&i.capture, &i.survey)).collect()
    }

    /// When a vCPU's thread first entered or left guest mode, as far as was recorded.
    pub fn first_run(&self, thread: i32) -> Option<HostTsc> {
        let threads = self.hosts().into_iter().filter_map(|(_, survey)| survey.threads.get(&thread));
        threads.map(|thread| HostTsc::new(thread.first)).min()
    }

    /// The host time of all placed guest events.
    pub fn guest_span(&self) -> Option<HostRange> {
        let spans = self.streams.iter().filter_map(|s| s.span);
        spans.reduce(|a, b| HostRange { first: a.first.min(b.first), last: a.last.max(b.last) })
    }

    /// The time that the host's captures cover: in it guest events can be checked.
    pub fn host_span(&self) -> Option<HostRange> {
        let hosts = self.inputs.iter().filter(|i| i.role == Role::Host);
        let spans = hosts.filter_map(|i| {
            let (min, max) = i.survey.span(|s| self.on_axis(&i.capture, s.buffer))?;
            HostRange::new(HostTsc::new(min), HostTsc::new(max))
        });
        spans.reduce(|a, b| HostRange { first: a.first.min(b.first), last: a.last.max(b.last) })
    }
}

impl Session {
    /// What a person should know: of each input, then of the session.
    pub fn all_warnings(&self) -> Vec<String> {
        let of = |i: &Input| {
            let path = i.capture.path.display();
            i.capture.info.warnings.iter().map(|w| format!("{path}: {w}")).collect::<Vec<_>>()
        };
        let left = self.left_out.iter().filter(|left| left.surprising && !left.damaged);
        // A member's own words say that it is left out.
        let words = |left: &LeftOut| if left.why.starts_with("member ") { ":" } else { " is left out:" };
        let left = left.map(|left| format!("{}{} {}", left.path.display(), words(left), left.why));
        self.inputs.iter().flat_map(of).chain(left).chain(self.warnings.iter().cloned()).collect()
    }

    /// What of the inputs was damaged, cut short or skipped.
    pub fn damaged(&self) -> Vec<String> {
        let left = self.left_out.iter().filter(|left| left.damaged);
        let mut damaged: Vec<String> =
            left.map(|left| format!("{} is left out: {}", left.path.display(), left.why)).collect();
        for input in &self.inputs {
            let path = input.capture.path.display();
            damaged.extend(input.capture.info.damaged.iter().map(|d| format!("{path}: {d}")));
            if let Some(error) = input.capture.info.kallsyms.as_ref().and_then(|symbols| symbols.failure()) {
                damaged.push(format!("{path}: not all functions have names, as kallsyms cannot be read: {error}"));
            }
            for stream in input.survey.streams.iter().filter(|s| s.damaged > 0) {
                let what = stream.damage.join("; ");
                damaged.push(format!("{path}: CPU {}: {} damaged places: {what}", stream.cpu, stream.damaged));
            }
        }
        damaged
    }
}

/// Whether the buffer's stamps are TSC cycles.
pub fn is_tsc(capture: &Capture, buffer: usize) -> bool {
    capture.buffers.get(buffer).is_some_and(|b| b.clock == Clock::X86Tsc)
}
