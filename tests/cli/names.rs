//! Names in a capture are anybody's text: they neither break JSON nor reach a terminal raw, whichever command prints them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use kvm_timeline::capture::Endian;
use serde_json::Value;

use crate::batch::ring_pages::{Layout, PageBuilder};
use crate::batch::trace_dat_writer::{Field, Payload, TraceDat, format_text_with};
use crate::run::Scratch;
use crate::trace_processor::{COMPLAINTS, queries};

const LAYOUT: Layout = Layout { endian: Endian::Little, ..Layout::X86_64 };
/// What a terminal would do with it: set the title, clear the screen (also by the one-character form of the same), write
/// over the line, ring, turn the text around. A line that is ours by its looks. Quotes and markup for JSON and pages.
const EVIL: &str = "\x1b]0;owned\x07\x1b[2J\u{9b}31m\r\nforged: line\t<b onx='1'>&\"\\\u{202e}\u{2028}\u{7f}";
/// The same in the 16 bytes of a task's name, and no UTF-8.
const COMM: &[u8; 16] = b"\x1b[7m\xff\xc2\x9b\n<i>\"\\\x07\x7f\x80";

const OFFSET: u64 = 0u64.wrapping_sub(5_000_000);
const ENTRY: u16 = 301;
const EXIT: u16 = 302;
const WRITE: u16 = 303;
const SWITCH: u16 = 310;
const PRINT: u16 = 5;
const OWN: u16 = 320;
const THREAD: i32 = 500;

fn payload(id: u16, pid: i32) -> Payload {
    Payload::new(LAYOUT, id, pid)
}

fn switch(from: i32, to: i32) -> Vec<u8> {
    let out = payload(SWITCH, from).raw(COMM).i32(from).i32(120).u64(0);
    out.raw(COMM).i32(to).i32(120).bytes()
}

fn marker(pid: i32, text: &str) -> Vec<u8> {
    payload(PRINT, pid).u64(0xffff_ffff_8100_0000).raw(text.as_bytes()).raw(b"\n\0").bytes()
}

/// sched_switch and the markers' event.
fn with_common_formats(file: TraceDat) -> TraceDat {
    let text = |name: &str| Field::text(name, 16);
    let switch = [
        text("prev_comm"),
        Field::i32("prev_pid"),
        Field::i32("prev_prio"),
        Field::u64("prev_state"),
        text("next_comm"),
        Field::i32("next_pid"),
        Field::i32("next_prio"),
    ];
    let print = [
        Field { declaration: "unsigned long ip".into(), size: 8, align: 8, signed: false },
        Field { declaration: "char buf[]".into(), size: 0, align: 1, signed: false },
    ];
    let fields = "\"prev_comm=%s prev_pid=%d ==> next_comm=%s next_pid=%d\", REC->prev_comm, REC->prev_pid, REC->next_comm, REC->next_pid";
    file.format("sched", &format_text_with("sched_switch", SWITCH, &switch, fields))
        .format("ftrace", &format_text_with("print", PRINT, &print, "\"%ps: %s\", (void *)REC->ip, REC->buf"))
}

/// What of [`EVIL`] can stand in the first line of a format file, or in a C string there.
fn in_a_format() -> String {
    EVIL.replace(['\n', '\r', '"', '\\', '\t'], "")
}

