//! JSON: every subcommand prints what `docs/schemas/` says, and nothing that is not said there.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::record::Machine;
use crate::run::{Done, Scratch, fixture, kvm_timeline};

fn schema(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schemas/{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).expect("a schema")).expect("JSON")
}

/// What is wrong with `value`: the part of JSON Schema that our files use, and what they do not describe is wrong too.
fn faults(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let keywords = schema.as_object().expect("a schema is an object");
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    };
    for (keyword, rule) in keywords {
        let fits = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let name = rule.as_str().and_then(|r| r.strip_prefix("#/$defs/")).expect("a local reference");
                faults(root, &root["$defs"][name], value, at, found);
                true
            }
            "type" => match rule {
                Value::Array(kinds) => kinds.iter().any(|kind| is(kind.as_str().expect("a name"))),
                kind => is(kind.as_str().expect("a name")),
            },
            "const" => rule == value,
            "enum" => rule.as_array().expect("values").contains(value),
            "oneOf" => {
                let all = rule.as_array().expect("schemas").iter().map(|one| {
                    let mut wrong = Vec::new();
                    faults(root, one, value, at, &mut wrong);
                    wrong
                });
                let all: Vec<Vec<String>> = all.collect();
                let fit = all.iter().filter(|wrong| wrong.is_empty()).count();
                if fit != 1 {
                    found.push(format!("{at}: {fit} of the alternatives fit: {all:?}"));
                }
                true
            }
            "required" => value.as_object().is_none_or(|object| {
                rule.as_array().expect("names").iter().all(|key| object.contains_key(key.as_str().expect("a name")))
            }),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    faults(root, rule, item, &format!("{at}[{index}]"), found);
                }
                true
            }
            "properties" => {
                for (key, item) in value.as_object().into_iter().flatten() {
                    match rule.get(key) {
                        Some(rule) => faults(root, rule, item, &format!("{at}.{key}"), found),
                        None => found.push(format!("{at}.{key} is not described")),
                    }
                }
                true
            }
            "additionalProperties" => {
                for (key, item) in value.as_object().into_iter().flatten() {
                    faults(root, rule, item, &format!("{at}.{key}"), found);
                }
                true
            }
            other => panic!("{at}: the tests do not know the keyword {other}"),
        };
        if !fits {
            found.push(format!("{at}: {keyword} {rule} does not fit {value}"));
        }
    }
}

fn described(name: &str, text: &str) -> Value {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}: {text}"));
    let root = schema(name);
    let mut found = Vec::new();
    faults(&root, &root, &value, "$", &mut found);
    assert!(found.is_empty(), "{name}: {found:#?}");
    value
}

fn run(args: &[&str], code: i32) -> Done {
    let done = kvm_timeline(args);
    assert_eq!(done.code, code, "{args:?}: {}", done.stderr);
    done
}

fn document(args: &[&str], code: i32) -> Value {
    described(args[0], &run(args, code).stdout)
}

