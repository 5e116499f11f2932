//! Inputs of every kind: copied tracefs trees, archives, manifests, and what `inspect` says of them.

use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::path::Path;

use serde_json::Value;

use crate::run::{Done, Scratch, fixture, json, kvm_timeline, succeeds};

/// (verdict, inside, checked, VM names) of an audit.
fn audit(report: &Value) -> (String, u64, u64, Vec<String>) {
    let vms = report["vms"].as_array().expect("vms");
    let sum = |key: &str| {
        let vcpus = vms.iter().flat_map(|vm| vm["vcpus"].as_array().expect("vcpus"));
        vcpus.map(|v| v[key].as_u64().expect("a count")).sum()
    };
    let names = vms.iter().map(|vm| vm["name"].as_str().expect("a name").to_owned()).collect();
    (report["verdict"].as_str().unwrap_or("none").to_owned(), sum("inside"), sum("checked"), names)
}

fn proved(path: &str, events: u64) {
    let report = json(["check", "--json", path]);
    assert_eq!(audit(&report), ("proved".to_owned(), events, events, vec!["a".to_owned()]), "{report:#}");
}

const UNSTABLE: [&str; 3] = ["guest-a.dat", "host.dat", "pids.txt"];
const UNSTABLE_EVENTS: u64 = 24_647;
const TEXT_EVENTS: u64 = 57_064;

fn read(path: impl AsRef<Path>) -> Vec<u8> {
    fs::read(path.as_ref()).expect("readable")
}

fn unstable(name: &str) -> Vec<u8> {
    read(fixture(&format!("unstable/{name}")))
}

fn tar_of_unstable() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for name in UNSTABLE {
        let path = format!("recordings/{name}");
        let mut header = tar::Header::new_gnu();
        let bytes = unstable(name);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, &bytes[..]).expect("written");
    }
    builder.into_inner().expect("finished")
}

fn zip_of_unstable() -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, method) in UNSTABLE.into_iter().zip([
        zip::CompressionMethod::Deflated,
        zip::CompressionMethod::Stored,
        zip::CompressionMethod::Stored,
    ]) {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        writer.start_file(name, options).expect("started");
        writer.write_all(&unstable(name)).expect("written");
    }
    writer.finish().expect("finished").into_inner()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("finished")
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("finished")
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("compressed")
}

/// The archive of copied tracefs trees, unpacked as a user would do it.
fn unpack_text(to: &Path) {
    let file = File::open(fixture("text/text.tar.xz")).expect("opened");
    tar::Archive::new(lzma_rust2::XzReader::new(file, true)).unpack(to).expect("unpacked");
}

#[test]
fn a_copied_tracefs_is_proved() {
    // Packed, and as directories.
    proved(&fixture("text"), TEXT_EVENTS);
    let scratch = Scratch::new();
    unpack_text(&scratch.path("set"));
    proved(&scratch.text("set"), TEXT_EVENTS);
    // Each directory by itself, named; the text of the instance comes along.
    let (host, guest) = (scratch.text("set/host"), format!("web={}", scratch.text("set/guest-a")));
    let report = json(["check", "--json", "--host", &host, "--guest", &guest]);
    assert_eq!(audit(&report), ("proved".to_owned(), TEXT_EVENTS, TEXT_EVENTS, vec!["web".to_owned()]));
    // Without the instance nothing recorded tells the offsets of this host: they are inferred.
    fs::remove_dir_all(scratch.path("set/host/instances")).expect("removed");
    let host_writes = json(["inspect", "--json", &scratch.text("set")]);
    assert_eq!(host_writes["inputs"][1]["path"], scratch.text("set/host"));
    assert!(host_writes["inputs"].as_array().expect("inputs").len() == 2);
}

#[test]
fn a_tracefs_by_its_text_where_there_are_no_sub_buffers() {
    let scratch = Scratch::new();
    unpack_text(&scratch.path("set"));
    fs::remove_dir_all(scratch.path("set/guest-a/per_cpu")).expect("removed");
    let found = json(["inspect", "--json", &scratch.text("set")]);
    assert_eq!(found["inputs"][0]["kind"], "copied tracefs, text");
    assert_eq!(found["inputs"][0]["vm"], "a");
    // The fixture's text is 200 lines, of which 12 are the heading.
    assert_eq!(found["inputs"][0]["buffers"][0]["events"], 188);
}

#[test]
fn sub_buffers_that_nobody_can_read_are_refused() {
    let scratch = Scratch::new();
    unpack_text(&scratch.path("set"));
    fs::remove_dir_all(scratch.path("set/host/events")).expect("removed");
    let done = kvm_timeline(["check", &scratch.text("set")]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("set/host: the sub-buffers have no descriptions of their events"), "{}", done.stderr);
    assert!(done.stderr.contains("hint: copy them too"), "{}", done.stderr);
}

