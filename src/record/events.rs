//! Which events a kernel has of those that are wanted.

use std::path::Path;

use super::system::names;
use crate::error::{Error, ErrorKind, Result};
use crate::selection::EventPattern;

/// Events to be recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Events {
    /// Directories below `events/` that are enabled: `kvm`, `sched/sched_switch`.
    pub(super) enabled: Vec<String>,
    /// (system, event) of each event.
    pub(super) all: Vec<(String, String)>,
}

/// Looks `wanted` up below `events`. Where the user named them each pattern must match something.
pub(super) fn find(events: &Path, wanted: &[EventPattern], named: bool) -> Result<Events> {
    let mut found = Events::default();
    let mut matched = vec![false; wanted.len()];
    for system in names(events) {
        let directory = events.join(&system);
        let mut of_system = Vec::new();
        let mut complete = directory.join("enable").is_file();
        for event in names(&directory) {
            if !directory.join(&event).join("enable").is_file() {
                continue;
            }
            let mut is_wanted = false;
            for (pattern, matched) in wanted.iter().zip(&mut matched) {
                if pattern.matches("host", &system, &event) {
                    (is_wanted, *matched) = (true, true);
                }
            }
            if is_wanted {
                of_system.push(event);
            } else {
                complete = false;
            }
        }
        if complete && !of_system.is_empty() {
            found.enabled.push(system.clone());
        } else {
            found.enabled.extend(of_system.iter().map(|event| format!("{system}/{event}")));
        }
        found.all.extend(of_system.into_iter().map(|event| (system.clone(), event)));
    }
    let missing = wanted.iter().zip(matched).find(|(pattern, matched)| !matched && (named || is_needed(pattern)));
    match missing {
        None => Ok(found),
        Some((pattern, _)) if is_needed(pattern) && !events.join("kvm").is_dir() => {
            Err(Error::new(ErrorKind::Unsupported, "this kernel has no kvm events: the module kvm is not loaded")
                .in_file(events)
                .hint("as root: modprobe kvm_intel, or kvm_amd; or leave kvm out: --events sched"))
        }
        Some((pattern, _)) => {
            Err(Error::new(ErrorKind::Usage, format!("this kernel has no event `{}`", pattern.text()))
                .in_file(events)
                .hint("available_events of tracefs lists all; modules bring theirs when they are loaded"))
        }
    }
}

/// Without the events of KVM there is nothing to place guests by.
fn is_needed(pattern: &EventPattern) -> bool {
    pattern.text() == "kvm"
}
