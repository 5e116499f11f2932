//! Damage is contained: truncation, flipped bits, zeros, swapped pages, absurd numbers.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kvm_timeline::capture::Endian;
use rayon::prelude::*;

use crate::cases;
use crate::outcome::{Outcome, directory, outcome};
use crate::recording::Recorder;
use crate::ring_pages::Layout;
use crate::trace_dat_writer::{Compression, ShiftLayout};
use crate::world::{Jumps, Plan, Random, World};

/// Bounded work: these files are some tens of KiB.
const MOST: Duration = Duration::from_secs(5);

/// A host's and a guest's file.
struct Pair {
    name: &'static str,
    host: Vec<u8>,
    guest: Vec<u8>,
    events: u64,
}

const SMALL: Layout = Layout { endian: Endian::Little, long_size: 8, sub_buffer: 1024 };

fn pairs() -> Vec<Pair> {
    let plan = Plan { vcpus: 2, cpus: 2, windows: 8, changes: 20, jumps: Jumps::StandStill, ..Plan::default() };
    let world = World::new(7, &plan);
    let recorder =
        Recorder { layout: SMALL, time_shift: Some(ShiftLayout::Fractions), tsc2nsec: true, ..Recorder::default() };
    let kinds = [
        ("v7, zstd", Recorder { compression: Compression::Zstd, ..recorder }),
        ("v7", Recorder { compression: Compression::None, ..recorder }),
        ("v6", Recorder { version: 6, compression: Compression::None, ..recorder }),
    ];
    let pairs = kinds.map(|(name, recorder)| {
        let (host, guest) = (recorder.host(&world), recorder.guest(&world.vms[0], 0, None));
        let place = directory(&[("host.dat", &host), ("guest.dat", &guest)]);
        let Outcome::Timeline(report) = outcome(place.path()) else { panic!("{name} is sound") };
        assert!(report.damaged.is_empty(), "{name}: {:?}", report.damaged);
        Pair { name, host, guest, events: report.events.read }
    });
    pairs.into()
}

/// What became of many cases.
#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    damaged: usize,
    refused: usize,
    /// Fewer or more events than in the sound file, and nobody says so.
    silent: usize,
    /// All events are there.
    unharmed: usize,
    /// One of those that are silent.
    which: Option<String>,
}

impl Tally {
    fn join(mut self, other: Self) -> Self {
        self.cases += other.cases;
        self.damaged += other.damaged;
        self.refused += other.refused;
        self.silent += other.silent;
        self.unharmed += other.unharmed;
        self.which = self.which.or(other.which);
        self
    }
}

/// Converts the pair with one of its files damaged.
fn case(pair: &Pair, host: bool, bytes: &[u8]) -> Tally {
    let place = match host {
        true => directory(&[("host.dat", bytes), ("guest.dat", &pair.guest)]),
        false => directory(&[("host.dat", &pair.host), ("guest.dat", bytes)]),
    };
    let started = Instant::now();
    let mut tally = Tally { cases: 1, ..Tally::default() };
    match outcome(place.path()) {
        Outcome::Refused(_) => tally.refused = 1,
        Outcome::Timeline(report) if !report.damaged.is_empty() => tally.damaged = 1,
        Outcome::Timeline(report) if report.events.read == pair.events => tally.unharmed = 1,
        Outcome::Timeline(report) => {
            tally.silent = 1;
            tally.which = Some(format!("{} host {host}, {} bytes: {:?}", pair.name, bytes.len(), report.events));
        }
    }
    assert!(started.elapsed() < MOST, "{:?}", started.elapsed());
    tally
}

/// Runs cases on all CPUs and prints what became of them.
fn all(what: &str, cases: Vec<(&Pair, bool, Vec<u8>)>) -> Tally {
    let run = |(pair, host, bytes): (&Pair, bool, Vec<u8>)| {
        let result = std::panic::catch_unwind(|| case(pair, host, &bytes));
        result.unwrap_or_else(|panic| {
            let kept = std::env::temp_dir().join("hostile-case.dat");
            let _ = fs::write(&kept, &bytes);
            let file = if host { "host" } else { "guest" };
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("{what}: {} with a damaged {file}, kept as {}\n", pair.name, kept.display()).as_bytes(),
            );
            std::panic::resume_unwind(panic)
        })
    };
    let tally = cases.into_par_iter().map(run).reduce(Tally::default, Tally::join);
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{what}: {tally:?}\n").as_bytes());
    tally
}

