//! A fleet's archive of captures, made of small made-up worlds and a few fixtures.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::recording::Recorder;
use super::ring_pages::Layout;
use super::trace_dat_writer::{Compression, ShiftLayout};
use super::world::{Plan, World};
use crate::run::fixture;

/// The captures of [`fleet`] by the path of their output without extension.
pub(super) fn expected() -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for rack in 1..=4 {
        names.extend((1..=5).map(|host| format!("rack{rack}/host{host}")));
    }
    names.extend((1..=6).map(|host| format!("flat/h{host}")));
    names.extend(["ids/one", "ids/two", "split/s1", "split/s2"].map(str::to_owned));
    names.extend((1..=6).map(|n| format!("archives/a{n}")));
    names.extend(["perf/software", "perf/zstd", "mixed/sched", "mixed/zstd"].map(|n| format!("formats/{n}")));
    names.extend(DAMAGED.iter().chain(&FAILED).map(|n| (*n).to_owned()));
    names.sort();
    names
}

/// What is converted, but not whole.
pub(super) const DAMAGED: [&str; 2] = ["bad/cut1", "bad/cut2"];
/// What cannot be converted.
pub(super) const FAILED: [&str; 3] = ["bad/archive", "bad/header", "bad/two-hosts"];

/// A small capture: seed and form of everything.
pub(super) fn record(directory: &Path, seed: u64) {
    fs::create_dir_all(directory).expect("made");
    world_of(seed).1.record(&world_of(seed).0, directory);
}

fn world_of(seed: u64) -> (World, Recorder) {
    let windows = 20 + (seed as usize * 7) % 30;
    // Of two VMs that ran for so short a time it is mostly, and not always, clear which is which.
    let vms = if seed < 10 && seed % 2 == 1 { 2 } else { 1 };
    let plan = Plan { vms, vcpus: 1, windows, changes: 5, ..Plan::default() };
    let version = if seed.is_multiple_of(3) { 6 } else { 7 };
    let compression = match seed % 3 {
        0 => Compression::None,
        1 => Compression::Zstd,
        _ => Compression::Zlib,
    };
    (World::new(seed, &plan), Recorder { version, compression, ..Recorder::default() })
}

/// Fills `root` with 45 captures and with what is none.
pub(super) fn fleet(root: &Path) {
    let mut seed = 0;
    let mut next = || {
        seed += 1;
        seed
    };
    for rack in 1..=4 {
        for host in 1..=5 {
            record(&root.join(format!("rack{rack}/host{host}")), next());
        }
    }
    // Many hosts' files in one directory, as trace-cmd names them.
    for host in 1..=6 {
        let scratch = tempfile::tempdir().expect("made");
        record(scratch.path(), next());
        let flat = root.join("flat");
        fs::create_dir_all(&flat).expect("made");
        for (name, bytes) in files(scratch.path()) {
            let name = name.replace("guest-", "h-").replacen("host", "h", 1).replacen('h', &format!("h{host}"), 1);
            fs::write(flat.join(name), bytes).expect("written");
        }
    }
    by_ids(&root.join("ids"), next());
    for n in 1..=2 {
        let scratch = tempfile::tempdir().expect("made");
        record(scratch.path(), next());
        for (name, bytes) in files(scratch.path()) {
            let part = root.join(format!("split/s{n}")).join(name.trim_end_matches(".dat"));
            fs::create_dir_all(&part).expect("made");
            fs::write(part.join("trace.dat"), bytes).expect("written");
        }
    }
    for (n, end) in (1..=6).zip(["tar", "tar.gz", "tar.zst", "tgz", "tar", "zip"]) {
        let scratch = tempfile::tempdir().expect("made");
        record(&scratch.path().join("inside"), next());
        let to = root.join(format!("archives/a{n}.{end}"));
        fs::create_dir_all(to.parent().expect("a parent")).expect("made");
        fs::write(to, pack(scratch.path(), end)).expect("written");
    }
    for name in ["software", "zstd"] {
        // Each in its own directory, and one of them alone beside notes.
        let to = root.join("formats/perf").join(name);
        fs::create_dir_all(&to).expect("made");
        fs::copy(fixture(&format!("perf/{name}.data")), to.join(format!("{name}.data"))).expect("copied");
        fs::write(to.join("notes.txt"), "the second try\n").expect("written");
    }
    // Recordings of no host, which have nothing to do with each other.
    fs::create_dir_all(root.join("formats/mixed")).expect("made");
    for name in ["sched", "zstd"] {
        fs::copy(fixture(&format!("perf/{name}.data")), root.join(format!("formats/mixed/{name}.data")))
            .expect("copied");
    }
    damaged(&root.join("bad"), next());
    // None of these is a capture.
    fs::write(root.join("README.md"), "# A fleet\n").expect("written");
    record(&root.join(".trash/old"), 1);
    fs::create_dir_all(root.join("empty/below")).expect("made");
}

