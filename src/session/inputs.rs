//! From paths to surveyed captures: directories are searched, small text files become facts.

use std::fs;
use std::path::{Path, PathBuf};

use crate::capture::{self, Capture};
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::session::facts::{Facts, MAX_FACT_FILE};
use crate::session::request::{GuestSpec, Request};
use crate::session::survey::{Survey, survey};

/// How a capture came to be an input.
#[derive(Clone, Debug)]
pub(super) enum Named {
    /// Found in a directory or given alone: its contents say what it is.
    Found,
    /// `--host`.
    Host,
    /// `--offsets`.
    Offsets,
    /// `--guest`.
    Guest(GuestSpec),
}

/// A capture before anybody knows whose it is.
pub(super) struct Opened {
    pub(super) capture: Capture,
    pub(super) survey: Survey,
    pub(super) named: Named,
}

/// Everything that was opened.
pub(super) struct OpenedAll {
    pub(super) captures: Vec<Opened>,
    pub(super) facts: Facts,
}

pub(super) fn open(request: &Request, monitor: &Monitor<'_>) -> Result<OpenedAll> {
    let mut facts = Facts::default();
    let mut found: Vec<(Capture, Named)> = Vec::new();
    for path in &request.paths {
        let meta = fs::metadata(path).map_err(|e| Error::io(path, "open", e))?;
        if meta.is_dir() {
            let before = found.len();
            search(path, 0, &mut found, &mut facts)?;
            if found.len() == before {
                return Err(Error::new(ErrorKind::Format, "no capture in this directory")
                    .in_file(path)
                    .hint("expected trace.dat files, ftrace text or a copied tracefs directory"));
            }
        } else {
            found.push((capture::open(path)?, Named::Found));
        }
    }
    for path in &request.hosts {
        found.push((capture::open(path)?, Named::Host));
        look_beside(path, &mut facts);
    }
    for path in &request.offset_files {
        found.push((capture::open(path)?, Named::Offsets));
    }
    for guest in &request.guests {
        found.push((capture::open(&guest.path)?, Named::Guest(guest.clone())));
    }
    let captures = found
        .into_iter()
        .map(|(capture, named)| Ok(Opened { survey: survey(&capture, monitor)?, capture, named }))
        .collect::<Result<Vec<_>>>()?;
    Ok(OpenedAll { captures, facts })
}

/// Deep enough for a copied debugfs tree beside the captures.
const MAX_DEPTH: usize = 6;

fn search(directory: &Path, depth: usize, found: &mut Vec<(Capture, Named)>, facts: &mut Facts) -> Result<()> {
    let entries = fs::read_dir(directory).map_err(|e| Error::io(directory, "list", e))?;
    let mut paths = entries
        .map(|entry| entry.map(|e| e.path()).map_err(|e| Error::io(directory, "list", e)))
        .collect::<Result<Vec<PathBuf>>>()?;
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        let Ok(meta) = fs::metadata(&path) else { continue };
        if hidden {
            continue;
        }
        if meta.is_dir() {
            if let Some(capture) = capture::open_directory(&path)? {
                found.push((capture, Named::Found));
            } else if depth < MAX_DEPTH {
                search(&path, depth + 1, found, facts)?;
            }
        } else if meta.is_file() {
            if capture::is_capture(&path)? {
                found.push((capture::open(&path)?, Named::Found));
            } else if meta.len() <= MAX_FACT_FILE {
                read_fact(&path, facts);
            }
        }
    }
    Ok(())
}

/// Named files have neighbours that say something as well; other captures among them are not ours to open.
fn look_beside(path: &Path, facts: &mut Facts) {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        let small = fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() <= MAX_FACT_FILE);
        if small && capture::is_capture(&path).is_ok_and(|is| !is) {
            read_fact(&path, facts);
        }
    }
}

fn read_fact(path: &Path, facts: &mut Facts) {
    // A file that cannot be read or is no text has nothing to say.
    if let Ok(bytes) = fs::read(path)
        && let Ok(text) = String::from_utf8(bytes)
    {
        facts.read(path, &text);
    }
}
