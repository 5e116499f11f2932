//! A copied tracefs directory: what `cp`, `cat` and `tar` save from `/sys/kernel/tracing` without any other tool.
//!
//! Events come from the raw sub-buffers (`per_cpu/cpuN/trace_pipe_raw`), described by `events/header_page` and
//! `events/*/*/format`; where a buffer has none, from its text (`trace`, `trace.txt`). Each directory in `instances/`
//! is a buffer of its own. All files may be compressed one by one.

mod pages;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{self, Budget};
use super::event_format::{EventFormat, FormatTable};
use super::kallsyms::{self, Kallsyms};
use super::limits::{Limit, Limits};
use super::raw_pages::{PageFile, RawPages};
use super::ring_buffer::EventIds;
use super::source::ReadAt;
use super::trace_dat::metadata::{cmdlines, printk_formats};
use super::trace_dat::notes::Notes;
use super::tree::{Entry, EntryKind, Tree, head};
use super::{Buffer, Capture, CaptureInfo, ChunkSource, Clock, CpuStats, Endian, Stream, text};
use crate::error::{Code, Error, Result};
use pages::{CpuPages, Pages};

/// What compressed files are called.
const PACKED: [&str; 5] = ["", ".gz", ".zst", ".xz", ".bz2"];
/// A buffer's text.
const TEXTS: [&str; 2] = ["trace", "trace.txt"];

/// What a copied tracefs holds.
#[derive(Default)]
pub struct Copied {
    /// The top buffer and what shares its kind of data, then buffers that only their text tells of. One at least.
    pub captures: Vec<Capture>,
    /// Files that were not read, and why.
    pub left_out: Vec<(PathBuf, String)>,
}

/// Whether a directory is a copied tracefs.
///
/// # Errors
/// Where it cannot be listed.
pub fn is_tracefs(tree: &dyn Tree, directory: &Path) -> Result<bool> {
    let entries = tree.list(directory)?;
    let has = |name: &str| entries.iter().any(|e| e.name == name);
    let text = find(&entries, &TEXTS).is_some();
    if text && (has("trace_clock") || has("instances"))
        || !pages::files(tree, directory, &Limits::default())?.is_empty()
    {
        return Ok(true);
    }
    Ok(has("events") && find(&tree.list(&directory.join("events"))?, &["header_page"]).is_some())
}

/// Reads a copied tracefs. What is unpacked of it is charged to `budget`.
///
/// # Errors
/// `Format` where there are sub-buffers without a description of their layout or their events, or no data at all;
/// `Io` where something cannot be read.
pub fn open(tree: &Arc<dyn Tree>, directory: &Path, budget: &Arc<Budget>) -> Result<Copied> {
    let shown = tree.shown(directory);
    Copy { tree: &**tree, budget, notes: Notes::default() }
        .read(directory)
        .map_err(|error| error.damaged_as(Code::DamagedTracefs).in_file(shown))
}

/// Finds a file by one of its names, compressed or not.
fn find<'a>(entries: &'a [Entry], names: &[&str]) -> Option<&'a Entry> {
    let matches = |entry: &&Entry| {
        let name = entry.name.to_str().unwrap_or_default();
        let is = |wanted: &str| name.strip_prefix(wanted).is_some_and(|rest| PACKED.contains(&rest));
        matches!(entry.kind, EntryKind::File(_)) && names.iter().any(|wanted| is(wanted))
    };
    entries.iter().find(matches)
}

struct Copy<'a> {
    tree: &'a dyn Tree,
    budget: &'a Arc<Budget>,
    notes: Notes,
}

/// One buffer as its directory shows it.
struct Plan {
    name: String,
    clock: Option<Clock>,
    pages: Vec<CpuPages>,
    text: Option<PathBuf>,
}

impl Plan {
    fn label(&self) -> String {
        if self.name.is_empty() { "the top buffer".into() } else { format!("instance {}", self.name) }
    }
}

