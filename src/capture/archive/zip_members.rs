//! zip: listed from its directory, members unpacked when they are asked for.

use std::io;
use std::path::Path;
use std::sync::Arc;

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::budget::{Budget, Counted};
use super::members::{Bytes, Members, Open};
use super::spool::{Spool, Window};
use super::{Packing, Unpacked, damaged};
use crate::capture::source::{ReadAt, SourceReader};
use crate::error::{Error, ErrorKind, Result};

type Zip = ZipArchive<SourceReader>;

pub(super) fn open(shown: &Path, source: &Arc<dyn ReadAt>, budget: &Arc<Budget>) -> Result<Unpacked> {
    let mut archive = ZipArchive::new(SourceReader::new(Arc::clone(source))).map_err(damaged_zip)?;
    let mut members = Members::new(shown, budget.limits());
    for index in 0..archive.len() {
        members.count()?;
        let (name, why, size, place) = {
            let member = archive.by_index_raw(index).map_err(damaged_zip)?;
            let stored = member.compression() == CompressionMethod::Stored;
            let place = if stored { member.data_start() } else { None };
            (member.name_raw().to_vec(), what(&member), member.size(), place.map(|at| (at, member.compressed_size())))
        };
        match why {
            Ok(directory) => {
                let Some(path) = members.place(&name) else { continue };
                let window = place.and_then(|(start, len)| Window::new(source, start, len));
                match (directory, window) {
                    (true, _) => members.directory(&path),
                    (false, Some(window)) => members.file(&path, Bytes::Ready(Arc::new(window))),
                    (false, None) => members.file(&path, Bytes::Later(size, later(&archive, index, budget))),
                }
            }
            Err(why) => members.leave_out(&name, why),
        }
    }
    Ok(members.finish())
}

/// Whether it is a directory, or why it cannot be used.
fn what<R: io::Read>(member: &zip::read::ZipFile<'_, R>) -> std::result::Result<bool, &'static str> {
    if member.is_symlink() {
        return Err("it is a symbolic link, which is not followed");
    }
    if member.encrypted() {
        return Err("it is encrypted");
    }
    if member.is_dir() {
        return Ok(true);
    }
    match member.compression() {
        CompressionMethod::Stored | CompressionMethod::Deflated => Ok(false),
        _ => Err("its compression is neither deflate nor none: pack it with `zip`, or as .tar.zst"),
    }
}

fn later(archive: &Zip, index: usize, budget: &Arc<Budget>) -> Open {
    let (archive, budget) = (archive.clone(), Arc::clone(budget));
    Box::new(move || {
        let mut archive = archive.clone();
        let member = archive.by_index(index).map_err(damaged_zip)?;
        let mut spool = Spool::new(&budget, &|| false);
        let mut reader = Counted::new(member, Arc::clone(&budget));
        spool.store(&mut reader, &|error| damaged(Packing::Zip, error))
    })
}

fn damaged_zip(error: ZipError) -> Error {
    match error {
        ZipError::Io(error) => damaged(Packing::Zip, error),
        ZipError::UnsupportedArchive(what) => Error::new(ErrorKind::Unsupported, format!("is a zip file: {what}")),
        other => Error::format(format!("is a damaged zip file: {other}"))
            .hint("copy or download it again; a zip that was cut short has lost its list of members"),
    }
}
