//! tar: read where it stands, or spooled from a decompressor.

use std::cell::Cell;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tar::{Archive, Entry, EntryType};

use super::budget::Counted;
use super::members::{Bytes, Members};
use super::spool::{Spool, Window};
use super::{Packing, Unpacked, damaged};
use crate::capture::limits::{Limit, Limits};
use crate::capture::source::{ReadAt, SourceReader};
use crate::error::{Error, ErrorKind, Result};

/// What an entry is.
enum What {
    File,
    Directory,
    /// A second name of an earlier member.
    Link(Vec<u8>),
    Nothing,
}

/// A tar that is not compressed: members are windows of it.
pub(super) fn in_place(
    shown: &Path,
    source: &Arc<dyn ReadAt>,
    limits: &Limits,
    stopped: &dyn Fn() -> bool,
) -> Result<Unpacked> {
    let headers = Headers::new(limits);
    let mut archive =
        Archive::new(Watched { inner: SourceReader::new(Arc::clone(source)), left: headers.left.clone() });
    let mut members = Members::new(shown, limits);
    let damaged = |error| damaged(Packing::Tar, error);
    let mut entries = seeking(&mut archive).map_err(damaged)?;
    loop {
        if stopped() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        headers.before(0);
        let Some(entry) = entries.next() else { break };
        let entry = entry.map_err(|error| headers.error(error, &damaged))?;
        headers.behind();
        add(&mut members, entry, |entry| {
            Window::new(source, entry.raw_file_position(), entry.size())
                .map(|window| Arc::new(window) as Arc<dyn ReadAt>)
                .ok_or_else(|| damaged(io::ErrorKind::UnexpectedEof.into()))
        })?;
    }
    Ok(members.finish())
}

fn seeking<R: Read + Seek>(archive: &mut Archive<R>) -> io::Result<tar::Entries<'_, R>> {
    archive.entries_with_seek()
}

/// A compressed tar: members are unpacked one after the other.
pub(super) fn spooled(
    shown: &Path,
    reader: Counted<Box<dyn Read>>,
    packing: Packing,
    spool: &mut Spool<'_>,
) -> Result<Unpacked> {
    let damaged = |error| damaged(packing, error);
    let limits = *spool.budget().limits();
    let headers = Headers::new(&limits);
    let mut archive = Archive::new(Watched { inner: reader, left: headers.left.clone() });
    let mut members = Members::new(shown, &limits);
    let mut entries = archive.entries().map_err(damaged)?;
    let mut unread = 0;
    loop {
        spool.check()?;
        headers.before(unread);
        let Some(entry) = entries.next() else { break };
        let entry = entry.map_err(|error| headers.error(error, &|error| spool.error(error, &damaged)))?;
        let size = entry.size();
        headers.behind();
        add(&mut members, entry, |entry| {
            let (size, stored) = (entry.size(), spool.store(entry, &damaged)?);
            // tar's reader takes the end of the stream for the end of a member.
            if stored.len() < size { Err(damaged(io::ErrorKind::UnexpectedEof.into())) } else { Ok(stored) }
        })?;
        unread = size.saturating_sub(headers.read());
    }
    Ok(members.finish())
}

/// How much tar's reader takes for the headers in front of a member: it keeps long names and attributes in memory,
/// whatever size they claim to have.
struct Headers {
    left: Rc<Cell<u64>>,
    most: u64,
}

impl Headers {
    fn new(limits: &Limits) -> Self {
        Self { left: Rc::new(Cell::new(u64::MAX)), most: limits.get(Limit::Headers) }
    }

    /// The next member's headers are read, behind `unread` bytes of the member before and its padding.
    fn before(&self, unread: u64) {
        self.left.set(unread.saturating_add(self.most).saturating_add(1024));
    }

    /// The member itself is read.
    fn behind(&self) {
        self.left.set(u64::MAX);
    }

    /// How much of it was.
    fn read(&self) -> u64 {
        u64::MAX - self.left.get()
    }

    /// What an error in front of a member means.
    fn error(&self, error: io::Error, other: &dyn Fn(io::Error) -> Error) -> Error {
        match self.left.get() {
            0 => Limit::Headers.exceeded(format!("a member has more than {} bytes of headers", self.most)),
            _ => other(error),
        }
    }
}

/// A reader that gives only so much.
struct Watched<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other("too large"));
        }
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(buffer.get_mut(..count).unwrap_or_default())?;
        self.left.set(left - read as u64);
        Ok(read)
    }
}

impl<R: Seek> Seek for Watched<R> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

fn add<R: Read>(
    members: &mut Members,
    mut entry: Entry<'_, R>,
    bytes: impl FnOnce(&mut Entry<'_, R>) -> Result<Arc<dyn ReadAt>>,
) -> Result<()> {
    members.count()?;
    let name = entry.path_bytes().into_owned();
    let what = what(&entry, &name).unwrap_or_else(|why| {
        members.leave_out(&name, why);
        What::Nothing
    });
    if matches!(what, What::Nothing) {
        return Ok(());
    }
    let Some(path) = members.place(&name) else { return Ok(()) };
    match what {
        What::Directory => members.directory(&path),
        What::File => members.file(&path, Bytes::Ready(bytes(&mut entry)?)),
        What::Link(to) => match members.place(&to).and_then(|to| members.find(&to)) {
            Some(source) => members.file(&path, Bytes::Ready(source)),
            None => members.leave_out(&name, "it is a link to something that is not in the archive"),
        },
        What::Nothing => {}
    }
    Ok(())
}

fn what<R: Read>(entry: &Entry<'_, R>, name: &[u8]) -> std::result::Result<What, &'static str> {
    match entry.header().entry_type() {
        // The map of a sparse file stands in front of its data, and would be read as data.
        _ if name.windows(15).any(|part| part == b"/GNUSparseFile.") => Err("it is sparse: make the tar without -S"),
        EntryType::Regular | EntryType::Continuous => Ok(What::File),
        EntryType::GNUSparse => Err("it is sparse: make the tar without -S"),
        EntryType::Directory => Ok(What::Directory),
        EntryType::Link => Ok(What::Link(entry.link_name_bytes().unwrap_or_default().into_owned())),
        EntryType::Symlink => Err("it is a symbolic link, which is not followed"),
        EntryType::XGlobalHeader => Ok(What::Nothing),
        _ => Err("it is no file"),
    }
}