fn files(pairs: &[Pair]) -> impl Iterator<Item = (&Pair, bool, &[u8])> {
    pairs.iter().flat_map(|pair| [(pair, true, &pair.host[..]), (pair, false, &pair.guest[..])])
}

/// Where sections begin and end, whatever the version: at marks, at section headers, and at sub-buffers.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let mut places = vec![0, 3, 10, 12, 18];
    for mark in [&b"header_page\0"[..], b"header_event\0", b"options  \0", b"flyrecord\0", b"none\0", b"zstd\0"] {
        let found = bytes.windows(mark.len()).enumerate().filter(|(_, window)| *window == mark);
        places.extend(found.flat_map(|(at, _)| [at, at + mark.len()]));
    }
    // Version 7: headers of 16 bytes, each says how long its section is.
    let text = |at: usize| bytes[at..].iter().position(|&byte| byte == 0).map(|length| at + length + 1);
    if bytes[10] == b'7' {
        let mut at = text(18).and_then(text).expect("a compression") + 8;
        while let Some(header) = bytes.get(at..at + 16) {
            let size = u64::from_le_bytes(header[8..].try_into().expect("eight bytes")) as usize;
            places.extend([at, at + 16, at + 16 + size]);
            at += 16 + size;
        }
    }
    places.extend((0..bytes.len()).step_by(SMALL.sub_buffer));
    places.retain(|&place| place < bytes.len());
    places.sort_unstable();
    places.dedup();
    places
}

#[test]
fn files_that_were_cut() {
    let pairs = pairs();
    let mut list = Vec::new();
    for (pair, host, bytes) in files(&pairs) {
        for place in boundaries(bytes) {
            for near in [place.saturating_sub(1), place, place + 1] {
                list.push((pair, host, bytes[..near.min(bytes.len() - 1)].to_vec()));
            }
        }
    }
    let random = &mut Random::new(1);
    let files: Vec<_> = files(&pairs).collect();
    for _ in 0..cases(1000) {
        let (pair, host, bytes) = files[random.between(0, files.len() as u64 - 1) as usize];
        list.push((pair, host, bytes[..random.between(0, bytes.len() as u64 - 1) as usize].to_vec()));
    }
    let tally = all("cut", list);
    assert_eq!(tally.silent, 0, "events are gone and nobody says so");
    assert!(tally.damaged > 100 && tally.refused > 100, "{tally:?}");
}

#[test]
fn bits_that_were_flipped() {
    let pairs = pairs();
    let random = &mut Random::new(2);
    let files: Vec<_> = files(&pairs).collect();
    let list = (0..cases(300)).map(|_| {
        let (pair, host, bytes) = files[random.between(0, files.len() as u64 - 1) as usize];
        let mut bytes = bytes.to_vec();
        for _ in 0..random.log(1, 64) {
            // What describes the data is small, and stands at the beginning and at the end.
            let whole = bytes.len() as u64 - 1;
            let at = if random.chance(50) { random.between(0, whole) } else { random.log(1, whole) };
            bytes[at as usize] ^= 1 << random.between(0, 7);
        }
        (pair, host, bytes)
    });
    all("bits flipped", list.collect());
}

#[test]
fn ranges_of_zeros_and_ones() {
    let pairs = pairs();
    let random = &mut Random::new(3);
    let files: Vec<_> = files(&pairs).collect();
    let list = (0..cases(200)).map(|_| {
        let (pair, host, bytes) = files[random.between(0, files.len() as u64 - 1) as usize];
        let mut bytes = bytes.to_vec();
        let from = random.between(0, bytes.len() as u64 - 1) as usize;
        let to = bytes.len().min(from + random.log(1, 8192) as usize);
        bytes[from..to].fill(if random.chance(70) { 0 } else { 0xff });
        (pair, host, bytes)
    });
    all("zeroed", list.collect());
}

