//! Stretches of objects that were fetched, so that reading a few kilobytes at a time does not ask a server each time.
//!
//! Whoever jumps gets little at once, whoever reads on gets twice as much each time: metadata and the ends of streams cost
//! what they are, and the events of a CPU arrive in megabytes. What was used longest ago makes room, so memory is bounded,
//! whatever is read.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What a reader gets that was not there before.
pub(super) const LEAST: u64 = 64 << 10;
/// What one gets who reads on.
const MOST: u64 = 1 << 20;

/// Bytes, or why there are none.
type Fetched = Result<Vec<u8>, (io::ErrorKind, String)>;

/// A stretch of an object, perhaps on its way: others who want it wait for the one who fetches it.
pub(super) struct Stretch {
    start: u64,
    length: u64,
    bytes: OnceLock<Fetched>,
}

impl Stretch {
    fn end(&self) -> u64 {
        self.start + self.length
    }
}

struct Entry {
    stretch: Arc<Stretch>,
    /// When it was used last.
    used: u64,
}

#[derive(Default)]
struct State {
    /// By object and start; they never overlap.
    entries: BTreeMap<(Arc<str>, u64), Entry>,
    bytes: u64,
    clock: u64,
}

/// Stretches of all objects of a bucket.
pub(super) struct Cache {
    room: u64,
    state: Mutex<State>,
}

