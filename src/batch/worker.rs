//! Who writes: a process that can be told from all others, and of which it can be found out whether it still runs.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// A process among those that share a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    name: String,
}

/// What another worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its process runs on this machine.
    Alive,
    /// It was a process of this machine, and is none any more.
    Gone,
    /// It is, or was, somewhere else.
    Elsewhere,
}

impl Worker {
    /// This process.
    pub fn current() -> Self {
        let host = read("/proc/sys/kernel/hostname");
        let pid = std::process::id();
        let start = start_of(pid)
            .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64));
        Self { name: format!("{}.{}.{pid}.{start}", plain(&host), machine()) }
    }

    /// Letters, digits, `-`, `_` and `.`: host, machine, process id, start.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What can be said of the worker of this name.
pub fn fate(name: &str) -> Fate {
    let mut parts = name.rsplit('.');
    let (start, pid) = (parts.next().and_then(|s| s.parse::<u64>().ok()), parts.next().and_then(|s| s.parse().ok()));
    let same = parts.next() == Some(&machine()) && !machine().starts_with('_');
    match (pid, start) {
        (Some(pid), Some(start)) if same && start_of(pid) == Some(start) => Fate::Alive,
        (Some(_), Some(_)) if same => Fate::Gone,
        _ => Fate::Elsewhere,
    }
}

/// The kernel that runs, and the name space of process ids in it: containers on one machine share only the first. Starts
/// with `_` where that cannot be told.
fn machine() -> String {
    let boot = plain(&read("/proc/sys/kernel/random/boot_id"));
    let space = fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default();
    let space: String = space.chars().filter(char::is_ascii_digit).collect();
    if boot.is_empty() || space.is_empty() { "_".to_owned() } else { format!("{boot}_{space}") }
}

/// When a process began, in the kernel's clock ticks since boot: ids are used again. `None` where there is no such
/// process, or only what is left of it until its parent looks.
fn start_of(pid: u32) -> Option<u64> {
    // pid (comm) state ppid …; the 22nd field is the start. comm may hold anything.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn plain(text: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.trim().chars().map(|c| if keep(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_told_apart() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let me = Worker::current();
        assert_eq!(fate(me.name()), Fate::Alive);
        let mut parts: Vec<String> = me.name().split('.').map(str::to_owned).collect();
        let at = parts.len() - 2;
        parts[at] = child.id().to_string();
        parts[at + 1] = start_of(child.id()).unwrap().to_string();
        assert_eq!(fate(&parts.join(".")), Fate::Alive);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(fate(&parts.join(".")), Fate::Gone);
        // The same process id at another time is another process.
        parts[at] = std::process::id().to_string();
        parts[at + 1] = "1".to_owned();
        assert_eq!(fate(&parts.join(".")), Fate::Gone);
        parts[at - 1] = "other".to_owned();
        assert_eq!(fate(&parts.join(".")), Fate::Elsewhere);
        assert_eq!(fate("x"), Fate::Elsewhere);
    }
}