#[test]
fn pages_that_were_swapped() {
    let pairs = pairs();
    let random = &mut Random::new(4);
    let files: Vec<_> = files(&pairs).collect();
    let list = (0..cases(300)).map(|_| {
        let (pair, host, bytes) = files[random.between(0, files.len() as u64 - 1) as usize];
        let mut bytes = bytes.to_vec();
        let page = [SMALL.sub_buffer, 512][random.between(0, 1) as usize];
        let pages = (bytes.len() / page) as u64 - 1;
        let [a, b] = [random.between(0, pages) as usize * page, random.between(0, pages) as usize * page];
        for at in 0..page {
            bytes.swap(a + at, b + at);
        }
        (pair, host, bytes)
    });
    all("pages swapped", list.collect());
}

#[test]
fn absurd_numbers() {
    let pairs = pairs();
    let random = &mut Random::new(5);
    let files: Vec<_> = files(&pairs).collect();
    let list = (0..cases(300)).map(|_| {
        let (pair, host, bytes) = files[random.between(0, files.len() as u64 - 1) as usize];
        let mut bytes = bytes.to_vec();
        let number = [u64::MAX, 1 << 63, u64::from(u32::MAX), 1 << 31, 0, 1][random.between(0, 5) as usize];
        let size = [2, 4, 8][random.between(0, 2) as usize];
        // Sizes and counts stand at the boundaries.
        let near = boundaries(&bytes);
        let near = near[random.between(0, near.len() as u64 - 1) as usize] + random.between(0, 32) as usize;
        let at = near.min(bytes.len() - size);
        bytes[at..at + size].copy_from_slice(&number.to_le_bytes()[..size]);
        (pair, host, bytes)
    });
    all("absurd numbers", list.collect());
    // Whatever they claimed: the process never needed much.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    assert!(peak.is_none_or(|kib| kib < 1 << 20), "{peak:?} KiB");
}

/// Through the binary: nothing half-written, nothing left behind.
#[test]
fn a_damaged_capture_leaves_no_stray_output() {
    let pairs = pairs();
    let random = &mut Random::new(6);
    let files: Vec<_> = files(&pairs).collect();
    let (mut failed, mut done) = (0, 0);
    for number in 0..cases(20) {
        let (pair, host, bytes) = files[random.between(0, files.len() as u64 - 1) as usize];
        let mut bytes = bytes.to_vec();
        if number % 2 == 0 {
            bytes.truncate(random.between(0, bytes.len() as u64 - 1) as usize);
        } else {
            let at = random.between(0, bytes.len() as u64 - 1) as usize;
            let to = bytes.len().min(at + 300);
            bytes[at..to].fill(0xff);
        }
        let place = match host {
            true => directory(&[("host.dat", &bytes), ("guest.dat", &pair.guest)]),
            false => directory(&[("host.dat", &pair.host), ("guest.dat", &bytes)]),
        };
        let out = tempfile::tempdir().expect("a directory");
        let name = if number % 3 == 0 { "o.json" } else { "o.pftrace" };
        let run = std::process::Command::new(env!("CARGO_BIN_EXE_kvm-timeline"))
            .arg("convert")
            .arg(place.path())
            .arg("-o")
            .arg(out.path().join(name))
            .output()
            .expect("the binary starts");
        let stderr = String::from_utf8_lossy(&run.stderr);
        let names = listed(out.path());
        match run.status.code() {
            Some(1) => {
                assert!(stderr.contains("kvm-timeline: error["), "{stderr}");
                assert_eq!(names, Vec::<String>::new(), "{stderr}");
                failed += 1;
            }
            Some(0 | 3) => {
                assert_eq!(names, [name], "{stderr}");
                done += 1;
            }
            other => panic!("{other:?}: {stderr}"),
        }
        // The inputs' directory is as it was.
        assert_eq!(listed(place.path()), ["guest.dat", "host.dat"]);
    }
    assert!(failed > 0 && done > 0, "{failed} failed, {done} done");
}

fn listed(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("readable");
    let mut names: Vec<_> = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
