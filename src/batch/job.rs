//! One capture from its files to its output.

use std::path::Path;
use std::sync::Arc;

use super::find::Source;
use super::meter::{Meter, Metered};
use super::name::stats_beside;
use super::record::{Record, Status};
use super::store::Store;
use super::{Options, fingerprint};
use crate::capture::tree::Tree;
use crate::check::{Verdict, check};
use crate::convert::{ConvertOptions, convert};
use crate::error::Result;
use crate::monitor::Monitor;
use crate::output;
use crate::pipeline::Limits;
use crate::selection::Span;
use crate::session::Session;
use crate::stats::stats_within;

/// Warnings that a record has room for.
const WARNINGS: usize = 20;

/// A capture on its way.
pub(super) struct Job<'a> {
    pub(super) source: &'a Source,
    /// Its output.
    pub(super) output: &'a Path,
    pub(super) options: &'a Options,
    /// The destination.
    pub(super) store: &'a Arc<dyn Store>,
    pub(super) meter: &'a Arc<Meter>,
    pub(super) monitor: &'a Monitor<'a>,
}

impl Job<'_> {
    /// Its record before anything is known.
    pub(super) fn record(&self) -> Record {
        Record {
            input: self.source.name().display().to_string(),
            source: self.source.shown().display().to_string(),
            output: self.output.display().to_string(),
            status: Status::Failed,
            seconds: 0.0,
            ended: 0.0,
            attempts: 0,
            bytes_in: self.source.bytes(),
            bytes_out: 0,
            events: 0,
            events_lost: 0,
            not_placed: 0,
            verdict: None,
            damaged: Vec::new(),
            warnings: Vec::new(),
            error: None,
        }
    }

    fn metered(&self, tree: Arc<dyn Tree>) -> Arc<dyn Tree> {
        Arc::new(Metered::new(tree, Arc::clone(self.meter)))
    }

    /// What its files are now, and the fingerprint of what is in them.
    pub(super) fn fingerprint(&self) -> Result<(fingerprint::Moment, String)> {
        let moment = fingerprint::Moment::of(self.source)?;
        let tree = self.metered(Arc::clone(self.source.store()) as Arc<dyn Tree>);
        let content = fingerprint::of_contents(self.source, &moment, &*tree, self.monitor)?;
        Ok((moment, content))
    }

    /// Converts it, and adds to `record` what it was like. The output appears whole, after the statistics beside it.
    pub(super) fn run(&self, moment: &fingerprint::Moment, limits: Limits, record: &mut Record) -> Result<()> {
        let Self { options, monitor, .. } = self;
        let request = self.source.request(&options.request, &|tree| self.metered(tree))?;
        let session = Session::open(&request, monitor)?;
        let selection = options.filter.select(&session, options.span, monitor)?;
        let mut upload = self.store.write(self.output)?;
        let mut bytes_out = 0;
        let mut write = |bytes: &[u8]| {
            bytes_out += bytes.len() as u64;
            upload.write(bytes)
        };
        let draw = ConvertOptions { limits, ..options.convert.clone() };
        let report = convert(&session, &selection, &draw, &mut write, monitor)?;
        record.events = report.events.read;
        let lost = report.inputs.iter().flat_map(|input| [input.events_lost, input.losses_uncounted]);
        record.events_lost = lost.fold(0, u64::saturating_add);
        record.not_placed = report.events.not_placed.values().sum();
        record.verdict = check(&session, monitor)?.verdict.map(Verdict::name).map(str::to_owned);
        record.damaged = report.damaged;
        record.warnings = report.warnings;
        record.warnings.truncate(WARNINGS);
        record.bytes_out = bytes_out;
        let stats = match options.stats {
            true => {
                let all = options.filter.select(&session, Span::All, monitor)?;
                let stats = stats_within(&session, &all, limits, monitor)?;
                Some(output::json("kvm-timeline/stats", &stats)?.into_bytes())
            }
            false => None,
        };
        drop(session);
        moment.still(self.source)?;
        monitor.check()?;
        if let Some(text) = stats {
            self.store.put(&stats_beside(self.output), &text)?;
        }
        upload.finish()
    }
}
