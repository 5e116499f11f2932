//! From what a user names to captures: directory trees, patterns, lists, single files.

mod divide;
mod part;
mod sources;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::store::Store;
use crate::capture::source::ReadAt;
use crate::capture::tree::{EntryKind, Tree};
use crate::error::Result;
use crate::session::request::{Given, Request};
use part::Part;

pub use sources::{Finder, Found};
use walk::Draft;

/// As deep as a capture's directory is searched when it is opened.
const MAX_DEPTH: usize = 6;

/// A capture in a store: a directory or a part of one, an archive, or a single file.
#[derive(Clone)]
pub struct Source {
    store: Arc<dyn Store>,
    draft: Draft,
    /// Where its name begins.
    base: PathBuf,
    /// Its files by their paths in the store, with their sizes.
    files: Vec<(PathBuf, u64)>,
}

impl Source {
    fn new(store: &Arc<dyn Store>, draft: Draft, base: &Path) -> Self {
        let mut source = Self { store: Arc::clone(store), draft, base: base.to_owned(), files: Vec::new() };
        // Where they cannot be listed, they cannot be opened either, and the capture's record says why.
        source.files = source.list().unwrap_or_default();
        source
    }

    /// The path that its output mirrors, below what the user named: of its directory, or of its file.
    pub fn name(&self) -> PathBuf {
        let Draft { root, label, captures, .. } = &self.draft;
        let below = |path: &Path| path.strip_prefix(&self.base).unwrap_or(path).to_owned();
        let name = below(label);
        if !name.as_os_str().is_empty() {
            return name;
        }
        // The user named the directory itself.
        match captures.as_slice() {
            [only] => below(&root.join(only)),
            _ => {
                let shown = self.store.shown(root);
                let whole = std::fs::canonicalize(&shown).unwrap_or(shown);
                whole.file_name().map_or_else(|| PathBuf::from("capture"), PathBuf::from)
            }
        }
    }

    /// Whether [`Source::name`] is a file's name, whose extension says what the file was.
    pub fn named_by_file(&self) -> bool {
        let Draft { named_by_file, label, captures, .. } = &self.draft;
        *named_by_file || (label == &self.base && captures.len() == 1)
    }

    /// Where it is, in messages.
    pub fn shown(&self) -> PathBuf {
        self.store.shown(&self.draft.label)
    }

    /// Its files by their paths in [`Source::store`], sorted, with their sizes.
    pub fn files(&self) -> &[(PathBuf, u64)] {
        &self.files
    }

    /// The bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, size)| size).sum()
    }

    /// The store that it is in.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What is below this directory, where it is one.
    pub fn directory(&self) -> Option<&Path> {
        (!self.draft.is_file).then_some(self.draft.root.as_path())
    }

    /// What opens it: `request` with its files, read through `wrap`.
    ///
    /// # Errors
    /// `Io` where a single file cannot be opened.
    pub fn request(&self, request: &Request, wrap: &dyn Fn(Arc<dyn Tree>) -> Arc<dyn Tree>) -> Result<Request> {
        let Draft { root, except, is_file, .. } = &self.draft;
        let tree = wrap(Arc::clone(&self.store) as Arc<dyn Tree>);
        let given = if *is_file {
            Given::File(tree.shown(root), tree.open(root)?)
        } else {
            Given::Tree(Arc::new(Part { tree, root: root.clone(), except: except.clone() }))
        };
        Ok(Request { given: vec![given], ..request.clone() })
    }

    /// Opens one of its files.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        self.store.open(path)
    }

    fn list(&self) -> Result<Vec<(PathBuf, u64)>> {
        let Draft { root, except, is_file, .. } = &self.draft;
        if *is_file {
            let size = self.store.stat(root)?.map_or(0, |stat| stat.size);
            return Ok(vec![(root.clone(), size)]);
        }
        let part = Part { tree: Arc::clone(&self.store) as Arc<dyn Tree>, root: root.clone(), except: except.clone() };
        let (mut files, mut left) = (Vec::new(), vec![(PathBuf::new(), 0)]);
        while let Some((directory, depth)) = left.pop() {
            for entry in part.list(&directory)? {
                let path = directory.join(&entry.name);
                match entry.kind {
                    _ if entry.name.as_encoded_bytes().starts_with(b".") => {}
                    EntryKind::File(size) => files.push((root.join(&path), size)),
                    EntryKind::Directory if depth < MAX_DEPTH => left.push((path, depth + 1)),
                    EntryKind::Directory => {}
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// Two names for one capture.
    fn same(&self, other: &Self) -> bool {
        self.draft == other.draft && self.store.shown(&self.draft.root) == other.store.shown(&other.draft.root)
    }
}
