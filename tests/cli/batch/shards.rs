//! Several workers on one destination.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{batch, logs, statuses, tree, whole};
use crate::run::{Scratch, json, kvm_timeline};

/// Starts a worker.
pub(super) fn start(source: &std::path::Path, destination: &std::path::Path, more: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-timeline"));
    command.arg("batch").arg(source).arg("--out").arg(destination).args(more);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts")
}

#[test]
fn parts_killed_in_the_midst_and_run_again_give_the_whole() {
    let scratch = Scratch::new();
    let (source, expected) = whole(&scratch);
    let parts = scratch.path("parts");
    let shard = |n: usize| format!("--shard={n}/3");
    let mut workers: Vec<Child> = (1..=3).map(|n| start(&source, &parts, &[&shard(n), "--threads", "1"])).collect();
    while tree::kept(&parts, "done").len() < 6 || tree::kept(&parts, "log").len() < 3 {
        thread::sleep(Duration::from_millis(5));
    }
    for worker in &mut workers {
        // SIGKILL.
        worker.kill().expect("killed");
        worker.wait().expect("ended");
    }
    let seen = tree::outputs(&parts);
    assert!(seen.len() >= 6 && seen.len() < expected.len(), "{} outputs", seen.len());
    for (name, bytes) in seen {
        assert!(expected[&name] == bytes, "{name} is not whole");
    }
    let finished = tree::kept(&parts, "done").len();
    for mut worker in (1..=3).map(|n| start(&source, &parts, &[&shard(n), "--threads", "1"])).collect::<Vec<_>>() {
        let code = worker.wait().expect("ended").code();
        assert!(matches!(code, Some(0 | 3)), "{code:?}");
    }
    assert!(tree::outputs(&parts) == expected);
    assert_eq!(tree::kept(&parts, "unfinished"), [""; 0]);
    assert_eq!(tree::kept(&parts, "claims"), [""; 0]);
    // Nothing was done twice, and each capture was one worker's.
    let second: Vec<BTreeMap<String, String>> = logs(&parts).iter().skip(3).map(|log| statuses(log)).collect();
    assert_eq!(second.len(), 3);
    let of = |status: &str| second.iter().flat_map(|log| log.values()).filter(|s| *s == status).count();
    assert_eq!((of("skipped"), of("failed")), (finished, tree::FAILED.len()));
    assert_eq!(of("done") + finished, expected.len());
    let names: std::collections::BTreeSet<&String> = second.iter().flat_map(|log| log.keys()).collect();
    assert_eq!(names.len(), tree::expected().len());

    let to = parts.display().to_string();
    let done = kvm_timeline(["batch", "--summary", &to]);
    assert_eq!(done.code, 3, "{}", done.stderr);
    // Each worker may have been killed between an output and its line in the log.
    let lines =
        (0..=3).map(|n| format!("45 captures: {} converted, {n} finished before, 3 failed, 2 damaged\n", 42 - n));
    assert!(lines.into_iter().any(|line| done.stdout.contains(&line)), "{}", done.stdout);
    let done = kvm_timeline(["batch", "--summary", &to, "--json"]);
    let summary: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(summary["workers"], 6);
    let trouble = summary["trouble"].as_array().expect("a list").iter();
    let mut trouble: Vec<&str> = trouble.map(|r| r["output"].as_str().expect("a path")).collect();
    trouble.sort_unstable();
    let expected =
        ["bad/archive", "bad/cut1", "bad/cut2", "bad/header", "bad/two-hosts"].map(|n| format!("{n}.pftrace"));
    assert_eq!(trouble, expected);
}

#[test]
fn workers_without_parts_share_the_work() {
    let scratch = Scratch::new();
    let source = scratch.path("fleet");
    for n in 0..8 {
        tree::record(&source.join(format!("c{n}")), n);
    }
    let together = scratch.path("together");
    for mut worker in (0..3).map(|_| start(&source, &together, &["--threads", "1"])).collect::<Vec<_>>() {
        assert_eq!(worker.wait().expect("ended").code(), Some(0));
    }
    let all: Vec<BTreeMap<String, String>> = logs(&together).iter().map(|log| statuses(log)).collect();
    for n in 0..8 {
        let of: Vec<&String> = all.iter().map(|log| &log[&format!("c{n}")]).collect();
        assert_eq!(of.iter().filter(|status| **status == "done").count(), 1, "c{n}: {of:?}");
        assert_eq!(of.iter().filter(|status| **status == "skipped").count(), 2, "c{n}: {of:?}");
    }
    assert_eq!(tree::outputs(&together).len(), 8);
    assert_eq!(tree::kept(&together, "claims"), [""; 0]);
}

