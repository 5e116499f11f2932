//! Reading an object in parts, by several threads at once.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use object_store::path::Path as Key;
use object_store::{Error as Refusal, GetOptions, GetRange, ObjectMeta, ObjectStoreExt};

use super::bucket::{Bucket, wait};
use super::cache::LEAST;
use super::fault::{self, Doing};
use crate::capture::source::ReadAt;
use crate::error::{Error, ErrorKind, Result};

/// How often a part is asked for again of which only a part came, or a store's own tries go further.
const TRIES: u32 = 4;
/// As much is kept in memory of what a server only gives as a whole.
const WHOLE: u64 = 64 << 20;

/// What a store promises to be another one for other contents.
pub(super) fn tag(meta: &ObjectMeta) -> Option<String> {
    // A weak one allows for other bytes.
    meta.e_tag.clone().filter(|tag| !tag.starts_with("W/")).or_else(|| meta.version.clone())
}

/// An object, as it was when it was opened: if it is changed, reading fails.
pub(super) struct Object {
    bucket: Arc<Bucket>,
    key: Key,
    /// Its name in the cache.
    id: Arc<str>,
    /// Whether that name stands for these contents only.
    is_tagged: bool,
    unchanged: Option<String>,
    size: u64,
    /// All of it, where a server does not give parts.
    whole: Option<Vec<u8>>,
}

impl Object {
    /// Opens it with one request, which brings its first bytes.
    pub(super) fn open(bucket: &Arc<Bucket>, key: Key, shown: PathBuf) -> Result<Self> {
        let fail = |error: &Refusal| fault::error(shown.clone(), Doing::Open, error, bucket.scheme());
        let (meta, first, whole) = match wait(get(bucket, &key, Some((0, LEAST)), None))? {
            Ok((meta, first)) => (meta, first, None),
            Err(Refusal::NotSupported { .. }) if bucket.is_web() => {
                let (meta, whole) = Self::whole(bucket, &key, &shown)?;
                (meta, Vec::new(), Some(whole))
            }
            Err(error @ Refusal::NotFound { .. }) => return Err(fail(&error)),
            // An object without bytes has no first ones.
            Err(error) => match wait(bucket.store().head(&key))? {
                Ok(meta) if meta.size == 0 => (meta, Vec::new(), None),
                _ => return Err(fail(&error)),
            },
        };
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let tag = tag(&meta);
        let unchanged = meta.e_tag.clone().filter(|etag| tag.as_ref() == Some(etag));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id: Arc<str> = match &tag {
            Some(tag) => format!("{key}\0{tag}").into(),
            None => format!("{key}\0\0{number}").into(),
        };
        bucket.cache.keep(&id, first);
        let bucket = Arc::clone(bucket);
        Ok(Self { bucket, key, id, is_tagged: tag.is_some(), unchanged, size: meta.size, whole })
    }

    fn whole(bucket: &Bucket, key: &Key, shown: &std::path::Path) -> Result<(ObjectMeta, Vec<u8>)> {
        let fail = |error: &Refusal| fault::error(shown.to_owned(), Doing::Open, error, bucket.scheme());
        let size = wait(bucket.store().head(key))?.map_err(|error| fail(&error))?.size;
        if size > WHOLE {
            let message = format!("has {size} bytes, and the server sends no parts of it");
            return Err(Error::new(ErrorKind::Unsupported, message)
                .in_file(shown)
                .hint("download it, or serve it by a server that knows ranges"));
        }
        let (meta, bytes) = wait(get(bucket, key, None, None))?.map_err(|error| fail(&error))?;
        Ok((ObjectMeta { size: bytes.len() as u64, ..meta }, bytes))
    }

    fn fetch(&self, start: u64, length: u64) -> std::result::Result<Vec<u8>, (io::ErrorKind, String)> {
        let got = wait(get(&self.bucket, &self.key, Some((start, length)), self.unchanged.clone()));
        let got = got.map_err(|error| (io::ErrorKind::Other, error.to_string()))?;
        let (meta, bytes) = got.map_err(|error| (fault::kind(&error), fault::words(&error)))?;
        if meta.size != self.size {
            return Err((io::ErrorKind::Other, "it was changed while it was read".to_owned()));
        }
        Ok(bytes)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if !self.is_tagged {
            self.bucket.cache.forget(&self.id);
        }
    }
}

impl ReadAt for Object {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &self.whole {
            Some(whole) => whole.read_exact_at(buffer, offset),
            None => {
                self.bucket.cache.read(&self.id, self.size, buffer, offset, &|start, length| self.fetch(start, length))
            }
        }
    }
}

/// Asks for a start and a length, or all of an object.
async fn get(
    bucket: &Bucket,
    key: &Key,
    part: Option<(u64, u64)>,
    unchanged: Option<String>,
) -> object_store::Result<(ObjectMeta, Vec<u8>)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let range = part.map(|(start, length)| GetRange::Bounded(start..start + length));
        let options = GetOptions { range, if_match: unchanged.clone(), ..GetOptions::default() };
        let got = match bucket.store().get_opts(key, options).await {
            Ok(got) => {
                let meta = got.meta.clone();
                got.bytes().await.map(|bytes| (meta, bytes.into()))
            }
            Err(error) => Err(error),
        };
        match got {
            // Cut off: the store's client only sends requests again.
            Err(error) if tries < TRIES && fault::was_cut_off(&error) => {
                tokio::time::sleep(Duration::from_millis(100 << tries)).await;
            }
            got => return got,
        }
    }
}
