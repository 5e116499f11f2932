//! Who works on what, so that several workers on one destination do not do the same work.
//!
//! A claim is a file whose name ends in a generation; creating it is atomic, so one worker gets it. It is written anew
//! every few seconds. A claim whose worker is gone, or has not been heard of for long enough, is taken over by creating the
//! next generation, which again one worker can. No clock is compared with another machine's: only whether the claim changes
//! while one looks. Claims save work and keep the log tidy. That no output is ever wrong does not rest on them: outputs
//! appear whole, and two workers that convert the same capture write the same bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::state;
use super::store::Store;
use super::worker::{Fate, Worker, fate};
use crate::error::Result;

/// Larger than any claim.
const MAX_CLAIM: u64 = 1 << 12;

/// The claims of this worker, and what it saw of others'.
pub(super) struct Claims {
    store: Arc<dyn Store>,
    worker: Worker,
    /// A claim that does not change for so long is nobody's.
    stale: Duration,
    /// Path without generation, and the generation.
    held: Mutex<BTreeMap<PathBuf, u64>>,
    seen: Mutex<BTreeMap<PathBuf, Seen>>,
    beats: Mutex<u64>,
}

/// Another worker's claim, and since when it looks like that.
struct Seen {
    generation: u64,
    bytes: Vec<u8>,
    since: Instant,
}

/// How often a claim is renewed in the time after which it would be stale.
const BEATS: u32 = 6;

impl Claims {
    pub(super) fn new(store: &Arc<dyn Store>, worker: &Worker, stale: Duration) -> Self {
        Self {
            store: Arc::clone(store),
            worker: worker.clone(),
            stale,
            held: Mutex::default(),
            seen: Mutex::default(),
            beats: Mutex::default(),
        }
    }

    /// How often [`Claims::renew`] is to be called.
    pub(super) fn period(&self) -> Duration {
        self.stale / BEATS
    }

