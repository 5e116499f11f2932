//! tar: read where it stands, or spooled from a decompressor.

use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use tar::{Archive, Entry, EntryType};

use super::budget::Counted;
use super::members::{Bytes, Members};
use super::spool::{Spool, Window};
use super::{Packing, SourceReader, Unpacked, damaged};
use crate::capture::source::ReadAt;
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
pub(super) fn in_place(shown: &Path, source: &Arc<dyn ReadAt>, stopped: &dyn Fn() -> bool) -> Result<Unpacked> {
    let mut archive = Archive::new(SourceReader::new(Arc::clone(source)));
    let mut members = Members::new(shown);
    for entry in seeking(&mut archive).map_err(|error| damaged(Packing::Tar, error))? {
        if stopped() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        let entry = entry.map_err(|error| damaged(Packing::Tar, error))?;
        add(&mut members, entry, |entry| {
            Window::new(source, entry.raw_file_position(), entry.size())
                .map(|window| Arc::new(window) as Arc<dyn ReadAt>)
                .ok_or_else(|| damaged(Packing::Tar, io::ErrorKind::UnexpectedEof.into()))
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
    let mut archive = Archive::new(reader);
    let mut members = Members::new(shown);
    for entry in archive.entries().map_err(damaged)? {
        spool.check()?;
        let entry = entry.map_err(|error| spool.error(error, &damaged))?;
        add(&mut members, entry, |entry| {
            let (size, stored) = (entry.size(), spool.store(entry, &damaged)?);
            // tar's reader takes the end of the stream for the end of a member.
            if stored.len() < size { Err(damaged(io::ErrorKind::UnexpectedEof.into())) } else { Ok(stored) }
        })?;
    }
    Ok(members.finish())
}

fn add<R: Read>(
    members: &mut Members,
    mut entry: Entry<'_, R>,
    bytes: impl FnOnce(&mut Entry<'_, R>) -> Result<Arc<dyn ReadAt>>,
) -> Result<()> {
    let name = entry.path_bytes().into_owned();
    let what = what(&entry, &name).unwrap_or_else(|why| {
        members.leave_out(&name, why);
        What::Nothing
    });
    if matches!(what, What::Nothing) {
        return Ok(());
    }
    let Some(path) = members.place(&name)? else { return Ok(()) };
    match what {
        What::Directory => members.directory(&path),
        What::File => members.file(&path, Bytes::Ready(bytes(&mut entry)?)),
        What::Link(to) => match members.place(&to)?.and_then(|to| members.find(&to)) {
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