impl Cache {
    /// Room for so many bytes.
    pub(super) fn new(room: usize) -> Self {
        Self { room: room as u64, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the first bytes of an object.
    pub(super) fn keep(&self, object: &Arc<str>, bytes: Vec<u8>) {
        let stretch = Stretch { start: 0, length: bytes.len() as u64, bytes: OnceLock::new() };
        let mut state = self.lock();
        if stretch.length == 0 || state.around(object, 0, stretch.length).is_some() {
            return;
        }
        let _ = stretch.bytes.set(Ok(bytes));
        state.insert(object, Arc::new(stretch), self.room);
    }

    /// Fills `buffer` with the bytes from `offset` on of an object of `size` bytes. `fetch` gets a start and a length.
    ///
    /// # Errors
    /// What `fetch` says; it must have made sure that they are there.
    pub(super) fn read(
        &self,
        object: &Arc<str>,
        size: u64,
        mut buffer: &mut [u8],
        mut offset: u64,
        fetch: &dyn Fn(u64, u64) -> Fetched,
    ) -> io::Result<()> {
        while !buffer.is_empty() {
            let stretch = self.stretch(object, size, offset, buffer.len() as u64);
            let fetched = stretch.bytes.get_or_init(|| fetch(stretch.start, stretch.length));
            let bytes = match fetched {
                Ok(bytes) => bytes,
                Err((kind, words)) => {
                    // The next one may be luckier.
                    self.lock().remove(object, &stretch);
                    return Err(io::Error::new(*kind, words.clone()));
                }
            };
            let from = usize::try_from(offset - stretch.start).ok();
            let there = from.and_then(|from| bytes.get(from..)).filter(|there| !there.is_empty());
            let there = there.ok_or(io::ErrorKind::UnexpectedEof)?;
            let (now, rest) = buffer.split_at_mut(there.len().min(buffer.len()));
            now.copy_from_slice(&there[..now.len()]);
            offset += now.len() as u64;
            buffer = rest;
        }
        Ok(())
    }

    /// The stretch around `offset`, of which `wanted` bytes are asked for; a new one where there is none.
    fn stretch(&self, object: &Arc<str>, size: u64, offset: u64, wanted: u64) -> Arc<Stretch> {
        let mut state = self.lock();
        state.clock += 1;
        let clock = state.clock;
        let before = state.entries.range_mut(..=(Arc::clone(object), offset)).next_back();
        let before = before.filter(|((of, _), _)| of == object);
        let mut length = LEAST;
        if let Some((_, entry)) = before {
            if offset < entry.stretch.end() {
                entry.used = clock;
                return Arc::clone(&entry.stretch);
            }
            if offset == entry.stretch.end() {
                length = (2 * entry.stretch.length).clamp(LEAST, MOST);
            }
        }
        let next = state.entries.range((Arc::clone(object), offset)..).next();
        let end = next.filter(|((of, _), _)| of == object).map_or(size, |((_, start), _)| *start);
        let length = length.max(wanted.min(MOST)).min(end.saturating_sub(offset)).min(self.room);
        let stretch = Arc::new(Stretch { start: offset, length, bytes: OnceLock::new() });
        state.insert(object, Arc::clone(&stretch), self.room);
        stretch
    }

    /// Forgets an object.
    pub(super) fn forget(&self, object: &Arc<str>) {
        let mut state = self.lock();
        let all = (Arc::clone(object), 0)..=(Arc::clone(object), u64::MAX);
        let starts: Vec<Arc<Stretch>> = state.entries.range(all).map(|(_, entry)| Arc::clone(&entry.stretch)).collect();
        starts.iter().for_each(|stretch| state.remove(object, stretch));
    }
}

impl State {
    /// Some stretch that begins in or covers `offset..end`.
    fn around(&self, object: &Arc<str>, offset: u64, end: u64) -> Option<&Entry> {
        let last = self.entries.range(..(Arc::clone(object), end)).next_back()?;
        (last.0.0 == *object && last.1.stretch.end() > offset).then_some(last.1)
    }

    fn insert(&mut self, object: &Arc<str>, stretch: Arc<Stretch>, room: u64) {
        while self.bytes + stretch.length > room {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some((object, oldest)) = oldest.map(|((of, _), entry)| (Arc::clone(of), Arc::clone(&entry.stretch)))
            else {
                break;
            };
            self.remove(&object, &oldest);
        }
        self.bytes += stretch.length;
        let used = self.clock;
        self.entries.insert((Arc::clone(object), stretch.start), Entry { stretch, used });
    }

    fn remove(&mut self, object: &Arc<str>, stretch: &Arc<Stretch>) {
        let key = (Arc::clone(object), stretch.start);
        if self.entries.get(&key).is_some_and(|entry| Arc::ptr_eq(&entry.stretch, stretch)) {
            self.entries.remove(&key);
            self.bytes -= stretch.length;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;

    fn contents(size: u64) -> Vec<u8> {
        (0..size).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
    }

    /// Reads, and says how many bytes of how many requests it took.
    fn reads(room: usize, contents: &[u8], reads: &[(u64, usize)]) -> (u64, u64) {
        let (cache, object) = (Cache::new(room), Arc::<str>::from("o"));
        let (bytes, requests) = (AtomicU64::new(0), AtomicU64::new(0));
        for &(offset, length) in reads {
            let mut buffer = vec![0; length];
            let fetch = |start: u64, length: u64| {
                bytes.fetch_add(length, Ordering::Relaxed);
                requests.fetch_add(1, Ordering::Relaxed);
                Ok(contents[start as usize..(start + length) as usize].to_vec())
            };
            cache.read(&object, contents.len() as u64, &mut buffer, offset, &fetch).unwrap();
            assert!(buffer == contents[offset as usize..][..length], "at {offset}");
            assert!(cache.lock().bytes <= room as u64);
        }
        (bytes.into_inner(), requests.into_inner())
    }

    #[test]
    fn who_reads_on_gets_more_and_nothing_is_fetched_twice() {
        let all = contents(8 << 20);
        let steps: Vec<(u64, usize)> = (0..(8 << 20) / 10_000).map(|n| (n * 10_000, 10_000)).collect();
        let (bytes, requests) = reads(4 << 20, &all, &steps);
        assert_eq!(bytes, 8 << 20);
        // 64, 128, 256, 512 KiB, and the rest in megabytes.
        assert_eq!(requests, 4 + 8);
        // Eight streams, taken in turns.
        let steps: Vec<(u64, usize)> =
            (0..16).flat_map(|n| (0..8).map(move |s| ((s << 20) + n * 65_536, 65_536))).collect();
        let (bytes, requests) = reads(8 << 20, &all, &steps);
        assert_eq!(bytes, 8 << 20);
        assert_eq!(requests, 8 * 5);
    }

    #[test]
    fn who_jumps_pays_little() {
        let all = contents(8 << 20);
        let steps: Vec<(u64, usize)> = (0..100).map(|n| ((n * 37 % 100) * 80_000, 500)).collect();
        assert_eq!(reads(1 << 20, &all, &steps), (100 * LEAST, 100));
        // More streams than there is room for: never worse than the least for each read.
        let steps: Vec<(u64, usize)> =
            (0..12).flat_map(|n| (0..64).map(move |s| ((s << 17) + n * 10_000, 10_000))).collect();
        let (bytes, _) = reads(1 << 20, &all, &steps);
        assert!(bytes <= 64 * 12 * LEAST, "{bytes}");
    }

    #[test]
    fn one_fetches_and_the_others_wait() {
        let (cache, object) = (Cache::new(1 << 20), Arc::<str>::from("o"));
        let requests = AtomicU64::new(0);
        let fetch = |_, length: u64| {
            requests.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(std::time::Duration::from_millis(30));
            Ok(vec![7; length as usize])
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let (cache, object) = (&cache, &object);
                scope.spawn(move || {
                    let mut buffer = [0; 100];
                    cache.read(object, 1 << 20, &mut buffer, 5, &fetch).unwrap();
                    assert_eq!(buffer, [7; 100]);
                });
            }
        });
        assert_eq!(requests.load(Ordering::Relaxed), 1);
        cache.forget(&object);
        assert_eq!(cache.lock().bytes, 0);
    }

    #[test]
    fn what_failed_is_asked_for_again() {
        let (cache, object) = (Cache::new(1 << 20), Arc::<str>::from("o"));
        let mut buffer = [0; 10];
        let fail = |_, _| Err((io::ErrorKind::Other, "no".to_owned()));
        assert_eq!(cache.read(&object, 100, &mut buffer, 0, &fail).unwrap_err().to_string(), "no");
        cache.read(&object, 100, &mut buffer, 0, &|_, length| Ok(vec![1; length as usize])).unwrap();
        assert_eq!(buffer, [1; 10]);
        // A server that sends less than it said.
        let short = |_, _| Ok(vec![1; 3]);
        let error = cache.read(&Arc::from("p"), 100, &mut buffer, 50, &short).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn bytes_are_those_of_the_object(
            size in 1_u64..600_000,
            room in 1_usize..300_000,
            wanted in prop::collection::vec((0.0..1.0_f64, 0_usize..150_000), 1..40),
        ) {
            let all = contents(size);
            let steps: Vec<(u64, usize)> = wanted
                .into_iter()
                .map(|(at, length)| {
                    let at = (at * size as f64) as u64;
                    (at, length.min((size - at) as usize))
                })
                .collect();
            reads(room, &all, &steps);
        }
    }
}
