//! Converts what is not finished, several captures at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rayon::ThreadPool;

use super::budget::{Queue, Turn};
use super::claim::Claims;
use super::fingerprint::Moment;
use super::job::Job;
use super::log::Log;
use super::meter::Meter;
use super::record::{Done, End, ErrorRecord, Line, Record, Start, Status, VERSION, now};
use super::store::Store;
use super::summary::{self, Summary};
use super::worker::Worker;
use super::{Options, Plan, TOOL, name, shard, state};
use crate::error::{ErrorKind, Result};
use crate::monitor::Monitor;

/// Larger than any record.
const MAX_RECORD: u64 = 1 << 20;
/// How soon the flag of an interrupt is seen.
const TICK: Duration = Duration::from_millis(20);

/// Watches a run; called from any thread.
pub trait Observer: Send + Sync {
    /// So many bytes of captures are done with.
    fn advanced(&self, bytes: u64);
    /// A capture is.
    fn finished(&self, record: &Record);
    /// Nothing is left but what other workers have claimed.
    fn waits(&self, _captures: usize) {}
}

/// What a run works with.
pub struct Work<'a> {
    /// The captures.
    pub plan: &'a Plan,
    /// Where outputs go.
    pub destination: &'a Arc<dyn Store>,
    /// What is wanted.
    pub options: &'a Options,
    /// Who works.
    pub worker: &'a Worker,
    /// Where conversions run; the caller is none of its threads.
    pub pool: &'a ThreadPool,
    /// Who watches.
    pub observer: &'a Arc<dyn Observer>,
    /// Raised to end the run: what is in the midst is abandoned.
    pub stop: &'a AtomicBool,
}

/// Converts the captures of a plan.
///
/// Whatever happens to one capture is in its record, and costs only that one.
///
/// # Errors
/// `Io` where the destination's own records cannot be read or written.
pub fn run(work: &Work<'_>) -> Result<Summary> {
    let options = work.options;
    let begun = Instant::now();
    let engine = Engine {
        work,
        options_fingerprint: options.fingerprint(),
        claims: Claims::new(work.destination, work.worker, options.stale_after),
        halt: AtomicBool::new(false),
        log: Mutex::new(Log::new(work.destination, work.worker)),
        records: Mutex::default(),
        waiting: Mutex::default(),
    };
    engine.claims.sweep()?;
    engine.say(&Line::Start(Start {
        version: VERSION,
        tool: TOOL.to_owned(),
        worker: work.worker.name().to_owned(),
        time: now(),
        shard: options.shard.to_string(),
        found: work.plan.found as u64,
        mine: work.plan.work.len() as u64,
    }))?;
    let over = AtomicBool::new(false);
    let worked = thread::scope(|scope| {
        scope.spawn(|| engine.keep_alive(&over));
        let worked = engine.all();
        over.store(true, Ordering::Relaxed);
        worked
    });
    let interrupted = work.stop.load(Ordering::Relaxed);
    let seconds = begun.elapsed().as_secs_f64();
    worked?;
    engine.say(&Line::End(End { time: now(), seconds, interrupted }))?;
    let mut records = engine.records.into_inner().unwrap_or_else(PoisonError::into_inner);
    records.sort_by(|a, b| a.output.cmp(&b.output));
    if options.stats && options.shard == shard::Shard::ALL && !interrupted {
        summary::write_table(&**work.destination, &records)?;
    }
    Ok(Summary::of_run(records, work.plan.work.len(), options.strict, seconds, interrupted))
}

/// The state of a run.
struct Engine<'a> {
    work: &'a Work<'a>,
    options_fingerprint: String,
    claims: Claims,
    /// Ends all conversions.
    halt: AtomicBool,
    log: Mutex<Log>,
    records: Mutex<Vec<Record>>,
    /// What others have claimed.
    waiting: Mutex<Vec<Waiting>>,
}

/// A capture that another worker has claimed.
struct Waiting {
    index: usize,
    known: Option<(Moment, String)>,
    meter: Arc<Meter>,
}

/// How an attempt ended that did not fail.
enum Attempt {
    Finished,
    Claimed,
}