fn host() -> Vec<u8> {
    let mut pages = PageBuilder::new(LAYOUT);
    pages.event(1000, &payload(WRITE, THREAD).u32(0).u64(0).u64(OFFSET).bytes());
    for round in 0..60_u64 {
        let at = 10_000_000 + round * 100_000;
        pages.event(at, &switch(77, THREAD));
        pages.event(at + 1000, &payload(ENTRY, THREAD).u32(0).u64(0x1000).bytes());
        let exit = payload(EXIT, THREAD).u32(0x60).u64(0x1000).u32(2).u64(0).u64(0).u32(0).u32(0).u32(0);
        pages.event(at + 50_000, &exit.bytes());
        pages.event(at + 51_000, &marker(THREAD, EVIL));
        pages.event(at + 52_000, &switch(THREAD, 77));
    }
    let (u32, u64) = (Field::u32, Field::u64);
    let exit = [
        u32("exit_reason"),
        u64("guest_rip"),
        u32("isa"),
        u64("info1"),
        u64("info2"),
        u32("intr_info"),
        u32("error_code"),
        u32("vcpu_id"),
    ];
    let reason = format!("\"reason %s\", __print_symbolic(REC->exit_reason, {{ 0x060, \"{}\" }})", in_a_format());
    let entry = "\"vcpu %u, rip 0x%lx\", REC->vcpu_id, REC->rip";
    let write = [u32("vcpu_id"), u64("previous_tsc_offset"), u64("next_tsc_offset")];
    let name = [EVIL.as_bytes(), b"\xff\0"].concat();
    let mut guest = name;
    guest.extend(LAYOUT.u64(0xa000));
    guest.extend([1, 0].map(|n| LAYOUT.u32(n)).concat());
    guest.extend(LAYOUT.u32(THREAD as u32));
    with_common_formats(TraceDat::new(7, LAYOUT))
        .trace_clock("local global [x86-tsc]\n")
        .uname(&format!("Linux {} 6.1.0 x86_64", EVIL.replace(' ', "_")))
        .trace_id(0x4051)
        .tsc2nsec(13_421_773, 25, 0)
        .cmdlines(&format!("{THREAD} {}\n77 \u{9b}x\x1b[1m\n", EVIL.replace('\n', "")))
        .cpu_count(1)
        .format("kvm", &format_text_with("kvm_entry", ENTRY, &[u32("vcpu_id"), u64("rip")], entry))
        .format("kvm", &format_text_with("kvm_exit", EXIT, &exit, &reason))
        .format("kvm", &format_text_with("kvm_write_tsc_offset", WRITE, &write, "\"\""))
        .option(13, guest)
        .buffer("", "x86-tsc", vec![(0, pages.finish())])
        .buffer(EVIL, "x86-tsc", vec![(0, Vec::new())])
        .to_bytes()
}

fn guest() -> Vec<u8> {
    let mut pages = PageBuilder::new(LAYOUT);
    for round in 0..60_u64 {
        let at = (10_000_000 + round * 100_000).wrapping_add(OFFSET);
        pages.event(at + 2000, &switch(900, 901));
        pages.event(at + 3000, &payload(OWN, 901).u32(7).raw(COMM).bytes());
        pages.event(at + 4000, &marker(901, EVIL));
        pages.event(at + 5000, &marker(901, &format!("B|901|{}", EVIL.replace(['|', '\n'], ""))));
        pages.event(at + 6000, &marker(901, "E|901"));
        pages.event(at + 7000, &marker(901, &format!("C|901|{}|{round}", EVIL.replace(['|', '\n'], ""))));
        pages.event(at + 9000, &switch(901, 900));
    }
    let evil = in_a_format();
    let field = format!("number\x1b[1m{}", evil.replace([' ', ';', '[', ']', '\''], ""));
    let fields = [Field::u32(&field), Field::text("text", 16)];
    let print = format!("\"{evil} %u %s\", REC->{field}, REC->text");
    with_common_formats(TraceDat::new(7, LAYOUT))
        .trace_clock("local global [x86-tsc]\n")
        .uname("Linux \x1b[31mguest 6.1.0 x86_64")
        .trace_id(0xa000)
        .tsc2nsec(13_421_773, 25, 0)
        .cpu_count(1)
        .format("own", &format_text_with(&format!("own{evil}"), OWN, &fields, &print))
        .buffer("", "x86-tsc", vec![(0, pages.finish())])
        .to_bytes()
}

/// A directory with both, under names that are no better.
fn capture(scratch: &Scratch) -> PathBuf {
    let directory = scratch.path("capture\x1b[31m\u{9b}");
    fs::create_dir(&directory).expect("created");
    let put = |name: &[u8], bytes: &[u8]| {
        let name = OsString::from_vec(name.to_vec());
        fs::write(directory.join(name), bytes).expect("written");
    };
    put(b"host.dat", &host());
    put(b"guest\x1b[2J\xff\nforged: x.dat", &guest());
    put(b"\x1b]0;junk\x07\xfe\nforged: y.dat", b"\x1b[31mjunk");
    put(b"notes\x1b[31m\n.md", b"\x1b[31mnotes\n");
    put(b"pids\x1b[2J.txt", b"\x1b[31mweb=500\n");
    directory
}

