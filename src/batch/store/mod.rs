//! Where captures are and where results go: one small trait, so that a directory and an object store are the same to a
//! batch.
//!
//! A [`Store`] is a [`Tree`] (listing and opening, by which captures are read) that also writes. All paths are relative to
//! its root, have `/` between their parts, and never `..`.

mod local;
#[cfg(feature = "object-store")]
mod object;

pub use local::Local;
#[cfg(feature = "object-store")]
pub use object::Objects;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::worker::Worker;
use crate::capture::tree::Tree;
use crate::error::{Error, ErrorKind, Result};

/// What is known of a file without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its size in bytes.
    pub size: u64,
    /// When it was last changed, where the store tells.
    pub modified: Option<SystemTime>,
    /// What the store itself promises to be another one for other contents (an ETag, a version); `None` where only
    /// reading tells.
    pub tag: Option<String>,
}

/// A place with named files. Directories need not exist before a file in them is written.
pub trait Store: Tree {
    /// What is known of a file; `None` where there is none.
    ///
    /// # Errors
    /// `Io` where the store refuses, which is not the same as no file.
    fn stat(&self, path: &Path) -> Result<Option<Stat>>;

    /// A small file whole; `None` where there is none.
    ///
    /// # Errors
    /// `Limit` where it is larger than `limit` bytes; `Io`.
    fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>>;

    /// Writes a small file whole if there is none of that name; of several that try, exactly one gets `true`.
    ///
    /// # Errors
    /// `Io`.
    fn create(&self, path: &Path, bytes: &[u8]) -> Result<bool>;

    /// Begins a file that appears whole, in place of one that was there, at [`Upload::finish`] or not at all.
    ///
    /// # Errors
    /// `Io`.
    fn write(&self, path: &Path) -> Result<Box<dyn Upload>>;

    /// Writes a small file whole, in place of one that was there.
    ///
    /// # Errors
    /// `Io`.
    fn put(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut upload = self.write(path)?;
        upload.write(bytes)?;
        upload.finish()
    }

    /// Adds line `number` (from 0) to the log `path`, which nobody else writes. A store that cannot add to a file makes
    /// `path` a directory with one file per line, named so that their order is that of the lines.
    ///
    /// # Errors
    /// `Io`.
    fn append(&self, path: &Path, number: u64, line: &[u8]) -> Result<()>;

    /// Removes a file; no error where there is none.
    ///
    /// # Errors
    /// `Io`.
    fn remove(&self, path: &Path) -> Result<()>;

    /// Removes what unfinished files of workers left behind for which `gone` holds; it gets [`Worker::name`].
    ///
    /// # Errors
    /// `Io`.
    fn sweep(&self, gone: &dyn Fn(&str) -> bool) -> Result<()>;
}

/// A file on its way. Dropped without [`Upload::finish`], it never was.
pub trait Upload: Send {
    /// Adds bytes.
    ///
    /// # Errors
    /// `Io`.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes it appear, whole.
    ///
    /// # Errors
    /// `Io`; then it does not appear.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Whether this names a place outside the file system.
pub fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b))
    })
}

/// The store whose root is this directory, or this prefix of an object store. `worker` is who writes.
///
/// # Errors
/// `Unsupported` for a URL whose scheme is not known, or is not part of this build; `Usage` where the settings for it make
/// no sense.
pub fn open(text: &str, worker: &Worker) -> Result<Arc<dyn Store>> {
    if !is_url(text) {
        return Ok(Arc::new(Local::new(text, worker)));
    }
    if let Some(path) = file_url(text)? {
        return Ok(Arc::new(Local::new(path, worker)));
    }
    open_url(text, worker)
}

#[cfg(feature = "object-store")]
fn open_url(text: &str, worker: &Worker) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(Objects::open(text, worker)?))
}

#[cfg(not(feature = "object-store"))]
fn open_url(text: &str, _worker: &Worker) -> Result<Arc<dyn Store>> {
    Err(Error::new(ErrorKind::Unsupported, format!("the place `{text}` cannot be reached: object stores are left out"))
        .hint("name a directory, or build with the feature `object-store`"))
}

/// The path that a `file://` URL names; `None` for other schemes.
fn file_url(text: &str) -> Result<Option<String>> {
    let Some(rest) = text.strip_prefix("file://") else { return Ok(None) };
    let rest = rest.strip_prefix("localhost").unwrap_or(rest);
    if !rest.starts_with('/') {
        let message = format!("the URL `{text}` names no file of this machine");
        return Err(Error::new(ErrorKind::Usage, message).hint("expected three slashes, as in file:///data"));
    }
    decoded(rest).map(Some)
}

/// A path as URLs have it, with `%20` for a space. Those of buckets are keys, and meant as they are.
fn decoded(text: &str) -> Result<String> {
    let wrong = |why: &str| Error::new(ErrorKind::Usage, format!("the URL's path `{text}` {why}"));
    let mut path = Vec::new();
    let mut parts = text.split('%');
    path.extend(parts.next().unwrap_or_default().bytes());
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        path.push(byte.ok_or_else(|| wrong("has a % without two hexadecimal digits"))?);
        path.extend(part.bytes().skip(2));
    }
    String::from_utf8(path).map_err(|_| wrong("is no UTF-8"))
}

/// What is behind the host of a URL.
fn path_of(scheme: &str, path: &str) -> Result<PathBuf> {
    let path = path.trim_matches('/');
    if !matches!(scheme, "http" | "https") {
        return Ok(PathBuf::from(path));
    }
    if path.contains(['?', '#']) {
        return Err(Error::new(ErrorKind::Unsupported, format!("the URL's path `{path}` has a query"))
            .hint("URLs that are signed or have parameters are not read; name the object by s3://, gs:// or az://"));
    }
    decoded(path).map(PathBuf::from)
}

/// The outermost store that holds this path, and the path in it: the file system's root, the directory that this program
/// runs in, or a bucket.
///
/// # Errors
/// As [`open`].
pub fn locate(text: &str, worker: &Worker) -> Result<(Arc<dyn Store>, PathBuf)> {
    if let Some(path) = file_url(text)? {
        return locate(&path, worker);
    }
    if is_url(text) {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        return Ok((open(&format!("{scheme}://{authority}"), worker)?, path_of(scheme, path)?));
    }
    let path = Path::new(text);
    match path.strip_prefix("/") {
        Ok(inside) => Ok((open("/", worker)?, inside.to_owned())),
        Err(_) => Ok((open("", worker)?, path.to_owned())),
    }
}