#[test]
fn archives_of_every_kind() {
    let scratch = Scratch::new();
    let tar = tar_of_unstable();
    let archives = [
        ("a.tar", tar.clone()),
        ("a.tar.gz", gzip(&tar)),
        ("a.tar.zst", zstd_of(&tar)),
        ("a.tbz2", bzip2(&tar)),
        // The name says nothing: contents do.
        ("a.bin", zip_of_unstable()),
    ];
    for (name, bytes) in archives {
        fs::write(scratch.path(name), bytes).expect("written");
        proved(&scratch.text(name), UNSTABLE_EVENTS);
    }
}

#[test]
fn single_compressed_files() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("set")).expect("created");
    fs::write(scratch.path("set/host.dat.zst"), zstd_of(&unstable("host.dat"))).expect("written");
    fs::write(scratch.path("set/guest-a.dat.gz"), gzip(&unstable("guest-a.dat"))).expect("written");
    fs::write(scratch.path("set/pids.txt.bz2"), bzip2(&unstable("pids.txt"))).expect("written");
    proved(&scratch.text("set"), UNSTABLE_EVENTS);
    let guest = format!("a={}", scratch.text("set/guest-a.dat.gz"));
    let report = json(["check", "--json", "--host", &scratch.text("set/host.dat.zst"), "--guest", &guest]);
    assert_eq!(audit(&report).0, "proved");
    let found = json(["inspect", "--json", &scratch.text("set")]);
    assert_eq!(found["vms"][0]["pid"], 198, "pids.txt.bz2 is read");
}

#[test]
fn an_archive_per_machine() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("set")).expect("created");
    for name in ["host", "guest-a"] {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        let bytes = unstable(&format!("{name}.dat"));
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, "trace.dat", &bytes[..]).expect("written");
        let tar = builder.into_inner().expect("finished");
        fs::write(scratch.path(&format!("set/{name}.tar.gz")), gzip(&tar)).expect("written");
    }
    // The VM's name is that of the archive.
    proved(&scratch.text("set"), UNSTABLE_EVENTS);
}

#[test]
fn too_much_in_an_archive() {
    let scratch = Scratch::new();
    fs::write(scratch.path("a.tar.gz"), gzip(&tar_of_unstable())).expect("written");
    let done = kvm_timeline(["check", "--max-unpacked", "1M", &scratch.text("a.tar.gz")]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("a.tar.gz: unpacks to more than 1 MiB"), "{}", done.stderr);
    assert!(done.stderr.contains("--max-unpacked 64G"), "{}", done.stderr);
    assert_eq!(kvm_timeline(["check", "--max-unpacked", "1X", "a"]).code, 2);
}

#[test]
fn an_archive_that_was_cut_short() {
    let scratch = Scratch::new();
    let whole = gzip(&tar_of_unstable());
    fs::write(scratch.path("a.tar.gz"), &whole[..whole.len() / 2]).expect("written");
    let done = kvm_timeline(["check", &scratch.text("a.tar.gz")]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("a.tar.gz: is a gzip file that was cut short"), "{}", done.stderr);
}

#[test]
fn nothing_is_written_where_an_archive_says() {
    let scratch = Scratch::new();
    let mut builder = tar::Builder::new(Vec::new());
    let target = scratch.path("planted");
    let host = unstable("host.dat");
    for name in ["../planted".to_owned(), target.display().to_string()] {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(host.len() as u64);
        header.set_cksum();
        builder.append(&header, &host[..]).expect("written");
    }
    fs::create_dir(scratch.path("in")).expect("created");
    fs::write(scratch.path("in/a.tar"), builder.into_inner().expect("finished")).expect("written");
    let done = kvm_timeline(["inspect", &scratch.text("in/a.tar")]);
    assert_eq!(done.code, 1, "{}", done.stdout);
    assert!(done.stderr.contains("its name leaves the archive"), "{}", done.stderr);
    assert!(!target.exists());
    assert_eq!(scratch.names(), ["in"]);
}