impl Copy<'_> {
    fn read(mut self, directory: &Path) -> Result<Copied> {
        let shown = self.tree.shown(directory);
        let mut info = self.info(directory)?;
        let mut plans = vec![self.plan(directory, String::new(), &mut info)?];
        let instances = directory.join("instances");
        for entry in self.tree.list(&instances)?.iter().filter(|e| e.kind == EntryKind::Directory) {
            let name = entry.name.to_string_lossy().into_owned();
            plans.push(self.plan(&instances.join(&entry.name), name, &mut info)?);
        }
        let mut copied = Copied::default();
        if let Some(capture) = self.raw(directory, &mut plans, info.clone(), &mut copied)? {
            copied.captures.push(capture);
        }
        for plan in plans {
            let Some(path) = plan.text else { continue };
            let shown = self.tree.shown(&path);
            if !plan.pages.is_empty() {
                let why = format!("text of {}, whose sub-buffers are read instead", plan_label(&plan.name));
                copied.left_out.push((shown, why));
                continue;
            }
            let source = self.source(&path)?;
            if has_no_event(&shown, &*source)? {
                copied.left_out.push((shown, "text without an event".to_owned()));
                continue;
            }
            let mut capture = text::open_with_clock(&shown, source, plan.clock)?;
            if plan.name.is_empty() {
                self.describe(&mut capture, directory, info.clone());
                // It stands for the whole directory, and is the main one.
                copied.captures.insert(0, capture);
            } else {
                capture.info.kind = format!("ftrace text of instance {}", plan.name);
                capture.buffers.iter_mut().for_each(|buffer| buffer.name.clone_from(&plan.name));
                copied.captures.push(capture);
            }
        }
        let Some(main) = copied.captures.first_mut() else {
            return Err(Error::format("is a copy of tracefs without any event")
                .in_file(shown)
                .hint("copy per_cpu/cpuN/trace_pipe_raw and trace of the buffers, as root, while tracing is off"));
        };
        self.notes.store(&mut main.info);
        Ok(copied)
    }

    /// Small texts of the whole machine.
    fn info(&mut self, directory: &Path) -> Result<CaptureInfo> {
        let entries = self.tree.list(directory)?;
        let text = |name: &str| self.text(directory, &entries, name, Limit::Section).map(Option::unwrap_or_default);
        let tgid = |line: &str| {
            let (tid, tgid) = line.trim().split_once(' ')?;
            Some((tid.parse().ok()?, tgid.trim().parse().ok()?))
        };
        Ok(CaptureInfo {
            cmdlines: cmdlines(&text("saved_cmdlines")?),
            tgids: text("saved_tgids")?.lines().filter_map(tgid).collect(),
            printk_formats: printk_formats(&text("printk_formats")?),
            kallsyms: self.kallsyms(directory, &entries)?,
            ..CaptureInfo::default()
        })
    }

    /// What the directory says goes before what its text shows.
    fn describe(&self, capture: &mut Capture, directory: &Path, info: CaptureInfo) {
        capture.path = self.tree.shown(directory);
        let mine = &mut capture.info;
        mine.kind = "copied tracefs, text".into();
        let known: BTreeSet<i32> = mine.cmdlines.iter().map(|(tid, _)| *tid).collect();
        mine.cmdlines.extend(info.cmdlines.into_iter().filter(|(tid, _)| !known.contains(tid)));
        mine.cmdlines.sort();
        mine.tgids.extend(info.tgids);
        mine.cpu_stats = info.cpu_stats;
        mine.kallsyms = info.kallsyms;
    }

    fn plan(&mut self, directory: &Path, name: String, info: &mut CaptureInfo) -> Result<Plan> {
        let entries = self.tree.list(directory)?;
        let clock = self.text(directory, &entries, "trace_clock", Limit::Format)?.and_then(|text| clock(&text));
        for (cpu, path) in cpu_directories(self.tree, directory, self.budget.limits())? {
            info.cpu_count = info.cpu_count.max(cpu + 1);
            let entries = self.tree.list(&path)?;
            if let Some(text) = self.text(&path, &entries, "stats", Limit::Format)? {
                info.cpu_stats.push(stats(&text, &name, cpu));
            }
        }
        let mut cpus = Vec::new();
        for (cpu, path) in pages::files(self.tree, directory, self.budget.limits())? {
            let source = self.source(&path)?;
            if !source.is_empty() {
                cpus.push(CpuPages { cpu, path: self.tree.shown(&path), source });
            }
        }
        let text = find(&entries, &TEXTS).map(|entry| directory.join(&entry.name));
        Ok(Plan { name, clock, pages: cpus, text })
    }

    /// The capture of all buffers with sub-buffers; plans whose sub-buffers cannot be read lose them.
    fn raw(
        &mut self,
        directory: &Path,
        plans: &mut [Plan],
        mut info: CaptureInfo,
        copied: &mut Copied,
    ) -> Result<Option<Capture>> {
        if plans.iter().all(|plan| plan.pages.is_empty()) {
            return Ok(None);
        }
        let formats = self.formats(&directory.join("events"))?;
        if formats.events().is_empty() {
            // The texts tell the same without formats.
            if plans.iter().all(|plan| plan.pages.is_empty() || plan.text.is_some()) {
                for plan in plans {
                    let why = "sub-buffers without events/*/*/format: the text is read instead";
                    copied.left_out.extend(plan.pages.drain(..).map(|cpu| (cpu.path, why.to_owned())));
                }
                return Ok(None);
            }
            return Err(Error::format("the sub-buffers have no descriptions of their events (events/*/*/format)")
                .hint("copy them too: tar does, as `tar -C /sys/kernel/tracing -cf formats.tar events`"));
        }
        let formats = Arc::new(formats);
        let ids = Arc::new(EventIds::new(&formats));
        let top = self.header_page(directory)?;
        let mut endian = Endian::Little;
        let mut buffers = Vec::new();
        for plan in plans.iter() {
            let own =
                if plan.name.is_empty() { directory.into() } else { directory.join("instances").join(&plan.name) };
            let stated = Pages {
                header_page: if plan.name.is_empty() { top.clone() } else { self.header_page(&own)? },
                top: top.clone(),
                size_kib: self.number(&own, "buffer_subbuf_size_kb")?,
            };
            let label = plan.label();
            let layout = match plan.pages.is_empty() {
                true => None,
                false => Some(stated.layout(&label, &plan.pages, &mut self.notes)?),
            };
            endian = layout.map_or(endian, |layout| layout.endian);
            let clock = self.clock_of(plan, plans.first().and_then(|top| top.clock.as_ref()));
            let streams = plan.pages.iter().filter_map(|cpu| {
                let (source, path) = (Arc::clone(&cpu.source), Arc::from(cpu.path.as_path()));
                let file = PageFile { source, path, ids: Arc::clone(&ids) };
                let pages = RawPages::new(file, layout?, cpu.cpu, 0, cpu.source.len());
                Some(Stream { cpu: cpu.cpu, source: Box::new(pages) as Box<dyn ChunkSource> })
            });
            let streams = streams.collect();
            buffers.push(Buffer { name: plan.name.clone(), clock, streams });
        }
        info.kind = "copied tracefs, raw sub-buffers".into();
        Ok(Some(Capture { path: self.tree.shown(directory), endian, info, formats, buffers }))
    }

    fn clock_of(&mut self, plan: &Plan, top: Option<&Clock>) -> Clock {
        if let Some(clock) = &plan.clock {
            return clock.clone();
        }
        let assumed = top.cloned().unwrap_or_else(|| Clock::Other("local".into()));
        if !plan.pages.is_empty() {
            let name = match &assumed {
                Clock::X86Tsc => "x86-tsc",
                Clock::Other(name) => name,
            };
            self.notes.warn(format!("{} has no trace_clock; {name} is assumed", plan.label()));
        }
        assumed
    }

    /// All `events/SYSTEM/EVENT/format`.
    fn formats(&mut self, events: &Path) -> Result<FormatTable> {
        let mut table = FormatTable::new();
        for system in directories(self.tree, events)? {
            let name = system.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for event in directories(self.tree, &system)? {
                let entries = self.tree.list(&event)?;
                let Some(text) = self.text(&event, &entries, "format", Limit::Format)? else { continue };
                match EventFormat::parse_within(&name, &text, self.budget.limits()) {
                    Ok(format) => {
                        if let Err(format) = table.add(format) {
                            let EventFormat { id, name: event, .. } = format;
                            self.notes.warn(format!("{name}:{event} has id {id} as another event has, ignored"));
                        }
                    }
                    Err(error) => self.notes.warn(format!(
                        "{} cannot be read: {error}; its events have no names",
                        self.tree.shown(&event.join("format")).display()
                    )),
                }
            }
        }
        Ok(table)
    }

    fn header_page(&mut self, directory: &Path) -> Result<Option<String>> {
        let events = directory.join("events");
        let entries = self.tree.list(&events)?;
        let text = self.text(&events, &entries, "header_page", Limit::Format)?;
        Ok(text.filter(|text| !text.trim().is_empty()))
    }

    fn number(&mut self, directory: &Path, name: &str) -> Result<Option<u64>> {
        let entries = self.tree.list(directory)?;
        Ok(self.text(directory, &entries, name, Limit::Format)?.and_then(|text| text.trim().parse().ok()))
    }

    /// A small file as text, if it is there.
    fn text(&self, directory: &Path, entries: &[Entry], name: &str, limit: Limit) -> Result<Option<String>> {
        let Some(entry) = find(entries, &[name]) else { return Ok(None) };
        let path = directory.join(&entry.name);
        let source = self.source(&path)?;
        let shown = self.tree.shown(&path);
        let limits = self.budget.limits();
        limits.check(limit, source.len(), "bytes of a text").map_err(|error| error.in_file(&shown))?;
        let bytes = head(&shown, &*source, source.len())?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// `kallsyms` as copied from /proc, looked at when a name is needed.
    fn kallsyms(&self, directory: &Path, entries: &[Entry]) -> Result<Option<Arc<Kallsyms>>> {
        let Some(entry) = find(entries, &["kallsyms"]) else { return Ok(None) };
        let path = directory.join(&entry.name);
        let (shown, packed, budget) = (self.tree.shown(&path), self.tree.open(&path)?, Arc::clone(self.budget));
        if packed.is_empty() {
            return Ok(None);
        }
        let symbols = Kallsyms::lazy(move || {
            let source = archive::unpack_file(&shown, Arc::clone(&packed), &budget)?;
            budget.limits().check(Limit::Section, source.len(), "bytes of a text").map_err(|e| e.in_file(&shown))?;
            let (len, shown) = (source.len(), shown.clone());
            let mut pieces = kallsyms::stored(source, 0, len);
            Ok(Box::new(move |most, into| pieces(most, into).map_err(|error| error.in_file(&shown))))
        });
        Ok(Some(Arc::new(symbols)))
    }

    fn source(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        archive::unpack_file(&self.tree.shown(path), self.tree.open(path)?, self.budget)
    }
}

