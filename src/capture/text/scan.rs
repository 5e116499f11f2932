//! The first pass over a text: everything that must be known before the first record is made.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::body::Body;
use super::chunks::{Piece, Starts};
use super::line::{Line, Other, Stamp};
use super::lines::{Lines, TextFile};
use super::shape::{Discovery, Variant, full_name};
use crate::error::Result;

/// What a text, or a part of one, holds.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) discovery: Discovery,
    /// By buffer name and CPU: where its lines are.
    pub(super) streams: BTreeMap<(Box<[u8]>, u32), Vec<Piece>>,
    /// The last comm of each thread.
    pub(super) comms: FxHashMap<i32, Box<[u8]>>,
    pub(super) tgids: FxHashMap<i32, i32>,
    pub(super) events: u64,
    /// Events with plain integers, and with seconds, as stamps.
    pub(super) stamps: [u64; 2],
    /// Names in front of `cpus=`.
    pub(super) files: BTreeSet<Box<[u8]>>,
    pub(super) tracer: Option<Box<[u8]>>,
    pub(super) cpus: u32,
    pub(super) overwritten: u64,
    /// From `trace-cmd report`, not from the kernel.
    pub(super) report: bool,
    /// Lines that are nothing known: how many, and offset and start of the first.
    pub(super) unknown: u64,
    pub(super) first_unknown: Option<(u64, String)>,
}

impl Facts {
    /// Reads a whole text, in parallel.
    pub(super) fn read(file: &TextFile) -> Result<Self> {
        let mut all = Self::default();
        // In groups, so that the parts of a huge text are not all in memory at once; merged in order.
        let chunks = file.chunks();
        for group in (0..chunks).step_by(GROUP) {
            let parts: Vec<Result<Self>> = (group..chunks.min(group + GROUP))
                .into_par_iter()
                .map_init(Vec::new, |buffer, index| {
                    let base = (index as u64).saturating_mul(file.chunk);
                    Ok(Self::of_chunk(index, base, file.read(index, buffer)?))
                })
                .collect();
            for part in parts {
                all.merge(part?);
            }
        }
        Ok(all)
    }

    fn of_chunk(index: usize, base: u64, lines: Lines<'_>) -> Self {
        let mut facts = Self::default();
        let mut scratch = Vec::new();
        let mut streams: Vec<(&[u8], u32, Starts)> = Vec::new();
        for (offset, bytes) in lines {
            let Some(line) = Line::parse(bytes) else {
                match Other::parse(bytes) {
                    Other::Lost { prefix, cpu, .. } => starts(&mut streams, prefix, cpu).push(offset),
                    other => facts.other(base + u64::from(offset), other, bytes),
                }
                continue;
            };
            facts.events += 1;
            if let Some(slot) = facts.stamps.get_mut(usize::from(matches!(line.stamp, Stamp::Nanoseconds(_)))) {
                *slot += 1;
            }
            starts(&mut streams, line.prefix, line.cpu).push(offset);
            if line.pid != 0
                && line.comm != b"<...>"
                && facts.comms.get(&line.pid).is_none_or(|known| **known != *line.comm)
            {
                facts.comms.insert(line.pid, line.comm.into());
            }
            if let Some(tgid) = line.tgid {
                facts.tgids.insert(line.pid, tgid);
            }
            let body = Body::parse(line.body);
            let mut pairs = Vec::new();
            let variant = Variant::of(&body, &mut pairs);
            facts.discovery.add(full_name(&body, &mut scratch), &variant);
        }
        for (prefix, cpu, starts) in streams {
            facts.streams.insert((prefix.into(), cpu), vec![Piece { chunk: index as u32, starts }]);
        }
        facts
    }

    fn other(&mut self, offset: u64, other: Other<'_>, line: &[u8]) {
        match other {
            Other::Cpus { prefix, count } => {
                self.cpus = self.cpus.max(count);
                self.report = true;
                self.files.insert(prefix.into());
            }
            Other::Tracer(name) => self.tracer = Some(name.into()),
            // Counts from the file: they may be any number.
            Other::Entries { left, written } => {
                self.overwritten = self.overwritten.saturating_add(written.saturating_sub(left));
            }
            Other::Lost { .. } | Other::Nothing => {}
            Other::Unknown => {
                self.unknown += 1;
                let start = line.get(..line.len().min(60)).unwrap_or(line);
                self.first_unknown.get_or_insert_with(|| (offset, start.escape_ascii().to_string()));
            }
        }
    }

    fn merge(&mut self, later: Self) {
        self.discovery.merge(later.discovery);
        for (stream, chunks) in later.streams {
            self.streams.entry(stream).or_default().extend(chunks);
        }
        self.comms.extend(later.comms);
        self.tgids.extend(later.tgids);
        self.events += later.events;
        for (mine, more) in self.stamps.iter_mut().zip(later.stamps) {
            *mine += more;
        }
        self.files.extend(later.files);
        self.tracer = self.tracer.take().or(later.tracer);
        self.cpus = self.cpus.max(later.cpus);
        self.overwritten = self.overwritten.saturating_add(later.overwritten);
        self.report |= later.report;
        self.unknown += later.unknown;
        self.first_unknown = self.first_unknown.take().or(later.first_unknown);
    }
}

/// The line starts of a stream.
fn starts<'s, 'a>(streams: &'s mut Vec<(&'a [u8], u32, Starts)>, prefix: &'a [u8], cpu: u32) -> &'s mut Starts {
    let at = match streams.iter().position(|(known, number, _)| *number == cpu && *known == prefix) {
        Some(at) => at,
        None => {
            streams.push((prefix, cpu, Starts::default()));
            streams.len() - 1
        }
    };
    &mut streams[at].2
}

/// Chunks whose facts are held at once.
const GROUP: usize = 256;
