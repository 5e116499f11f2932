//! What tells whether a capture, or what is wanted of it, is still the same.
//!
//! Sizes and times of files are not their contents, and a part of the contents is not all of it: where the store does not
//! vouch for an object with a tag of its own, every byte is read and hashed (XXH3, 128 bits: fast, and not meant against
//! somebody who wants two captures to have one fingerprint).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use twox_hash::XxHash3_128;

use super::find::Source;
use crate::capture::source::ReadAt;
use crate::capture::tree::Tree;
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::Monitor;

/// How much is read at once.
const BLOCK: u64 = 1 << 20;

/// A capture's files at a moment: size, time, tag. For noticing that somebody writes to them meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment(Vec<(PathBuf, Option<super::store::Stat>)>);

impl Moment {
    /// Now.
    ///
    /// # Errors
    /// `Io`.
    pub fn of(source: &Source) -> Result<Self> {
        let stat = |(path, _): &(PathBuf, u64)| Ok((path.clone(), source.store().stat(path)?));
        source.files().iter().map(stat).collect::<Result<_>>().map(Self)
    }

    /// When the last of them was changed, where that is known.
    pub fn newest(&self) -> Option<SystemTime> {
        self.0.iter().filter_map(|(_, stat)| stat.as_ref()?.modified).max()
    }

    /// An error where the files are not what they were.
    ///
    /// # Errors
    /// `Io`.
    pub fn still(&self, source: &Source) -> Result<()> {
        if Self::of(source)? == *self {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io, "was changed while it was read")
            .in_file(source.shown())
            .hint("run the batch again once the recording is complete"))
    }
}

/// The fingerprint of a capture's contents: names, sizes and bytes of its files. `tree` reads them.
///
/// # Errors
/// `Io`, `Interrupted`.
pub fn of_contents(source: &Source, at: &Moment, tree: &dyn Tree, monitor: &Monitor<'_>) -> Result<String> {
    let mut all = XxHash3_128::new();
    let root = source.directory().or_else(|| source.files().first()?.0.parent()).unwrap_or(Path::new("")).to_owned();
    for (path, stat) in &at.0 {
        let name = path.strip_prefix(&root).unwrap_or(path);
        field(&mut all, name.as_os_str().as_encoded_bytes());
        match stat.as_ref().and_then(|stat| Some((stat.size, stat.tag.as_deref()?))) {
            Some((size, tag)) => {
                field(&mut all, &size.to_le_bytes());
                field(&mut all, tag.as_bytes());
            }
            None => {
                let opened = tree.open(path)?;
                field(&mut all, &opened.len().to_le_bytes());
                let bytes = hash(&opened, monitor).map_err(|error| error.in_file(tree.shown(path)))?;
                field(&mut all, &bytes.to_le_bytes());
            }
        }
    }
    Ok(format!("{:032x}", all.finish_128()))
}

/// The fingerprint of a text.
pub fn of_text(text: &str) -> String {
    format!("{:032x}", XxHash3_128::oneshot(text.as_bytes()))
}

fn field(all: &mut XxHash3_128, bytes: &[u8]) {
    all.write(&(bytes.len() as u64).to_le_bytes());
    all.write(bytes);
}

fn hash(source: &Arc<dyn ReadAt>, monitor: &Monitor<'_>) -> Result<u128> {
    let mut hash = XxHash3_128::new();
    let (mut at, mut block) = (0, vec![0; source.len().min(BLOCK) as usize]);
    while at < source.len() {
        monitor.check()?;
        block.truncate((source.len() - at).min(BLOCK) as usize);
        let read = source.read_exact_at(&mut block, at);
        read.map_err(|error| Error::new(ErrorKind::Io, format!("cannot read: {error}")).at(at))?;
        hash.write(&block);
        at += block.len() as u64;
    }
    Ok(hash.finish_128())
}
