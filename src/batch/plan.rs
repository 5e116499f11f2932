//! What becomes of each capture, decided before anything is written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::find::{Found, Source};
use super::fingerprint::Moment;
use super::store::Store;
use super::{Options, name};
use crate::error::{Error, ErrorKind, Result};

/// What is to be done.
pub struct Plan {
    /// This worker's captures and their outputs, by name.
    pub work: Vec<(Source, PathBuf)>,
    /// How many captures there are for all workers.
    pub found: usize,
}

impl Plan {
    /// The bytes of this worker's captures.
    pub fn bytes(&self) -> u64 {
        self.work.iter().map(|(source, _)| source.bytes()).sum()
    }
}

/// Decides where outputs go and which captures are this worker's.
///
/// # Errors
/// `Usage` where two outputs would have one name, or one would lie inside a capture.
pub fn plan(found: Found, destination: &dyn Store, options: &Options) -> Result<Plan> {
    let outputs = name::outputs(&found.sources, &options.name, options.stats)?;
    outside_captures(&found.sources, &outputs, destination)?;
    let sizes: Vec<(&Path, u64)> =
        outputs.iter().map(PathBuf::as_path).zip(found.sources.iter().map(Source::bytes)).collect();
    let mine: BTreeSet<usize> = options.shard.choose(&sizes).into_iter().collect();
    let number = found.sources.len();
    let work = found.sources.into_iter().zip(outputs).enumerate().filter(|(index, _)| mine.contains(index));
    let mut work: Vec<(Source, PathBuf)> = work.map(|(_, work)| work).collect();
    // After the division: what is old differs with the moment, and all parts must be of one whole.
    if let Some(than) = options.newer_than {
        let mut newer = Vec::new();
        for (source, output) in work {
            if Moment::of(&source)?.newest().is_none_or(|newest| newest > than) {
                newer.push((source, output));
            }
        }
        work = newer;
    }
    Ok(Plan { work, found: number })
}

/// Outputs must neither replace inputs nor become part of them.
fn outside_captures(sources: &[Source], outputs: &[PathBuf], destination: &dyn Store) -> Result<()> {
    let root = |source: &Source| {
        let path = source.directory().or_else(|| source.files().first().map(|(path, _)| path.as_path()));
        path.map(|path| real(&source.store().shown(path)))
    };
    let captures: BTreeSet<PathBuf> = sources.iter().filter_map(root).collect();
    let to = real(&destination.shown(Path::new("")));
    for output in outputs {
        let output = to.join(output);
        if let Some(capture) = output.ancestors().find(|above| captures.contains(*above)) {
            let message = format!("would be written into the capture {}", capture.display());
            return Err(Error::new(ErrorKind::Usage, message)
                .in_file(&output)
                .hint("nothing was written; name another directory with --out"));
        }
    }
    Ok(())
}

/// A path without links, as far as it exists; one that is not of the file system as it is.
pub(crate) fn real(path: &Path) -> PathBuf {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let there = path.ancestors().find_map(|above| {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        Some((std::fs::canonicalize(above).ok()?, path.strip_prefix(above).unwrap_or(path)))
    });
    there.map_or_else(
        || path.to_owned(),
        |(above, rest)| if rest.as_os_str().is_empty() { above } else { above.join(rest) },
    )
}
