//! The local file system, and network file systems that are mounted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Stat, Store, Upload};
use crate::batch::state;
use crate::batch::worker::Worker;
use crate::capture::source::{FileSource, ReadAt};
use crate::capture::tree::{Directory, Entry, Tree};
use crate::error::{Error, ErrorKind, Result};

/// A directory as a store. Files on their way are in [`state::UNFINISHED`] below it, so that they can be renamed into
/// place and are found when their writer is gone.
#[derive(Clone, Debug)]
pub struct Local {
    root: PathBuf,
    worker: String,
}

/// The number of the next unfinished file. A process is one worker, however many stores it opens on one directory.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Local {
    /// The directory at `root`, which need not exist before something is written. Empty is the working directory.
    pub fn new(root: impl Into<PathBuf>, worker: &Worker) -> Self {
        Self { root: root.into(), worker: worker.name().to_owned() }
    }

    fn at(&self, path: &Path) -> PathBuf {
        // Joining an empty path would add a slash.
        match (self.root.as_os_str().is_empty(), path.as_os_str().is_empty()) {
            (true, true) => PathBuf::from("."),
            (false, true) => self.root.clone(),
            _ => self.root.join(path),
        }
    }

    /// A new file among the unfinished ones.
    fn unfinished(&self) -> Result<(PathBuf, File)> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self.at(Path::new(state::UNFINISHED)).join(format!("{}-{number}", self.worker));
        make_parents(&path)?;
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        file.map(|file| (path.clone(), file)).map_err(|error| cannot(&path, "create", error))
    }
}

impl Tree for Local {
    fn shown(&self, path: &Path) -> PathBuf {
        self.at(path)
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>> {
        Directory::new(self.at(directory)).list(Path::new(""))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(FileSource::open(self.at(path))?))
    }
}

impl Store for Local {
    fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        let path = self.at(path);
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => {
                Ok(Some(Stat { size: meta.len(), modified: meta.modified().ok(), tag: None }))
            }
            Ok(_) => Ok(None),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(Error::io(path, "look at", error)),
        }
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
        let path = self.at(path);
        let size = match fs::metadata(&path) {
            Err(error) if is_absent(&error) => return Ok(None),
            meta => meta.map_err(|error| Error::io(&path, "look at", error))?.len(),
        };
        if size > limit {
            let message = format!("has {size} bytes, more than the limit of {limit}");
            return Err(Error::new(ErrorKind::Limit, message).in_file(path));
        }
        match fs::read(&path) {
            Err(error) if is_absent(&error) => Ok(None),
            bytes => bytes.map(Some).map_err(|error| Error::io(path, "read", error)),
        }
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> Result<bool> {
        let to = self.at(path);
        if to.symlink_metadata().is_ok() {
            return Ok(false);
        }
        make_parents(&to)?;
        let (from, mut file) = self.unfinished()?;
        let written = file.write_all(bytes).map_err(|error| Error::io(&from, "write", error));
        // A link appears with its contents, and never in place of another.
        let made = written.and_then(|()| match fs::hard_link(&from, &to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            // A file system without links.
            Err(_) => match OpenOptions::new().write(true).create_new(true).open(&to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                file => {
                    let written = file.and_then(|mut file| file.write_all(bytes));
                    written.map(|()| true).map_err(|error| cannot(&to, "create", error))
                }
            },
        });
        let _ = fs::remove_file(&from);
        made
    }

    fn write(&self, path: &Path) -> Result<Box<dyn Upload>> {
        let (from, file) = self.unfinished()?;
        Ok(Box::new(Unfinished { from, to: self.at(path), file: BufWriter::with_capacity(1 << 20, file) }))
    }

    fn append(&self, path: &Path, _number: u64, line: &[u8]) -> Result<()> {
        let path = self.at(path);
        make_parents(&path)?;
        let file = OpenOptions::new().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(line)).map_err(|error| cannot(&path, "write", error))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let path = self.at(path);
        match fs::remove_file(&path) {
            Err(error) if !is_absent(&error) => Err(Error::io(path, "remove", error)),
            _ => Ok(()),
        }
    }

    fn sweep(&self, gone: &dyn Fn(&str) -> bool) -> Result<()> {
        let directory = Path::new(state::UNFINISHED);
        for entry in self.list(directory)? {
            let owner = entry.name.to_str().and_then(|name| Some(name.rsplit_once('-')?.0));
            if owner.is_some_and(gone) {
                self.remove(&directory.join(&entry.name))?;
            }
        }
        Ok(())
    }
}