#[test]
fn look_alikes() {
    let scratch = Scratch::new();
    let refused = |name: &str, bytes: &[u8], expected: &str| {
        fs::write(scratch.path(name), bytes).expect("written");
        let done: Done = kvm_timeline(["check", &scratch.text(name)]);
        assert_eq!(done.code, 1, "{}", done.stderr);
        assert!(done.stderr.contains(&format!("{name}: {expected}")), "{}", done.stderr);
        assert!(done.stderr.contains("hint: "), "{}", done.stderr);
    };
    refused("trace.dat.cpu3", &[0; 4096], "is one CPU's part of a recording that was not completed");
    refused("perf.data", b"PERFILE2________", "at byte 0x8: a file header of 6872316419617283935 bytes, expected 104");
    refused("a.7z", b"7z\xbc\xaf\x27\x1c____", "is a 7z archive");
    refused("notes", b"just words\n", "is no capture");
    // Each begins as an archive of its kind.
    refused("a.gz", b"\x1f\x8b\x08\x00garbagegarbagegarbage", "is a damaged gzip file");
    refused("a.zst", b"\x28\xb5\x2f\xfdgarbagegarbage", "is a damaged zstd file");
    refused("a.xz", b"\xfd7zXZ\x00garbagegarbage", "is a damaged xz file");
    refused("a.zip", b"PK\x03\x04garbagegarbagegarbagegarbage", "is a damaged zip file");
    refused("a.bz2", b"BZh9garbagegarbage", "is no capture: it starts with \"BZh9garb\"");
    refused("a.bz2", b"BZh91AY&SYgarbagegarbagegarbage", "is a damaged bzip2 file");
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    refused("a.tar", &tar, "is no capture");
    // A directory as tracefs has it, without what describes events.
    fs::create_dir_all(scratch.path("tracing/events/sched")).expect("created");
    fs::create_dir_all(scratch.path("tracing/per_cpu/cpu0")).expect("created");
    fs::write(scratch.path("tracing/per_cpu/cpu0/trace_pipe_raw"), [0; 4096]).expect("written");
    let done = kvm_timeline(["check", &scratch.text("tracing")]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("tracing: ") && done.stderr.contains("hint: "), "{}", done.stderr);
    // A text that merges several recordings names them.
    let merged = fixture("agent/merged.txt.gz");
    let done = kvm_timeline(["check", &merged]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("merged events of several recordings (host-a.dat, host.dat)"), "{}", done.stderr);
}

#[test]
fn a_report_beside_its_captures_is_left_out() {
    let found = json(["inspect", "--json", &fixture("agent")]);
    assert_eq!(found["inputs"].as_array().expect("inputs").len(), 2);
    let left = found["left_out"].as_array().expect("a list");
    let merged = left.iter().find(|l| l["path"].as_str().is_some_and(|p| p.ends_with("merged.txt.gz"))).expect("there");
    assert!(merged["why"].as_str().expect("words").starts_with("a report of trace-cmd"), "{merged}");
}

#[test]
fn inspect_says_who_is_who() {
    let found = json(["inspect", "--json", &fixture("two-vm")]);
    let roles: Vec<_> = found["inputs"].as_array().expect("inputs").iter().map(|i| (&i["role"], &i["vm"])).collect();
    assert_eq!(roles, [(&"guest".into(), &"a".into()), (&"guest".into(), &"b".into()), (&"host".into(), &Value::Null)]);
    // The capture's README.
    assert_eq!(found["inputs"][0]["buffers"][0]["events"], 37_468);
    assert_eq!(found["inputs"][0]["buffers"][0]["clock"], "x86-tsc");
    assert_eq!(found["vms"][0]["pid"], 197);
    assert_eq!(found["vms"][1]["pid"], 210);
    assert_eq!(found["vms"][1]["vcpus"].as_array().expect("vcpus").len(), 2);
    assert_eq!(found["problem"], Value::Null);
    let words = succeeds(["inspect", &fixture("two-vm")]).stdout;
    assert!(words.contains("VM a, process 197, 2 vCPUs"), "{words}");
}

#[test]
fn inspect_says_what_is_missing() {
    // Clocks, losses, and a guest without a host: facts of the captures' READMEs.
    let missing = |path: &str| {
        let done = kvm_timeline(["inspect", "--json", path]);
        let found: Value = serde_json::from_str(&done.stdout).expect("JSON");
        let all = found["missing"].as_array().expect("a list").iter();
        all.map(|m| m["what"].as_str().expect("words").to_owned()).collect::<Vec<_>>().join("\n")
    };
    assert!(
        missing(&fixture("kvmclock")).contains("the guest used the clock mono"),
        "{}",
        missing(&fixture("kvmclock"))
    );
    let overwritten = missing(&fixture("overwritten"));
    assert!(overwritten.contains("events were lost (121339 by the kernel's counters"), "{overwritten}");
    let guest = missing(&fixture("two-vm/guest-a.dat"));
    assert!(guest.contains("the host recorded no kvm_entry"), "{guest}");
}