#[test]
fn a_claim_of_another_machine_is_waited_for_and_taken_over() {
    let scratch = Scratch::new();
    let source = scratch.path("fleet");
    tree::record(&source.join("c1"), 1);
    let claims = scratch.path("out/.kvm-timeline/claims");
    std::fs::create_dir_all(&claims).expect("made");
    std::fs::write(claims.join("c1.pftrace.1"), "other.machine_1.17.99\n4\n").expect("written");
    let begun = std::time::Instant::now();
    let done = batch(&source, &scratch.path("out"), &["--stale-after", "600ms"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(begun.elapsed() >= Duration::from_millis(600));
    assert_eq!(tree::outputs(&scratch.path("out")).len(), 1);
    assert_eq!(tree::kept(&scratch.path("out"), "claims"), [""; 0]);
}

#[test]
fn arrays_of_schedulers_choose_the_part() {
    let scratch = Scratch::new();
    let source = scratch.path("fleet");
    for n in 0..4 {
        tree::record(&source.join(format!("c{n}")), n);
    }
    let run = |shard: &str, environment: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-timeline"));
        command.args(["batch", "--dry-run", "--out", &scratch.text("out"), "--shard", shard]).arg(&source);
        let output = command.envs(environment.iter().copied()).output().expect("the binary starts");
        (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
    };
    let mut names = Vec::new();
    for index in ["0", "2"] {
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", index),
            ("SLURM_ARRAY_TASK_MIN", "0"),
            ("SLURM_ARRAY_TASK_STEP", "2"),
            ("SLURM_ARRAY_TASK_COUNT", "2"),
        ];
        let (code, listed) = run("auto", &slurm);
        assert_eq!(code, Some(0));
        names.extend(listed.lines().filter_map(|line| Some(line.split_once(" -> ")?.1.to_owned())));
    }
    names.sort();
    assert_eq!(names, ["c0.pftrace", "c1.pftrace", "c2.pftrace", "c3.pftrace"]);
    let (_, by_kubernetes) = run("auto/2", &[("JOB_COMPLETION_INDEX", "1")]);
    let (_, by_number) = run("2/2", &[]);
    assert_eq!(by_kubernetes, by_number);
    assert_eq!(run("auto", &[]).0, Some(2));
    assert!(!scratch.path("out").exists());
}

#[test]
fn statistics_of_parts_are_one_table_in_the_end() {
    let scratch = Scratch::new();
    let source = scratch.path("fleet");
    for n in 0..3 {
        tree::record(&source.join(format!("c{n}")), n);
    }
    let (whole, parts) = (scratch.path("whole"), scratch.path("parts"));
    assert_eq!(batch(&source, &whole, &["--stats"]).code, 0);
    // Without statistics first: what is missing is made.
    assert_eq!(batch(&source, &parts, &[]).code, 0);
    for shard in ["1/2", "2/2"] {
        assert_eq!(batch(&source, &parts, &["--stats", "--shard", shard]).code, 0);
    }
    assert!(!parts.join("stats.parquet").exists());
    assert_eq!(kvm_timeline(["batch", "--summary", &parts.display().to_string()]).code, 0);
    assert!(tree::outputs(&whole) == tree::outputs(&parts));
    assert_eq!(tree::outputs(&whole).len(), 7);
    let stats: Value = serde_json::from_slice(&tree::outputs(&whole)["c1.stats.json"]).expect("JSON");
    assert_eq!(stats, json(["stats", "--json", &source.join("c1").display().to_string()]));
    let table = std::fs::File::open(whole.join("stats.parquet")).expect("a table");
    let table = parquet::file::reader::SerializedFileReader::new(table).expect("Parquet");
    let rows = parquet::file::reader::FileReader::get_row_iter(&table, None).expect("rows");
    let mut captures: Vec<String> = rows
        .map(|row| {
            let row = row.expect("a row");
            row.get_column_iter().find(|(name, _)| *name == "capture").expect("a column").1.to_string()
        })
        .collect();
    captures.dedup();
    assert_eq!(captures, ["\"c0\"", "\"c1\"", "\"c2\""]);
}
