//! Recording: against a tree of plain files that stands for a kernel's, and against this machine's own tracefs where
//! that may be mounted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::run::{Done, Scratch, fixture, json, kvm_timeline, succeeds};

/// Events of the host's and of the guest's sub-buffers in `fixtures/text`.
const HOST_EVENTS: u64 = 345_740;
const GUEST_EVENTS: u64 = 57_064;

/// Whole sub-buffers of one CPU.
const SOME_BYTES: u64 = 64 * 4096;

/// A machine of plain files: `fixtures/text` as its kernel would have shown it.
pub(crate) struct Machine {
    scratch: Scratch,
}

impl Machine {
    /// With the first sub-buffers and some formats, which is enough where nothing is placed.
    pub(crate) fn new() -> Self {
        Self::with(|path, bytes| {
            let name = path.to_str().expect("text");
            let needed = ["kvm_entry", "kvm_exit", "kvm_write_tsc_offset"].iter().any(|event| name.contains(event));
            if name.starts_with("guest-a") || name.contains("events/kvm/") && !needed {
                return false;
            }
            if name.ends_with("trace_pipe_raw") {
                bytes.truncate(SOME_BYTES as usize);
            }
            true
        })
    }

    fn whole() -> Self {
        Self::with(|_, _| true)
    }

