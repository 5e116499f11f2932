//! Every trace that is written is a trace: of all fixtures, in both formats and with the native layers, Perfetto's trace
//! processor has nothing to complain about. `tests/tools/full_schema.py` reads the same by the whole schema.

use std::path::PathBuf;

use crate::run::{Scratch, fixture, succeeds};
use crate::trace_processor::{COMPLAINTS, queries};

/// What there is to convert, with what belongs to it.
pub(crate) fn captures() -> Vec<(&'static str, Vec<String>)> {
    let whole = ["agent", "arrows", "kvmclock", "overwritten", "reboot", "text", "tsc-write", "two-vm", "unstable"];
    let alone = [
        "markers/host.dat",
        "markers/function.dat",
        "perf/pipe.data",
        "perf/sched.data",
        "perf/software.data",
        "perf/zstd.data",
    ];
    let mut all: Vec<(&str, Vec<String>)> =
        whole.iter().chain(&alone).map(|name| (*name, vec![fixture(name)])).collect();
    // A recording of a guest whose host is not there: a machine by itself.
    for machine in ["variants/guest-a-v7-zlib.dat", "variants/guest-a-v7-zstd.dat"] {
        all.push((machine, vec!["--host".into(), fixture(machine)]));
    }
    all
}

/// What recordings themselves lack, and Perfetto's reader rightly remarks where records pass through as they are: in these
/// two, switches are missing by `perf script` too (somebody leaves a CPU whom no switch put there), and perf counted nothing
/// as lost.
const REMARKED: [(&str, &str, [&str; 3]); 2] = [
    ("perf/pipe.data", "native.pftrace.gz", ["mismatched_sched_switch_tids", "error", "1"]),
    ("perf/sched.data", "native.pftrace.gz", ["mismatched_sched_switch_tids", "error", "3"]),
];

const FORMATS: [(&str, &[&str]); 3] = [
    ("pftrace", &["--format", "pftrace"]),
    ("native.pftrace.gz", &["--layers", "native-all"]),
    ("json", &["--format", "json"]),
];

#[test]
fn every_fixture_is_named() {
    // A capture that is added has to stand in the list, or nobody looks at what is made of it.
    let mut folders: Vec<String> = std::fs::read_dir(fixture(""))
        .expect("readable")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    folders.sort();
    let mut named: Vec<String> =
        captures().iter().map(|(name, _)| name.split('/').next().unwrap_or(name).to_owned()).collect();
    named.sort();
    named.dedup();
    assert_eq!(named, folders);
}

#[test]
fn the_trace_processor_has_no_complaint() {
    let scratch = Scratch::new();
    let mut looked_at = 0;
    for (name, inputs) in captures() {
        for (extension, more) in FORMATS {
            let output: PathBuf = scratch.path(&format!("o.{extension}"));
            let output_name = output.display().to_string();
            let mut args = vec!["convert", "-o", &output_name];
            args.extend(inputs.iter().map(String::as_str).chain(more.iter().copied()));
            succeeds(args);
            let sql = [COMPLAINTS, "SELECT COUNT(*) FROM stats WHERE severity IN ('error', 'data_loss')"];
            let Some(answers) = queries(&output, &sql) else { return };
            let remarked = REMARKED.iter().filter(|(of, format, _)| (*of, *format) == (name, extension));
            let expected: Vec<Vec<String>> = remarked.map(|(_, _, row)| row.map(str::to_owned).to_vec()).collect();
            assert_eq!(answers[0], expected, "{name}, {extension}");
            // The table that says so is there.
            assert!(answers[1][0][0].parse::<u64>().is_ok_and(|kinds| kinds > 50), "{answers:?}");
            looked_at += 1;
        }
    }
    assert_eq!(looked_at, captures().len() * FORMATS.len());
}
