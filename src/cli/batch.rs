//! `kvm-timeline batch`.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use rayon::ThreadPool;

use super::Exit;
use super::draw::DrawArgs;
use super::exit::printable;
use super::inputs::{ReadingArgs, say, size};
use super::output::{json, print};
use super::progress::stop_flag;
use crate::batch::find::{Finder, Found};
use crate::batch::name::Template;
use crate::batch::record::{Record, Status};
use crate::batch::shard::{Shard, ShardSpec};
use crate::batch::since::moment;
use crate::batch::store::{self, Store};
use crate::batch::summary::{Summary, merge};
use crate::batch::worker::Worker;
use crate::batch::{self, Observer, Options, Plan, Work, real};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::nanoseconds;
use crate::monitor::Monitor;
use crate::pipeline::Limits;
use crate::printable::line;

/// What a thread's work takes, unless something else is said.
const MEMORY_PER_THREAD: u64 = 64 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where captures are: directories, patterns in quotes, files with a path per line, - for such a list from stdin,
    /// single captures, URLs (s3://, gs://, az://, http://, https://, file://).
    #[arg(value_name = "SOURCE", required_unless_present = "summary", conflicts_with = "summary")]
    sources: Vec<String>,
    /// The directory to write to, or a URL (s3://, gs://, az://). Outputs mirror the sources.
    #[arg(short, long, value_name = "DEST", required_unless_present = "summary", conflicts_with = "summary")]
    out: Option<String>,
    /// How outputs are called: {stem} is the name of a capture's directory or file without extensions, {name} with them
    /// [default: {stem}.pftrace].
    #[arg(long, value_name = "TEMPLATE")]
    name: Option<Template>,
    /// Write statistics beside each output, and stats.parquet over all captures.
    #[arg(long)]
    stats: bool,
    /// Do only part K of N; auto: by the array of Slurm or AWS Batch; auto/N: by Kubernetes' JOB_COMPLETION_INDEX.
    #[arg(long, value_name = "K/N")]
    shard: Option<ShardSpec>,
    /// Only captures that were changed since: so long ago as in 7d, or a date in UTC as in 2026-11-26.
    #[arg(long, value_name = "TIME", value_parser = since)]
    newer_than: Option<SystemTime>,
    /// Try a capture again up to N times where files could not be read or written.
    #[arg(long, value_name = "N", default_value_t = 0)]
    retry: u32,
    /// Stop at the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// Show what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Use about this much memory at most for all captures together, such as 1G [default: 64M for each thread].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_memory: Option<u64>,
    /// Convert at most this many captures at a time [default: the number of threads].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Take over what a worker on another machine has claimed that was not heard of for so long.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = patience)]
    stale_after: Duration,
    /// Sum up what all workers recorded at a destination, and write stats.parquet over their statistics.
    #[arg(long, value_name = "DEST")]
    summary: Option<String>,
    /// Print the summary as JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    reading: ReadingArgs,
    #[command(flatten)]
    drawing: DrawArgs,
}

fn since(text: &str) -> Result<SystemTime> {
    moment(text, SystemTime::now())
}

fn patience(text: &str) -> std::result::Result<Duration, String> {
    match nanoseconds(text, 1_000_000_000)? {
        ns if ns >= 100_000_000 => Ok(Duration::from_nanos(ns)),
        _ => Err("at least 100ms: claims are renewed six times in it".to_owned()),
    }
}

pub(super) fn run(args: &Args, quiet: bool, pool: &ThreadPool) -> Result<Exit> {
    let worker = Worker::current();
    if let Some(destination) = &args.summary {
        let summary = merge(&*store::open(destination, &worker)?, args.drawing.strict)?;
        print(&if args.json { json("kvm-timeline/batch", &summary)? } else { printable(&summary.text()) })?;
        return Ok(exit(&summary));
    }
    let options = options(args, pool)?;
    let out = args.out.as_deref().unwrap_or_default();
    let destination = store::open(out, &worker)?;
    let stop = stop_flag();
    let monitor = Monitor { tick: &|_| {}, stop: &stop };
    let found = pool.install(|| find(args, &*destination, &worker, &monitor))?;
    for name in &found.nothing {
        say(quiet, &format!("warning: no capture in {}\n", line(&name.to_string())));
    }
    if found.sources.is_empty() {
        return Err(Error::new(ErrorKind::Evidence, "no capture was found")
            .hint("expected directories of captures, archives of them, or captures; kvm-timeline inspect PATH says what a file is"));
    }
    let plan = batch::plan(found, &*destination, &options)?;
    if args.dry_run {
        return dry_run(&plan, &options);
    }
    let bar = bar(quiet, plan.bytes());
    let observer: Arc<dyn Observer> = Arc::new(Shown {
        bar: bar.clone(),
        of: plan.work.len(),
        finished: AtomicUsize::new(0),
        failed: AtomicUsize::new(0),
    });
    let work = Work {
        plan: &plan,
        destination: &destination,
        options: &options,
        worker: &worker,
        pool,
        observer: &observer,
        stop: &stop,
    };
    let summary = batch::run(&work)?;
    bar.finish_and_clear();
    if args.json {
        print(&json("kvm-timeline/batch", &summary)?)?;
    }
    if args.json || !quiet {
        say(quiet, &summary.text());
    } else if !summary.all_done() {
        // What failed is an error, and errors are printed.
        let _ = write!(std::io::stderr().lock(), "{}", printable(&summary.text()));
    }
    Ok(exit(&summary))
}