struct Ran {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    code: Option<i32>,
}

fn run(args: &[&OsStr]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-timeline")).args(args).output().expect("the binary starts");
    Ran { stdout: output.stdout, stderr: output.stderr, code: output.status.code() }
}

/// Nothing here acts on a terminal, and every line is one that the program began.
fn harmless(what: &str, bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap_or_else(|e| panic!("{what}: no UTF-8: {e}"));
    let acts = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    for line in text.lines() {
        assert!(!line.contains(acts), "{what}: {line:?}");
        assert!(!line.starts_with("forged"), "{what}: {line:?}");
    }
    text
}

/// Runs a command, and expects that what it says is harmless and that `code` is how it ends.
fn says(args: &[&OsStr], codes: &[i32]) -> (String, String) {
    let what = format!("{args:?}");
    let ran = run(args);
    let (stdout, stderr) = (harmless(&what, &ran.stdout), harmless(&what, &ran.stderr));
    assert!(ran.code.is_some_and(|code| codes.contains(&code)), "{what}: {:?} {stderr}", ran.code);
    (stdout, stderr)
}

fn os(text: &str) -> &OsStr {
    OsStr::new(text)
}

#[test]
fn no_command_prints_them_raw() {
    let scratch = Scratch::new();
    let directory = capture(&scratch);
    let directory = directory.as_os_str();
    for command in ["print", "check", "stats", "inspect", "offsets"] {
        let (text, _) = says(&[os(command), directory], &[0, 3]);
        // They are there, only in another dress.
        assert!(text.contains("\\u{1b}") || text.contains("\\x1b"), "{command}: {text}");
        let (text, _) = says(&[os(command), os("--json"), directory], &[0, 3]);
        assert!(text.contains("\\u001b"), "{command}: {text}");
        for document in text.lines().filter(|_| command == "print") {
            let _: Value = serde_json::from_str(document).expect("JSON");
        }
        if command != "print" {
            let _: Value = serde_json::from_str(&text).expect("JSON");
        }
    }
    for command in ["stats", "offsets"] {
        let (text, _) = says(&[os(command), os("--csv"), directory], &[0, 3]);
        assert!(text.contains("\\u{1b}"), "{command}: {text}");
    }
    let (lines, _) = says(&[os("print"), directory], &[0, 3]);
    for shown in ["\\x1b[7m\\xff\\u{9b}\\n<i>\"\\\\x07\\x7f\\x80-901", "own\\x1b]0;owned", "<b onx='1'>&\"\\\\u{202e}"]
    {
        assert!(lines.contains(shown), "{shown}: {}", lines.lines().take(12).collect::<Vec<_>>().join("\n"));
    }
    // Each line begins with its machine.
    let machine = |line: &str| line.starts_with("host:") || line.starts_with("\\u{1b}]0;owned");
    assert!(lines.lines().all(machine), "{:?}", lines.lines().find(|line| !machine(line)));
}

