//! `print`: the same events in the same order as `trace-cmd report` prints them, to the nanosecond.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::run::{fixture, succeeds};

/// (machine, pid, CPU, stamp, event, fields) of one line of either program.
type Line<'a> = (&'a str, &'a str, &'a str, String, &'a str, String);

fn parts(line: &str) -> Option<Line<'_>> {
    let (machine, rest) = line.trim_start().split_once(": ")?;
    let (task, rest) = rest.split_once(" [")?;
    let (cpu, rest) = rest.split_once(']')?;
    let (stamp, rest) = rest.split_once(": ")?;
    let (event, fields) = rest.trim_start().split_once(':')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let pid = task.trim_end().rsplit_once('-')?.1;
    Some((machine, pid, cpu, stamp.trim().replace('.', ""), event, fields.join(" ")))
}

#[test]
fn host_and_guest_are_merged_as_trace_cmd_merges_them() {
    // The first 20,000 lines of `trace-cmd report -i host.dat -i host-a.dat`, whose stamps are the host's TSC: at 1 GHz
    // a cycle is a nanosecond.
    let packed = std::fs::read(fixture("agent/merged.txt.gz")).expect("the reference");
    let mut theirs = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut theirs).expect("gzip");
    let ours = succeeds(["print", &fixture("agent"), "--tsc-hz", "1000000000"]).stdout;
    assert_eq!(ours.lines().count(), 133_788 + 39_079);
    let mut compared = 0;
    for (theirs, ours) in theirs.lines().skip(2).zip(ours.lines()) {
        let theirs_machine = if theirs.trim_start().starts_with("host.dat") { "host" } else { "a" };
        let (_, pid, cpu, stamp, event, fields) = parts(theirs).expect("a line of trace-cmd");
        let expected = (theirs_machine, pid, cpu, stamp, event, fields);
        assert_eq!(parts(ours).as_ref(), Some(&expected), "{ours}\n{theirs}");
        compared += 1;
    }
    assert_eq!(compared, 19_998);
}

#[test]
fn tasks_are_called_what_they_were_called_then() {
    let text = succeeds(["print", &fixture("two-vm"), "--events", "a/sched:sched_switch"]).stdout;
    // Whoever is switched out is who the record's own fields say.
    let mut seen = 0;
    for line in text.lines().filter(|line| !line.contains("prev_pid=0 ")) {
        let comm = line.split_once("prev_comm=").expect("fields").1.split(" prev_pid=").next().expect("a comm");
        let pid = line.split_once("prev_pid=").expect("fields").1.split(' ').next().expect("a pid");
        assert!(line.contains(&format!(" {comm}-{pid} ")), "{line}");
        seen += 1;
    }
    assert!(seen > 1000, "{seen}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kvm-timeline"))
        .args(["print", &fixture("two-vm")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut first = [0; 100];
    child.stdout.take().expect("a pipe").read_exact(&mut first).expect("some text");
    // The pipe is closed here.
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn the_text_is_the_same_for_any_number_of_threads() {
    let text = |threads: &str| succeeds(["--threads", threads, "print", &fixture("agent")]).stdout;
    assert!(text("1") == text("3"));
}
