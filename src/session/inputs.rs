//! From paths to surveyed captures: directories and archives are searched, small text files become facts, a
//! `capture.toml` says what it knows.

mod left_out;
mod search;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::capture::tree::{Directory, Tree};
use crate::capture::{Capture, Content, content};
use crate::error::{Code, Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::session::facts::{Facts, MAX_FACT_FILE};
use crate::session::manifest::{FILE_NAME, Manifest};
use crate::session::request::{Given, GuestSpec, Request};
use crate::session::survey::{Survey, survey};

pub use left_out::LeftOut;
use search::Search;
pub(crate) use search::{is_report, is_sound_text};

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
    /// Other buffers of the machine whose main capture has this index: its role decides.
    Beside(usize),
}

/// A capture before anybody knows whose it is.
pub(super) struct Opened {
    pub(super) capture: Capture,
    pub(super) survey: Survey,
    pub(super) named: Named,
    /// It holds further buffers of the capture before it, and is not named by itself.
    pub(super) beside: bool,
    /// How many directories above it belong to what the user named, and may tell whose it is.
    pub(super) above: usize,
}

/// Everything that was opened.
pub(super) struct OpenedAll {
    pub(super) captures: Vec<Opened>,
    pub(super) facts: Facts,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) manifests: Vec<Manifest>,
}

impl OpenedAll {
    /// What the user said, in flags and manifests.
    pub(super) fn request(&self, flags: &Request) -> Request {
        let mut request = flags.clone();
        for manifest in &self.manifests {
            // One flag about a VM replaces all that the manifest says of its offsets.
            let said = |vm: &str| flags.offsets.iter().any(|flag| flag.vm == vm);
            request.offsets.extend(manifest.offsets.iter().filter(|o| !said(&o.vm)).cloned());
            request.vms.extend(manifest.vms.iter().map(|vm| GuestSpec {
                name: vm.name.clone(),
                pid: vm.pid,
                threads: vm.threads.clone(),
                path: PathBuf::new(),
            }));
            if request.tsc_hz.is_none() {
                request.tsc_hz = manifest.tsc_hz.map(|(hz, _)| hz);
                request.tsc_hz_in_manifest = request.tsc_hz.is_some();
            }
        }
        request
    }
}

pub(super) fn open(request: &Request, monitor: &Monitor<'_>) -> Result<OpenedAll> {
    let mut search = Search::new(request, monitor);
    for path in &request.paths {
        let meta = fs::metadata(path).map_err(|e| Error::io(path, "open", e))?;
        // A manifest stands for its directory.
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match path.file_name() {
            _ if meta.is_dir() => search.directory(path)?,
            Some(name) if name == FILE_NAME => search.directory(parent)?,
            _ => search.file(path, &meta)?,
        }
    }
    for given in &request.given {
        match given {
            Given::Tree(tree) => search.tree(tree)?,
            Given::File(path, source) => search.source(path, Arc::clone(source))?,
        }
    }
    for path in &request.hosts {
        search.named(path, Named::Host)?;
        look_beside(path, &mut search.facts);
    }
    for path in &request.offset_files {
        search.named(path, Named::Offsets)?;
    }
    for guest in &request.guests {
        search.named(&guest.path, Named::Guest(guest.clone()))?;
    }
    let Search { found, mut facts, left_out, manifests, .. } = search;
    for vm in manifests.iter().flat_map(|m| &m.vms) {
        if let Some(pid) = vm.pid {
            // Before what other files say: the first of a name counts.
            facts.pids.insert(0, (vm.name.clone(), pid));
        }
    }
    let captures = found
        .into_iter()
        .map(|f| {
            let beside = matches!(f.named, Named::Beside(_));
            Ok(Opened {
                survey: survey(&f.capture, monitor)?,
                capture: f.capture,
                named: f.named,
                beside,
                above: f.above,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(OpenedAll { captures, facts, left_out, manifests })
}

fn nothing_found(path: &Path) -> Error {
    let what = if path.is_dir() { "directory" } else { "archive" };
    Error::new(ErrorKind::Format, format!("no capture in this {what}"))
        .coded(Code::NoCapture)
        .in_file(path)
        .hint("expected trace.dat files, ftrace text, a copied tracefs directory, or an archive of them")
}

/// Named files have neighbours that say something as well; other captures among them are not ours to open.
fn look_beside(path: &Path, facts: &mut Facts) {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let tree = Directory::new(directory);
    for entry in tree.list(Path::new("")).unwrap_or_default() {
        let path = Path::new(&entry.name);
        let small = |source: &dyn crate::capture::source::ReadAt| source.len() <= MAX_FACT_FILE;
        if let Ok(source) = tree.open(path)
            && small(&*source)
            && let Ok(bytes) = crate::capture::tree::head(path, &*source, MAX_FACT_FILE)
            && content(&bytes) == Content::Other
        {
            search::read_fact(&tree.shown(path), &bytes, facts);
        }
    }
}
