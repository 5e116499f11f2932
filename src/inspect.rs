//! What is in a set of captures: what was recognised, who is who, what was left out, and what is missing for a good
//! merge.

mod advice;
mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::capture::{Capture, Clock};
use crate::clock::history::Source;
use crate::convert::tsc_report;
use crate::error::Result;
use crate::monitor::Monitor;
use crate::report::TscReport;
use crate::session::request::Request;
use crate::session::survey::Survey;
use crate::session::{LeftOut, Role, Session};

pub use advice::Advice;
pub use text::text;

/// Everything that `inspect` says; serialised as it is by `--json`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Inspection {
    /// The captures.
    pub inputs: Vec<InputFacts>,
    /// The VMs; empty where it was not found out who is who.
    pub vms: Vec<VmFacts>,
    /// The host's TSC rate; null where it was not found out who is who.
    pub tsc: Option<TscReport>,
    /// What lies beside the captures and was not read.
    pub left_out: Vec<LeftOut>,
    /// Manifests that were read, and their words for people.
    pub manifests: Vec<ManifestFacts>,
    /// Why these captures cannot be put on one timeline as they are; null where they can.
    pub problem: Option<Problem>,
    /// What is missing for a good merge, and how to record it.
    pub missing: Vec<Advice>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// What of the inputs was damaged, cut short or skipped (exit code 3).
    pub damaged: Vec<String>,
}

/// One capture.
#[derive(Clone, Debug, Default, Serialize)]
pub struct InputFacts {
    /// Where it is.
    pub path: String,
    /// `host`, `guest` or `offsets`; null where that was not found out.
    pub role: Option<&'static str>,
    /// The VM it belongs to, for guests.
    pub vm: Option<String>,
    /// What it is, in words.
    pub kind: String,
    /// `Linux nodename release machine` where recorded.
    pub uname: Option<String>,
    /// CPUs of the machine, 0 where unknown.
    pub cpus: u32,
    /// Its buffers.
    pub buffers: Vec<BufferFacts>,
    /// Events per name, `system:event`, most frequent first.
    pub events: Vec<EventCount>,
    /// First and last raw stamp of the first buffer that has events.
    pub stamps: Option<(u64, u64)>,
    /// Events that the recording says were lost.
    pub lost: u64,
    /// Places where events were lost without a count.
    pub losses_uncounted: u64,
    /// Events that the kernel overwrote, by its own counters.
    pub overwritten: u64,
    /// Offset writes in it.
    pub offset_writes: usize,
}

/// One buffer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BufferFacts {
    /// Instance name, empty for the top buffer.
    pub name: String,
    /// The clock of its stamps.
    pub clock: String,
    /// CPUs with data.
    pub cpus: Vec<u32>,
    /// Events.
    pub events: u64,
}

/// How often an event occurs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EventCount {
    /// `system:event`.
    pub name: String,
    /// How often.
    pub count: u64,
}

/// One VM.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VmFacts {
    /// Name.
    pub name: String,
    /// Process on the host, where something shows it.
    pub pid: Option<u32>,
    /// Whether a guest's capture belongs to it.
    pub has_capture: bool,
    /// vCPUs in row order.
    pub vcpus: Vec<VcpuFacts>,
}

/// One vCPU.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VcpuFacts {
    /// The number in its rows' names.
    pub id: u32,
    /// KVM's number, where known.
    pub vcpu_id: Option<u32>,
    /// Its host thread, where known.
    pub thread: Option<i32>,
    /// Offset segments.
    pub offsets: usize,
    /// Where the offsets are known from, in words.
    pub known_from: Vec<String>,
}

/// One manifest.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ManifestFacts {
    /// Where it is.
    pub path: String,
    /// `notes`.
    pub notes: Option<String>,
    /// `wall_clock`.
    pub wall_clock: Option<String>,
}

/// Why the captures cannot be merged.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Problem {
    /// What kind of error, by a name that stays ([`crate::error::Code`]).
    pub code: String,
    /// The error in words.
    pub what: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Opens everything and says what it is. The session comes along where it was found out who is who.