/// Two hosts whose names say nothing: trace ids do.
fn by_ids(to: &Path, seed: u64) {
    fs::create_dir_all(to).expect("made");
    let plan = Plan { vcpus: 1, windows: 30, ..Plan::default() };
    let recorder = Recorder {
        version: 6,
        compression: Compression::None,
        layout: Layout::X86_64,
        time_shift: Some(ShiftLayout::Fractions),
        ..Recorder::default()
    };
    for (nth, (host, guest)) in [("one.dat", "db.dat"), ("two.dat", "web.dat")].into_iter().enumerate() {
        let world = World::new(seed * 100 + nth as u64, &plan);
        let ids = [(0x4051_u64, 0x0123_4567_0001_u64 + nth as u64), (0xa000, 0x0123_4567_1001 + nth as u64)];
        let renamed = |mut bytes: Vec<u8>| {
            for (from, to) in ids {
                let (from, to) = (from.to_le_bytes(), to.to_le_bytes());
                let places: Vec<usize> = (0..bytes.len() - 7).filter(|&at| bytes[at..at + 8] == from).collect();
                places.into_iter().for_each(|at| bytes[at..at + 8].copy_from_slice(&to));
            }
            bytes
        };
        fs::write(to.join(host), renamed(recorder.host(&world))).expect("written");
        fs::write(to.join(guest), renamed(recorder.guest(&world.vms[0], 0, None))).expect("written");
    }
}

fn damaged(bad: &Path, seed: u64) {
    for n in 1..=2 {
        let to = bad.join(format!("cut{n}"));
        record(&to, 3 * (seed + n));
        let host = to.join("host.dat");
        let bytes = fs::read(&host).expect("read");
        fs::write(&host, &bytes[..bytes.len() - 5000]).expect("written");
    }
    record(&bad.join("header"), seed);
    let host = bad.join("header/host.dat");
    fs::write(&host, &fs::read(&host).expect("read")[..300]).expect("written");
    record(&bad.join("two-hosts"), seed);
    let host = bad.join("two-hosts/host.dat");
    // Which of the two is the host, and whose the guest is, nobody can tell.
    let other = Recorder { version: 6, compression: Compression::None, ..Recorder::default() };
    let mut bytes = other.host(&World::new(77, &Plan { vcpus: 1, windows: 20, ..Plan::default() }));
    let at = bytes.windows(5).position(|w| w == b"metal").expect("a node name");
    bytes[at..at + 5].copy_from_slice(b"other");
    fs::write(bad.join("two-hosts/other.dat"), bytes).expect("written");
    let mut archive = pack(&bad.join("two-hosts"), "tar.gz");
    archive.truncate(archive.len() / 2);
    fs::write(bad.join("archive.tar.gz"), archive).expect("written");
    assert!(host.exists());
}

fn pack(directory: &Path, end: &str) -> Vec<u8> {
    if end == "zip" {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in files(directory) {
            zip.start_file(name, zip::write::SimpleFileOptions::default()).expect("begun");
            std::io::Write::write_all(&mut zip, &bytes).expect("written");
        }
        return zip.finish().expect("finished").into_inner();
    }
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files(directory) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &*bytes).expect("appended");
    }
    let bytes = tar.into_inner().expect("finished");
    match end {
        "tar" => bytes,
        "tar.zst" => zstd::encode_all(&*bytes, 1).expect("compressed"),
        _ => {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut gz, &bytes).expect("written");
            gz.finish().expect("finished")
        }
    }
}

/// All files below a directory, by their paths in it, sorted.
pub(super) fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut files, mut left) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(below) = left.pop() {
        for entry in fs::read_dir(directory.join(&below)).into_iter().flatten() {
            let entry = entry.expect("an entry");
            let path = below.join(entry.file_name());
            if entry.file_type().expect("a type").is_dir() {
                left.push(path);
            } else {
                // Somebody may be about to rename it.
                let Ok(bytes) = fs::read(entry.path()) else { continue };
                files.insert(path.display().to_string(), bytes);
            }
        }
    }
    files
}

/// The outputs at a destination, without what a batch keeps for itself.
pub(super) fn outputs(destination: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(destination);
    files.retain(|name, _| !name.starts_with(".kvm-timeline/"));
    files
}

/// What a batch keeps in one of its own directories.
pub(super) fn kept(destination: &Path, what: &str) -> Vec<String> {
    files(&destination.join(".kvm-timeline").join(what)).into_keys().collect()
}
