//! Named files: a directory, or the members of an archive. Whoever reads a capture that consists of several files need
//! not know which of the two it is.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::source::{FileSource, ReadAt};
use crate::error::{Error, Result};

/// What stands in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file and its size in bytes; where an archive does not tell it, an upper bound.
    File(u64),
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its last component.
    pub name: OsString,
    /// What it is.
    pub kind: EntryKind,
}

/// Named files. All paths are relative to the root, and the root itself is the empty path.
pub trait Tree: Send + Sync {
    /// What messages call the file at `path`.
    fn shown(&self, path: &Path) -> PathBuf;

    /// What stands in a directory, sorted by name; empty where there is no such directory.
    ///
    /// # Errors
    /// Where the operating system refuses.
    fn list(&self, directory: &Path) -> Result<Vec<Entry>>;

    /// Opens a file.
    ///
    /// # Errors
    /// Where it does not exist or cannot be read.
    fn open(&self, path: &Path) -> Result<Arc<dyn ReadAt>>;
}

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The directory at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

/// A symbolic link that leads to itself, on Linux.
const ELOOP: i32 = 40;

impl Tree for Directory {
    fn shown(&self, path: &Path) -> PathBuf {
        // Joining an empty path would add a slash.
        if path.as_os_str().is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>> {
        let path = self.shown(directory);
        let fail = |error| Error::io(&path, "list", error);
        let entries = match opened(&path) {
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            entries => entries.map_err(fail)?,
        };
        let mut list = Vec::new();
        for entry in entries {
            let entry = entry.map_err(fail)?;
            // Through symbolic links: people link captures together. Dangling ones, pipes and devices are left out.
            let kind = match fs::metadata(entry.path()) {
                Ok(meta) if meta.is_dir() => EntryKind::Directory,
                Ok(meta) if meta.is_file() => EntryKind::File(meta.len()),
                Ok(_) => continue,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) if error.raw_os_error() == Some(ELOOP) => continue,
                Err(error) => return Err(Error::io(entry.path(), "look at", error)),
            };
            list.push(Entry { name: entry.file_name(), kind });
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(FileSource::open(self.shown(path))?))
    }
}

/// [`fs::read_dir`], once more where a signal came in between: unlike files, the standard library does not open
/// directories again.
fn opened(path: &Path) -> std::io::Result<fs::ReadDir> {
    loop {
        match fs::read_dir(path) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            entries => return entries,
        }
    }
}

/// The first bytes of a file, at most `count`.
///
/// # Errors
/// Where it cannot be read; `shown` is its name.
pub fn head(shown: &Path, source: &dyn ReadAt, count: u64) -> Result<Vec<u8>> {
    let mut first = vec![0; source.len().min(count) as usize];
    source.read_exact_at(&mut first, 0).map_err(|error| Error::io(shown, "read", error))?;
    Ok(first)
}
