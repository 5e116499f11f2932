//! Where a recording goes: a directory or a `.tar.zst`, which appears whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use crate::error::{Error, ErrorKind, Result};

/// Endings of archives that are read, but not written.
const OTHER_ARCHIVES: [&str; 6] = [".tar", ".gz", ".xz", ".bz2", ".zip", ".zst"];

/// What a recording becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    path: PathBuf,
    packed: bool,
}

/// A recording whose files are being gathered. Dropping it removes them.
#[derive(Debug)]
pub struct Pending {
    target: Target,
    gathered: TempDir,
}

impl Target {
    /// The result at `path`: an archive if its name ends in `.tar.zst`, else a directory.
    ///
    /// # Errors
    /// `Usage` where something is there already, or the name is that of another kind of archive.
    pub fn new(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let packed = name.ends_with(".tar.zst");
        if !packed && OTHER_ARCHIVES.iter().any(|ending| name.ends_with(ending)) {
            return Err(Error::new(ErrorKind::Usage, "names an archive of a kind that is not written")
                .in_file(path)
                .hint("name a FILE.tar.zst, or a directory"));
        }
        let empty = !packed && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        if path.symlink_metadata().is_ok() && !empty {
            return Err(Error::new(ErrorKind::Usage, "exists, and is not overwritten")
                .in_file(path)
                .hint("name another with -o, or remove it first"));
        }
        Ok(Self { path: path.to_owned(), packed })
    }

    /// The result's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory beside it, to gather its files in.
    ///
    /// # Errors
    /// `Io` where that is not possible.
    pub fn begin(self) -> Result<Pending> {
        let parent = self.parent();
        let mut builder = tempfile::Builder::new();
        builder.prefix(".kvm-timeline-");
        // A temporary directory is private; a result is as readable as any other.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let gathered = builder.tempdir_in(parent).map_err(|error| {
            Error::io(&self.path, "create the output", error).hint("check that its directory exists and can be written")
        })?;
        Ok(Pending { target: self, gathered })
    }

    fn parent(&self) -> &Path {
        self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }
}

impl Pending {
    /// Where files are gathered.
    pub fn directory(&self) -> &Path {
        self.gathered.path()
    }

    /// Makes the result appear under its name.
    ///
    /// # Errors
    /// `Io` where it cannot be packed or renamed.
    pub fn finish(self) -> Result<()> {
        let Target { path, packed } = &self.target;
        if !packed {
            // From now on it is no temporary directory any more.
            let gathered = self.gathered.keep();
            return fs::rename(&gathered, path).map_err(|error| {
                let hint = format!("the recording is complete in {}", gathered.display());
                Error::io(path, "rename the finished output", error).hint(hint)
            });
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".kvm-timeline-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(self.target.parent()).map_err(|error| Error::io(path, "create", error))?;
        let file = pack(self.gathered.path(), file).map_err(|error| Error::io(path, "write", error))?;
        file.persist(path).map(drop).map_err(|error| Error::io(path, "rename the finished output", error.error))
    }
}

fn pack(directory: &Path, file: NamedTempFile) -> io::Result<NamedTempFile> {
    let encoder = zstd::Encoder::new(io::BufWriter::new(file), 3)?;
    let mut archive = tar::Builder::new(encoder);
    archive.mode(tar::HeaderMode::Deterministic);
    add(&mut archive, directory, Path::new(""))?;
    archive.into_inner()?.finish()?.into_inner().map_err(io::IntoInnerError::into_error)
}

/// Adds the files of a directory, by name.
fn add<W: io::Write>(archive: &mut tar::Builder<W>, directory: &Path, name: &Path) -> io::Result<()> {
    for entry in super::system::names(directory) {
        let (from, name) = (directory.join(&entry), name.join(&entry));
        if from.is_dir() {
            archive.append_dir(&name, &from)?;
            add(archive, &from, &name)?;
        } else {
            archive.append_file(&name, &mut File::open(&from)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overwritten() {
        let scratch = tempfile::tempdir().expect("a directory");
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir(at("empty")).expect("made");
        assert!(Target::new(&at("empty")).is_ok() && Target::new(&at("new")).is_ok());
        fs::write(at("empty/file"), "").expect("written");
        fs::write(at("a.tar.zst"), "").expect("written");
        for name in ["empty", "a.tar.zst", "b.zip", "b.tar", "b.tar.gz"] {
            assert_eq!(Target::new(&at(name)).map_err(|e| e.kind()), Err(ErrorKind::Usage), "{name}");
        }
    }

    #[test]
    fn an_unfinished_recording_leaves_nothing() {
        let scratch = tempfile::tempdir().expect("a directory");
        let pending = Target::new(&scratch.path().join("new")).and_then(Target::begin).expect("begun");
        fs::write(pending.directory().join("file"), "x").expect("written");
        drop(pending);
        assert_eq!(fs::read_dir(scratch.path()).expect("listed").count(), 0);
    }
}