fn plan_label(name: &str) -> String {
    if name.is_empty() { "the top buffer".into() } else { format!("instance {name}") }
}

fn directories(tree: &dyn Tree, parent: &Path) -> Result<Vec<PathBuf>> {
    let list = tree.list(parent)?;
    Ok(list.into_iter().filter(|e| e.kind == EntryKind::Directory).map(|e| parent.join(e.name)).collect())
}

/// `per_cpu/cpuN`, by number.
fn cpu_directories(tree: &dyn Tree, directory: &Path, limits: &Limits) -> Result<Vec<(u32, PathBuf)>> {
    let most = limits.get(Limit::Cpus);
    let number = |path: PathBuf| {
        let cpu = path.file_name()?.to_str()?.strip_prefix("cpu")?.parse().ok()?;
        (u64::from(cpu) < most).then_some((cpu, path))
    };
    let mut cpus: Vec<_> = directories(tree, &directory.join("per_cpu"))?.into_iter().filter_map(number).collect();
    cpus.sort();
    cpus.dedup_by_key(|(cpu, _)| *cpu);
    Ok(cpus)
}

/// `local global [x86-tsc]`, or only the name of the one in use.
fn clock(text: &str) -> Option<Clock> {
    let bracketed = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(name, _)| name);
    let mut words = text.split_whitespace();
    let name = bracketed.or_else(|| words.next().filter(|_| words.next().is_none()))?;
    Some(if name == "x86-tsc" { Clock::X86Tsc } else { Clock::Other(name.to_owned()) })
}

