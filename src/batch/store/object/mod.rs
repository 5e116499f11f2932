//! Object stores (S3, Google Cloud Storage, Azure) and web servers, through the crate `object_store`.
//!
//! That crate is asynchronous and needs tokio. Nothing else here is: one thread of a runtime drives the connections, and
//! whoever wants something waits for it ([`bucket::wait`]).

mod bucket;
mod cache;
mod credentials;
mod fault;
mod read;
mod upload;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, Error as Refusal, GetOptions, ObjectMeta, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};

use super::{Stat, Store, Upload};
use crate::batch::state;
use crate::batch::worker::Worker;
use crate::capture::source::ReadAt;
use crate::capture::tree::{Entry, EntryKind, Tree};
use crate::error::{Error, ErrorKind, Result};
use bucket::{Bucket, wait};
use fault::Doing;

/// What is recorded with an object to tell who created it.
const WRITER: &str = "writer";
/// Larger than any note of an upload.
const MAX_NOTE: u64 = 1 << 14;
/// Numbers what this process writes.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A prefix in a bucket, or below a web server's root.
#[derive(Clone, Debug)]
pub struct Objects {
    bucket: Arc<Bucket>,
    prefix: PathBuf,
    worker: String,
}

impl Objects {
    /// The place that a URL names: `s3://bucket/prefix`, `gs://…`, `az://container/…`, `http://host/…`, `https://…`.
    ///
    /// # Errors
    /// `Unsupported` for another scheme; `Usage` where the environment's settings for it make no sense.
    pub fn open(url: &str, worker: &Worker) -> Result<Self> {
        let (authority, path) = bucket::split(url)?;
        let bucket = bucket::open(authority)?;
        let prefix = super::path_of(bucket.scheme(), path)?;
        Ok(Self::new(bucket, prefix, worker))
    }

    fn new(bucket: Arc<Bucket>, prefix: PathBuf, worker: &Worker) -> Self {
        Self { bucket, prefix, worker: worker.name().to_owned() }
    }

    fn at(&self, path: &Path) -> PathBuf {
        // Joining an empty path would add a slash.
        if path.as_os_str().is_empty() { self.prefix.clone() } else { self.prefix.join(path) }
    }

    fn key(&self, path: &Path) -> Result<Key> {
        let at = self.at(path);
        let text = at.to_str().ok_or_else(|| self.no_key(path, "it is not UTF-8"))?;
        Key::parse(text).map_err(|error| self.no_key(path, &error.to_string()))
    }

    fn no_key(&self, path: &Path, why: &str) -> Error {
        Error::new(ErrorKind::Usage, format!("cannot be the name of an object: {why}")).in_file(self.shown(path))
    }

    fn failed(&self, path: &Path, doing: Doing, error: &Refusal) -> Error {
        fault::error(self.shown(path), doing, error, self.bucket.scheme())
    }

    fn writable(&self, path: &Path) -> Result<()> {
        if self.bucket.is_web() {
            return Err(Error::new(ErrorKind::Unsupported, "cannot be written: over HTTP captures are only read")
                .in_file(self.shown(path))
                .hint("name a directory, or a place in an object store such as s3://bucket/prefix"));
        }
        Ok(())
    }

    fn head(&self, path: &Path, key: &Key) -> Result<Option<ObjectMeta>> {
        match wait(self.bucket.store().head(key))? {
            Ok(meta) => Ok(Some(meta)),
            Err(Refusal::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(path, Doing::Look, &error)),
        }
    }

