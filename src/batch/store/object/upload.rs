//! Writing an object, in parts where it is large. It is visible once it is whole.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{Error as Refusal, ObjectMeta, ObjectStoreExt, PutPayload};
use tokio::task::JoinHandle;

use super::bucket::{Bucket, runtime, wait};
use super::fault::{self, Doing};
use super::read::tag;
use crate::batch::store::Upload;
use crate::error::{Error, ErrorKind, Result};

/// The bytes of a part. One is filled while another is sent.
const PART: usize = 8 << 20;
/// As many parts as S3 takes.
const MAX_PARTS: usize = 10_000;

/// An object on its way.
pub(super) struct Sending {
    bucket: Arc<Bucket>,
    key: Key,
    /// Where it is noted that parts are being sent, for those who clean up.
    note: Key,
    shown: PathBuf,
    buffer: Vec<u8>,
    total: u64,
    parts: Option<Parts>,
}

/// Parts that were sent.
struct Parts {
    store: Arc<dyn MultipartStore>,
    id: String,
    sent: Vec<PartId>,
    /// The one on its way.
    flying: Option<JoinHandle<object_store::Result<PartId>>>,
}

impl Sending {
    pub(super) fn new(bucket: &Arc<Bucket>, key: Key, note: Key, shown: PathBuf) -> Self {
        Self { bucket: Arc::clone(bucket), key, note, shown, buffer: Vec::new(), total: 0, parts: None }
    }

    fn failed(&self, error: &Refusal) -> Error {
        fault::error(self.shown.clone(), Doing::Write, error, self.bucket.scheme())
    }

    fn begin(&self) -> Result<Parts> {
        let Some(store) = self.bucket.multipart() else {
            return Err(Error::new(ErrorKind::Unsupported, "cannot be written in parts").in_file(&self.shown));
        };
        let store = Arc::clone(store);
        let begun = wait(async {
            let id = store.create_multipart(&self.key).await?;
            let noted = self.bucket.store().put(&self.note, format!("{}\n{id}", self.key).into()).await;
            if noted.is_err() {
                let _ = store.abort_multipart(&self.key, &id).await;
            }
            noted.map(|_| id)
        })?;
        let id = begun.map_err(|error| self.failed(&error))?;
        Ok(Parts { store, id, sent: Vec::new(), flying: None })
    }

    fn send(&mut self, bytes: Vec<u8>) -> Result<()> {
        if self.parts.is_none() {
            self.parts = Some(self.begin()?);
        }
        self.land()?;
        let Some(parts) = &mut self.parts else { return Ok(()) };
        let number = parts.sent.len();
        if number >= MAX_PARTS {
            let message = format!("has more than {MAX_PARTS} parts of {PART} bytes, which no store takes");
            return Err(Error::new(ErrorKind::Limit, message).in_file(&self.shown));
        }
        let (store, key, id) = (Arc::clone(&parts.store), self.key.clone(), parts.id.clone());
        let sending = async move { store.put_part(&key, &id, number, PutPayload::from(bytes)).await };
        parts.flying = Some(runtime()?.spawn(sending));
        Ok(())
    }

    /// Waits for the part on its way.
    fn land(&mut self) -> Result<()> {
        let Some(parts) = &mut self.parts else { return Ok(()) };
        let Some(flying) = parts.flying.take() else { return Ok(()) };
        let landed = wait(flying)?.map_err(|error| {
            Error::new(ErrorKind::Io, format!("cannot write: the thread that sends it failed: {error}"))
                .in_file(&self.shown)
        })?;
        match landed {
            Ok(part) => {
                parts.sent.push(part);
                Ok(())
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn complete(&self, parts: &Parts) -> Result<()> {
        let now = || async { self.bucket.store().head(&self.key).await.ok() };
        let tag_of = |meta: &Option<ObjectMeta>| meta.as_ref().and_then(tag);
        let completed = wait(async {
            let before = now().await;
            let completed = parts.store.complete_multipart(&self.key, &parts.id, parts.sent.clone()).await;
            let Err(error) = completed else { return Ok(()) };
            // An answer that was lost is not a failure: the parts are gone then, and the object is new.
            let after = now().await;
            let new = after.as_ref().is_some_and(|meta| meta.size == self.total) && tag_of(&after).is_some();
            if new && tag_of(&after) != tag_of(&before) { Ok(()) } else { Err(error) }
        })?;
        completed.map_err(|error| self.failed(&error))
    }
}

impl Upload for Sending {
    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.total += bytes.len() as u64;
        // One byte more than a part: what fits in one is sent at once, in the end.
        while self.buffer.len() + bytes.len() > PART {
            let (now, rest) = bytes.split_at(PART - self.buffer.len());
            self.buffer.extend_from_slice(now);
            bytes = rest;
            let part = std::mem::take(&mut self.buffer);
            self.send(part)?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let rest = std::mem::take(&mut self.buffer);
        if self.parts.is_none() {
            let put = wait(self.bucket.store().put(&self.key, PutPayload::from(rest)))?;
            return put.map(|_| ()).map_err(|error| self.failed(&error));
        }
        self.send(rest)?;
        self.land()?;
        if let Some(parts) = &self.parts {
            self.complete(parts)?;
        }
        self.parts = None;
        // One that stays costs whoever cleans up a request.
        let _ = wait(self.bucket.store().delete(&self.note));
        Ok(())
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        if let Some(flying) = parts.flying {
            flying.abort();
        }
        // What cannot be done now is done by whoever finds the note.
        let _ = wait(async {
            if parts.store.abort_multipart(&self.key, &parts.id).await.is_ok() {
                let _ = self.bucket.store().delete(&self.note).await;
            }
        });
    }
}

/// Gives up what a worker that is gone noted.
///
/// # Errors
/// `Io` where the runtime cannot be started; not where there is no such upload any more.
pub(super) fn abandon(bucket: &Bucket, note: &[u8]) -> Result<()> {
    let note = std::str::from_utf8(note).ok().and_then(|text| text.split_once('\n'));
    let (Some((key, id)), Some(store)) = (note, bucket.multipart()) else { return Ok(()) };
    if let Ok(key) = Key::parse(key) {
        let _ = wait(store.abort_multipart(&key, &id.to_owned()))?;
    }
    Ok(())
}