fn exit(summary: &Summary) -> Exit {
    match summary {
        _ if summary.interrupted => Exit::Interrupted,
        _ if summary.all_done() => Exit::Done,
        _ => Exit::Damaged,
    }
}

fn options(args: &Args, pool: &ThreadPool) -> Result<Options> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => format!("{{stem}}{}", args.drawing.extension()).parse()?,
    };
    let threads = pool.current_num_threads();
    let shard = match args.shard {
        Some(spec) => spec.resolve(&|name| std::env::var(name).ok())?,
        None => Shard::ALL,
    };
    Ok(Options {
        convert: args.drawing.options(Path::new(name.text()), Limits::default())?,
        request: args.reading.request(),
        filter: args.drawing.filters.filter(),
        span: args.drawing.span(),
        name,
        stats: args.stats,
        strict: args.drawing.strict,
        shard,
        newer_than: args.newer_than,
        retry: args.retry,
        fail_fast: args.fail_fast,
        memory: args.max_memory.unwrap_or_else(|| MEMORY_PER_THREAD.saturating_mul(threads as u64)),
        jobs: args.jobs.map_or(threads, usize::from),
        stale_after: args.stale_after,
    })
}

fn find(args: &Args, destination: &dyn Store, worker: &Worker, monitor: &Monitor<'_>) -> Result<Found> {
    let out = real(&destination.shown(Path::new("")));
    let skip = |shown: &Path| real(shown) == out;
    let mut finder = Finder::new(worker, &skip, monitor);
    for source in &args.sources {
        if source != "-" {
            finder.named(source)?;
            continue;
        }
        let mut list = String::new();
        std::io::stdin().lock().read_to_string(&mut list).map_err(|e| Error::io("stdin", "read", e))?;
        finder.list(&list, "stdin")?;
    }
    Ok(finder.finish())
}

/// One line per capture. Whether it is finished already, only its contents tell.
fn dry_run(plan: &Plan, options: &Options) -> Result<Exit> {
    let mut text = String::new();
    for (source, output) in &plan.work {
        let (shown, output) = (source.shown().display().to_string(), output.display());
        text.push_str(&format!(
            "{:>10.1} MB  {} -> {}\n",
            source.bytes() as f64 / 1e6,
            line(&shown),
            line(&output.to_string())
        ));
    }
    let all = format!("{} of {} captures, {:.1} MB", plan.work.len(), plan.found, plan.bytes() as f64 / 1e6);
    text.push_str(&format!("{all}, shard {}; those that are finished are skipped\n", options.shard));
    print(&printable(&text))?;
    Ok(Exit::Done)
}

fn bar(quiet: bool, bytes: u64) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes);
    let template = "{spinner} {wide_bar} {msg}  {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Shows a run on a terminal.
struct Shown {
    bar: ProgressBar,
    of: usize,
    finished: AtomicUsize,
    failed: AtomicUsize,
}

impl Observer for Shown {
    fn advanced(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn finished(&self, record: &Record) {
        let finished = self.finished.fetch_add(1, Ordering::Relaxed) + 1;
        let failed = match record.status {
            Status::Failed => self.failed.fetch_add(1, Ordering::Relaxed) + 1,
            _ => self.failed.load(Ordering::Relaxed),
        };
        let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        self.bar.set_message(format!("{finished} of {} captures{failed}", self.of));
    }

    fn waits(&self, captures: usize) {
        self.bar.set_message(format!("waiting for other workers: {captures} captures"));
    }
}
