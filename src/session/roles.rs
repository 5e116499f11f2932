//! Which capture is the host's: by what was said, else by contents.

use std::path::Path;

use crate::capture::{Capture, Clock};
use crate::error::{Code, Error, ErrorKind, Result};
use crate::session::inputs::{LeftOut, Named, Opened};
use crate::session::request::GuestSpec;
use crate::session::runs::axis;

/// Captures by role, as indexes.
#[derive(Debug, Default)]
pub(super) struct Roles {
    pub(super) hosts: Vec<usize>,
    pub(super) offsets: Vec<usize>,
    /// With what the user said of them.
    pub(super) guests: Vec<(usize, Option<GuestSpec>)>,
}

pub(super) fn decide(opened: &[Opened]) -> Result<Roles> {
    let mut roles = Roles::default();
    let mut found = Vec::new();
    for (index, o) in opened.iter().enumerate() {
        match &o.named {
            Named::Host => roles.hosts.push(index),
            Named::Offsets => roles.offsets.push(index),
            Named::Guest(spec) => roles.guests.push((index, Some(spec.clone()))),
            Named::Found => found.push(index),
            Named::Beside(_) => {}
        }
    }
    let writes_only = |i: &usize| {
        !opened[*i].survey.writes.is_empty() && opened[*i].survey.writes.len() as u64 == opened[*i].survey.events()
    };
    let (offsets, found): (Vec<_>, Vec<_>) = found.into_iter().partition(writes_only);
    roles.offsets.extend(offsets);
    let (with_kvm, without): (Vec<_>, Vec<_>) = found.into_iter().partition(|&i| opened[i].survey.has_kvm());
    if roles.hosts.is_empty() {
        roles.hosts = choose_host(opened, &with_kvm, &without)?;
    }
    let others = with_kvm.into_iter().chain(without).filter(|i| !roles.hosts.contains(i));
    roles.guests.extend(others.map(|i| (i, None)).collect::<Vec<_>>());
    roles.guests.sort_by_key(|(index, _)| *index);
    related(opened, &roles)?;
    Ok(roles)
}

/// Refuses guests whose clock has nothing to do with the host's.
fn related(opened: &[Opened], roles: &Roles) -> Result<()> {
    let hosts: Vec<_> = roles.hosts.iter().map(|&i| (&opened[i].capture, &opened[i].survey)).collect();
    let Clock::Other(host) = axis(&hosts) else { return Ok(()) };
    for (index, _) in &roles.guests {
        let guest = &opened[*index];
        // A clock of the same name counts the same, but for where it starts.
        let Some(other) = Some(axis(&[(&guest.capture, &guest.survey)])).filter(|c| *c != Clock::Other(host.clone()))
        else {
            continue;
        };
        let other = match &other {
            Clock::X86Tsc => "x86-tsc",
            Clock::Other(name) => name,
        };
        let path = roles.hosts.first().map_or(&guest.capture.path, |&i| &opened[i].capture.path);
        let message = format!(
            "the host recorded with the clock `{host}`, the guest {} with `{other}`: nothing relates the two",
            guest.capture.path.display()
        );
        let perf = hosts.iter().any(|(capture, _)| capture.info.kind.starts_with("perf.data"));
        let perfetto = |capture: &Capture| capture.info.perfetto.is_some();
        return Err(Error::new(ErrorKind::Evidence, message).coded(Code::NoClock).in_file(path).hint(if hosts.iter().any(|h| perfetto(h.0)) {
            format!(
                "record the guest with `trace-cmd record -C {host} …`; or record the host where Perfetto notes the TSC in its \
                 clock snapshots (x86, two of them 10 ms apart or more)"
            )
        } else if perfetto(&guest.capture) {
            format!(
                "record the host with `trace-cmd record -C {other} …`, or the guest with the host's clock: Perfetto has boot, \
                 and mono_raw with `ftrace_config {{ use_monotonic_raw_clock: true }}`"
            )
        } else if perf {
            "record the host without -k where its kernel's clock is the TSC, so that perf notes how it makes nanoseconds of \
             cycles (TIME_CONV), or with `trace-cmd record -C x86-tsc -e kvm -e sched …`"
                .to_owned()
        } else {
            "record the host with `trace-cmd record -C x86-tsc -e kvm -e sched …`, or, where there is no x86-tsc, both with \
             the same clock"
                .to_owned()
        }));
    }
    Ok(())
}