/// `per_cpu/cpuN/stats`.
fn stats(text: &str, buffer: &str, cpu: u32) -> CpuStats {
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name));
        line.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
    };
    CpuStats {
        buffer: buffer.to_owned(),
        cpu,
        overrun: number("overrun"),
        dropped: number("dropped events"),
        entries: number("entries"),
    }
}

/// A text that is nothing but its heading: the buffer of an instance that recorded nothing.
fn has_no_event(shown: &Path, source: &dyn ReadAt) -> Result<bool> {
    let first = head(shown, source, 64 << 10)?;
    let blank = first.split(|&byte| byte == b'\n').all(|line| line.trim_ascii().is_empty() || line.starts_with(b"#"));
    Ok(blank && source.len() <= 64 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files() {
        assert_eq!(clock("local global [x86-tsc]\n"), Some(Clock::X86Tsc));
        assert_eq!(clock("[local] global counter x86-tsc\n"), Some(Clock::Other("local".into())));
        assert_eq!(clock("mono\n"), Some(Clock::Other("mono".into())));
        assert_eq!(clock("local global\n"), None);
        let stats = stats("entries: 54347\noverrun: 53335\ncommit overrun: 7\ndropped events: 3\n", "x", 2);
        let expected = CpuStats { buffer: "x".into(), cpu: 2, overrun: 53_335, dropped: 3, entries: 54_347 };
        assert_eq!(stats, expected);
    }

    #[test]
    fn names_of_files() {
        let entry = |name: &str| Entry { name: name.into(), kind: EntryKind::File(1) };
        let entries = [entry("trace.txt.gz"), entry("trace_clock")];
        assert_eq!(find(&entries, &TEXTS), Some(&entries[0]));
        assert_eq!(find(&entries, &["trace_clock"]), Some(&entries[1]));
        assert_eq!(find(&entries, &["tr"]), None);
    }
}
