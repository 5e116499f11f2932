//! Named files in memory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvm_timeline::capture::source::ReadAt;
use kvm_timeline::capture::tree::{Entry, EntryKind, Tree};
use kvm_timeline::error::{Error, Result};

/// Files by their path.
#[derive(Default)]
pub struct MemoryTree(pub BTreeMap<PathBuf, Arc<Vec<u8>>>);

impl Tree for MemoryTree {
    fn shown(&self, path: &Path) -> PathBuf {
        Path::new("fuzz").join(path)
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>> {
        let mut entries: BTreeMap<OsString, EntryKind> = BTreeMap::new();
        for (path, bytes) in &self.0 {
            let Ok(rest) = path.strip_prefix(directory) else { continue };
            let mut parts = rest.iter();
            let (Some(name), more) = (parts.next(), parts.next().is_some()) else { continue };
            let kind = if more { EntryKind::Directory } else { EntryKind::File(bytes.len() as u64) };
            entries.entry(name.to_owned()).or_insert(kind);
        }
        Ok(entries.into_iter().map(|(name, kind)| Entry { name, kind }).collect())
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        match self.0.get(path) {
            Some(bytes) => Ok(Arc::clone(bytes) as Arc<dyn ReadAt>),
            None => Err(Error::format("is not there").in_file(self.shown(path))),
        }
    }
}
