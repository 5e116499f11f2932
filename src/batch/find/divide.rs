//! Which captures of one directory belong together: mostly all of them, but somebody may keep many hosts' files in one.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use crate::capture::Capture;
use crate::error::{ErrorKind, Result};
use crate::monitor::Monitor;
use crate::session::shows_runs;

/// What the files of a directory are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Division {
    /// One capture.
    One,
    /// Several, each the positions of its files, the host's first.
    Several(Vec<Vec<usize>>),
}

/// Divides files, of which these are the names. `open` opens the one at a position.
///
/// A file is a guest's if its name says so (`guest-…`, or `HOST-…` beside `HOST`), if another announces it, or if no guest
/// is ever entered in it. With one host at most the directory is one capture. With several it is divided if every other
/// file tells which host it belongs to, by its trace id or by its name; else it is left to whoever opens it. Without a host,
/// each file is a capture if none is called a host's or a guest's.
///
/// # Errors
/// Only `Interrupted`: a file that cannot be opened counts as a host's, so that somebody hears of it.
pub(super) fn divide(
    names: &[&OsStr],
    open: &dyn Fn(usize) -> Result<Capture>,
    monitor: &Monitor<'_>,
) -> Result<Division> {
    let stems: Vec<&str> = names.iter().map(|name| stem(name)).collect();
    let by_name = |guest: usize| {
        let named = stems.iter().enumerate().filter(|(host, stem)| *host != guest && is_of(stems[guest], stem));
        named.max_by_key(|(_, stem)| stem.len()).map(|(host, _)| host)
    };
    let named: Vec<Option<usize>> = (0..names.len()).map(by_name).collect();
    let guest = |i: usize| named[i].is_some() || is_guest(stems[i]);
    if (0..names.len()).filter(|&i| !guest(i)).count() <= 1 {
        return Ok(Division::One);
    }
    let mut opened = Vec::new();
    for i in 0..names.len() {
        opened.push(match open(i) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            capture => capture.ok(),
        });
    }
    let announced: BTreeMap<u64, usize> = opened
        .iter()
        .enumerate()
        .flat_map(|(host, capture)| {
            capture.iter().flat_map(move |c| c.info.guests.iter().map(move |g| (g.trace_id, host)))
        })
        .filter(|(id, _)| *id != 0)
        .collect();
    let by_id = |guest: usize| {
        let info = &opened[guest].as_ref()?.info;
        let peer = info.time_shift.as_ref().map(|shift| shift.peer_trace_id).filter(|id| *id != 0);
        let is = |c: &Option<Capture>| peer.is_some() && c.as_ref().is_some_and(|c| c.info.trace_id == peer);
        let host = info.trace_id.and_then(|id| announced.get(&id).copied());
        host.or_else(|| opened.iter().position(is)).filter(|&host| host != guest)
    };
    let owners: Vec<Option<usize>> = (0..names.len()).map(|i| by_id(i).or(named[i])).collect();
    let mut hosts = Vec::new();
    for i in (0..names.len()).filter(|&i| owners[i].is_none() && !is_guest(stems[i])) {
        let is_host = match &opened[i] {
            None => true,
            Some(capture) => match shows_runs(capture, monitor) {
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                runs => runs.unwrap_or(true),
            },
        };
        hosts.extend(is_host.then_some(i));
    }
    if hosts.is_empty() {
        // Recordings of machines that have nothing to do with each other, unless somebody says that they have.
        let shifted = |c: &Option<Capture>| c.as_ref().is_some_and(|c| c.info.time_shift.is_some());
        let related = (0..names.len()).any(|i| owners[i].is_some() || is_guest(stems[i]) || stems[i] == "host");
        let apart = !related && !opened.iter().any(shifted);
        return Ok(if apart { Division::Several((0..names.len()).map(|i| vec![i]).collect()) } else { Division::One });
    }
    if hosts.len() == 1 {
        return Ok(Division::One);
    }
    let mut groups: Vec<Vec<usize>> = hosts.iter().map(|&host| vec![host]).collect();
    for guest in (0..names.len()).filter(|i| !hosts.contains(i)) {
        // A guest of a guest belongs to the outermost host.
        let mut owner = owners[guest];
        for _ in 0..names.len() {
            owner = owner.and_then(|o| owners[o]).or(owner);
        }
        match groups.iter_mut().find(|group| group.first().copied() == owner) {
            Some(group) => group.push(guest),
            None => return Ok(Division::One),
        }
    }
    Ok(Division::Several(groups))
}

/// A file's name up to its first dot.
fn stem(name: &OsStr) -> &str {
    name.to_str().and_then(|name| name.split('.').next()).unwrap_or_default()
}

/// Whether a file's or a directory's name says that it is a guest's.
pub(super) fn is_guest(name: &str) -> bool {
    name.strip_prefix("guest-").is_some_and(|rest| !rest.is_empty())
}

/// Whether a file of this stem is named as a guest beside the host's.
fn is_of(guest: &str, host: &str) -> bool {
    let rest = guest.strip_prefix(host).and_then(|rest| rest.strip_prefix('-'));
    !host.is_empty() && rest.is_some_and(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn division(names: &[&str]) -> Division {
        let names: Vec<&OsStr> = names.iter().map(OsStr::new).collect();
        let open = |_| Err(crate::error::Error::format("damaged"));
        divide(&names, &open, &Monitor::silent()).unwrap()
    }

    #[test]
    fn names_alone_may_settle_it() {
        assert_eq!(division(&["trace.dat"]), Division::One);
        assert_eq!(division(&["host.dat", "guest-a.dat", "guest-b.dat.gz"]), Division::One);
        assert_eq!(division(&["trace.dat", "trace-db.dat"]), Division::One);
    }

    #[test]
    fn damaged_hosts_are_captures_of_their_own() {
        let several = Division::Several(vec![vec![0, 1], vec![2]]);
        assert_eq!(division(&["h1.dat", "h1-db.dat", "h2.dat"]), several);
        // Whose guest this is, nothing tells.
        assert_eq!(division(&["h1.dat", "h2.dat", "guest-a.dat"]), Division::One);
        // The longest name counts.
        let several = Division::Several(vec![vec![0], vec![1, 2]]);
        assert_eq!(division(&["h.dat", "i-1.dat", "i-1-db.dat"]), several);
    }
}
