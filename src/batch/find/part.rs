//! A directory of a store as if it were alone, without what belongs to other captures.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::capture::source::ReadAt;
use crate::capture::tree::{Entry, Tree};
use crate::error::Result;

/// A tree that begins in the midst of another.
pub(super) struct Part {
    pub(super) tree: Arc<dyn Tree>,
    /// Where it begins.
    pub(super) root: PathBuf,
    /// Files and directories that are not there, by their paths from its root.
    pub(super) except: BTreeSet<PathBuf>,
}

impl Part {
    fn at(&self, path: &Path) -> PathBuf {
        // Joining an empty path would add a slash.
        match (self.root.as_os_str().is_empty(), path.as_os_str().is_empty()) {
            (true, _) => path.to_owned(),
            (false, true) => self.root.clone(),
            _ => self.root.join(path),
        }
    }
}

impl Tree for Part {
    fn shown(&self, path: &Path) -> PathBuf {
        self.tree.shown(&self.at(path))
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>> {
        let mut entries = self.tree.list(&self.at(directory))?;
        if !self.except.is_empty() {
            entries.retain(|entry| !self.except.contains(&directory.join(&entry.name)));
        }
        Ok(entries)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        self.tree.open(&self.at(path))
    }
}
