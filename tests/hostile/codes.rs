//! Error codes stay: one table in docs/errors.md, made by the program.

use std::path::Path;
use std::process::Command;

use kvm_timeline::capture::limits::LIMITS;
use kvm_timeline::error::{CODES, Code, Error, ErrorKind};

fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).expect("readable")
}

#[test]
fn the_table_is_that_of_the_document() {
    let table = Code::table();
    assert!(document("errors.md").contains(&table), "docs/errors.md should hold:\n{table}");
}

/// Names that scripts may know already. None of these may ever go; new ones are added here.
const KNOWN: [&str; 25] = [
    "not-found",
    "no-permission",
    "no-space",
    "cut-while-read",
    "io",
    "empty-file",
    "not-a-capture",
    "no-capture",
    "damaged-trace-dat",
    "damaged-perf-data",
    "damaged-perfetto",
    "damaged-text",
    "damaged-tracefs",
    "damaged-archive",
    "damaged-manifest",
    "damaged",
    "unsupported",
    "usage",
    "input-overwritten",
    "no-host",
    "no-match",
    "no-clock",
    "no-evidence",
    "limit",
    "interrupted",
];

#[test]
fn names_stay() {
    assert_eq!(CODES.map(|info| info.name), KNOWN);
    for info in CODES {
        assert!(info.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", info.name);
        assert_eq!(info.code.name(), info.name);
    }
}

#[test]
fn every_kind_has_a_code_of_its_own() {
    for kind in [
        ErrorKind::Io,
        ErrorKind::Format,
        ErrorKind::Unsupported,
        ErrorKind::Usage,
        ErrorKind::Evidence,
        ErrorKind::Limit,
        ErrorKind::Interrupted,
    ] {
        let code = Error::new(kind, "x").code();
        let info = CODES.iter().find(|info| info.code == code).expect("in the table");
        assert_eq!(info.kind, kind);
    }
}

#[test]
fn limits_are_in_the_document() {
    let text = document("reliability.md");
    for info in LIMITS {
        assert!(text.contains(&format!("`{}`", info.name)), "{} is missing", info.name);
    }
}

fn run(args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-timeline")).args(args).output().expect("the binary starts");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn an_error_shows_its_code() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("empty.dat"), b"").expect("written");
    std::fs::write(path("noise.dat"), b"these are no bytes of a capture").expect("written");
    std::fs::write(path("cut.gz"), b"\x1f\x8b\x08\0\0\0\0\0").expect("written");
    std::fs::create_dir(path("nothing")).expect("created");
    for (args, code, exit) in [
        (vec!["check", &path("none.dat")], "not-found", 1),
        (vec!["check", &path("empty.dat")], "empty-file", 1),
        (vec!["check", &path("noise.dat")], "not-a-capture", 1),
        (vec!["check", &path("cut.gz")], "damaged-archive", 1),
        (vec!["check", &path("nothing")], "no-capture", 1),
        (vec!["check"], "usage", 2),
    ] {
        let (found, stderr) = run(&args);
        assert_eq!(found, exit, "{args:?}: {stderr}");
        assert!(stderr.contains(&format!("kvm-timeline: error[{code}]: ")), "{args:?}: {stderr}");
        let output =
            Command::new(env!("CARGO_BIN_EXE_kvm-timeline")).args(&args).arg("--json").output().expect("it runs");
        assert_eq!(output.status.code(), Some(exit));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON on stdout");
        assert_eq!(json["code"], code, "{json}");
    }
}