impl Engine<'_> {
    /// Passes an interrupt on, and shows other workers that this one is there.
    fn keep_alive(&self, over: &AtomicBool) {
        let mut renewed = Instant::now();
        while !over.load(Ordering::Relaxed) {
            if self.work.stop.load(Ordering::Relaxed) {
                self.halt.store(true, Ordering::Relaxed);
            }
            if renewed.elapsed() >= self.claims.period() {
                renewed = Instant::now();
                // One that cannot be renewed may be taken over; that costs time and nothing else.
                let _ = self.claims.renew();
            }
            thread::sleep(TICK);
        }
    }

    fn stopped(&self) -> bool {
        self.halt.load(Ordering::Relaxed)
    }

    fn all(&self) -> Result<()> {
        let Work { plan, options, .. } = self.work;
        // The largest first: at the end, when few are left, none takes long.
        let mut order: Vec<(usize, u64)> =
            plan.work.iter().enumerate().map(|(index, (source, _))| (index, source.bytes())).collect();
        order.sort_by_key(|&(index, bytes)| (std::cmp::Reverse(bytes), index));
        let jobs = options.jobs.clamp(1, order.len().max(1));
        let queue = Queue::new(options.memory, order);
        let drive = || -> Result<()> {
            while let Some(turn) = queue.next(&|| self.stopped()) {
                self.turn(&turn).inspect_err(|_| self.halt.store(true, Ordering::Relaxed))?;
            }
            Ok(())
        };
        let done: Vec<Result<()>> = thread::scope(|scope| {
            let drivers: Vec<_> = (0..jobs).map(|_| scope.spawn(drive)).collect();
            let join = |driver: thread::ScopedJoinHandle<'_, Result<()>>| {
                driver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            drivers.into_iter().map(join).collect()
        });
        done.into_iter().collect::<Result<()>>()?;
        self.wait()
    }

    fn turn(&self, turn: &Turn<'_>) -> Result<()> {
        let Work { plan, options, observer, .. } = self.work;
        let Some((source, _)) = plan.work.get(turn.index) else { return Ok(()) };
        let tell = Arc::clone(observer);
        // For the fingerprint, the two passes of a conversion, the check, and the statistics.
        let passes = if options.stats { 5 } else { 4 };
        let meter = Meter::new(source.bytes(), passes, Arc::new(move |bytes| tell.advanced(bytes)));
        self.one(Waiting { index: turn.index, known: None, meter: Arc::new(meter) }, turn)
    }

    /// Waits for what others have claimed: they finish it, or they vanish, and it is done here.
    fn wait(&self) -> Result<()> {
        let pause = (self.claims.period() / 4).clamp(Duration::from_millis(20), Duration::from_secs(2));
        loop {
            let waiting = std::mem::take(&mut *lock(&self.waiting));
            if waiting.is_empty() || self.stopped() {
                return Ok(());
            }
            self.work.observer.waits(waiting.len());
            let sizes = waiting.iter().enumerate();
            let sizes = sizes.map(|(at, w)| (at, self.work.plan.work.get(w.index).map_or(0, |(s, _)| s.bytes())));
            let queue = Queue::new(self.work.options.memory, sizes);
            for waiting in waiting {
                if let Some(turn) = queue.next(&|| self.stopped()) {
                    self.one(waiting, &turn)?;
                }
            }
            thread::sleep(pause);
        }
    }

    /// Works on one capture, as often as it takes.
    fn one(&self, mut waiting: Waiting, turn: &Turn<'_>) -> Result<()> {
        let Work { plan, destination, options, observer, .. } = self.work;
        let Some((source, output)) = plan.work.get(waiting.index) else { return Ok(()) };
        let monitor = Monitor { tick: &|_| {}, stop: &self.halt };
        let meter = Arc::clone(&waiting.meter);
        let job = Job { source, output, options, store: destination, meter: &meter, monitor: &monitor };
        let begun = Instant::now();
        let mut attempts = 0;
        let record = loop {
            attempts += 1;
            let mut record = Record { attempts, ..job.record() };
            let known = &mut waiting.known;
            let tried = catch_unwind(AssertUnwindSafe(|| self.attempt(&job, turn, known, &mut record)));
            match tried {
                Ok(Ok(Attempt::Finished)) => break record,
                Ok(Ok(Attempt::Claimed)) => {
                    lock(&self.waiting).push(waiting);
                    return Ok(());
                }
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {
                    break Record { status: Status::Interrupted, ..record };
                }
                Ok(Err(error)) => {
                    waiting.known = None;
                    if error.kind() == ErrorKind::Io && attempts <= options.retry && self.pause(attempts) {
                        continue;
                    }
                    break Record { error: Some(ErrorRecord::from(&error)), ..failed(record) };
                }
                Err(panic) => {
                    let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
                    let words = words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                    break Record { error: Some(ErrorRecord::panic(&words)), ..failed(record) };
                }
            }
        };
        let record = Record { seconds: begun.elapsed().as_secs_f64(), ended: now(), ..record };
        if options.fail_fast && record.status == Status::Failed {
            self.halt.store(true, Ordering::Relaxed);
        }
        meter.finish();
        self.say(&Line::Capture(record.clone()))?;
        observer.finished(&record);
        lock(&self.records).push(record);
        Ok(())
    }

    /// Waits before the next attempt, each time twice as long; whether there should be one.
    fn pause(&self, attempts: u32) -> bool {
        let end = Instant::now() + Duration::from_millis(250) * 2_u32.saturating_pow(attempts - 1).min(120);
        while Instant::now() < end && !self.stopped() {
            thread::sleep(TICK);
        }
        !self.stopped()
    }

    fn attempt(
        &self,
        job: &Job<'_>,
        turn: &Turn<'_>,
        known: &mut Option<(Moment, String)>,
        record: &mut Record,
    ) -> Result<Attempt> {
        let (moment, content) = match known {
            Some(known) => known,
            None => known.insert(job.fingerprint()?),
        };
        if self.was_finished(job.output, content, record)? {
            return Ok(Attempt::Finished);
        }
        if !self.claims.take(job.output)? {
            return Ok(Attempt::Claimed);
        }
        let _claim = Claim { claims: &self.claims, output: job.output };
        // Another may have finished it between the look and the claim.
        if self.was_finished(job.output, content, record)? {
            return Ok(Attempt::Finished);
        }
        self.work.pool.install(|| job.run(moment, turn.limits, record))?;
        record.status = Status::Done;
        let done = Done {
            version: VERSION,
            tool: TOOL.to_owned(),
            content: content.clone(),
            options: self.options_fingerprint.clone(),
            stats: self.work.options.stats,
            record: Record { ended: now(), ..record.clone() },
        };
        let text = serde_json::to_vec_pretty(&done).unwrap_or_default();
        self.work.destination.put(&done_path(job.output), &text)?;
        Ok(Attempt::Finished)
    }

    /// Whether the output is there, whole, and made of the same with the same options; then its record is the old one's.
    fn was_finished(&self, output: &Path, content: &str, record: &mut Record) -> Result<bool> {
        let Some(done) = read_done(&**self.work.destination, &done_path(output))? else { return Ok(false) };
        let same = done.content == content && done.options == self.options_fingerprint;
        let stats = !self.work.options.stats || done.stats && self.is_there(&name::stats_beside(output), None)?;
        if !same || !stats || !self.is_there(output, Some(done.record.bytes_out))? {
            return Ok(false);
        }
        let Record { input, source, attempts, .. } = record.clone();
        *record = Record { input, source, attempts, status: Status::Skipped, ..done.record };
        Ok(true)
    }

    fn is_there(&self, path: &Path, size: Option<u64>) -> Result<bool> {
        let stat = self.work.destination.stat(path)?;
        Ok(stat.is_some_and(|stat| size.is_none_or(|size| size == stat.size)))
    }

    fn say(&self, line: &Line) -> Result<()> {
        lock(&self.log).add(line)
    }
}

/// Lets go of a claim, also in a panic.
struct Claim<'a> {
    claims: &'a Claims,
    output: &'a Path,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        // What cannot be removed is nobody's once this process is gone.
        let _ = self.claims.release(self.output);
    }
}

/// A record of something that has no output.
fn failed(record: Record) -> Record {
    Record { status: Status::Failed, bytes_out: 0, ..record }
}

/// Where it is recorded that an output is finished.
fn done_path(output: &Path) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(".json");
    Path::new(state::DONE).join(output.with_file_name(name))
}

/// A record of something finished; one that cannot be read is none.
pub(super) fn read_done(store: &dyn Store, path: &Path) -> Result<Option<Done>> {
    let bytes = match store.read(path, MAX_RECORD) {
        Err(error) if error.kind() == ErrorKind::Limit => None,
        bytes => bytes?,
    };
    let done = bytes.and_then(|bytes| serde_json::from_slice::<Done>(&bytes).ok());
    Ok(done.filter(|done| done.version == VERSION))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