    /// With those files of the fixture that `keep` returns true for, which may change them.
    fn with(keep: impl Fn(&Path, &mut Vec<u8>) -> bool) -> Self {
        let scratch = Scratch::new();
        let file = File::open(fixture("text/text.tar.xz")).expect("opened");
        let mut archive = tar::Archive::new(lzma_rust2::XzReader::new(file, true));
        for entry in archive.entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("readable");
            if entry.header().entry_type().is_file() && keep(path.strip_prefix(".").unwrap_or(&path), &mut bytes) {
                let to = scratch.path("set").join(path);
                fs::create_dir_all(to.parent().expect("a parent")).expect("made");
                fs::write(to, bytes).expect("written");
            }
        }
        let machine = Self { scratch };
        machine.kernel("host", "root/sys/kernel/tracing", "new-instance");
        let set = machine.scratch.path("set/host/instances/tsc_offset/trace.txt");
        fs::copy(set, machine.at("new-instance/trace")).expect("copied");
        for (path, text) in [
            ("sys/kernel/debug/kvm/196-9/vcpu0/tsc-offset", "-27986544858\n"),
            ("sys/kernel/debug/kvm/196-9/vcpu0/pid", "203\n"),
            ("sys/kernel/debug/kvm/196-9/vcpu1/tsc-offset", "-27986544858\n"),
            ("sys/kernel/debug/kvm/halt_exits", "0\n"),
            ("proc/196/cmdline", "qemu-system-x86_64\0-name\0guest=web,debug-threads=on\0-S"),
            ("proc/196/task/196/comm", "qemu-system-x86\n"),
            ("proc/196/task/203/comm", "CPU 0/KVM\n"),
            ("proc/196/task/204/comm", "CPU 1/KVM\n"),
            ("proc/300/task/300/comm", "sleeper\n"),
            ("proc/version", "Linux version 6.1.0-56-cloud-amd64\n"),
            ("proc/kallsyms", "ffffffff81000000 T _stext\n"),
            ("dev/kmsg", "6,1,28000,-;tsc: Detected 2596.116 MHz processor\n6,2,29000,-;other\n"),
        ] {
            machine.write(&format!("root/{path}"), text);
        }
        machine
    }

    /// A tracefs, and what an instance of it holds when it is new.
    fn kernel(&self, side: &str, tracefs: &str, new_instance: &str) {
        let set = self.scratch.path("set").join(side);
        let clocks = "[local] global counter x86-tsc\n";
        fs::create_dir_all(self.at(tracefs).join("instances")).expect("made");
        for to in [tracefs, new_instance] {
            copy_tree(&set.join("events"), &self.at(to).join("events"));
            for system in fs::read_dir(self.at(to).join("events")).expect("listed").map(|e| e.expect("an entry").path())
            {
                if system.is_dir() {
                    fs::write(system.join("enable"), "0\n").expect("written");
                    for event in fs::read_dir(&system).expect("listed").map(|e| e.expect("an entry").path()) {
                        if event.is_dir() {
                            fs::write(event.join("enable"), "0\n").expect("written");
                        }
                    }
                }
            }
            for (name, text) in [("trace_clock", clocks), ("tracing_on", "1\n"), ("options/record-tgid", "0\n")] {
                self.write(&format!("{to}/{name}"), text);
            }
        }
        for name in ["saved_cmdlines", "printk_formats"] {
            fs::copy(set.join(name), self.at(tracefs).join(name)).expect("copied");
        }
        let print = "name: print\nID: 5\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
                     \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
                     \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
                     \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
                     \tfield:unsigned long ip;\toffset:8;\tsize:8;\tsigned:0;\n\
                     \tfield:char buf[];\toffset:16;\tsize:0;\tsigned:1;\n\nprint fmt: \"%s\", REC->buf\n";
        self.write(&format!("{tracefs}/events/ftrace/print/format"), print);
        copy_tree(&set.join("per_cpu"), &self.at(new_instance).join("per_cpu"));
        for cpu in ["cpu0", "cpu1"] {
            // As it is when everything has been read.
            let events = if side == "host" { HOST_EVENTS } else { GUEST_EVENTS } / 2;
            let stats =
                format!("entries: 0\noverrun: 2\ncommit overrun: 0\ndropped events: 1\nread events: {events}\n");
            self.write(&format!("{new_instance}/per_cpu/{cpu}/stats"), &stats);
        }
        self.write(&format!("{new_instance}/buffer_size_kb"), "1410\n");
        self.write(&format!("{new_instance}/trace_marker"), "");
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.scratch.path(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let (root, new) = (self.scratch.text("root"), self.scratch.text("new-instance"));
        let fixed = ["record", "--root", &root, "--new-instance", &new];
        fixed.iter().chain(more).map(|&word| word.to_owned()).collect()
    }

    pub(crate) fn record(&self, more: &[&str]) -> Done {
        kvm_timeline(self.arguments(more))
    }

    fn start(&self, more: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-timeline"));
        command.args(self.arguments(more)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started")
    }

    /// Every file and directory of the kernel's tree, with its content.
    fn state(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        state(&self.at("root"))
    }

    /// Nothing but what was there before lies beside the result.
    fn leftovers(&self, result: &[&str]) -> Vec<String> {
        let known = ["set", "root", "new-instance", "bin", "guest.sh"];
        self.scratch.names().into_iter().filter(|n| !known.contains(&&**n) && !result.contains(&&**n)).collect()
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed").map(|e| e.expect("an entry").path()) {
        let to = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy_tree(&entry, &to);
        } else {
            fs::copy(&entry, &to).expect("copied");
        }
    }
}

fn state(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for path in fs::read_dir(&directory).expect("listed").map(|e| e.expect("an entry").path()) {
            let content = if path.is_dir() { None } else { Some(fs::read(&path).expect("readable")) };
            if content.is_none() {
                todo.push(path.clone());
            }
            found.insert(path, content);
        }
    }
    found
}

fn wait_for(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < Duration::from_secs(20), "{} does not appear", path.display());
        sleep(Duration::from_millis(5));
    }
}

/// Sends a signal and waits for the end: exit code and stderr.
fn end(child: Child, signal: &str) -> (i32, String) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status();
    assert!(sent.expect("sh starts").success());
    let output = child.wait_with_output().expect("ended");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// (verdict, VM name, inside) of an audit of one VM.