#[test]
fn the_tests_find_what_does_not_fit() {
    let root = schema("offsets");
    let wrong = |text: &str| {
        let mut found = Vec::new();
        faults(&root, &root, &serde_json::from_str(text).expect("JSON"), "$", &mut found);
        found.len()
    };
    assert_eq!(wrong(r#"{"schema": "kvm-timeline/offsets", "version": 1, "offsets": []}"#), 0);
    assert_eq!(wrong(r#"{"schema": "kvm-timeline/offsets", "version": 2, "offsets": []}"#), 1);
    assert_eq!(wrong(r#"{"schema": "kvm-timeline/offsets", "version": 1, "offsets": [], "more": 1}"#), 1);
    assert_eq!(wrong(r#"{"schema": "kvm-timeline/offsets", "version": 1, "offsets": [{}]}"#), 1);
    assert_eq!(wrong(r#"{"schema": "kvm-timeline/offsets", "version": 1}"#), 1);
}

#[test]
fn reports_of_captures_are_described() {
    let scratch = Scratch::new();
    let (out, report) = (scratch.text("out.pftrace"), scratch.text("report.json"));
    for name in ["two-vm", "tsc-write", "overwritten", "agent", "kvmclock"] {
        let capture = fixture(name);
        let by_stdout = document(&["convert", &capture, "-o", &out, "--json", "--report", &report], 0);
        let by_file = described("convert", &std::fs::read_to_string(&report).expect("a report"));
        assert_eq!(by_stdout, by_file);
        document(&["check", &capture, "--json"], 0);
        document(&["offsets", &capture, "--json"], 0);
        document(&["stats", &capture, "--json"], 0);
        document(&["inspect", &capture, "--json"], 0);
    }
    // All of them, and one that is none.
    let tree = Scratch::new();
    std::fs::create_dir(tree.path("wrong")).expect("created");
    std::fs::copy(fixture("two-vm/guest-a.dat"), tree.path("wrong/guest-a.dat")).expect("copied");
    std::fs::write(tree.path("wrong/host.dat"), b"\x17\x08\x44tracing7\0").expect("written");
    let (source, traces) = (tree.text("wrong"), scratch.text("traces"));
    let batch = document(&["batch", &fixture("agent"), &source, "--out", &traces, "--json"], 3);
    assert_eq!((batch["done"].as_u64(), batch["failed"].as_u64()), (Some(1), Some(1)), "{batch:#}");
    let again = document(&["batch", "--summary", &traces, "--json"], 3);
    assert_eq!(again["trouble"], batch["trouble"]);
    // Offsets that are inferred, or wrong; and captures that do not fit together.
    let two = fixture("two-vm");
    let inferred = document(&["check", &two, "--json", "--infer"], 0);
    assert!(inferred["manifest"].is_string());
    let off = document(&["check", &two, "--json", "--offset", "a=-33610625072"], 1);
    assert!(off["vms"][0]["vcpus"][0]["worst"].is_object(), "{off:#}");
    let (a, b) = (fixture("two-vm/guest-a.dat"), fixture("reboot/guest-a-boot1.dat"));
    let apart = document(&["inspect", &a, &b, "--json"], 1);
    assert!(apart["problem"].is_object() && apart["tsc"].is_null());
}

#[test]
fn printed_lines_are_described_and_are_those_of_the_text() {
    let capture = fixture("overwritten");
    let done = run(&["print", &capture, "--json"], 0);
    let lines: Vec<&str> = done.stdout.lines().collect();
    // Each kind of event once, the first and the last lines, and a sample of the rest: a schema is slow to walk.
    let mut kinds = BTreeSet::new();
    let mut events = 0;
    for (index, line) in lines.iter().enumerate() {
        let value: Value = serde_json::from_str(line).expect("JSON");
        let new = value.get("event").is_none_or(|event| kinds.insert(event.to_string()));
        if new || index % 100 == 0 {
            described("print", line);
        }
        events += u64::from(value.get("time_ns").is_some());
    }
    assert!(kinds.len() > 10);
    let head: Value = serde_json::from_str(lines[0]).expect("JSON");
    assert_eq!(head["schema"], "kvm-timeline/print");
    let tail: Value = serde_json::from_str(lines[lines.len() - 1]).expect("JSON");
    assert_eq!(tail["events"]["written"], events);
    let text = run(&["print", &capture], 0).stdout;
    let lost = |line: &&str| line.ends_with("events lost]");
    assert_eq!(text.lines().filter(|line| !lost(line)).count() as u64, events);
    // The same filters, the same lines.
    let filters = ["--events", "sched:sched_switch", "--vm", "a", "--to", "+1s"];
    let some = [&["print", &capture, "--json"], &filters[..]].concat();
    let some = run(&some, 0).stdout.lines().count() - 2;
    let plain = run(&[&["print", &capture], &filters[..]].concat(), 0).stdout;
    assert_eq!(some, plain.lines().filter(|line| !lost(line)).count());
}

#[test]
fn recording_and_what_helps_with_it_is_described() {
    let recipe = document(&["recipe", "--json"], 0);
    assert!(["host", "guest", "together"].iter().all(|part| recipe[part].is_string()));
    assert!(document(&["recipe", "--json", "--guest"], 0)["host"].is_null());
    let machine = Machine::new();
    let out = machine.at("out").display().to_string();
    let record = |more: &[&str]| {
        let done = machine.record(&[&["--json"], more].concat());
        assert_eq!(done.code, 0, "{}", done.stderr);
        described("record", &done.stdout)
    };
    assert!(record(&["--dry-run", "-o", &out])["plan"].as_array().is_some_and(|plan| plan.len() > 5));
    assert_eq!(record(&["--prepare"])["changed"], true);
    let recorded = record(&["-o", &out, "--duration", "100ms"]);
    assert!(recorded["recording"]["events"].as_u64().is_some_and(|events| events > 0), "{recorded:#}");
    assert_eq!(record(&["--unprepare"])["changed"], true);
}

#[test]
fn a_link_is_described_and_so_is_that_nobody_came() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("a.pftrace"), "x").expect("written");
    let args = ["open", &scratch.text("a.pftrace"), "--json", "--no-browser", "--port", "0", "--wait", "100ms"];
    let done = run(&args, 1);
    let (link, error) = done.stdout.split_once('\n').expect("two lines");
    assert!(described("open", link)["link"].as_str().is_some_and(|link| link.starts_with("https://")));
    assert_eq!(described("error", error)["kind"], "io");
}

#[test]
fn errors_are_described() {
    let scratch = Scratch::new();
    let missing = scratch.text("missing");
    for (command, kind, code) in [("check", "io", 1), ("stats", "io", 1), ("print", "io", 1), ("inspect", "io", 1)] {
        let done = run(&[command, "--json", &missing], code);
        let error = described("error", &done.stdout);
        assert_eq!((error["kind"].as_str(), error["file"].as_str()), (Some(kind), Some(&*missing)), "{command}");
        assert!(done.stderr.contains(error["message"].as_str().expect("a message")));
    }
    let done = run(&["offsets", "--json", &fixture("agent"), "--offset", "nobody=1"], 2);
    let error = described("error", &done.stdout);
    assert_eq!(error["kind"], "usage");
    assert!(error["hint"].is_string());
    // Two documents in one stream would be none.
    run(&["convert", "--json", &fixture("agent"), "-o", "-", "--format", "json"], 2);
}

#[test]
fn scripts_and_pages_are_described() {
    let scratch = Scratch::new();
    document(&["completions", "--json", "bash"], 0);
    let files = document(&["man", "--json", &scratch.text("man")], 0);
    assert!(files["files"].as_array().is_some_and(|files| files.len() > 10));
}

#[test]
fn no_subcommand_is_without_a_schema() {
    let help = run(&["--help"], 0).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Long descriptions go on further to the right.
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<&str> = names.filter_map(|line| line.split_whitespace().next()).filter(|n| *n != "help").collect();
    assert!(names.len() >= 11, "{help}");
    for name in names {
        let options = run(&[name, "--help"], 0).stdout;
        assert!(options.contains("--json"), "{name} has no --json");
        schema(name);
    }
}
