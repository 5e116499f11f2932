//! Archives and compressed files around captures: tar, zip, gzip, zstd, xz and bzip2, recognised by their first bytes.
//!
//! Nothing is ever written under a name that an archive gives. Small members are kept in memory, others in one
//! temporary file without a name, and members that are stored as they are get read where they stand. How much may be
//! unpacked is bounded by a [`Budget`], whatever sizes the archive claims.

mod budget;
mod members;
mod pieces;
mod spool;
mod tar_members;
#[cfg(test)]
mod tests;
mod zip_members;

use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use super::source::{ReadAt, SourceReader};
use super::tree::{Tree, head};
use crate::error::{Code, Error, ErrorKind, Result};

pub use budget::Budget;
use budget::Counted;
pub(super) use pieces::{Pieces, store_pieces};
use spool::Spool;

/// Bytes from which [`packing`] can tell.
pub const HEAD: u64 = 512;

/// Memory that decompressing xz may take: `xz -9` needs 65 MiB.
const XZ_MEMORY_KIB: u32 = 512 << 10;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
    /// tar, not compressed.
    Tar,
    /// zip.
    Zip,
}

impl Packing {
    /// The word in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Tar => "tar",
            Self::Zip => "zip",
        }
    }
}

/// Whether a file that starts with `first` ([`HEAD`] bytes, or all of a shorter file) is packed, and how.
pub fn packing(first: &[u8]) -> Option<Packing> {
    let magics: [(&[u8], Packing); 7] = [
        (b"\x1f\x8b\x08", Packing::Gzip),
        (b"\x28\xb5\x2f\xfd", Packing::Zstd),
        (b"\xfd7zXZ\0", Packing::Xz),
        (b"PK\x03\x04", Packing::Zip),
        // An empty zip, and one in several parts.
        (b"PK\x05\x06", Packing::Zip),
        (b"PK\x07\x08", Packing::Zip),
        // The skippable frame that some zstd tools put in front.
        (b"\x50\x2a\x4d\x18", Packing::Zstd),
    ];
    let known = magics.iter().find(|(magic, _)| first.starts_with(magic)).map(|(_, packing)| *packing);
    let bzip2 = || {
        let start = first.starts_with(b"BZh") && first.get(3).is_some_and(|level| (b'1'..=b'9').contains(level));
        (start && first.get(4..10) == Some(b"1AY&SY")).then_some(Packing::Bzip2)
    };
    known.or_else(bzip2).or_else(|| is_tar(first).then_some(Packing::Tar))
}

/// By the checksum of the first header: it holds for every tar, old ones without a magic too.
fn is_tar(first: &[u8]) -> bool {
    let Some(header) = first.get(..512) else { return false };
    let Some(stated) = header.get(148..156) else { return false };
    let digits: Vec<u8> = stated.iter().copied().skip_while(|&b| b == b' ').take_while(u8::is_ascii_digit).collect();
    let stated = std::str::from_utf8(&digits).ok().and_then(|text| u32::from_str_radix(text, 8).ok());
    let sum = |(at, &byte): (usize, &u8)| if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(byte) };
    header.first().is_some_and(|&byte| byte != 0) && stated == Some(header.iter().enumerate().map(sum).sum())
}

/// What was inside.
pub enum Unpacked {
    /// One file.
    File(Arc<dyn ReadAt>),
    /// Several named files, and what had to be left out of them, one sentence each.
    Tree(Arc<dyn Tree>, Vec<String>),
}

