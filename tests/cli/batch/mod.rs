//! `batch`: a fleet's archive in one run, in parts, interrupted and resumed, is the same to the byte.

mod naming;
#[cfg(feature = "object-store")]
mod objects;
#[path = "../../support/recording.rs"]
#[allow(dead_code, unreachable_pub)]
mod recording;
mod rerun;
#[path = "../../support/ring_pages.rs"]
#[allow(dead_code, unreachable_pub)]
pub(crate) mod ring_pages;
mod shards;
#[path = "../../support/trace_dat_writer.rs"]
#[allow(dead_code, unreachable_pub)]
pub(crate) mod trace_dat_writer;
mod tree;
#[path = "../../support/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::run::{Done, Scratch, kvm_timeline};

/// Runs `batch SOURCE --out DEST` with these options more.
fn batch(source: &Path, destination: &Path, more: &[&str]) -> Done {
    let (source, destination) = (source.display().to_string(), destination.display().to_string());
    let mut args = vec!["batch", &source, "--out", &destination];
    args.extend(more);
    kvm_timeline(args)
}

/// The lines of all logs at a destination, log by log in the order in which they were begun.
fn logs(destination: &Path) -> Vec<Vec<Value>> {
    let logs = tree::files(&destination.join(".kvm-timeline/log"));
    let lines = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    logs.into_values().map(lines).collect()
}

/// Of one log: what became of each capture, by output without extension.
fn statuses(log: &[Value]) -> BTreeMap<String, String> {
    let captures = log.iter().filter(|line| line["record"] == "capture");
    captures
        .map(|line| {
            let text = |key: &str| line[key].as_str().expect("a text").to_owned();
            (text("output").trim_end_matches(".pftrace").to_owned(), text("status"))
        })
        .collect()
}

/// The whole archive at once: the measure for everything else.
fn whole(scratch: &Scratch) -> (std::path::PathBuf, BTreeMap<String, Vec<u8>>) {
    let source = scratch.path("fleet");
    tree::fleet(&source);
    let done = batch(&source, &scratch.path("whole"), &[]);
    assert_eq!(done.code, 3, "{}", done.stderr);
    (source, tree::outputs(&scratch.path("whole")))
}

#[test]
fn every_capture_of_a_tree_is_found_and_converted() {
    let scratch = Scratch::new();
    let (source, outputs) = whole(&scratch);
    let all = tree::expected();
    assert_eq!(all.len(), 45);
    let named: Vec<String> = outputs.keys().map(|name| name.trim_end_matches(".pftrace").to_owned()).collect();
    let made: Vec<String> = all.iter().filter(|name| !tree::FAILED.contains(&name.as_str())).cloned().collect();
    assert_eq!(named, made);
    let [log] = &*logs(&scratch.path("whole")) else { panic!("one log") };
    assert_eq!((log[0]["record"].as_str(), log[0]["found"].as_u64()), (Some("start"), Some(45)));
    assert_eq!(log.last().map(|line| &line["record"]), Some(&Value::from("end")));
    let expected = |name: &String| if tree::FAILED.contains(&name.as_str()) { "failed" } else { "done" };
    let expected: BTreeMap<String, String> = all.iter().map(|n| (n.clone(), expected(n).to_owned())).collect();
    assert_eq!(statuses(log), expected);
    for line in log.iter().filter(|line| line["record"] == "capture") {
        let output = line["output"].as_str().expect("a path").trim_end_matches(".pftrace");
        let damaged = !line["damaged"].as_array().expect("a list").is_empty();
        assert_eq!(damaged, tree::DAMAGED.contains(&output), "{line:#}");
        let failed = tree::FAILED.contains(&output);
        assert_eq!(line["error"].is_null(), !failed, "{line:#}");
        // One recording holds no tracepoints, and says so.
        let none = failed || output == "formats/perf/software";
        assert!(none || line["events"].as_u64().expect("a count") > 0, "{line:#}");
    }
    // Verdicts are those of `check`.
    let verdict = |name: &str| {
        let of = |line: &&Value| line["output"] == format!("{name}.pftrace");
        log.iter().find(of).map(|line| line["verdict"].clone()).expect("a record")
    };
    for name in ["rack1/host1", "rack2/host4", "rack3/host2", "bad/cut1"] {
        let done = kvm_timeline(["check", "--json", &source.join(name).display().to_string()]);
        let check: Value = serde_json::from_str(&done.stdout).expect("JSON");
        assert_eq!(verdict(name), check["verdict"], "{name}");
    }
    let proved = log.iter().filter(|line| line["verdict"] == "proved").count();
    assert!(proved > 25, "{proved} proved");
    let code = |name: &str| {
        let of = |line: &&Value| line["output"] == format!("{name}.pftrace");
        log.iter().find(of).and_then(|line| line["error"]["code"].as_str().map(str::to_owned))
    };
    assert_eq!(code("bad/two-hosts").as_deref(), Some("no-host"));
    assert_eq!(code("bad/archive").as_deref(), Some("damaged-archive"));
    // The same as one by one.
    let convert = |inputs: &[&str], output: &str| {
        let to = scratch.text("one.pftrace");
        let inputs: Vec<String> = inputs.iter().map(|input| source.join(input).display().to_string()).collect();
        let mut args: Vec<&str> = vec!["convert", "-o", &to];
        args.extend(inputs.iter().map(String::as_str));
        assert_eq!(kvm_timeline(args).code, 0, "{output}");
        assert!(std::fs::read(&to).expect("an output") == outputs[&format!("{output}.pftrace")], "{output}");
    };
    convert(&["rack1/host1"], "rack1/host1");
    convert(&["split/s1"], "split/s1");
    convert(&["archives/a6.zip"], "archives/a6");
    convert(&["formats/perf/software"], "formats/perf/software");
    convert(&["formats/mixed/sched.data"], "formats/mixed/sched");
    convert(&["flat/h2.dat", "flat/h2-a.dat"], "flat/h2");
    convert(&["ids/two.dat", "ids/web.dat"], "ids/two");
}

#[test]
fn one_thread_and_little_memory_give_the_same() {
    let scratch = Scratch::new();
    let source = scratch.path("fleet");
    for n in 0..4 {
        tree::record(&source.join(format!("c{n}")), n);
    }
    let (one, four) = (scratch.path("one"), scratch.path("four"));
    assert_eq!(batch(&source, &one, &["--threads", "1", "--max-memory", "1M"]).code, 0);
    assert_eq!(batch(&source, &four, &["--threads", "4", "--jobs", "3"]).code, 0);
    assert!(tree::outputs(&one) == tree::outputs(&four));
    assert_eq!(tree::outputs(&one).len(), 4);
}