///
/// # Errors
/// If a file cannot be read. That the captures do not fit together is no error, but [`Inspection::problem`].
pub fn inspect(request: &Request, monitor: &Monitor<'_>) -> Result<(Inspection, Option<Session>)> {
    let mut found = Inspection::default();
    let session = Session::open_noting(request, monitor, &mut |noted| {
        for (capture, survey) in noted.captures {
            found.inputs.push(input_facts(capture, survey));
            found.missing.extend(advice::of_capture(capture, survey));
            damage(capture, survey, &mut found.damaged);
        }
        found.left_out = noted.left_out.to_vec();
        found.manifests = noted
            .manifests
            .iter()
            .map(|m| ManifestFacts {
                path: m.path.display().to_string(),
                notes: m.notes.clone(),
                wall_clock: m.wall_clock.clone(),
            })
            .collect();
    });
    let session = match session {
        Ok(session) => session,
        // Nothing was even opened.
        Err(error) if found.inputs.is_empty() => return Err(error),
        Err(error) if error.kind() == crate::error::ErrorKind::Interrupted => return Err(error),
        Err(error) => {
            let hint = error.hint_text().map(str::to_owned);
            found.problem = Some(Problem { code: error.code().name(), what: error.to_string(), hint });
            return Ok((found, None));
        }
    };
    // A capture beside another one may have been of no use.
    found.inputs = session.inputs.iter().map(|i| input_facts(&i.capture, &i.survey)).collect();
    for (facts, input) in found.inputs.iter_mut().zip(&session.inputs) {
        facts.role = Some(input.role.name());
        facts.vm = match input.role {
            Role::Guest(vm) => session.vms.get(vm).map(|vm| vm.name.clone()),
            _ => None,
        };
    }
    found.vms = vm_facts(&session);
    found.tsc = Some(tsc_report(&session));
    found.left_out.clone_from(&session.left_out);
    found.missing = advice::of_session(&session);
    found.warnings = session.all_warnings();
    found.damaged = session.damaged();
    Ok((found, Some(session)))
}

fn damage(capture: &Capture, survey: &Survey, damaged: &mut Vec<String>) {
    let path = capture.path.display();
    damaged.extend(capture.info.damaged.iter().map(|d| format!("{path}: {d}")));
    let streams = survey.streams.iter().filter(|s| s.damaged > 0);
    damaged.extend(streams.map(|s| format!("{path}: CPU {}: {} damaged places", s.cpu, s.damaged)));
}

fn input_facts(capture: &Capture, survey: &Survey) -> InputFacts {
    let info = &capture.info;
    let buffer = |(index, buffer): (usize, &crate::capture::Buffer)| {
        let streams: Vec<_> = survey.streams.iter().filter(|s| s.buffer == index).collect();
        BufferFacts {
            name: buffer.name.clone(),
            clock: match &buffer.clock {
                Clock::X86Tsc => "x86-tsc".to_owned(),
                Clock::Other(name) => name.clone(),
            },
            cpus: streams.iter().filter(|s| s.events > 0).map(|s| s.cpu).collect(),
            events: streams.iter().map(|s| s.events).sum(),
        }
    };
    let counted = capture.formats.events().iter().zip(&survey.counts).filter(|(_, count)| **count > 0);
    let mut events: Vec<EventCount> = counted
        .map(|(event, count)| EventCount { name: format!("{}:{}", event.system, event.name), count: *count })
        .collect();
    if survey.unknown > 0 {
        events.push(EventCount { name: "without a description".to_owned(), count: survey.unknown });
    }
    events.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    let first = survey.streams.iter().find(|s| s.events > 0).map(|s| s.buffer);
    InputFacts {
        path: capture.path.display().to_string(),
        kind: info.kind.clone(),
        uname: info.uname.clone(),
        cpus: info.cpu_count,
        buffers: capture.buffers.iter().enumerate().map(buffer).collect(),
        events,
        stamps: first.and_then(|first| survey.span(|s| s.buffer == first)),
        lost: survey.streams.iter().map(|s| s.lost).fold(0, u64::saturating_add),
        losses_uncounted: survey.streams.iter().map(|s| s.lost_unknown).sum(),
        overwritten: info.cpu_stats.iter().map(|s| s.overrun.saturating_add(s.dropped)).fold(0, u64::saturating_add),
        offset_writes: survey.writes.len(),
        ..InputFacts::default()
    }
}

fn vm_facts(session: &Session) -> Vec<VmFacts> {
    let vcpu = |v: &crate::session::Vcpu| {
        let mut sources: BTreeMap<String, ()> = BTreeMap::new();
        v.history.segments.iter().for_each(|s| {
            sources.insert(s.source.to_string(), ());
        });
        VcpuFacts {
            id: v.number,
            vcpu_id: v.vcpu_id,
            thread: v.thread,
            offsets: v.history.segments.len(),
            known_from: sources.into_keys().collect(),
        }
    };
    let vms = session.vms.iter().enumerate();
    vms.map(|(index, vm)| VmFacts {
        name: vm.name.clone(),
        pid: vm.pid,
        has_capture: session.inputs.iter().any(|i| i.role == Role::Guest(index)),
        vcpus: vm.vcpus.iter().map(vcpu).collect(),
    })
    .collect()
}

/// Whether the offset is a conclusion and no record.
fn is_inferred(source: Source) -> bool {
    source == Source::Inferred
}