    /// A name that nothing else has that this or another worker writes.
    fn unique(&self) -> String {
        format!("{}-{}", self.worker, NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the object there is the one that was written under this name.
    fn is_mine(&self, path: &Path, key: &Key, name: &str) -> Result<Option<bool>> {
        match wait(self.bucket.store().get_opts(key, GetOptions { head: true, ..GetOptions::default() }))? {
            Ok(found) => {
                let writer = found.attributes.get(&Attribute::Metadata(WRITER.into()));
                Ok(Some(writer.is_some_and(|writer| writer.as_ref() == name)))
            }
            Err(Refusal::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(path, Doing::Look, &error)),
        }
    }
}

impl Tree for Objects {
    fn shown(&self, path: &Path) -> PathBuf {
        let at = self.at(path);
        let name = self.bucket.name();
        // Not `join`, which knows no URL.
        if at.as_os_str().is_empty() { PathBuf::from(name) } else { PathBuf::from(format!("{name}/{}", at.display())) }
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>> {
        let key = self.key(directory)?;
        let prefix = (!key.as_ref().is_empty()).then_some(&key);
        let found = wait(self.bucket.list(prefix))?.map_err(|error| self.failed(directory, Doing::List, &error))?;
        let objects = found.objects.iter().map(|meta| (&meta.location, EntryKind::File(meta.size)));
        let directories = found.common_prefixes.iter().map(|at| (at, EntryKind::Directory));
        let mut entries: Vec<Entry> = objects
            .chain(directories)
            // An object may stand for the directory itself.
            .filter(|(at, _)| **at != key)
            .filter_map(|(at, kind)| Some(Entry { name: at.filename()?.into(), kind }))
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        // In a bucket one name may be both: what is below it would be out of reach.
        entries.dedup_by(|b, a| {
            let same = a.name == b.name;
            if same && b.kind == EntryKind::Directory {
                a.kind = b.kind;
            }
            same
        });
        Ok(entries)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        let key = self.key(path)?;
        let opened = read::Object::open(&self.bucket, key, self.shown(path));
        opened.map(|object| Arc::new(object) as Arc<dyn ReadAt>)
    }
}

impl Store for Objects {
    fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        let key = self.key(path)?;
        if key.as_ref().is_empty() && !self.bucket.is_web() {
            return Ok(None);
        }
        Ok(self.head(path, &key)?.map(|meta| {
            let tag = read::tag(&meta);
            Stat { size: meta.size, modified: Some(SystemTime::from(meta.last_modified)).filter(real_time), tag }
        }))
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
        let key = self.key(path)?;
        let read = async {
            let found = self.bucket.store().get(&key).await?;
            let size = found.meta.size;
            Ok(if size > limit { Err(size) } else { Ok(found.bytes().await?) })
        };
        match wait(read)? {
            Ok(Ok(bytes)) => Ok(Some(bytes.into())),
            Ok(Err(size)) => {
                let message = format!("has {size} bytes, more than the limit of {limit}");
                Err(Error::new(ErrorKind::Limit, message).in_file(self.shown(path)))
            }
            Err(Refusal::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(path, Doing::Read, &error)),
        }
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> Result<bool> {
        self.writable(path)?;
        let key = self.key(path)?;
        let name = self.unique();
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::Metadata(WRITER.into()), name.clone().into());
        for _ in 0..8 {
            let options = PutOptions { mode: PutMode::Create, attributes: attributes.clone(), ..PutOptions::default() };
            let bytes = PutPayload::from(bytes.to_vec());
            let lost = match wait(self.bucket.store().put_opts(&key, bytes, options))? {
                Ok(_) => return Ok(true),
                Err(Refusal::AlreadyExists { .. } | Refusal::Precondition { .. }) => None,
                Err(error) => Some(error),
            };
            // A request whose answer is lost may have been carried out, and is then refused when it is sent again.
            match (self.is_mine(path, &key, &name)?, lost) {
                (Some(true), _) => return Ok(true),
                (Some(false), None) => return Ok(false),
                (_, Some(error)) => return Err(self.failed(path, Doing::Create, &error)),
                // Removed since, or two at once and neither won.
                (None, None) => {}
            }
        }
        Ok(false)
    }

    fn write(&self, path: &Path) -> Result<Box<dyn Upload>> {
        self.writable(path)?;
        let key = self.key(path)?;
        let note = self.key(&Path::new(state::UNFINISHED).join(self.unique()))?;
        Ok(Box::new(upload::Sending::new(&self.bucket, key, note, self.shown(path))))
    }

    fn append(&self, path: &Path, number: u64, line: &[u8]) -> Result<()> {
        self.put(&path.join(format!("{number:08}.jsonl")), line)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.writable(path)?;
        match wait(self.bucket.store().delete(&self.key(path)?))? {
            Ok(()) | Err(Refusal::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(path, Doing::Remove, &error)),
        }
    }

    fn sweep(&self, gone: &dyn Fn(&str) -> bool) -> Result<()> {
        let directory = Path::new(state::UNFINISHED);
        for entry in self.list(directory)? {
            let owner = entry.name.to_str().and_then(|name| Some(name.rsplit_once('-')?.0));
            if !owner.is_some_and(gone) {
                continue;
            }
            let path = directory.join(&entry.name);
            if let Some(note) = self.read(&path, MAX_NOTE)? {
                upload::abandon(&self.bucket, &note)?;
            }
            self.remove(&path)?;
        }
        Ok(())
    }
}

/// A server that does not say when a file was changed is taken to mean 1970.
fn real_time(time: &SystemTime) -> bool {
    *time > SystemTime::UNIX_EPOCH
}

#[cfg(test)]
mod tests;