#[test]
fn inspect_shows_what_cannot_be_merged() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("guests")).expect("created");
    for name in ["guest-a.dat", "guest-b.dat"] {
        fs::copy(fixture(&format!("two-vm/{name}")), scratch.path(&format!("guests/{name}"))).expect("copied");
    }
    let done = kvm_timeline(["inspect", &scratch.text("guests")]);
    assert_eq!(done.code, 1);
    assert!(done.stdout.contains("guest-a.dat: role unknown, trace.dat version 7"), "{}", done.stdout);
    assert!(done.stdout.contains("cannot be merged: none of guest-a.dat, guest-b.dat is a host's"), "{}", done.stdout);
}

/// A copy of fixtures/unstable.
fn copy_unstable(scratch: &Scratch) -> String {
    fs::create_dir(scratch.path("set")).expect("created");
    for name in UNSTABLE {
        fs::write(scratch.path(&format!("set/{name}")), unstable(name)).expect("written");
    }
    scratch.text("set")
}

#[test]
fn a_written_manifest_changes_nothing() {
    let scratch = Scratch::new();
    let set = copy_unstable(&scratch);
    let before = json(["check", "--json", &set]);
    succeeds(["inspect", "--write-manifest", &set]);
    let mut text = String::new();
    File::open(scratch.path("set/capture.toml")).expect("opened").read_to_string(&mut text).expect("read");
    assert!(text.contains("path = \"host.dat\"\nrole = \"host\"") && text.contains("pid = 198"), "{text}");
    assert_eq!(json(["check", "--json", &set]), before);
    // The manifest itself stands for its directory.
    assert_eq!(json(["check", "--json", &scratch.text("set/capture.toml")]), before);
    // It is never overwritten.
    let done = kvm_timeline(["inspect", "--write-manifest", &set]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("capture.toml: exists, and is not overwritten"), "{}", done.stderr);
}

#[test]
fn a_manifest_of_copied_tracefs_trees() {
    let scratch = Scratch::new();
    unpack_text(&scratch.path("set"));
    let set = scratch.text("set");
    succeeds(["inspect", "--write-manifest", &set]);
    proved(&set, TEXT_EVENTS);
}

#[test]
fn a_manifest_wins_over_names_and_flags_over_a_manifest() {
    let scratch = Scratch::new();
    let set = copy_unstable(&scratch);
    let write = |text: &str| fs::write(scratch.path("set/capture.toml"), text).expect("written");
    write("[[file]]\npath = \"guest-a.dat\"\nrole = \"guest\"\nvm = \"db\"\n");
    assert_eq!(audit(&json(["check", "--json", &set])).3, ["db"]);
    let flag = format!("web={}/guest-a.dat", set);
    assert_eq!(audit(&json(["check", "--json", &set, "--guest", &flag])).3, ["web"]);
    // A wrong offset from a manifest is used, and said to contradict the recording.
    write("[[vm]]\nname = \"a\"\noffsets = [5, 5]\n");
    let done = kvm_timeline(["check", &set]);
    assert_eq!(done.code, 1, "{}", done.stdout);
    assert!(done.stdout.contains("offset") && done.stdout.contains("wrong"), "{}", done.stdout);
    write("[[file]]\npath = \"guest-a.dat\"\nrole = \"ignore\"\n");
    assert_eq!(json(["inspect", "--json", &set])["vms"][0]["has_capture"], false);
}

#[test]
fn contradictions_and_mistakes_in_a_manifest() {
    let scratch = Scratch::new();
    let set = copy_unstable(&scratch);
    let write = |text: &str| fs::write(scratch.path("set/capture.toml"), text).expect("written");
    write("tsc_hz = 1000000000\n[[vm]]\nname = \"a\"\npid = 150\n");
    let done = kvm_timeline(["inspect", &set]);
    assert!(done.stderr.contains("capture.toml: line 3: VM a is said to be process 150"), "{}", done.stderr);
    assert!(done.stderr.contains("a file beside it says 198"), "{}", done.stderr);
    let fails = |text: &str, expected: &str| {
        write(text);
        let done = kvm_timeline(["check", &set]);
        assert_eq!(done.code, 1, "{}", done.stderr);
        assert!(done.stderr.contains(expected), "{}", done.stderr);
    };
    fails("\n[[file]]\npath = \"none.dat\"\nrole = \"host\"\n", "capture.toml: line 3: there is no file \"none.dat\"");
    fails("[[file]]\npath = \"host.dat\"\nrole = \"hots\"\n", "capture.toml: line 3: unknown variant `hots`");
    fails("tsc = 5\n", "capture.toml: line 1: unknown field `tsc`");
}
