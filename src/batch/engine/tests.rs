//! A store that misbehaves.

use std::collections::BTreeMap;
use std::fs;

use super::super::find::Finder;
use super::super::shard::Shard;
use super::super::store::{Local, Stat, Upload};
use super::super::{name, plan};
use super::*;
use crate::capture::source::ReadAt;
use crate::capture::tree::{Entry, Tree};
use crate::convert::ConvertOptions;
use crate::error::Error;
use crate::export::Format;
use crate::filter::Filter;
use crate::pipeline::Limits;
use crate::selection::Span;
use crate::session::request::Request;
use crate::timeline::setup::DrawOptions;

/// A destination at which one output makes the writer panic, and another fails a few times.
struct Bad {
    inner: Local,
    fails: Mutex<u32>,
}

impl Tree for Bad {
    fn shown(&self, path: &Path) -> PathBuf {
        self.inner.shown(path)
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>> {
        self.inner.list(directory)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        self.inner.open(path)
    }
}

impl Store for Bad {
    fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        self.inner.stat(path)
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
        self.inner.read(path, limit)
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> Result<bool> {
        self.inner.create(path, bytes)
    }

    fn write(&self, path: &Path) -> Result<Box<dyn Upload>> {
        struct Panics;
        impl Upload for Panics {
            fn write(&mut self, _: &[u8]) -> Result<()> {
                panic!("of all things");
            }

            fn finish(self: Box<Self>) -> Result<()> {
                Ok(())
            }
        }
        let mut fails = lock(&self.fails);
        match path.to_str() {
            Some("panics.pftrace") => Ok(Box::new(Panics)),
            Some("fails.pftrace") if *fails > 0 => {
                *fails -= 1;
                Err(Error::new(ErrorKind::Io, "the line is noisy").in_file(path))
            }
            _ => self.inner.write(path),
        }
    }

    fn append(&self, path: &Path, number: u64, line: &[u8]) -> Result<()> {
        self.inner.append(path, number, line)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.inner.remove(path)
    }

    fn sweep(&self, gone: &dyn Fn(&str) -> bool) -> Result<()> {
        self.inner.sweep(gone)
    }
}

/// Counts what it is told.
#[derive(Default)]
struct Told(std::sync::atomic::AtomicU64);

impl Observer for Told {
    fn advanced(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn finished(&self, _: &Record) {}
}

fn options() -> Options {
    Options {
        convert: ConvertOptions {
            format: Format::Perfetto,
            compress: false,
            draw: DrawOptions::default(),
            limits: Limits::default(),
        },
        request: Request::default(),
        filter: Filter::default(),
        span: Span::Guests,
        name: "{stem}.pftrace".parse::<name::Template>().unwrap(),
        stats: false,
        strict: false,
        shard: Shard::ALL,
        newer_than: None,
        retry: 2,
        fail_fast: false,
        memory: 128 << 20,
        jobs: 2,
        stale_after: Duration::from_secs(60),
    }
}

#[test]
fn a_panic_costs_one_capture_and_what_fails_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    for name in ["fails", "good", "panics"] {
        fs::create_dir_all(source.join(name)).unwrap();
        let to = source.join(name).join("trace.txt");
        fs::write(to, "# tracer: nop\n          <idle>-0     [001] d..1.  100.5: sched_waking: comm=a pid=5 prio=120 target_cpu=001\n")
            .unwrap();
    }
    let worker = Worker::current();
    let inner = Local::new(directory.path().join("out"), &worker);
    let bad: Arc<dyn Store> = Arc::new(Bad { inner, fails: Mutex::new(1) });
    let (monitor, stop) = (Monitor::silent(), AtomicBool::new(false));
    let mut finder = Finder::new(&worker, &|_| false, &monitor);
    finder.named(source.to_str().unwrap()).unwrap();
    let options = options();
    let plan = plan(finder.finish(), &*bad, &options).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let told = Arc::new(Told::default());
    let observer: Arc<dyn Observer> = Arc::clone(&told) as Arc<dyn Observer>;
    let work = Work {
        plan: &plan,
        destination: &bad,
        options: &options,
        worker: &worker,
        pool: &pool,
        observer: &observer,
        stop: &stop,
    };
    let summary = run(&work).unwrap();
    assert_eq!((summary.done, summary.failed, summary.left), (2, 1, 0));
    assert_eq!(told.0.load(Ordering::Relaxed), plan.bytes());
    let [trouble] = &*summary.trouble else { panic!("one failed") };
    let error = trouble.error.as_ref().unwrap();
    assert_eq!((trouble.input.as_str(), error.code.as_str()), ("panics", "panic"));
    assert!(error.message.contains("of all things"));
    let left: Vec<Entry> = bad.list(Path::new(state::CLAIMS)).unwrap();
    assert!(left.is_empty() && bad.list(Path::new(state::UNFINISHED)).unwrap().is_empty());
    let log = bad.list(Path::new(state::LOGS)).unwrap();
    let log = bad.read(&Path::new(state::LOGS).join(&log[0].name), 1 << 20).unwrap().unwrap();
    let attempts: BTreeMap<String, u32> = log
        .split(|&byte| byte == b'\n')
        .filter_map(|line| match serde_json::from_slice(line).ok()? {
            Line::Capture(record) => Some((record.input, record.attempts)),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [("fails".to_owned(), 2), ("good".to_owned(), 1), ("panics".to_owned(), 1)].into());
}