/// A file that is renamed at the end.
struct Unfinished {
    from: PathBuf,
    to: PathBuf,
    file: BufWriter<File>,
}

impl Upload for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| Error::io(&self.to, "write", error))
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        // What is recorded as finished must not be lost when the machine stops.
        let written = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        written.map_err(|error| Error::io(&self.to, "write", error))?;
        make_parents(&self.to)?;
        fs::rename(&self.from, &self.to).map_err(|error| Error::io(&self.to, "rename the finished output to", error))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After a rename there is nothing of that name.
        let _ = fs::remove_file(&self.from);
    }
}

fn make_parents(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or(Ok(()), |parent| fs::create_dir_all(parent).map_err(|error| cannot(parent, "create", error)))
}

fn cannot(path: &Path, doing: &str, error: io::Error) -> Error {
    Error::io(path, doing, error).hint("check that the output's directory can be written")
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(directory: &Path) -> Local {
        Local::new(directory, &Worker::current())
    }

    #[test]
    fn of_many_that_create_one_wins_and_its_bytes_are_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = Path::new("a/b/claim");
        let won: Vec<usize> = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..16)
                .map(|n| {
                    let store = store(directory.path());
                    scope.spawn(move || store.create(path, format!("{n}").as_bytes()).unwrap().then_some(n))
                })
                .collect();
            tries.into_iter().filter_map(|t| t.join().unwrap()).collect()
        });
        let [winner] = won.as_slice() else { panic!("{won:?} won") };
        let store = store(directory.path());
        assert_eq!(store.read(path, 100).unwrap().unwrap(), format!("{winner}").as_bytes());
        assert!(store.list(Path::new(state::UNFINISHED)).unwrap().is_empty());
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let path = Path::new("x/out.pftrace");
        let mut upload = store.write(path).unwrap();
        upload.write(b"half").unwrap();
        assert_eq!(store.stat(path).unwrap(), None);
        drop(upload);
        assert!(store.list(Path::new(state::UNFINISHED)).unwrap().is_empty());
        store.put(path, b"one").unwrap();
        store.put(path, b"other").unwrap();
        assert_eq!(store.stat(path).unwrap().unwrap().size, 5);
        assert!(store.read(path, 4).is_err_and(|error| error.kind() == ErrorKind::Limit));
        store.remove(path).unwrap();
        store.remove(path).unwrap();
        assert_eq!(store.read(path, 4).unwrap(), None);
    }

    #[test]
    fn what_the_dead_left_is_swept_and_what_the_living_write_stays() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let left = directory.path().join(state::UNFINISHED);
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join("other-3"), "half").unwrap();
        let upload = store.write(Path::new("out")).unwrap();
        store.sweep(&|worker| worker == "other").unwrap();
        upload.finish().unwrap();
        assert!(!left.join("other-3").exists() && directory.path().join("out").exists());
    }

    #[test]
    fn places_are_paths_or_urls() {
        assert!(super::super::is_url("s3://bucket/a") && !super::super::is_url("a/b") && !super::super::is_url("://x"));
        let worker = Worker::current();
        let path = |text| super::super::locate(text, &worker).map(|(store, path)| store.shown(&path));
        assert_eq!(path("/a/b").unwrap(), Path::new("/a/b"));
        assert_eq!(path("a/b").unwrap(), Path::new("a/b"));
        assert_eq!(path("file:///a/b%20c").unwrap(), Path::new("/a/b c"));
        assert_eq!(path("file://localhost/a").unwrap(), Path::new("/a"));
        assert!(path("file://a/b").is_err() && path("file:///%zz").is_err());
        assert_eq!(path("ftp://x/y").unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
