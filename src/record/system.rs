//! The kernel's files: where they are, and what it means when they refuse.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind as Io, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// Largest text that is read from the kernel.
const MAX_TEXT: usize = 256 << 20;
/// How much is asked for at once.
const ONE_READ: usize = 64 << 10;

/// Where to look for the kernel's files; all by default where Linux has them.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    /// Where tracefs is mounted.
    pub tracefs: Option<PathBuf>,
    /// Where debugfs is mounted.
    pub debugfs: Option<PathBuf>,
    /// A directory that stands for `/`.
    pub root: Option<PathBuf>,
    /// Where a tree of plain files stands for tracefs: what a new instance holds. The kernel fills it by itself.
    pub new_instance: Option<PathBuf>,
}

/// The kernel's files of one machine.
#[derive(Clone, Debug)]
pub struct System {
    root: PathBuf,
    /// The directory of tracefs.
    pub tracefs: PathBuf,
    debugfs: PathBuf,
    new_instance: Option<PathBuf>,
}

impl System {
    /// Finds tracefs.
    ///
    /// # Errors
    /// `Unsupported` where it is not mounted, `Io` where it may not be read.
    pub fn find(roots: &Roots) -> Result<Self> {
        let root = roots.root.clone().unwrap_or_else(|| PathBuf::from("/"));
        let mounts = text(&root.join("proc/mounts")).unwrap_or_default();
        let mounted = |kind: &str| {
            let places = mounts.lines().filter_map(|line| {
                let mut words = line.split(' ').skip(1);
                let (place, found) = (words.next()?, words.next()?);
                (found == kind).then(|| root.join(place.trim_start_matches('/')))
            });
            places.collect::<Vec<_>>()
        };
        let debugfs = roots.debugfs.clone().unwrap_or_else(|| {
            let usual = root.join("sys/kernel/debug");
            let places = mounted("debugfs");
            if places.contains(&usual) { usual } else { places.into_iter().next().unwrap_or(usual) }
        });
        let usual = [root.join("sys/kernel/tracing"), debugfs.join("tracing")];
        let places = match &roots.tracefs {
            Some(place) => vec![place.clone()],
            None => usual.into_iter().chain(mounted("tracefs")).collect(),
        };
        let first = places.first().cloned().unwrap_or_default();
        for tracefs in places {
            match fs::metadata(tracefs.join("instances")) {
                Ok(_) => {
                    let new_instance = roots.new_instance.clone();
                    return Ok(Self { root, tracefs, debugfs, new_instance });
                }
                Err(error) if error.kind() == Io::PermissionDenied => {
                    return Err(refused(&tracefs, "read tracefs", error));
                }
                Err(_) => {}
            }
        }
        Err(Error::new(ErrorKind::Unsupported, "is no mounted tracefs: there is nothing to record with")
            .in_file(&first)
            .hint(format!("as root: mount -t tracefs tracefs {}", first.display())))
    }

    /// A file of `/`.
    pub fn path(&self, below_root: &str) -> PathBuf {
        self.root.join(below_root)
    }

    /// Where debugfs shows VMs.
    pub fn debugfs_kvm(&self) -> PathBuf {
        self.debugfs.join("kvm")
    }

    /// A tracing instance.
    pub fn instance(&self, name: &str) -> PathBuf {
        self.tracefs.join("instances").join(name)
    }

    /// Makes an instance.
    pub(super) fn make_instance(&self, path: &Path) -> Result<()> {
        fs::create_dir(path).map_err(|error| refused(path, "make a tracing instance", error))?;
        match &self.new_instance {
            Some(from) => copy_tree(from, path).map_err(|error| {
                let _ = fs::remove_dir_all(path);
                Error::io(path, "fill the directory of an instance", error)
            }),
            None => Ok(()),
        }
    }

    /// Removes an instance with all that it recorded.
    pub(super) fn remove_instance(&self, path: &Path) -> Result<()> {
        // The kernel's directory is full and yet removed by rmdir; one of plain files is not.
        let removed = match self.new_instance {
            Some(_) => fs::remove_dir_all(path),
            None => fs::remove_dir(path),
        };
        if removed.as_ref().is_err_and(|error| error.kind() == Io::NotFound) {
            // Somebody else did it.
            return Ok(());
        }
        removed.map_err(|error| {
            let busy = error.kind() == Io::ResourceBusy;
            let error = refused(path, "remove the tracing instance", error);
            let hint = format!("some program still reads it; when it has ended: rmdir {}", path.display());
            if busy { error.hint(hint) } else { error }
        })
    }

    /// Writes a file that exists, as `echo` does.
    pub(super) fn write(&self, path: &Path, value: &str) -> Result<()> {
        let mut file = OpenOptions::new().write(true).truncate(true).open(path);
        let written = file.as_mut().map_err(|e| io::Error::new(e.kind(), e.to_string()));
        written
            .and_then(|file| file.write_all(format!("{value}\n").as_bytes()))
            .map_err(|error| refused(path, &format!("write {value:?}"), error))
    }

    /// A text of the kernel, which must be there.
    pub(super) fn read(&self, path: &Path) -> Result<String> {
        text(path).map_err(|error| refused(path, "read", error))
    }
}

/// A text, whatever its bytes are.
pub(super) fn text(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    // Some files, such as events/header_page, give no more than one read takes.
    let (mut bytes, mut part) = (Vec::new(), vec![0; ONE_READ]);
    while bytes.len() < MAX_TEXT {
        match file.read(&mut part) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(part.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == Io::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The names in a directory, in order; none where it cannot be listed.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// A failed system call on a file of the kernel, with what to do.
pub(super) fn refused(path: &Path, doing: &str, error: io::Error) -> Error {
    let hint = match error.kind() {
        Io::PermissionDenied => {
            Some("recording needs root on the host itself, and a kernel that is not locked down for tracing")
        }
        Io::ReadOnlyFilesystem => Some("tracefs is mounted read-only, as containers do: record on the host itself"),
        Io::OutOfMemory => Some("smaller buffers: --buffer-size-kb"),
        Io::InvalidInput => Some("this kernel does not know the value"),
        _ => None,
    };
    let error = Error::io(path, doing, error);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let (entry, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        if entry.is_dir() {
            fs::create_dir(&to)?;
            copy_tree(&entry, &to)?;
        } else {
            fs::copy(&entry, &to)?;
        }
    }
    Ok(())
}
