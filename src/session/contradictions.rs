//! Where a manifest says something else than what was recorded.

use crate::session::manifest::{FILE_NAME, FileRole, Manifest};
use crate::session::{Role, Session};

/// A rate that is farther off than this many parts per million is no rounding.
const PPM: u64 = 200;

/// One sentence each.
pub(super) fn find(session: &Session) -> Vec<String> {
    let mut found = Vec::new();
    for manifest in &session.manifests {
        hosts(session, manifest, &mut found);
        processes(session, manifest, &mut found);
        strangers(session, manifest, &mut found);
        rate(session, manifest, &mut found);
    }
    found
}

fn say(manifest: &Manifest, line: usize, words: &str) -> String {
    format!("{}: line {line}: {words}", manifest.path.display())
}

/// A host without a vCPU.
fn hosts(session: &Session, manifest: &Manifest, found: &mut Vec<String>) {
    let root = manifest.path.parent().unwrap_or(&manifest.path);
    for file in manifest.files.iter().filter(|file| file.role == FileRole::Host) {
        let input = session.inputs.iter().find(|i| i.role == Role::Host && i.capture.path == root.join(&file.path));
        if input.is_some_and(|input| !input.survey.has_kvm()) {
            let words =
                format!("\"{}\" is said to be the host's, and has no kvm_entry or kvm_exit", file.path.display());
            found.push(say(manifest, file.line, &words));
        }
    }
}

/// VMs that are not there.
fn strangers(session: &Session, manifest: &Manifest, found: &mut Vec<String>) {
    for vm in manifest.vms.iter().filter(|known| session.vms.iter().all(|vm| vm.name != known.name)) {
        let names: Vec<&str> = session.vms.iter().map(|vm| vm.name.as_str()).collect();
        let words = format!("VM \"{}\" is not in the capture ({}): nothing is done with it", vm.name, names.join(", "));
        found.push(say(manifest, vm.line, &words));
    }
}

/// Threads of another process.
fn processes(session: &Session, manifest: &Manifest, found: &mut Vec<String>) {
    let process = |thread: i32| {
        let of = |host: &crate::session::Input| {
            let saved = host.capture.info.tgids.iter().find(|(tid, _)| *tid == thread).map(|(_, pid)| *pid);
            saved.or_else(|| host.survey.forks.get(&thread).copied()).filter(|&pid| pid > 0)
        };
        session.inputs.iter().filter(|i| i.role == Role::Host).find_map(of)
    };
    for known in &manifest.vms {
        let (Some(pid), Some(vm)) = (known.pid, session.vms.iter().find(|vm| vm.name == known.name)) else { continue };
        let other = vm.vcpus.iter().filter_map(|v| Some((v.thread?, process(v.thread?)?)));
        if let Some((thread, recorded)) = other.into_iter().find(|(_, recorded)| u32::try_from(*recorded) != Ok(pid)) {
            let words = format!(
                "VM {} is said to be process {pid}; the host's capture shows thread {thread} in process {recorded}",
                known.name
            );
            found.push(say(manifest, known.line, &words));
        } else if let Some((_, noted)) = session.facts.pids.iter().find(|(name, p)| *name == known.name && *p != pid) {
            let words = format!("VM {} is said to be process {pid}; a file beside it says {noted}", known.name);
            found.push(say(manifest, known.line, &words));
        }
    }
}

/// A rate that others do not share.
fn rate(session: &Session, manifest: &Manifest, found: &mut Vec<String>) {
    let Some((said, line)) = manifest.tsc_hz else { return };
    let rate = &session.rate;
    let all = rate.hz.map(|hz| (rate.source.as_str(), hz)).into_iter();
    let all = all.chain(rate.others.iter().map(|(source, hz)| (source.as_str(), *hz)));
    for (source, hz) in all.filter(|(source, _)| *source != FILE_NAME) {
        let ppm = u128::from(said.abs_diff(hz)) * 1_000_000 / u128::from(hz.max(1));
        if ppm > u128::from(PPM) {
            let words = format!("tsc_hz is {said}; {source} says {hz}, {ppm} parts per million away");
            found.push(say(manifest, line, &words));
        }
    }
}
