//! Every input that a fuzz target ever failed on, through the function that the target calls.
//!
//! `KVM_TIMELINE_CORPUS=DIRECTORY` runs a fuzzer's corpus as well, a directory per target: `fuzz/coverage` does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::exercise::TARGETS;

/// Far more than any of them takes, in a debug build on a busy machine.
const MOST: Duration = Duration::from_secs(30);

#[test]
fn what_failed_once_fails_no_more() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hostile");
    let more = std::env::var_os("KVM_TIMELINE_CORPUS").unwrap_or_default();
    let more: Vec<PathBuf> = std::env::split_paths(&more).collect();
    let mut inputs = 0;
    for (target, run) in TARGETS {
        let lists = more.iter().chain([&directory]).filter_map(|directory| fs::read_dir(directory.join(target)).ok());
        for entry in lists.flatten() {
            let path = entry.expect("an entry").path();
            let bytes = fs::read(&path).expect("readable");
            let started = Instant::now();
            // Which input it was is what one wants to know first.
            let failed = std::panic::catch_unwind(|| run(&bytes)).is_err();
            assert!(!failed, "{} fails", path.display());
            assert!(started.elapsed() < MOST, "{} takes {:?}", path.display(), started.elapsed());
            inputs += 1;
        }
    }
    assert!(inputs > 0, "no inputs in {}", directory.display());
}

/// A directory of inputs that no target reads would be silence.
#[test]
fn every_directory_is_a_targets() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hostile");
    for entry in fs::read_dir(directory).expect("the inputs") {
        let name = entry.expect("an entry").file_name();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "{name:?} is no target");
    }
}