fn audit(paths: &[&str]) -> (String, String, u64) {
    let report = json(["check", "--json"].iter().chain(paths));
    let vms = report["vms"].as_array().expect("vms");
    assert_eq!(vms.len(), 1, "{report:#}");
    let vcpus = vms[0]["vcpus"].as_array().expect("vcpus");
    let inside = vcpus.iter().map(|v| v["inside"].as_u64().expect("a count")).sum();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    (text(&report["verdict"]), text(&vms[0]["name"]), inside)
}

#[test]
fn a_dry_run_shows_every_write_and_makes_none() {
    let machine = Machine::new();
    let before = machine.state();
    let done =
        machine.record(&["--dry-run", "--events", "kvm,sched:sched_switch", "--buffer-size-kb", "64", "-o", "x"]);
    assert_eq!((done.code, &*done.stderr), (0, ""));
    assert!(machine.state() == before);
    let tracefs = machine.scratch.text("root/sys/kernel/tracing");
    let shown: Vec<String> = done.stdout.lines().map(|line| line.replace(&tracefs, "T")).collect();
    let writes: Vec<&str> = shown.iter().filter(|line| !line.starts_with('#')).map(String::as_str).collect();
    let expected = [
        "mkdir T/instances/tsc_offset",
        "echo x86-tsc > T/instances/tsc_offset/trace_clock",
        "echo 1 > T/instances/tsc_offset/events/kvm/kvm_write_tsc_offset/enable",
        "mkdir T/instances/kvm-timeline",
        "echo 0 > T/instances/kvm-timeline/tracing_on",
        "echo x86-tsc > T/instances/kvm-timeline/trace_clock",
        "echo 64 > T/instances/kvm-timeline/buffer_size_kb",
        "echo 1 > T/instances/kvm-timeline/options/record-tgid",
        "echo 1 > T/instances/kvm-timeline/events/kvm/enable",
        "echo 1 > T/instances/kvm-timeline/events/sched/sched_switch/enable",
        "echo 1 > T/instances/kvm-timeline/tracing_on",
        "echo \"kvm-timeline: begin, wall clock SECONDS\" > T/instances/kvm-timeline/trace_marker",
        "echo \"kvm-timeline: end, wall clock SECONDS\" > T/instances/kvm-timeline/trace_marker",
        "echo 0 > T/instances/kvm-timeline/tracing_on",
        "rmdir T/instances/kvm-timeline",
        "rmdir T/instances/tsc_offset",
    ];
    assert_eq!(writes, expected);
}

