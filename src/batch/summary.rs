//! What became of all captures: of one run, or of all workers that shared a destination.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::engine::read_done;
use super::name::{TABLE, stats_beside};
use super::record::{Line, Record, Start, Status};
use super::state;
use super::store::{Store, Upload};
use crate::capture::tree::EntryKind;
use crate::error::{Error, ErrorKind, Result};
use crate::printable::line;
use crate::stats::{Parquet, Stats};

/// Largest log, statistics file.
const MAX_FILE: u64 = 1 << 30;

/// A summary, as `--json` prints it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Captures that there are for this worker, or for all where several are summed up.
    pub captures: usize,
    /// Converted.
    pub done: usize,
    /// Of which the output was there.
    pub skipped: usize,
    /// Not converted for an error.
    pub failed: usize,
    /// Converted, but part of the input was damaged, cut short or skipped; with `--strict`, or lost.
    pub damaged: usize,
    /// Not worked on, or not to the end.
    pub left: usize,
    /// Bytes of the captures that were converted.
    pub bytes_in: u64,
    /// Bytes of their outputs.
    pub bytes_out: u64,
    /// Events in them.
    pub events: u64,
    /// From begin to end; of several workers, all of them together.
    pub seconds: f64,
    /// Workers whose logs were read; 0 for a run itself.
    pub workers: usize,
    /// The run was interrupted.
    pub interrupted: bool,
    /// Captures by verdict of `check`; `none` for those without guest events.
    pub verdicts: BTreeMap<String, usize>,
    /// The records of what failed or is damaged.
    pub trouble: Vec<Record>,
}

impl Summary {
    /// Of one run that was to work on `captures`.
    pub(super) fn of_run(records: Vec<Record>, captures: usize, strict: bool, seconds: f64, interrupted: bool) -> Self {
        Self { captures, seconds, interrupted, ..Self::of(records, captures, strict) }
    }

    fn of(records: Vec<Record>, captures: usize, strict: bool) -> Self {
        let mut summary = Self { captures, ..Self::default() };
        for record in records {
            let whole = match record.status {
                Status::Done | Status::Skipped => {
                    if record.status == Status::Done {
                        summary.done += 1;
                        summary.bytes_in += record.bytes_in;
                        summary.bytes_out += record.bytes_out;
                        summary.events += record.events;
                    } else {
                        summary.skipped += 1;
                    }
                    let verdict = record.verdict.clone().unwrap_or_else(|| "none".to_owned());
                    *summary.verdicts.entry(verdict).or_default() += 1;
                    let whole = record.is_whole() && !(strict && record.has_gaps());
                    summary.damaged += usize::from(!whole);
                    whole
                }
                Status::Failed => {
                    summary.failed += 1;
                    false
                }
                Status::Interrupted => true,
            };
            if !whole {
                summary.trouble.push(record);
            }
        }
        summary.left = captures.saturating_sub(summary.done + summary.skipped + summary.failed);
        summary
    }

    /// Whether every capture is in its output, whole.
    pub fn all_done(&self) -> bool {
        self.failed + self.damaged + self.left == 0
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for record in &self.trouble {
            let _ = match &record.error {
                Some(error) => {
                    writeln!(text, "failed: {}: {} [{}]", line(&record.source), line(&error.message), error.code)
                }
                None if record.damaged.is_empty() => writeln!(
                    text,
                    "incomplete: {}: {} events lost, {} not placed",
                    line(&record.source),
                    record.events_lost,
                    record.not_placed
                ),
                None => writeln!(text, "damaged: {}: {}", line(&record.source), line(&record.damaged.join("; "))),
            };
        }
        let _ = write!(
            text,
            "{} captures: {} converted, {} finished before, {} failed, {} damaged",
            self.captures, self.done, self.skipped, self.failed, self.damaged
        );
        if self.left > 0 {
            let _ = write!(text, ", {} left", self.left);
        }
        let _ = writeln!(text);
        if self.done > 0 {
            let _ = writeln!(
                text,
                "{} events in {:.1} MB to {:.1} MB, {:.1} s{}",
                self.events,
                self.bytes_in as f64 / 1e6,
                self.bytes_out as f64 / 1e6,
                self.seconds,
                if self.workers > 1 { format!(" of {} workers", self.workers) } else { String::new() },
            );
        }
        let verdicts: Vec<String> = self.verdicts.iter().map(|(verdict, n)| format!("{n} {verdict}")).collect();
        if !verdicts.is_empty() {
            let _ = writeln!(text, "check: {}", verdicts.join(", "));
        }
        text
    }
}

/// Sums up all that workers recorded at a destination, and writes the table over all statistics where there are any.
///
/// # Errors
/// `Usage` where nobody recorded anything; `Io`.
pub fn merge(store: &dyn Store, strict: bool) -> Result<Summary> {
    let mut records: BTreeMap<String, Record> = BTreeMap::new();
    let mut add = |record: Record| {
        let old = records.get(&record.output);
        // What a later run found finished was converted by an earlier one.
        if old.is_none_or(|old| old.ended <= record.ended && record.status != Status::Skipped) {
            records.insert(record.output.clone(), record);
        }
    };
    let (mut starts, mut seconds): (Vec<Start>, f64) = (Vec::new(), 0.0);
    for path in files(store, Path::new(state::LOGS))? {
        let bytes = store.read(&path, MAX_FILE)?.unwrap_or_default();
        // The last line of a worker that was killed may be half a line.
        for line in bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok()) {
            match line {
                Line::Start(start) => starts.push(start),
                Line::Capture(record) => {
                    seconds += record.seconds;
                    add(record);
                }
                Line::End(_) => {}
            }
        }
    }
    let mut with_stats = Vec::new();
    for path in files(store, Path::new(state::DONE))? {
        if let Some(done) = read_done(store, &path)? {
            with_stats.extend(done.stats.then(|| done.record.clone()));
            add(done.record);
        }
    }
    if starts.is_empty() && records.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "no batch was run to this destination")
            .in_file(store.shown(Path::new("")))
            .hint("name the directory that --out named"));
    }
    if !with_stats.is_empty() {
        with_stats.sort_by(|a, b| a.output.cmp(&b.output));
        write_table(store, &with_stats)?;
    }
    let found = starts.iter().max_by(|a, b| a.time.total_cmp(&b.time)).map_or(0, |start| start.found);
    let captures = records.len().max(usize::try_from(found).unwrap_or(usize::MAX));
    let mut summary = Summary::of(records.into_values().collect(), captures, strict);
    summary.workers = starts.len();
    summary.seconds = seconds;
    Ok(summary)
}

/// Writes the statistics of all captures that are finished as one table.
pub(super) fn write_table(store: &dyn Store, records: &[Record]) -> Result<()> {
    let mut table = Parquet::new(Written(store.write(Path::new(TABLE))?))?;
    for record in records.iter().filter(|record| matches!(record.status, Status::Done | Status::Skipped)) {
        let path = stats_beside(Path::new(&record.output));
        let Some(bytes) = store.read(&path, MAX_FILE)? else { continue };
        let stats: Stats = serde_json::from_slice(&bytes)
            .map_err(|error| Error::format(format!("is no statistics: {error}")).in_file(store.shown(&path)))?;
        table.add(&record.input, &stats)?;
    }
    table.finish()?.0.finish()
}

/// An upload, for what writes to [`io::Write`].
struct Written(Box<dyn Upload>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All files below a directory, sorted.
fn files(store: &dyn Store, directory: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in store.list(&directory)? {
            let path = directory.join(&entry.name);
            if entry.kind == EntryKind::Directory { left.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}