#[test]
fn both_formats_hold_them_as_text() {
    let scratch = Scratch::new();
    let directory = capture(&scratch);
    let (perfetto, chrome) = (scratch.path("o.pftrace"), scratch.path("o.json"));
    for (output, format) in [(&perfetto, "pftrace"), (&chrome, "json")] {
        let args = [os("convert"), directory.as_os_str(), os("-o"), output.as_os_str(), os("--format"), os(format)];
        says(&args, &[0, 3]);
        let report = [&args[..], &[os("--json")]].concat();
        let (report, _) = says(&report, &[0, 3]);
        let _: Value = serde_json::from_str(&report).expect("JSON");
        let native = [&args[..], &[os("--layers"), os("native-all")]].concat();
        if format == "pftrace" {
            let out = scratch.path("native.pftrace");
            let native: Vec<&OsStr> =
                native.iter().map(|a| if *a == output.as_os_str() { out.as_os_str() } else { a }).collect();
            says(&native, &[0, 3]);
            if let Some(answers) = queries(&out, &[COMPLAINTS]) {
                assert_eq!(answers[0], [] as [Vec<String>; 0]);
            }
        }
    }
    let trace: Value = serde_json::from_slice(&fs::read(&chrome).expect("an output")).expect("JSON");
    let events = trace["traceEvents"].as_array().or(trace.as_array()).expect("events");
    let lossy = String::from_utf8_lossy(COMM);
    let holds = |text: &str| events.iter().any(|event| event.to_string().contains(text));
    let in_json = serde_json::to_string(lossy.as_ref()).expect("JSON");
    assert!(holds(in_json.trim_matches('"')), "the task's name {in_json}");
    let title = serde_json::to_string("\x1b]0;owned\x07\x1b[2J").expect("JSON");
    assert!(holds(title.trim_matches('"')), "{title}");
    for output in [&perfetto, &chrome] {
        let sql = [
            COMPLAINTS,
            "SELECT COUNT(*) > 0 FROM slice WHERE name GLOB '*owned*' OR name GLOB '*forged*'",
            "SELECT COUNT(*) > 0 FROM slice WHERE name GLOB '*<i>*'",
        ];
        let Some(answers) = queries(output, &sql) else { return };
        assert_eq!(answers[0], [] as [Vec<String>; 0], "{}", output.display());
        assert_eq!([&answers[1], &answers[2]], [&[["1"]], &[["1"]]], "{}", output.display());
    }
}

#[test]
fn errors_and_batches_name_files_harmlessly() {
    let scratch = Scratch::new();
    let fleet = scratch.path("fleet\x1b[31m\nforged: dir");
    fs::create_dir(&fleet).expect("created");
    let junk: &OsStr = OsStr::from_bytes(b"junk\x1b]0;x\x07\xff\nforged: z.dat");
    let file = fleet.join(junk);
    fs::write(&file, b"\x17\x08\x44tracing7\0junk").expect("written");
    let none = fleet.join(OsStr::from_bytes(b"none\x1b[2J\xff\nforged: n.dat"));
    for path in [&file, &none] {
        for command in ["print", "check", "stats", "inspect", "offsets", "open"] {
            let more: &[&OsStr] = if command == "open" { &[os("--no-browser"), os("--port"), os("0")] } else { &[] };
            let args = [&[os(command), path.as_os_str()], more].concat();
            let (_, stderr) = says(&args, &[0, 1, 2]);
            assert!(command == "inspect" || stderr.contains("\\u{1b}"), "{command}: {stderr}");
            let (stdout, _) = says(&[&args[..], &[os("--json")]].concat(), &[0, 1, 2]);
            let document: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{command}: {e}: {stdout}"));
            assert!(document.is_object());
        }
        let out = scratch.path("o.pftrace");
        says(&[os("convert"), path.as_os_str(), os("-o"), out.as_os_str(), os("--json")], &[1]);
        assert!(!out.exists());
    }
    let sound = fleet.join("sound\x1b[31m");
    fs::create_dir(&sound).expect("created");
    fs::write(sound.join("host.dat"), host()).expect("written");
    fs::write(sound.join(OsStr::from_bytes(b"guest\xff\x1b[2J.dat")), guest()).expect("written");
    let destination = scratch.path("out\x1b[31m");
    let batch = |more: &[&str]| {
        let more: Vec<&OsStr> = more.iter().map(|word| os(word)).collect();
        let args = [&[os("batch"), fleet.as_os_str(), os("--out"), destination.as_os_str()], &more[..]].concat();
        says(&args, &[0, 1, 3])
    };
    batch(&["--dry-run"]);
    let (stdout, stderr) = batch(&["--stats", "--json"]);
    let summary: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout} {stderr}"));
    assert!(summary["captures"].as_u64() >= Some(1), "{summary:#}");
    batch(&[]);
    says(&[os("batch"), os("--summary"), destination.as_os_str()], &[0, 1, 3]);
    left_nothing(&scratch.path(""));
}

/// No temporary file is left behind, whatever the names.
fn left_nothing(directory: &Path) {
    for entry in fs::read_dir(directory).expect("readable") {
        let name = entry.expect("an entry").file_name();
        assert!(!name.as_bytes().starts_with(b".kvm-timeline-"), "{name:?}");
    }
}
