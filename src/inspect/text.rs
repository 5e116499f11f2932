//! An inspection as text for a terminal.

use std::fmt::Write as _;

use super::{InputFacts, Inspection};
use crate::printable::{line, tidy};

/// Events listed per capture.
const EVENTS: usize = 8;
/// Files listed that were left out and say nothing.
const SILENT: usize = 10;

/// The inspection in words.
pub fn text(found: &Inspection) -> String {
    let found = &tidied(found);
    let mut out = String::new();
    found.inputs.iter().for_each(|facts| input(&mut out, facts));
    for manifest in &found.manifests {
        let _ = writeln!(out, "{}: manifest", manifest.path);
        let lines = [("notes", &manifest.notes), ("wall clock", &manifest.wall_clock)];
        for (name, value) in lines.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            let _ = writeln!(out, "  {name}: {}", value.replace('\n', "\n    "));
        }
    }
    for vm in &found.vms {
        let pid = vm.pid.map_or(String::new(), |pid| format!(", process {pid}"));
        let _ = writeln!(out, "VM {}{pid}, {} vCPUs", vm.name, vm.vcpus.len());
        for v in &vm.vcpus {
            let thread = v.thread.map_or(String::new(), |thread| format!(", thread {thread}"));
            let known = if v.known_from.is_empty() { "nothing".to_owned() } else { v.known_from.join(", ") };
            let _ = writeln!(out, "  vCPU {}{thread}: {} from {known}", v.id, count(v.offsets as u64, "offset"));
        }
    }
    if let Some(tsc) = &found.tsc {
        let _ = match tsc.hz {
            Some(hz) => writeln!(out, "TSC rate {}.{:06} MHz ({})", hz / 1_000_000, hz % 1_000_000, tsc.source),
            None => writeln!(out, "TSC rate unknown"),
        };
    }
    let silent = found.left_out.iter().filter(|left| !left.surprising).count();
    let (mut shown, mut hidden) = (0, 0);
    for left in &found.left_out {
        if !left.surprising && !left.capture && silent > SILENT && shown >= SILENT {
            hidden += 1;
            continue;
        }
        shown += 1;
        let _ = writeln!(out, "left out: {}: {}", line(&left.path.display().to_string()), left.why);
    }
    if hidden > 0 {
        let _ = writeln!(out, "left out: {hidden} more files (--json lists them)");
    }
    for missing in &found.missing {
        let _ = writeln!(out, "missing: {}\n  record: {}", missing.what, missing.how);
    }
    if let Some(problem) = &found.problem {
        let _ = writeln!(out, "cannot be merged: {}", problem.what);
        if let Some(hint) = &problem.hint {
            let _ = writeln!(out, "  hint: {hint}");
        }
    }
    out
}

/// Names come from captures: each stays in its line. A manifest's words may have several.
fn tidied(found: &Inspection) -> Inspection {
    let mut found = found.clone();
    for input in &mut found.inputs {
        [&mut input.path, &mut input.kind].into_iter().for_each(tidy);
        input.vm.iter_mut().chain(&mut input.uname).for_each(tidy);
        for buffer in &mut input.buffers {
            [&mut buffer.name, &mut buffer.clock].into_iter().for_each(tidy);
        }
        input.events.iter_mut().for_each(|event| tidy(&mut event.name));
    }
    for vm in &mut found.vms {
        tidy(&mut vm.name);
        vm.vcpus.iter_mut().flat_map(|v| &mut v.known_from).for_each(tidy);
    }
    found.manifests.iter_mut().for_each(|manifest| tidy(&mut manifest.path));
    found.left_out.iter_mut().for_each(|left| tidy(&mut left.why));
    found.missing.iter_mut().for_each(|missing| [&mut missing.what, &mut missing.how].into_iter().for_each(tidy));
    found.problem.iter_mut().for_each(|problem| tidy(&mut problem.what));
    found
}

fn input(out: &mut String, facts: &InputFacts) {
    let role = match (facts.role, &facts.vm) {
        (Some(role), Some(vm)) => format!("{role} {vm}"),
        (Some(role), None) => role.to_owned(),
        (None, _) => "role unknown".to_owned(),
    };
    let _ = writeln!(out, "{}: {role}, {}", facts.path, facts.kind);
    if let Some(uname) = &facts.uname {
        let _ = writeln!(out, "  {uname}");
    }
    for buffer in facts.buffers.iter().filter(|buffer| buffer.events > 0 || facts.buffers.len() == 1) {
        let name = if buffer.name.is_empty() { "events".to_owned() } else { format!("instance {}", buffer.name) };
        let cpus = count(buffer.cpus.len() as u64, "CPU");
        let _ = writeln!(out, "  {name}: {} on {cpus}, clock {}", buffer.events, buffer.clock);
    }
    let mut names: Vec<String> =
        facts.events.iter().take(EVENTS).map(|event| format!("{} {}", event.name, event.count)).collect();
    if facts.events.len() > EVENTS {
        names.push(format!("{} more", facts.events.len() - EVENTS));
    }
    if !names.is_empty() {
        let _ = writeln!(out, "  {}", names.join(", "));
    }
    if facts.lost > 0 || facts.losses_uncounted > 0 || facts.overwritten > 0 {
        let _ = writeln!(
            out,
            "  lost: {} counted, {} places without a count; {} by the kernel's counters",
            facts.lost, facts.losses_uncounted, facts.overwritten
        );
    }
}

/// `1 CPU`, `2 CPUs`.
fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
