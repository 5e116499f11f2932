//! Bad input: one clear sentence, a hint, the right exit code, and no output file.

use std::fs;

use crate::run::{Done, Scratch, fixture, kvm_timeline};

fn convert(capture: &str, scratch: &Scratch) -> Done {
    kvm_timeline(["convert", capture, "-o", &scratch.text("o.pftrace")])
}

/// The run failed with this sentence and left nothing behind.
fn refused(done: &Done, scratch: &Scratch, expected: &str) {
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains(expected), "{}", done.stderr);
    assert!(done.stderr.contains("hint: "), "{}", done.stderr);
    assert!(!scratch.names().iter().any(|n| n.ends_with(".pftrace") || n.starts_with('.')), "{:?}", scratch.names());
}

#[test]
fn not_a_capture() {
    let scratch = Scratch::new();
    fs::write(scratch.path("notes.md"), "# notes\n").expect("written");
    refused(&convert(&scratch.text("notes.md"), &scratch), &scratch, "notes.md: ");
}

#[test]
fn an_empty_directory() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("empty")).expect("created");
    refused(&convert(&scratch.text("empty"), &scratch), &scratch, "empty: no capture in this directory");
}

#[test]
fn a_file_that_is_not_there() {
    let scratch = Scratch::new();
    let done = convert(&scratch.text("none.dat"), &scratch);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("none.dat: cannot open: No such file"), "{}", done.stderr);
}

/// `two-vm` with the first `len` bytes of guest a's file, written to `o.pftrace`.
fn with_cut_guest(scratch: &Scratch, len: usize) -> crate::run::Done {
    let dir = scratch.path("cut");
    fs::create_dir(&dir).expect("created");
    fs::copy(fixture("two-vm/host.dat"), dir.join("host.dat")).expect("copied");
    fs::copy(fixture("two-vm/guest-b.dat"), dir.join("guest-b.dat")).expect("copied");
    let whole = fs::read(fixture("two-vm/guest-a.dat")).expect("read");
    fs::write(dir.join("guest-a.dat"), &whole[..len]).expect("written");
    let done = convert(&dir.display().to_string(), scratch);
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("44397 of 44397 guest events inside"), "{}", done.stderr);
    assert!(scratch.path("o.pftrace").exists());
    done
}

#[test]
fn a_guest_cut_before_its_events_leaves_the_rest() {
    let scratch = Scratch::new();
    // The event data's section begins at byte 0xcd87d.
    let done = with_cut_guest(&scratch, 0xcd88d);
    assert!(done.stderr.contains("guest-a.dat: holds no event"), "{}", done.stderr);
}

#[test]
fn a_guest_cut_within_its_events_keeps_those_before() {
    let scratch = Scratch::new();
    // What says where a CPU's data lies stands behind the data.
    let done = with_cut_guest(&scratch, 0x105_000);
    assert!(done.stderr.contains("guest-a.dat: the top buffer: the table"), "{}", done.stderr);
    assert!(done.stderr.contains("VM a, process 197, 2 vCPUs: 28"), "{}", done.stderr);
    assert!(done.stderr.contains("(100.000 %)"), "{}", done.stderr);
}

#[test]
fn two_guests_and_no_host() {
    let scratch = Scratch::new();
    let dir = scratch.path("guests");
    fs::create_dir(&dir).expect("created");
    for name in ["guest-a.dat", "guest-b.dat"] {
        fs::copy(fixture("two-vm").to_owned() + "/" + name, dir.join(name)).expect("copied");
    }
    refused(&convert(&dir.display().to_string(), &scratch), &scratch, "no kvm_entry or kvm_exit events");
}

#[test]
fn a_guest_without_any_evidence() {
    // The host of one capture, a guest of another.
    let scratch = Scratch::new();
    let guest = format!("x={}", fixture("unstable/guest-a.dat"));
    let out = scratch.text("o.pftrace");
    let done = kvm_timeline(["convert", "--host", &fixture("two-vm/host.dat"), "--guest", &guest, "-o", &out]);
    refused(&done, &scratch, "guest-a.dat: the guest's events fit no VM's run windows");
    assert!(done.stderr.contains("threads=A:B"), "{}", done.stderr);
}

#[test]
fn an_output_that_cannot_be_written() {
    let done = kvm_timeline(["convert", &fixture("two-vm"), "-o", "/nonexistent/dir/o.pftrace"]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("/nonexistent/dir/o.pftrace: cannot create the output"), "{}", done.stderr);
}

#[test]
fn wrong_usage_is_2() {
    assert_eq!(kvm_timeline(["convert"]).code, 2);
    assert_eq!(kvm_timeline(["convert", &fixture("two-vm")]).code, 2);
    assert_eq!(kvm_timeline(["convert", "-o", "x.pftrace", "--guest", "nofile", "d"]).code, 2);
    assert_eq!(kvm_timeline(["no-such-command"]).code, 2);
    assert_eq!(kvm_timeline(["--help"]).code, 0);
    assert_eq!(kvm_timeline(["--version"]).code, 0);
}

#[test]
fn damage_is_3_for_every_subcommand() {
    let scratch = Scratch::new();
    let dir = scratch.path("damaged");
    fs::create_dir(&dir).expect("created");
    fs::copy(fixture("unstable/guest-a.dat"), dir.join("guest-a.dat")).expect("copied");
    // In the event data, behind the metadata.
    let mut host = fs::read(fixture("unstable/host.dat")).expect("read");
    let place = host.len() - 200_000;
    host[place..place + 64].fill(0xff);
    fs::write(dir.join("host.dat"), &host).expect("written");
    let dir = dir.display().to_string();
    let out = scratch.text("o.pftrace");
    for args in [
        vec!["convert", &dir, "-o", &out],
        vec!["check", "--require", "wrong", &dir],
        vec!["offsets", &dir],
        vec!["stats", &dir],
        vec!["print", &dir],
        vec!["inspect", &dir],
    ] {
        let done = kvm_timeline(&args);
        assert_eq!(done.code, 3, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains("host.dat: CPU "), "{args:?}: {}", done.stderr);
    }
}

#[test]
fn an_input_is_never_overwritten() {
    let scratch = Scratch::new();
    let copy = scratch.text("host.dat");
    fs::copy(fixture("agent/host.dat"), &copy).expect("copied");
    std::os::unix::fs::symlink(&copy, scratch.path("link.pftrace")).expect("linked");
    let (link, report, out) = (scratch.text("link.pftrace"), copy.clone(), scratch.text("o.pftrace"));
    for args in [
        vec!["convert", &copy, "--format", "pftrace", "-o", &copy],
        vec!["convert", &copy, "-o", &link],
        vec!["convert", &copy, "-o", &out, "--report", &report],
        vec!["stats", &copy, "--parquet", &copy],
    ] {
        let done = kvm_timeline(args.clone());
        assert_eq!(done.code, 2, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains("is an input, and would be overwritten"), "{}", done.stderr);
    }
    assert!(fs::read(&copy).expect("there") == fs::read(fixture("agent/host.dat")).expect("there"));
    assert!(!scratch.path("o.pftrace").exists());
}
