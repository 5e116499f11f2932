//! Safe to run again: what is finished stays, what changed is done anew, and an interrupt leaves nothing half-done.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::shards::start;
use super::{batch, logs, statuses, tree};
use crate::run::Scratch;

/// Captures `c0` to `c{n-1}`.
fn some(scratch: &Scratch, n: u64) -> std::path::PathBuf {
    let source = scratch.path("fleet");
    for n in 0..n {
        tree::record(&source.join(format!("c{n}")), n);
    }
    source
}

/// What the last run did with each capture.
fn last(destination: &std::path::Path) -> Vec<(String, String)> {
    statuses(logs(destination).last().expect("a log")).into_iter().collect()
}

fn all(statuses: &[(&str, &str)]) -> Vec<(String, String)> {
    statuses.iter().map(|(name, status)| ((*name).to_owned(), (*status).to_owned())).collect()
}

#[test]
fn what_is_finished_is_skipped_until_contents_or_options_change() {
    let scratch = Scratch::new();
    let (source, out) = (some(&scratch, 3), scratch.path("out"));
    let run = |more: &[&str]| {
        let done = batch(&source, &out, more);
        assert_eq!(done.code, 0, "{}", done.stderr);
        last(&out)
    };
    assert_eq!(run(&[]), all(&[("c0", "done"), ("c1", "done"), ("c2", "done")]));
    let before = tree::outputs(&out);
    let skipped = all(&[("c0", "skipped"), ("c1", "skipped"), ("c2", "skipped")]);
    assert_eq!(run(&[]), skipped);
    // Times are not contents.
    let host = source.join("c1/host.dat");
    let bytes = fs::read(&host).expect("read");
    fs::write(&host, &bytes).expect("written");
    assert_eq!(run(&["--threads", "1", "--max-memory", "40M"]), skipped);
    assert!(tree::outputs(&out) == before);
    // One bit in the midst, and neither size nor time.
    let time = fs::metadata(&host).and_then(|meta| meta.modified()).expect("a time");
    let at = bytes.windows(8).position(|w| w == b"qemu-a\n9" || w == b"qemu-a\0\0").unwrap_or(bytes.len() / 2);
    let mut changed = bytes.clone();
    changed[at] ^= 1;
    fs::write(&host, &changed).expect("written");
    fs::File::options().write(true).open(&host).and_then(|file| file.set_modified(time)).expect("set");
    let done = batch(&source, &out, &[]);
    assert!(matches!(done.code, 0 | 3), "{}", done.stderr);
    let [(_, c0), (_, c1), (_, c2)] = &*last(&out) else { panic!("three captures") };
    assert_eq!((c0.as_str(), c2.as_str()), ("skipped", "skipped"));
    assert_ne!(c1, "skipped");
    fs::write(&host, &bytes).expect("written");
    assert_eq!(run(&[]), all(&[("c0", "skipped"), ("c1", "done"), ("c2", "skipped")]));
    assert!(tree::outputs(&out) == before);
    // A fact beside the captures belongs to them.
    fs::write(source.join("c2/pids.txt"), "a 950\n").expect("written");
    assert_eq!(run(&[]), all(&[("c0", "skipped"), ("c1", "skipped"), ("c2", "done")]));
    // Other options, other outputs.
    assert_eq!(run(&["--span", "all"]), all(&[("c0", "done"), ("c1", "done"), ("c2", "done")]));
    // An output that is gone, or was cut, is made again.
    fs::remove_file(out.join("c0.pftrace")).expect("removed");
    fs::write(out.join("c1.pftrace"), "half").expect("written");
    assert_eq!(run(&["--span", "all"]), all(&[("c0", "done"), ("c1", "done"), ("c2", "skipped")]));
}

#[test]
fn an_interrupt_abandons_cleanly() {
    let scratch = Scratch::new();
    let (source, out) = (some(&scratch, 12), scratch.path("out"));
    assert_eq!(batch(&source, &scratch.path("whole"), &[]).code, 0);
    let expected = tree::outputs(&scratch.path("whole"));
    let mut worker = start(&source, &out, &["--threads", "1"]);
    while tree::kept(&out, "done").len() < 2 {
        thread::sleep(Duration::from_millis(5));
    }
    let signal = Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().expect("kill");
    assert!(signal.success());
    let code = worker.wait().expect("ended").code();
    assert_eq!(code, Some(130));
    let seen = tree::outputs(&out);
    assert!(seen.len() >= 2 && seen.len() < expected.len(), "{} outputs", seen.len());
    assert!(seen.iter().all(|(name, bytes)| expected[name] == *bytes));
    assert_eq!(tree::kept(&out, "unfinished"), [""; 0]);
    assert_eq!(tree::kept(&out, "claims"), [""; 0]);
    assert_eq!(logs(&out)[0].last().expect("a line")["interrupted"], true);
    assert_eq!(batch(&source, &out, &[]).code, 0);
    assert!(tree::outputs(&out) == expected);
    let skipped = last(&out).iter().filter(|(_, status)| status == "skipped").count();
    assert_eq!(skipped, seen.len());
}

#[test]
fn one_bad_capture_costs_itself_unless_failing_fast() {
    let scratch = Scratch::new();
    let source = some(&scratch, 3);
    // The largest goes first.
    fs::write(source.join("c1/host.dat"), [b"\x17\x08\x44tracing6\0".as_slice(), &[0xff; 3_000_000]].concat())
        .expect("written");
    let done = batch(&source, &scratch.path("out"), &["--quiet"]);
    assert_eq!(done.code, 3);
    assert!(done.stderr.contains("failed: ") && done.stderr.contains("c1"), "{}", done.stderr);
    assert!(
        done.stderr.contains("3 captures: 2 converted, 0 finished before, 1 failed, 0 damaged\n"),
        "{}",
        done.stderr
    );
    let done = batch(&source, &scratch.path("fast"), &["--fail-fast", "--threads", "1"]);
    assert_eq!(done.code, 3);
    assert!(done.stderr.contains("0 converted, 0 finished before, 1 failed, 0 damaged, 2 left\n"), "{}", done.stderr);
    assert_eq!(tree::outputs(&scratch.path("fast")).len(), 0);
}

#[test]
fn what_cannot_be_read_is_tried_again_and_what_is_damaged_is_not() {
    let scratch = Scratch::new();
    let source = some(&scratch, 1);
    fs::write(source.join("c0/host.dat"), b"\x17\x08\x44tracing6\0").expect("written");
    batch(&source, &scratch.path("out"), &["--retry", "2"]);
    assert_eq!(logs(&scratch.path("out"))[0][1]["attempts"], 1);
    // A directory in the output's place.
    tree::record(&source.join("c0"), 1);
    let taken = scratch.path("taken");
    fs::create_dir_all(taken.join("c0.pftrace/x")).expect("made");
    assert_eq!(batch(&source, &taken, &["--retry", "1"]).code, 3);
    let logs = logs(&taken);
    assert_eq!((&logs[0][1]["attempts"], &logs[0][1]["error"]["code"]), (&2.into(), &"io".into()));
}