    /// Removes what workers left whose processes on this machine are gone.
    pub(super) fn sweep(&self) -> Result<()> {
        self.store.sweep(&|worker| fate(worker) == Fate::Gone)?;
        let mut left = vec![PathBuf::from(state::CLAIMS)];
        while let Some(directory) = left.pop() {
            for entry in self.store.list(&directory)? {
                let path = directory.join(&entry.name);
                if entry.kind == crate::capture::tree::EntryKind::Directory {
                    left.push(path);
                } else if let Some(bytes) = self.store.read(&path, MAX_CLAIM)?
                    && owner(&bytes).is_some_and(|owner| fate(owner) == Fate::Gone)
                {
                    self.store.remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Tries to become the one who works on `output`.
    pub(super) fn take(&self, output: &Path) -> Result<bool> {
        let base = Path::new(state::CLAIMS).join(output);
        let next = match self.highest(&base)? {
            None => 1,
            Some(generation) => {
                if !self.is_free(&base, generation)? {
                    return Ok(false);
                }
                generation + 1
            }
        };
        // While it is being created nobody else may renew it: it is not held yet.
        if !self.store.create(&at(&base, next), &self.text(0))? {
            return Ok(false);
        }
        lock(&self.held).insert(base.clone(), next);
        lock(&self.seen).remove(&base);
        self.remove_before(&base, next)?;
        Ok(true)
    }

    /// Lets go.
    pub(super) fn release(&self, output: &Path) -> Result<()> {
        let base = Path::new(state::CLAIMS).join(output);
        let Some(generation) = lock(&self.held).remove(&base) else { return Ok(()) };
        self.remove_before(&base, generation + 1)
    }

    /// Shows that this worker is there.
    pub(super) fn renew(&self) -> Result<()> {
        let beat = {
            let mut beats = lock(&self.beats);
            *beats += 1;
            *beats
        };
        // One that is let go meanwhile must not come back.
        let held = lock(&self.held);
        held.iter().try_for_each(|(base, generation)| self.store.put(&at(base, *generation), &self.text(beat)))
    }

    fn text(&self, beat: u64) -> Vec<u8> {
        format!("{}\n{beat}\n", self.worker.name()).into_bytes()
    }

    fn generations(&self, base: &Path) -> Result<Vec<u64>> {
        let Some(name) = base.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            return Ok(Vec::new());
        };
        let entries = self.store.list(base.parent().unwrap_or(Path::new("")))?;
        let generation = |entry: &str| entry.strip_prefix(&name)?.strip_prefix('.')?.parse().ok();
        Ok(entries.iter().filter_map(|entry| generation(entry.name.to_str()?)).collect())
    }

    fn highest(&self, base: &Path) -> Result<Option<u64>> {
        Ok(self.generations(base)?.into_iter().max())
    }

    fn remove_before(&self, base: &Path, end: u64) -> Result<()> {
        let mut old = self.generations(base)?.into_iter().filter(|&generation| generation < end);
        old.try_for_each(|generation| self.store.remove(&at(base, generation)))
    }

    /// Whether whoever has this claim is gone.
    fn is_free(&self, base: &Path, generation: u64) -> Result<bool> {
        // One that was let go just now will be seen the next time.
        let Some(bytes) = self.store.read(&at(base, generation), MAX_CLAIM)? else { return Ok(false) };
        match owner(&bytes).map(fate) {
            Some(Fate::Gone) => return Ok(true),
            Some(Fate::Alive) => return Ok(false),
            Some(Fate::Elsewhere) | None => {}
        }
        let mut seen = lock(&self.seen);
        let new = Seen { generation, bytes, since: Instant::now() };
        match seen.get(base).filter(|old| old.generation == generation && old.bytes == new.bytes) {
            Some(old) if old.since.elapsed() >= self.stale => {
                let owner = owner(&old.bytes).map(str::to_owned);
                drop(seen);
                self.store.sweep(&|worker| Some(worker) == owner.as_deref())?;
                Ok(true)
            }
            Some(_) => Ok(false),
            None => {
                seen.insert(base.to_owned(), new);
                Ok(false)
            }
        }
    }
}

/// A claim's file.
fn at(base: &Path, generation: u64) -> PathBuf {
    let mut name = base.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{generation}"));
    base.with_file_name(name)
}

fn owner(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()?.lines().next().filter(|name| !name.is_empty())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::store::Local;
    use super::*;

    const OUTPUT: &str = "a/b.pftrace";

    fn claims(directory: &Path, stale: u64) -> Claims {
        let worker = Worker::current();
        let store: Arc<dyn Store> = Arc::new(Local::new(directory, &worker));
        Claims::new(&store, &worker, Duration::from_millis(stale))
    }

    fn write(directory: &Path, name: &str, owner: &str) -> PathBuf {
        let path = directory.join(state::CLAIMS).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("{owner}\n0\n")).unwrap();
        path
    }

    #[test]
    fn one_of_many_gets_it() {
        let directory = tempfile::tempdir().unwrap();
        let got = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| claims(directory.path(), 60_000).take(Path::new(OUTPUT)).unwrap()))
                .collect();
            tries.into_iter().map(|t| t.join().unwrap()).filter(|got| *got).count()
        });
        assert_eq!(got, 1);
    }

    #[test]
    fn claims_of_the_dead_are_taken_over_once() {
        let directory = tempfile::tempdir().unwrap();
        let me = Worker::current();
        let mut parts: Vec<&str> = me.name().split('.').collect();
        *parts.last_mut().unwrap() = "1";
        let old = write(directory.path(), "a/b.pftrace.7", &parts.join("."));
        let (one, other) = (claims(directory.path(), 60_000), claims(directory.path(), 60_000));
        assert!(one.take(Path::new(OUTPUT)).unwrap());
        assert!(!old.exists());
        assert!(!other.take(Path::new(OUTPUT)).unwrap());
        one.renew().unwrap();
        one.release(Path::new(OUTPUT)).unwrap();
        one.renew().unwrap();
        assert!(other.take(Path::new(OUTPUT)).unwrap());
    }

    #[test]
    fn a_claim_from_elsewhere_holds_as_long_as_it_is_renewed() {
        let directory = tempfile::tempdir().unwrap();
        let path = write(directory.path(), "a/b.pftrace.1", "host.machine_1.5.6");
        let claims = claims(directory.path(), 40);
        for beat in 1..4 {
            assert!(!claims.take(Path::new(OUTPUT)).unwrap());
            std::thread::sleep(Duration::from_millis(30));
            std::fs::write(&path, format!("host.machine_1.5.6\n{beat}\n")).unwrap();
        }
        assert!(!claims.take(Path::new(OUTPUT)).unwrap());
        std::thread::sleep(Duration::from_millis(60));
        assert!(claims.take(Path::new(OUTPUT)).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn sweeping_leaves_the_living() {
        let directory = tempfile::tempdir().unwrap();
        let me = Worker::current();
        let mine = write(directory.path(), "x.1", me.name());
        let mut parts: Vec<&str> = me.name().split('.').collect();
        *parts.last_mut().unwrap() = "1";
        let dead = write(directory.path(), "a/y.1", &parts.join("."));
        let elsewhere = write(directory.path(), "z.1", "host.machine_1.5.6");
        claims(directory.path(), 1000).sweep().unwrap();
        assert_eq!([mine.exists(), dead.exists(), elsewhere.exists()], [true, false, true]);
    }
}
