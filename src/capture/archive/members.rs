//! The members of an archive as a tree of names. Names are compared and shown, never used to open or write anything.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::capture::limits::{Limit, Limits};
use crate::capture::source::ReadAt;
use crate::capture::tree::{Entry, EntryKind, Tree};
use crate::error::{Code, Error, Result};

/// Longest name.
const MAX_NAME: usize = 4096;
/// Deepest directory.
const MAX_DEPTH: usize = 64;
/// This many sentences about what was left out are kept.
const KEPT: usize = 20;

/// Opens a member that was not unpacked yet.
pub(super) type Open = Box<dyn Fn() -> Result<Arc<dyn ReadAt>> + Send + Sync>;

/// Where a member's bytes are.
pub(super) enum Bytes {
    /// Here.
    Ready(Arc<dyn ReadAt>),
    /// To be unpacked when asked for; at most this many bytes.
    Later(u64, Open),
}

enum Node {
    Directory,
    File(Bytes),
}

/// The members of an archive.
pub(super) struct Members {
    shown: PathBuf,
    directories: BTreeMap<PathBuf, BTreeMap<OsString, Node>>,
    count: u64,
    limits: Limits,
    /// What was left out and why.
    notes: Vec<String>,
    more: usize,
}

impl Members {
    pub(super) fn new(shown: &Path, limits: &Limits) -> Self {
        let directories = BTreeMap::from([(PathBuf::new(), BTreeMap::new())]);
        Self { shown: shown.to_path_buf(), directories, count: 0, limits: *limits, notes: Vec::new(), more: 0 }
    }

    /// Says that a member was left out.
    pub(super) fn leave_out(&mut self, name: &[u8], why: &str) {
        if self.notes.len() < KEPT {
            let name = name.get(..name.len().min(200)).unwrap_or(name).escape_ascii();
            self.notes.push(format!("member \"{name}\" is left out: {why}"));
        } else {
            self.more += 1;
        }
    }

    /// Counts a member. A whole copied tracefs has about 15,000.
    pub(super) fn count(&mut self) -> Result<()> {
        self.count += 1;
        self.limits.check(Limit::Members, self.count, "members")
    }

    /// The place of a member by its name in the archive; what cannot have one is left out.
    pub(super) fn place(&mut self, name: &[u8]) -> Option<PathBuf> {
        match normal(name) {
            Ok(path) => Some(path).filter(|path| !path.as_os_str().is_empty()),
            Err(why) => {
                self.leave_out(name, why);
                None
            }
        }
    }

    /// Adds a file at a place that [`place`](Self::place) gave; a later one of the same name replaces it, as tar does.
    pub(super) fn file(&mut self, path: &Path, bytes: Bytes) {
        self.add(path, Node::File(bytes));
    }

    /// Adds a directory.
    pub(super) fn directory(&mut self, path: &Path) {
        self.add(path, Node::Directory);
    }

    fn add(&mut self, path: &Path, node: Node) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        if !self.directories.contains_key(parent) {
            self.add(parent, Node::Directory);
        }
        if matches!(node, Node::Directory) {
            self.directories.entry(path.to_path_buf()).or_default();
        } else if self.directories.contains_key(path) {
            self.leave_out(path.as_os_str().as_encoded_bytes(), "a directory has the same name");
            return;
        }
        if let Some(children) = self.directories.get_mut(parent) {
            children.insert(name.to_os_string(), node);
        }
    }

    /// The bytes of a member that was added before: what a hard link names.
    pub(super) fn find(&self, path: &Path) -> Option<Arc<dyn ReadAt>> {
        match self.node(path)? {
            Node::File(Bytes::Ready(source)) => Some(Arc::clone(source)),
            _ => None,
        }
    }

    fn node(&self, path: &Path) -> Option<&Node> {
        self.directories.get(path.parent()?)?.get(path.file_name()?)
    }

    /// The tree, and what was left out.
    pub(super) fn finish(mut self) -> super::Unpacked {
        let mut notes = std::mem::take(&mut self.notes);
        if self.more > 0 {
            notes.push(format!("{} more members are left out", self.more));
        }
        super::Unpacked::Tree(Arc::new(self), notes)
    }
}

/// `./a//b` is `a/b`, `/a` is `a` as for tar; nothing leaves the archive.
fn normal(name: &[u8]) -> std::result::Result<PathBuf, &'static str> {
    if name.len() > MAX_NAME {
        return Err("its name is too long");
    }
    if name.contains(&0) {
        return Err("its name holds a NUL");
    }
    let name = String::from_utf8_lossy(name);
    let mut path = PathBuf::new();
    let mut depth = 0;
    for component in Path::new(name.as_ref()).components() {
        match component {
            Component::Normal(part) => {
                depth += 1;
                path.push(part);
            }
            Component::ParentDir => return Err("its name leaves the archive"),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    if depth > MAX_DEPTH { Err("it lies too deep") } else { Ok(path) }
}

impl Tree for Members {
    fn shown(&self, path: &Path) -> PathBuf {
        if path.as_os_str().is_empty() { self.shown.clone() } else { self.shown.join(path) }
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>> {
        let Some(children) = self.directories.get(directory) else { return Ok(Vec::new()) };
        let kind = |node: &Node| match node {
            Node::Directory => EntryKind::Directory,
            Node::File(Bytes::Ready(source)) => EntryKind::File(source.len()),
            Node::File(Bytes::Later(len, _)) => EntryKind::File(*len),
        };
        Ok(children.iter().map(|(name, node)| Entry { name: name.clone(), kind: kind(node) }).collect())
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        match self.node(path) {
            Some(Node::File(Bytes::Ready(source))) => Ok(Arc::clone(source)),
            Some(Node::File(Bytes::Later(_, open))) => {
                open().map_err(|error| error.damaged_as(Code::DamagedArchive).in_file(self.shown(path)))
            }
            Some(Node::Directory) => Err(Error::format("is a directory").in_file(self.shown(path))),
            None => Err(Error::format("is not in the archive").in_file(self.shown(path))),
        }
    }
}
