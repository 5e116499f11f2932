//! What is copied beside the sub-buffers, in the shape of the directory that it comes from.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use super::Summary;
use super::facts::{self, Moment, notes};
use super::pages::without_blocking;
use super::plan::{OFFSETS, Plan};
use super::system::{System, names, text};
use super::vms::{Found, Tasks, Vm};
use crate::error::{Error, Result};
use crate::session::manifest::{self, FILE_NAME};

/// Largest part of the kernel's log that is looked at.
const MAX_LOG: usize = 64 << 20;

/// Copies what describes the recorded events, and the text of the offset writes.
pub(super) fn tracefs(system: &System, plan: &Plan, host: &Path, summary: &mut Summary) -> Result<()> {
    let events = system.tracefs.join("events");
    for name in ["header_page", "header_event"] {
        // Sub-buffers of an instance may have a size of their own.
        let own = plan.buffer.join("events").join(name);
        let from = if own.is_file() { own } else { events.join(name) };
        copy(&from, &host.join("events").join(name))?;
    }
    let marker = [("ftrace".to_owned(), "print".to_owned())];
    for (of_system, event) in plan.events.all.iter().chain(&marker) {
        let path = Path::new(of_system).join(event).join("format");
        copy(&events.join(&path), &host.join("events").join(&path))?;
    }
    save(&host.join("trace_clock"), &system.read(&plan.buffer.join("trace_clock"))?)?;
    save(&host.join("printk_formats"), &text(&system.tracefs.join("printk_formats")).unwrap_or_default())?;
    for stats in stats(&plan.buffer, host)? {
        let number = |name: &str| {
            let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        summary.events = summary.events.saturating_add(number("read events"));
        summary.lost = summary.lost.saturating_add(number("overrun")).saturating_add(number("dropped events"));
    }
    symbols(system, host)?;
    let Some(offsets) = &plan.offsets else { return Ok(()) };
    let to = host.join("instances").join(OFFSETS);
    // The text, because reading it takes nothing out of the buffer.
    match (system.read(&offsets.join("trace")), system.read(&offsets.join("trace_clock"))) {
        (Ok(trace), Ok(clock)) => {
            save(&to.join("trace"), &trace)?;
            save(&to.join("trace_clock"), &clock)?;
            stats(offsets, &to).map(drop)
        }
        // Somebody removed it meanwhile. What it recorded since the beginning is in the other buffer too.
        (Err(error), _) | (_, Err(error)) => {
            summary.notes.push(format!("offsets from before the recording are missing: {error}"));
            Ok(())
        }
    }
}

/// Copies the counters of all CPUs.
fn stats(instance: &Path, to: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for cpu in names(&instance.join("per_cpu")) {
        let path = Path::new("per_cpu").join(cpu).join("stats");
        if let Ok(stats) = text(&instance.join(&path)) {
            save(&to.join(&path), &stats)?;
            all.push(stats);
        }
    }
    Ok(all)
}

/// The names of kernel functions, where the kernel shows their addresses.
fn symbols(system: &System, host: &Path) -> Result<()> {
    let Ok(symbols) = text(&system.path("proc/kallsyms")) else { return Ok(()) };
    if symbols.lines().all(|line| line.starts_with("0000000000000000 ")) {
        return Ok(());
    }
    let path = host.join("kallsyms.zst");
    let packed = zstd::encode_all(symbols.as_bytes(), 3).map_err(|error| Error::io(&path, "compress", error))?;
    fs::write(&path, packed).map_err(|error| Error::io(path, "write", error))
}

/// Names and processes of threads: what the kernel has kept, then what `/proc` shows.
pub(super) fn tasks(system: &System, tasks: &Tasks, host: &Path) -> Result<()> {
    let id = |line: &str| line.split(' ').next().and_then(|tid| tid.parse::<i32>().ok());
    let add = |name: &str, line: &dyn Fn(&i32, &(i32, String)) -> String| {
        let mut kept = text(&system.tracefs.join(name)).unwrap_or_default();
        if !kept.is_empty() && !kept.ends_with('\n') {
            kept.push('\n');
        }
        let known: BTreeSet<i32> = kept.lines().filter_map(id).collect();
        for (tid, task) in tasks.iter().filter(|(tid, _)| !known.contains(tid)) {
            kept.push_str(&line(tid, task));
        }
        save(&host.join(name), &kept)
    };
    add("saved_cmdlines", &|tid, (_, comm)| format!("{tid} {}\n", comm.replace('\n', " ")))?;
    add("saved_tgids", &|tid, (tgid, _)| format!("{tid} {tgid}\n"))
}

/// Writes what lies beside the copy of tracefs: the offsets that debugfs showed, the log's lines about the TSC, and a
/// manifest.
pub(super) fn facts(system: &System, vms: &Found, began: &Moment, directory: &Path) -> Result<()> {
    if !vms.offsets.is_empty() {
        save(&directory.join("offsets-debugfs.txt"), &(vms.offsets.join("\n") + "\n"))?;
    }
    let log = facts::tsc_log(&kernel_log(&system.path("dev/kmsg")));
    if !log.is_empty() {
        save(&directory.join("host-dmesg.txt"), &log)?;
    }
    let vm = |vm: &Vm| {
        // Threads are listed in the order of vcpu_id, so only without a gap.
        let complete = vm.threads.keys().copied().eq(0..u32::try_from(vm.threads.len()).unwrap_or(0));
        let threads = if complete { vm.threads.values().copied().collect() } else { Vec::new() };
        (vm.name.clone(), u32::try_from(vm.pid).ok(), threads)
    };
    let vms = vms.vms.iter().map(vm).collect::<Vec<_>>();
    save(&directory.join(FILE_NAME), &manifest::of_recording(notes(system), began.rfc3339(), "host", vms))
}

/// The whole log, from its device: one read is one message, and none is left when it would block.
fn kernel_log(path: &Path) -> String {
    let mut options = OpenOptions::new();
    options.read(true);
    without_blocking(&mut options);
    let Ok(mut device) = options.open(path) else { return String::new() };
    let (mut log, mut message) = (Vec::new(), vec![0; 8 << 10]);
    while log.len() < MAX_LOG {
        match device.read(&mut message) {
            Ok(0) => break,
            Ok(count) => log.extend_from_slice(message.get(..count).unwrap_or_default()),
            // The message was overwritten meanwhile: the next read goes on behind it.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::Interrupted) => {}
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&log).into_owned()
}

/// Copies a small file.
fn copy(from: &Path, to: &Path) -> Result<()> {
    save(to, &text(from).map_err(|error| Error::io(from, "read", error))?)
}

/// Writes a file, with the directories above it.
fn save(path: &Path, text: &str) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| Error::io(parent, "make the directory", error))?;
    let written = File::create(path).and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|error| Error::io(path, "write", error))
}
