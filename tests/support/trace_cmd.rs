//! `trace-cmd report` of Debian, the second opinion for decoding.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs it on files and hands over its lines; false where it is not installed, which CI does not forgive.
pub fn report(flags: &[&str], files: &[&Path], mut each: impl FnMut(&str)) -> bool {
    let child = Command::new("trace-cmd")
        .arg("report")
        .args(flags)
        .args(files.iter().flat_map(|file| [Path::new("-i"), file]))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "no trace-cmd, and CI is set: {error}");
            let _ = writeln!(std::io::stderr(), "SKIPPED a comparison with trace-cmd report: {error}");
            return false;
        }
    };
    for line in BufReader::new(child.stdout.take().expect("a pipe")).split(b'\n') {
        each(&String::from_utf8_lossy(&line.expect("readable")));
    }
    let status = child.wait().expect("it ends");
    assert!(status.success(), "trace-cmd report {files:?}: {status}");
    true
}

/// A line of an event.
pub struct EventLine<'a> {
    /// The instance, empty for the top buffer, and the CPU.
    pub place: (String, u32),
    pub stamp: u64,
    pub name: &'a str,
    pub fields: &'a str,
}

/// `[BUFFER:] COMM-PID [CPU] STAMP: EVENT: FIELDS`, with `--raw-ts`; `None` for other lines.
pub fn event(line: &str) -> Option<EventLine<'_>> {
    let open = line.match_indices('[').map(|(i, _)| i).find(|&i| {
        let digits = line[i + 1..].bytes().take_while(u8::is_ascii_digit).count();
        digits >= 3 && line[i + 1 + digits..].starts_with(']')
    })?;
    let (head, tail) = line.split_at(open);
    let (cpu, rest) = tail[1..].split_once(']')?;
    let (stamp, rest) = rest.split_once(':')?;
    let (name, fields) = rest.trim_start().split_once(':')?;
    // An instance's lines begin with its name; a comm may hold colons, but no name of an instance has a space behind.
    let buffer = head.trim_start().split_once(": ").map_or("", |(buffer, _)| buffer.trim());
    let place = (buffer.to_owned(), cpu.parse().ok()?);
    Some(EventLine { place, stamp: stamp.trim().parse().ok()?, name, fields })
}