/// Opens a file that is packed as `packing`. `shown` is its name in messages; `stopped` tells whether to give up.
///
/// # Errors
/// `Format` where it is damaged or cut short, `Limit` where it unpacks to more than the budget, `Unsupported` for what
/// zip calls other methods, `Interrupted` where `stopped` says so.
pub fn open(
    shown: &Path,
    source: Arc<dyn ReadAt>,
    packing: Packing,
    budget: &Arc<Budget>,
    stopped: &dyn Fn() -> bool,
) -> Result<Unpacked> {
    let mut spool = Spool::new(budget, stopped);
    let unpacked = match packing {
        Packing::Tar => tar_members::in_place(shown, &source, budget.limits(), stopped),
        Packing::Zip => zip_members::open(shown, &source, budget),
        _ => decompress(shown, &source, packing, &mut spool),
    };
    unpacked.map_err(|error| error.damaged_as(Code::DamagedArchive).in_file(shown))
}

/// The first bytes of what is inside a compressed file.
///
/// # Errors
/// As [`open`].
pub fn peek(shown: &Path, source: Arc<dyn ReadAt>, packing: Packing, count: u64) -> Result<Vec<u8>> {
    let mut first = Vec::new();
    let reader = decoder(packing, SourceReader::new(source))
        .map_err(|error| damaged(packing, error).coded(Code::DamagedArchive).in_file(shown))?;
    reader
        .take(count)
        .read_to_end(&mut first)
        .map_err(|error| damaged(packing, error).coded(Code::DamagedArchive).in_file(shown))?;
    Ok(first)
}

fn decompress(shown: &Path, source: &Arc<dyn ReadAt>, packing: Packing, spool: &mut Spool<'_>) -> Result<Unpacked> {
    let first = peek(shown, Arc::clone(source), packing, HEAD)?;
    let reader = decoder(packing, SourceReader::new(Arc::clone(source))).map_err(|error| damaged(packing, error))?;
    let mut reader = Counted::new(reader, Arc::clone(spool.budget()));
    if is_tar(&first) {
        return tar_members::spooled(shown, reader, packing, spool);
    }
    spool.store(&mut reader, &|error| damaged(packing, error)).map(Unpacked::File)
}

fn decoder(packing: Packing, source: SourceReader) -> io::Result<Box<dyn Read>> {
    let source = BufReader::with_capacity(128 << 10, source);
    Ok(match packing {
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(source)?),
        Packing::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(source, true, XZ_MEMORY_KIB)),
        Packing::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Packing::Tar | Packing::Zip => Box::new(source),
    })
}

/// What a decompressor's error means.
fn damaged(packing: Packing, error: io::Error) -> Error {
    let name = packing.name();
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Error::format(format!("is a {name} file that was cut short")).hint("copy or download it again")
        }
        io::ErrorKind::OutOfMemory => Error::new(ErrorKind::Limit, format!("cannot unpack {name}: {error}")),
        _ => Error::format(format!("is a damaged {name} file: {error}")).hint("copy or download it again"),
    }
}

/// Opens a compressed single file; any other comes back as it is.
///
/// # Errors
/// As [`open`]; `Unsupported` for a compressed tar.
pub fn unpack_file(shown: &Path, source: Arc<dyn ReadAt>, budget: &Arc<Budget>) -> Result<Arc<dyn ReadAt>> {
    match packing(&head(shown, &*source, HEAD)?) {
        None | Some(Packing::Tar | Packing::Zip) => Ok(source),
        Some(packing) => match open(shown, source, packing, budget, &|| false)? {
            Unpacked::File(source) => Ok(source),
            Unpacked::Tree(..) => Err(several_files(packing).in_file(shown)),
        },
    }
}

/// Stores all that `reader` gives, in memory or in a temporary file; `damaged` says what its errors mean.
fn store(reader: &mut dyn Read, budget: &Arc<Budget>, damaged: &dyn Fn(io::Error) -> Error) -> Result<Arc<dyn ReadAt>> {
    Spool::new(budget, &|| false).store(&mut Counted::new(reader, Arc::clone(budget)), damaged)
}

/// Where one file was expected.
pub(super) fn several_files(packing: Packing) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("is an archive of several files ({}), expected one capture", packing.name()),
    )
    .hint("name it without --host or --guest: what is inside is found out from its contents")
}
