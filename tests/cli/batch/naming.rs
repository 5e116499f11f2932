//! What may be named, and what outputs are called.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use super::{batch, tree};
use crate::run::{Done, Scratch, kvm_timeline};

/// Inputs and outputs that a dry run lists.
fn listed(done: &Done) -> Vec<String> {
    assert_eq!(done.code, 0, "{}", done.stderr);
    done.stdout.lines().filter_map(|line| Some(line.split_once(" -> ")?.1.to_owned())).collect()
}

/// `day1/c1`, `day1/c2`, `day2/c1`.
fn days(scratch: &Scratch) -> std::path::PathBuf {
    let source = scratch.path("fleet");
    for (n, name) in (1..).zip(["day1/c1", "day1/c2", "day2/c1"]) {
        tree::record(&source.join(name), n);
    }
    source
}

#[test]
fn trees_patterns_lists_and_files() {
    let scratch = Scratch::new();
    let source = days(&scratch);
    let text = source.display().to_string();
    let out = scratch.text("out");
    let dry = |sources: &[&str]| {
        let mut args = vec!["batch", "--dry-run", "--out", &out];
        args.extend(sources);
        kvm_timeline(args)
    };
    let all = ["day1/c1.pftrace", "day1/c2.pftrace", "day2/c1.pftrace"];
    assert_eq!(listed(&dry(&[&text])), all);
    assert_eq!(listed(&dry(&[&format!("{text}/*/c1")])), ["day1/c1.pftrace", "day2/c1.pftrace"]);
    // A host's file stands for it and its guests.
    assert_eq!(listed(&dry(&[&format!("{text}/**/host.dat")])), all);
    assert_eq!(listed(&dry(&[&format!("{text}/day[12]")])), all);
    // Found twice, done once.
    assert_eq!(listed(&dry(&[&text, &format!("{text}/*/c?")])), all);
    // A shell has the pattern's place: two captures of one name.
    let done = dry(&[&format!("{text}/day1/c1"), &format!("{text}/day2/c1")]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("would both be written to c1.pftrace"), "{}", done.stderr);
}

#[test]
fn lists_mirror_the_paths_in_them() {
    let scratch = Scratch::new();
    let source = days(&scratch);
    let run = |list: &str, by_stdin: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-timeline"));
        command.args(["batch", "--dry-run", "--out", "out"]).current_dir(&source).stdout(Stdio::piped());
        if by_stdin {
            command.arg("-").stdin(Stdio::piped());
        } else {
            fs::write(source.join("list.txt"), list).expect("written");
            command.arg("list.txt");
        }
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(list.as_bytes()).expect("written");
        }
        let output = child.wait_with_output().expect("ended");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Done { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    };
    for by_stdin in [true, false] {
        let list = "day2/c1\n./day1/c2/host.dat\r\n\nday1/c2/guest-a.dat\n";
        assert_eq!(listed(&run(list, by_stdin)), ["day1/c2.pftrace", "day2/c1.pftrace"]);
    }
    let absolute = source.join("day1").display().to_string();
    let mirrored = format!("{}/c1.pftrace", absolute.trim_start_matches('/'));
    assert_eq!(listed(&run(&absolute, true))[0], mirrored);
    let done = run("day2/c1\nday3\n", true);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("day3: does not exist") && done.stderr.contains("line 2 of stdin"), "{}", done.stderr);
}

#[test]
fn names_follow_the_template_and_the_format() {
    let scratch = Scratch::new();
    let source = scratch.path("fleet");
    tree::record(&source.join("c1"), 1);
    let names = |more: &[&str]| {
        let out = scratch.path(&format!("out{}", more.join("").replace('/', "_")));
        let done = batch(&source, &out, more);
        assert_eq!(done.code, 0, "{}", done.stderr);
        tree::outputs(&out).into_iter().next().expect("an output")
    };
    let (name, bytes) = names(&["--name", "{stem}/timeline.json.gz"]);
    assert_eq!((name.as_str(), &bytes[..2]), ("c1/timeline.json.gz", &b"\x1f\x8b"[..]));
    let (name, bytes) = names(&["--format", "json"]);
    assert_eq!((name.as_str(), bytes[0]), ("c1.json", b'{'));
    assert_eq!(names(&["--compress"]).0, "c1.pftrace.gz");
    let done = batch(&source, &scratch.path("bad"), &["--name", "../{stem}.pftrace"]);
    assert_eq!(done.code, 2, "{}", done.stderr);
    let done = batch(&source, &scratch.path("bad"), &["--name", "{stem}.txt"]);
    assert_eq!(done.code, 2, "{}", done.stderr);
}

#[test]
fn a_clash_is_an_error_before_any_work() {
    let scratch = Scratch::new();
    let source = scratch.path("fleet");
    tree::record(&source.join("c1"), 1);
    tree::record(&source.join("c2"), 2);
    tree::record(&source.join("more"), 3);
    let packed: Vec<u8> = {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_dir_all("x", source.join("c1")).expect("packed");
        tar.into_inner().expect("finished")
    };
    fs::write(source.join("c1.tar"), packed).expect("written");
    let out = scratch.path("out");
    let done = batch(&source, &out, &[]);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(
        done.stderr.contains("c1.tar") && done.stderr.contains("would both be written to c1.pftrace"),
        "{}",
        done.stderr
    );
    assert!(!out.exists());
    assert_eq!(batch(&source, &out, &["--name", "{name}.pftrace"]).code, 0);
    let names: Vec<String> = tree::outputs(&out).into_keys().collect();
    assert_eq!(names, ["c1.pftrace", "c1.tar.pftrace", "c2.pftrace", "more.pftrace"]);
}

#[test]
fn outputs_among_the_sources_are_no_captures_and_inputs_are_kept() {
    let scratch = Scratch::new();
    let source = days(&scratch);
    assert_eq!(batch(&source, &source, &["--stats"]).code, 0);
    assert_eq!(batch(&source, &source, &["--stats"]).code, 0);
    let new: Vec<String> = tree::outputs(&source).into_keys().filter(|name| !name.ends_with(".dat")).collect();
    let mut expected: Vec<String> = ["day1/c1", "day1/c2", "day2/c1"]
        .iter()
        .flat_map(|name| [format!("{name}.pftrace"), format!("{name}.stats.json")])
        .collect();
    expected.push("stats.parquet".to_owned());
    assert_eq!(new, expected);
    let done = batch(&source.join("day2/c1"), &source.join("day2/c1"), &[]);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("would be written into the capture"), "{}", done.stderr);
    // Inside the tree that is searched.
    assert_eq!(batch(&source, &source.join("out"), &["--span", "all"]).code, 0);
    assert_eq!(batch(&source, &source.join("out"), &["--span", "all"]).code, 0);
    assert_eq!(tree::outputs(&source.join("out")).len(), 3);
}

#[test]
fn only_what_is_new() {
    let scratch = Scratch::new();
    let source = days(&scratch);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3 * 86_400);
    for name in ["host.dat", "guest-a.dat"] {
        let path = source.join("day1/c2").join(name);
        fs::File::options().write(true).open(path).and_then(|file| file.set_modified(old)).expect("set");
    }
    let dry = |since: &str| listed(&batch(&source, &scratch.path("out"), &["--dry-run", "--newer-than", since]));
    assert_eq!(dry("2d"), ["day1/c1.pftrace", "day2/c1.pftrace"]);
    assert_eq!(dry("4d").len(), 3);
    assert_eq!(dry("2020-01-01").len(), 3);
    let done = batch(&scratch.path("fleet/nowhere"), &scratch.path("out"), &[]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("does not exist"), "{}", done.stderr);
}