#[test]
fn a_recording_is_proved_with_its_guest_and_leaves_the_kernel_as_it_was() {
    let machine = Machine::whole();
    let before = machine.state();
    let out = machine.scratch.text("out");
    let done = machine.record(&["-o", &out, "--duration", "300ms"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(machine.state() == before);
    assert_eq!(machine.leftovers(&["out"]), [""; 0]);
    assert!(done.stderr.contains(&format!("{HOST_EVENTS} events read, 6 lost")), "{}", done.stderr);
    assert!(done.stderr.contains("VM web: 2 vCPU threads"), "{}", done.stderr);
    assert!(done.stderr.contains("offsets of 2 vCPUs read from debugfs"), "{}", done.stderr);

    let found = json(["inspect", "--json", &out]);
    assert_eq!(found["inputs"][0]["buffers"][0]["events"], HOST_EVENTS);
    assert_eq!(found["vms"][0]["name"], "web");
    assert_eq!(found["vms"][0]["pid"], 196);
    // The guest's directory is put into it.
    copy_tree(&machine.at("set/guest-a"), &machine.at("out/guest-web"));
    assert_eq!(audit(&[&out]), ("proved".into(), "web".into(), GUEST_EVENTS));
    // Where only debugfs tells the offsets.
    fs::remove_dir_all(machine.at("out/host/instances")).expect("removed");
    let offsets = json(["offsets", "--json", &out]).to_string();
    assert!(offsets.contains("-27986544858"), "{offsets}");
    // Threads that idle were in /proc alone.
    let tgids = fs::read_to_string(machine.at("out/host/saved_tgids")).expect("readable");
    assert_eq!(tgids, "196 196\n203 196\n204 196\n300 300\n");
    let names = fs::read_to_string(machine.at("out/host/saved_cmdlines")).expect("readable");
    assert!(names.contains("\n15 rcu_preempt\n") || names.starts_with("15 rcu_preempt\n"), "{names}");
    assert!(names.ends_with("\n300 sleeper\n"), "{names}");
}

#[test]
fn an_archive_for_as_long_as_a_command_runs() {
    let machine = Machine::new();
    let before = machine.state();
    let out = machine.scratch.text("out.tar.zst");
    let done = machine.record(&["-o", &out, "--", "sh", "-c", "exit 3"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("sh ended with exit status: 3"), "{}", done.stderr);
    assert!(machine.state() == before);
    assert_eq!(machine.leftovers(&["out.tar.zst"]), [""; 0]);
    let timeline = machine.scratch.text("x.pftrace");
    let converted = succeeds(["convert", &out, "-o", &timeline]).stderr;
    assert!(converted.contains("VM web, process 196, 2 vCPUs"), "{converted}");
    assert_eq!(json(["inspect", "--json", &out])["vms"][0]["name"], "web");
    // Nothing is overwritten, and nothing is recorded in vain.
    let again = machine.record(&["-o", &out, "--", "touch", &machine.scratch.text("ran")]);
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("exists, and is not overwritten"), "{}", again.stderr);
    assert!(!machine.at("ran").exists());
}

#[test]
fn signals_end_a_recording_and_everything_is_put_back() {
    for signal in ["INT", "TERM"] {
        let machine = Machine::new();
        let before = machine.state();
        let child = machine.start(&["-o", &machine.scratch.text("out")]);
        wait_for(&machine.at("root/sys/kernel/tracing/instances/kvm-timeline/per_cpu/cpu1/trace_pipe_raw"));
        let (code, stderr) = end(child, signal);
        assert_eq!(code, 0, "{stderr}");
        assert!(machine.state() == before, "{signal}");
        assert_eq!(machine.leftovers(&["out"]), [""; 0]);
        let copied = fs::metadata(machine.at("out/host/per_cpu/cpu1/trace_pipe_raw")).expect("there").len();
        assert!(copied == SOME_BYTES && machine.at("out/capture.toml").exists());
    }
}

#[test]
fn a_write_that_fails_puts_back_those_before_it() {
    // A directory in a file's place refuses to be written, for root too.
    for file in ["trace_clock", "buffer_size_kb", "events/kvm/enable"] {
        let machine = Machine::new();
        let path = machine.at("new-instance").join(file);
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        let before = machine.state();
        let out = machine.scratch.text("out");
        let done = machine.record(&["-o", &out, "--duration", "1s"]);
        assert_eq!(done.code, 1, "{file}: {}", done.stderr);
        assert!(done.stderr.contains(&format!("{file}: cannot write ")), "{}", done.stderr);
        assert!(machine.state() == before, "{file}");
        assert_eq!(machine.leftovers(&[]), [""; 0]);
    }
}

#[test]
fn a_buffer_that_cannot_be_read_ends_the_recording_and_puts_everything_back() {
    let machine = Machine::new();
    let path = machine.at("new-instance/per_cpu/cpu1/trace_pipe_raw");
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("made");
    let before = machine.state();
    // No end is given: it ends because of the error.
    let done = machine.record(&["-o", &machine.scratch.text("out")]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("cpu1/trace_pipe_raw: cannot read"), "{}", done.stderr);
    assert!(machine.state() == before);
    assert_eq!(machine.leftovers(&[]), [""; 0]);
}

#[test]
fn a_command_that_cannot_start_puts_everything_back() {
    let machine = Machine::new();
    let before = machine.state();
    let done = machine.record(&["-o", &machine.scratch.text("out"), "--", "/nowhere/command"]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("/nowhere/command: cannot start the command"), "{}", done.stderr);
    assert!(machine.state() == before);
    assert_eq!(machine.leftovers(&[]), [""; 0]);
}

#[test]
fn the_offset_instance_is_prepared_used_and_kept() {
    let machine = Machine::new();
    let before = machine.state();
    let instance = machine.at("root/sys/kernel/tracing/instances/tsc_offset");
    assert_eq!(machine.record(&["--prepare", "--dry-run"]).stdout.lines().count(), 3);
    assert!(!instance.exists());
    assert_eq!(machine.record(&["--prepare"]).code, 0);
    let read = |name: &str| fs::read_to_string(instance.join(name)).expect("readable");
    assert_eq!(read("trace_clock"), "x86-tsc\n");
    assert_eq!(read("events/kvm/kvm_write_tsc_offset/enable"), "1\n");
    assert_eq!(read("events/kvm/enable"), "0\n");
    // A second time there is nothing to do.
    assert_eq!(machine.record(&["--prepare", "--dry-run"]).stdout, "");

    // Somebody switched it off: it is on while it is needed.
    fs::write(instance.join("tracing_on"), "0\n").expect("written");
    let prepared = machine.state();
    let shown = machine.record(&["--dry-run"]).stdout;
    assert!(shown.contains("tsc_offset/tracing_on") && !shown.contains("mkdir T/instances/tsc_offset"), "{shown}");
    let done = machine.record(&["-o", &machine.scratch.text("out"), "--duration", "100ms"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("may have missed offsets"), "{}", done.stderr);
    assert!(machine.state() == prepared);
    assert!(machine.at("out/host/instances/tsc_offset/trace").exists());

    assert_eq!(machine.record(&["--unprepare"]).code, 0);
    assert!(machine.state() == before);
    assert!(machine.record(&["--unprepare"]).stderr.contains("was not there"));
}

#[test]
fn an_instance_that_somebody_removes_meanwhile_costs_its_offsets_only() {
    let machine = Machine::new();
    assert_eq!(machine.record(&["--prepare"]).code, 0);
    let instance = machine.scratch.text("root/sys/kernel/tracing/instances/tsc_offset");
    let done = machine.record(&["-o", &machine.scratch.text("out"), "--", "rm", "-r", &instance]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("offsets from before the recording are missing"), "{}", done.stderr);
    assert!(machine.at("out/host/per_cpu/cpu0/trace_pipe_raw").exists());
}

#[test]
fn what_cannot_be_recorded_is_said() {
    let machine = Machine::new();
    let said = |more: &[&str], code: i32, words: &[&str]| {
        let done = machine.record(more);
        assert_eq!(done.code, code, "{more:?}: {}", done.stderr);
        words.iter().for_each(|word| assert!(done.stderr.contains(word), "{word}: {}", done.stderr));
    };
    said(&["--events", "sched:nothing"], 2, &["no event `sched:nothing`", "hint: available_events"]);
    said(&["-o", "x.zip"], 2, &["not written", "FILE.tar.zst"]);
    said(&["--prepare", "-o", "x"], 2, &["cannot be used with"]);
    said(&["--tracefs", "/nowhere"], 1, &["is no mounted tracefs", "hint: as root: mount -t tracefs tracefs /nowhere"]);
    fs::create_dir(machine.at("root/sys/kernel/tracing/instances/kvm-timeline")).expect("made");
    said(&["-o", "x"], 2, &["another recording runs", "rmdir"]);
    machine.write("root/sys/kernel/tracing/trace_clock", "[local] global\n");
    said(&["-o", "x"], 1, &["no trace clock x86-tsc", "only x86 hosts"]);
    fs::remove_dir_all(machine.at("root/sys/kernel/tracing")).expect("removed");
    said(&["-o", "x"], 1, &["is no mounted tracefs", "mount -t tracefs"]);
}

#[test]
fn without_the_module_there_are_no_kvm_events() {
    let machine = Machine::new();
    fs::remove_dir_all(machine.at("root/sys/kernel/tracing/events/kvm")).expect("removed");
    for more in [&["-o", "x"][..], &["--prepare"]] {
        let done = machine.record(more);
        assert_eq!(done.code, 1);
        assert!(done.stderr.contains("the module kvm is not loaded"), "{}", done.stderr);
        assert!(done.stderr.contains("modprobe kvm_intel"), "{}", done.stderr);
    }
}

/// Programs before those of the system in the path of the guest script: an instance of plain files is filled and
/// emptied by them, as the kernel would do it.
fn stand_ins(machine: &Machine) -> String {
    let bin = machine.at("bin");
    fs::create_dir(&bin).expect("made");
    let mkdir = format!(
        "#!/bin/sh\nPATH=/usr/bin:/bin\nmkdir \"$@\" || exit 1\ncase $1 in */instances/*) cp -R {}/. \"$1\" ;; esac\n",
        machine.scratch.text("new-instance")
    );
    let rmdir = "#!/bin/sh\nPATH=/usr/bin:/bin\nexec rm -r \"$@\"\n";
    for (name, text) in [("mkdir", &*mkdir), ("rmdir", rmdir)] {
        fs::write(bin.join(name), text).expect("written");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(bin.join(name), executable).expect("executable");
    }
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default())
}

fn guest_machine() -> (Machine, Command) {
    let machine = Machine::whole();
    fs::remove_dir_all(machine.at("root")).expect("removed");
    fs::remove_dir_all(machine.at("new-instance")).expect("removed");
    machine.kernel("guest-a", "root/tracing", "new-instance");
    succeeds(["record", "--guest-script", &machine.scratch.text("guest.sh")]);
    let mut command = Command::new("sh");
    command.arg(machine.at("guest.sh")).env("TRACEFS", machine.at("root/tracing")).env("PATH", stand_ins(&machine));
    (machine, command)
}

#[test]
fn the_guest_script_saves_what_the_host_places() {
    let (machine, mut command) = guest_machine();
    let before = machine.state();
    let guest = machine.scratch.text("guest-web");
    let output = command.args(["-d", "0", "-o", &guest]).output().expect("sh starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("6 events were lost"), "{stderr}");
    assert!(stderr.contains("no event timer:hrtimer_expire_entry: left out"), "{stderr}");
    assert!(machine.state() == before);
    let host = format!("--host={}", machine.scratch.text("set/host"));
    assert_eq!(audit(&[&host, &format!("--guest=web={guest}")]), ("proved".into(), "web".into(), GUEST_EVENTS));
    let packed = json(["inspect", "--json", &format!("{guest}.tar")]);
    assert_eq!(packed["inputs"][0]["buffers"][0]["events"], GUEST_EVENTS);
    let timeline = machine.scratch.text("guest.pftrace");
    succeeds(["convert", &guest, "-o", &timeline]);
    // Once more: nothing is overwritten, and nothing is left behind.
    let again = command.output().expect("sh starts");
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not overwritten"));
    assert!(machine.state() == before);
}

#[test]
fn the_guest_script_puts_everything_back_when_it_is_interrupted_or_fails() {
    let (machine, mut command) = guest_machine();
    let before = machine.state();
    let child = command.args(["-d", "60", "-o", &machine.scratch.text("guest-web")]).stderr(Stdio::piped()).spawn();
    let instance = machine.at("root/tracing/instances/kvm-timeline");
    let clock = instance.join("trace_clock");
    wait_for(&clock);
    let began = Instant::now();
    let (code, stderr) = end(child.expect("started"), "TERM");
    assert_eq!(code, 0, "{stderr}");
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(machine.state() == before);
    assert!(machine.at("guest-web/per_cpu/cpu0/trace_pipe_raw").exists());

    let path = machine.at("new-instance/buffer_size_kb");
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("made");
    let output = command.args(["-o", &machine.scratch.text("guest-2")]).output().expect("sh starts");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write 16384 to"));
    assert!(machine.state() == before);
    assert!(!machine.at("guest-2").exists());
}

#[test]
fn the_guest_script_has_what_was_asked_for() {
    let script = |more: &[&str]| succeeds(["record", "--guest-script", "-"].iter().chain(more)).stdout;
    let asked = script(&["--events", "sched:sched_switch,irq", "--duration", "90s", "--buffer-size-kb", "99"]);
    for line in ["seconds=90", "buffer=99", "events=\"sched:sched_switch irq\""] {
        assert!(asked.lines().any(|found| found == line), "{line}: {asked}");
    }
    let odd = kvm_timeline(["record", "--guest-script", "-", "--events", "a;reboot"]);
    assert_eq!((odd.code, &*odd.stdout), (2, ""));
}

#[test]
fn the_recipe_tells_both_sides() {
    let both = succeeds(["recipe"]).stdout;
    let (host, guest) = (succeeds(["recipe", "--host"]).stdout, succeeds(["recipe", "--guest"]).stdout);
    for (text, words) in [
        (&host, &["record --prepare", "instances/tsc_offset", "kvm:kvm_write_tsc_offset", "-C x86-tsc"][..]),
        (&guest, &["--guest-script", "-C x86-tsc", "trace-cmd agent"]),
    ] {
        assert!(both.contains(text.as_str()));
        words.iter().for_each(|word| assert!(text.contains(word), "{word}: {text}"));
    }
    assert!(both.lines().all(|line| line.len() <= 120), "{both}");
}

/// Runs a script with `$T`, this machine's own tracefs in a mount namespace that ends with it. `None` where that is not
/// allowed, or where somebody records already.
fn on_this_kernel(script: &str) -> Option<String> {
    let scratch = Scratch::new();
    let (binary, at) = (env!("CARGO_BIN_EXE_kvm-timeline"), scratch.text(""));
    let script = format!(
        "T={at}/t; mkdir $T && mount -t tracefs t $T && grep -q x86-tsc $T/trace_clock || exit 77\n\
         [ -e $T/instances/kvm-timeline ] && exit 77\nB={binary}; cd {at} || exit 1\n{script}\n"
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.code() {
        Some(0) => Some(text(&output.stdout)),
        Some(1) if text(&output.stderr).contains("unshare") => None,
        Some(77 | 32) => None,
        code => panic!("{code:?}: {}{}", text(&output.stdout), text(&output.stderr)),
    }
}

#[test]
fn this_machines_own_tracefs() {
    let script = "\
        ls $T/instances > before\n\
        cat $T/tracing_on $T/trace_clock $T/events/sched/enable $T/options/record-tgid >> before\n\
        $B record --tracefs $T -e sched:sched_switch,sched:sched_waking -o rec -- sleep 0.3 || exit 1\n\
        $B record --guest-script guest.sh -e sched:sched_switch || exit 1\n\
        TRACEFS=$T sh guest.sh -d 1 -b 1024 -o guest-x || exit 1\n\
        ls $T/instances > after\n\
        cat $T/tracing_on $T/trace_clock $T/events/sched/enable $T/options/record-tgid >> after\n\
        cmp before after || exit 1\n\
        $B print rec | grep -c 'sched_switch\\|sched_waking'\n\
        $B print rec | grep -c 'kvm-timeline: \\(begin\\|end\\), wall clock'\n\
        $B print guest-x | grep -c sched_switch\n";
    // Where it cannot be mounted, as in most containers, there is nothing to be seen; plain files stand for it above.
    let Some(printed) = on_this_kernel(script) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED recording on this machine's own tracefs: it cannot be mounted");
        return;
    };
    let counts: Vec<u64> = printed.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!((counts.len(), counts.get(1)), (3, Some(&2)), "{printed}");
    assert!(counts[0] > 10 && counts[2] > 10, "{printed}");
}
