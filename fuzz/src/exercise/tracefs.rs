//! Copied tracefs directories: each piece is a path, a NUL, and the bytes of that file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvm_timeline::capture::archive::Budget;
use kvm_timeline::capture::tracefs;
use kvm_timeline::capture::tree::Tree;

use super::memory_tree::MemoryTree;
use super::model::split;
use super::{drain, pieces};

pub fn run(data: &[u8]) {
    let mut tree = MemoryTree::default();
    for piece in pieces(data).into_iter().take(200) {
        let (path, bytes) = split(piece);
        let path: PathBuf = String::from_utf8_lossy(path).split('/').filter(|part| !part.is_empty()).take(8).collect();
        if !path.as_os_str().is_empty() {
            tree.0.insert(path, Arc::new(bytes.to_vec()));
        }
    }
    let tree: Arc<dyn Tree> = Arc::new(tree);
    let _ = tracefs::is_tracefs(&*tree, Path::new(""));
    match tracefs::open(&tree, Path::new(""), &Budget::new(16 << 20)) {
        Ok(copied) => {
            assert!(!copied.captures.is_empty());
            copied.captures.iter().for_each(drain::drain);
        }
        Err(error) => drain::refused(&error),
    }
}
