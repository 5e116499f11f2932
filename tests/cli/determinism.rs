//! The same bytes for any number of threads, and any amount of memory.

use crate::run::{Scratch, fixture, succeeds};

fn same_for_all_thread_counts(capture: &str, name: &str, options: &[&str]) {
    let scratch = Scratch::new();
    let bytes = |threads: &str| {
        let out = scratch.text(name);
        let capture = fixture(capture);
        let args = ["--threads", threads, "convert", &capture, "--span", "all", "-o", &out];
        succeeds(args.iter().chain(options));
        std::fs::read(out).expect("an output")
    };
    let one = bytes("1");
    assert!(one.len() > 1_000_000);
    for threads in ["2", "5"] {
        assert!(bytes(threads) == one, "{threads} threads differ from one");
    }
}

#[test]
fn perfetto() {
    same_for_all_thread_counts("unstable", "o.pftrace", &[]);
}

#[test]
fn all_arrows() {
    same_for_all_thread_counts("arrows", "o.pftrace", &["--flows", "all"]);
}

#[test]
fn less_memory() {
    let scratch = Scratch::new();
    let bytes = |memory: &str| {
        let out = scratch.text("o.pftrace");
        succeeds(["convert", &fixture("agent"), "--span", "all", "--max-memory", memory, "-o", &out]);
        std::fs::read(out).expect("an output")
    };
    let usual = bytes("64M");
    assert!(usual.len() > 1_000_000);
    // A single chunk at a time.
    assert!(bytes("1M") == usual);
}

#[test]
fn chrome_json() {
    same_for_all_thread_counts("agent", "o.json", &[]);
}

#[test]
fn the_native_layer() {
    same_for_all_thread_counts("unstable", "o.pftrace", &["--layers", "overlay,native-all"]);
}

#[test]
fn functions_and_counters() {
    same_for_all_thread_counts("markers/host.dat", "o.pftrace", &["--layers", "overlay,native"]);
    same_for_all_thread_counts("markers/host.dat", "o.json", &[]);
}