fn choose_host(opened: &[Opened], with_kvm: &[usize], without: &[usize]) -> Result<Vec<usize>> {
    match (with_kvm, without) {
        ([only], _) => return Ok(vec![*only]),
        // An ordinary trace of one machine.
        ([], [only]) => return Ok(vec![*only]),
        ([], []) => {
            return Err(Error::new(ErrorKind::Evidence, "there is no capture to draw")
                .coded(Code::NoHost)
                .hint("name the host's capture"));
        }
        ([], several) => {
            let names: Vec<String> = several.iter().map(|&i| name(&opened[i].capture.path)).collect();
            return Err(Error::new(
                ErrorKind::Evidence,
                format!("none of {} is a host's: no kvm_entry or kvm_exit events", names.join(", ")),
            )
            .coded(Code::NoHost)
            .hint("record the host with `-e kvm -e sched`, or name it with --host FILE"));
        }
        _ => {}
    }
    // A guest that runs guests itself has kvm events too; only the outermost host has no peer that shifts it.
    let outer: Vec<usize> = with_kvm.iter().copied().filter(|&i| opened[i].capture.info.time_shift.is_none()).collect();
    let announces: Vec<usize> = outer.iter().copied().filter(|&i| !opened[i].capture.info.guests.is_empty()).collect();
    let node = |i: usize| {
        opened[i].capture.info.uname.as_deref().and_then(|u| u.split(' ').nth(1)).filter(|&name| name != "?")
    };
    match (announces.as_slice(), outer.as_slice()) {
        ([only], _) | ([], [only]) => Ok(vec![*only]),
        (_, several) if several.iter().all(|&i| node(i).is_some() && node(i) == node(several[0])) => {
            Ok(several.to_vec())
        }
        (_, several) => {
            let several = if several.is_empty() { with_kvm } else { several };
            let names: Vec<String> = several.iter().map(|&i| name(&opened[i].capture.path)).collect();
            Err(Error::new(
                ErrorKind::Evidence,
                format!("{} all have kvm events: which one is the host's?", names.join(", ")),
            )
            .coded(Code::NoHost)
            .hint("name it with --host FILE, and the guests with --guest NAME=FILE"))
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

/// Gives captures that hold further buffers of a machine a role by the role of their main capture: of a host's, offset
/// writes are used; the rest is left out.
pub(super) fn settle_beside(opened: &mut Vec<Opened>, left_out: &mut Vec<LeftOut>) -> Result<()> {
    if !opened.iter().any(|o| matches!(o.named, Named::Beside(_))) {
        return Ok(());
    }
    let hosts = decide(opened)?.hosts;
    opened.retain_mut(|o| {
        let Named::Beside(main) = o.named else { return true };
        if hosts.contains(&main) && !o.survey.writes.is_empty() {
            if (o.survey.writes.len() as u64) < o.survey.events() {
                o.capture.info.warnings.push(
                    "of this text only the offset writes are used: copy the instance's per_cpu/*/trace_pipe_raw to see \
                     its other events"
                        .to_owned(),
                );
            }
            o.named = Named::Offsets;
            return true;
        }
        let why = "text of an instance beside the main buffer, without offset writes of the host";
        left_out.push(LeftOut::instance(&o.capture.path, why));
        false
    });
    Ok(())
}

/// The VM name in a path: in the file's name, else in that of a directory `guest-NAME` among the `above` next ones.
pub(super) fn name_from_path(path: &Path, hosts: &[&Path], above: usize) -> Option<String> {
    let directories = path.ancestors().skip(1).take(above);
    name_from_file(path, hosts).or_else(|| directories.into_iter().find_map(|d| name_from_file(d, &[])))
}

/// The VM name in a file name: `guest-NAME[-…].dat`, or `HOST-NAME.dat` beside the host's `HOST.dat`.
fn name_from_file(path: &Path, hosts: &[&Path]) -> Option<String> {
    // A copied tracefs tree is named by its directory, a file without its extensions.
    let file = path.file_name()?.to_str()?;
    let stem = file.split('.').next()?;
    if let Some(rest) = stem.strip_prefix("guest-") {
        return rest.split('-').next().filter(|n| !n.is_empty()).map(str::to_owned);
    }
    hosts.iter().find_map(|host| {
        let host = host.file_name()?.to_str()?.split('.').next()?;
        stem.strip_prefix(host)?.strip_prefix('-').filter(|n| !n.is_empty()).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files() {
        let host = Path::new("dir/host.dat");
        let of = |file: &str| name_from_file(Path::new(file), &[host]);
        assert_eq!(of("x/guest-a.dat").as_deref(), Some("a"));
        assert_eq!(of("x/guest-a-boot1.dat").as_deref(), Some("a"));
        assert_eq!(of("x/host-web.dat").as_deref(), Some("web"));
        assert_eq!(of("x/host-web-1.dat").as_deref(), Some("web-1"));
        assert_eq!(of("x/guest-b.dat.gz").as_deref(), Some("b"));
        assert_eq!(of("x/foo.dat"), None);
        assert_eq!(of("x/guest-.dat"), None);
        let below = |file: &str, above| name_from_path(Path::new(file), &[host], above);
        assert_eq!(below("guest-z/set/guest-db/trace.dat", 2).as_deref(), Some("db"));
        assert_eq!(below("guest-z/set/trace.dat", 1), None);
    }
}
