//! Walks a store and says where the captures in it begin and end.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memmem;
use rayon::prelude::*;

use super::divide::{Division, divide, is_guest};
use crate::batch::store::Store;
use crate::capture::archive::{self, Packing};
use crate::capture::source::ReadAt;
use crate::capture::tree::{Entry, EntryKind, head};
use crate::capture::{self, Capture, Content, content, tracefs};
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::session::manifest::FILE_NAME;
use crate::session::{is_report, is_sound_text};

/// Bytes that tell what a file is.
const HEAD: u64 = 8 << 10;
/// Directories deeper than this are nobody's archive, but a link to themselves.
const MAX_DEPTH: usize = 64;

/// A capture, by where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Draft {
    /// Its directory, or its only file.
    pub(super) root: PathBuf,
    /// `root` is a file.
    pub(super) is_file: bool,
    /// What in the directory is not part of it, by the paths from `root`.
    pub(super) except: BTreeSet<PathBuf>,
    /// What it is named after: `root`, or the host's file in it.
    pub(super) label: PathBuf,
    /// `label` is a file.
    pub(super) named_by_file: bool,
    /// The file or files in the directory itself that are captures.
    pub(super) captures: Vec<OsString>,
}

impl Draft {
    fn directory(root: &Path, captures: Vec<OsString>) -> Self {
        let except = BTreeSet::new();
        let (root, label) = (root.to_owned(), root.to_owned());
        Self { root, is_file: false, except, label, named_by_file: false, captures }
    }

    fn file(root: PathBuf) -> Self {
        let captures = root.file_name().map(OsStr::to_owned).into_iter().collect();
        Self { is_file: true, named_by_file: true, label: root.clone(), root, except: BTreeSet::new(), captures }
    }
}

/// What a file is to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Somebody's recording.
    Capture,
    /// Text of trace-cmd, which is a capture where nothing better is.
    Report,
    /// Several files.
    Archive,
    /// Nothing, or something about a capture.
    Other,
}

/// A walk through one store.
pub(super) struct Walk<'a> {
    pub(super) store: &'a Arc<dyn Store>,
    /// Directories that are not looked into, by their shown names.
    pub(super) skip: &'a (dyn Fn(&Path) -> bool + Sync),
    pub(super) monitor: &'a Monitor<'a>,
}

/// What stands in a directory.
struct Listing {
    captures: Vec<OsString>,
    archives: Vec<OsString>,
    directories: Vec<OsString>,
}

impl Walk<'_> {
    /// All captures at and below a directory.
    pub(super) fn directory(&self, path: &Path) -> Result<Vec<Draft>> {
        self.below(path, 0)
    }

    fn below(&self, path: &Path, depth: usize) -> Result<Vec<Draft>> {
        self.monitor.check()?;
        let entries = match self.store.list(path) {
            // What cannot be looked into is a capture that fails: somebody hears of it, and the others go on.
            Err(_) if depth > 0 => return Ok(vec![Draft::directory(path, Vec::new())]),
            entries => entries?,
        };
        if let Some(whole) = self.whole(path, &entries)? {
            return Ok(vec![whole]);
        }
        let listing = self.look(path, entries)?;
        let children = listing.directories.par_iter().map(|name| {
            let child = path.join(name);
            let into = depth < MAX_DEPTH && !self.is_ancestor(&child);
            Ok((name.clone(), if into { self.below(&child, depth + 1)? } else { Vec::new() }))
        });
        let mut parts: Vec<(OsString, Vec<Draft>)> = children.collect::<Result<_>>()?;
        parts.extend(listing.archives.iter().map(|name| (name.clone(), vec![Draft::file(path.join(name))])));
        parts.retain(|(_, drafts)| !drafts.is_empty());
        if listing.captures.is_empty() {
            Ok(without_captures(path, parts))
        } else {
            self.with_captures(path, listing, parts)
        }
    }

    /// A file that was named, with what beside it belongs to it.
    pub(super) fn file(&self, path: &Path) -> Result<Draft> {
        let alone = || Draft::file(path.to_owned());
        let parent = path.parent().unwrap_or(Path::new(""));
        let Some(name) = path.file_name() else { return Ok(alone()) };
        let entries = self.store.list(parent)?;
        let directories = entries.iter().filter(|e| e.kind == EntryKind::Directory && !belongs(&e.name));
        let directories: BTreeSet<PathBuf> = directories.map(|e| PathBuf::from(&e.name)).collect();
        let drafts = match self.whole(parent, &entries)? {
            Some(whole) => return Ok(whole),
            None => {
                let listing = self.look(parent, entries)?;
                match listing.captures.iter().any(|capture| capture == name) {
                    true => self.with_captures(parent, listing, Vec::new())?,
                    false => return Ok(alone()),
                }
            }
        };
        let own = drafts.into_iter().find(|draft| draft.captures.iter().any(|capture| capture == name));
        Ok(own.map_or_else(alone, |mut draft| {
            draft.except.extend(directories);
            draft
        }))
    }

    /// A directory that says of itself what it is.
    fn whole(&self, path: &Path, entries: &[Entry]) -> Result<Option<Draft>> {
        let manifest = entries.iter().any(|e| e.name == FILE_NAME && e.kind != EntryKind::Directory);
        Ok((manifest || tracefs::is_tracefs(&**self.store, path)?).then(|| Draft::directory(path, Vec::new())))
    }

    /// Whether a directory is a link to one of those around it.
    fn is_ancestor(&self, path: &Path) -> bool {
        let shown = self.store.shown(path);
        let is_link = std::fs::symlink_metadata(&shown).is_ok_and(|meta| meta.is_symlink());
        let parent = || shown.parent().and_then(|parent| std::fs::canonicalize(parent).ok());
        is_link && std::fs::canonicalize(&shown).is_ok_and(|to| parent().is_some_and(|parent| parent.starts_with(to)))
    }

    fn look(&self, path: &Path, entries: Vec<Entry>) -> Result<Listing> {
        let visible = |e: &Entry| !e.name.as_encoded_bytes().starts_with(b".");
        let (directories, files): (Vec<Entry>, Vec<Entry>) =
            entries.into_iter().filter(visible).partition(|e| e.kind == EntryKind::Directory);
        let kinds: Vec<Kind> = files.par_iter().map(|e| self.kind(&path.join(&e.name))).collect::<Result<_>>()?;
        let of = |wanted: Kind| {
            let those = files.iter().zip(&kinds).filter(move |(_, kind)| **kind == wanted);
            those.map(|(e, _)| e.name.clone()).collect::<Vec<_>>()
        };
        let mut captures = of(Kind::Capture);
        if captures.is_empty() {
            captures = of(Kind::Report);
        }
        let directories = directories.into_iter().map(|e| e.name);
        let directories = directories.filter(|name| !(self.skip)(&self.store.shown(&path.join(name))));
        Ok(Listing { captures, archives: of(Kind::Archive), directories: directories.collect() })
    }

    /// What a file is. One that cannot be read is taken for a capture: its record will say why.
    fn kind(&self, path: &Path) -> Result<Kind> {
        self.monitor.check()?;
        let shown = self.store.shown(path);
        let opened = self.store.open(path).and_then(|source| Ok((head(&shown, &*source, HEAD)?, source)));
        let Ok((mut first, source)) = opened else { return Ok(Kind::Capture) };
        if let Content::Packed(packing) = content(&first) {
            if matches!(packing, Packing::Tar | Packing::Zip) {
                return Ok(Kind::Archive);
            }
            match archive::peek(&shown, Arc::clone(&source), packing, HEAD) {
                // Damaged: whoever opens it says so.
                Err(_) => return Ok(Kind::Archive),
                Ok(inside) if archive::packing(&inside).is_some() => return Ok(Kind::Archive),
                Ok(inside) => first = inside,
            }
        }
        Ok(match content(&first) {
            Content::TraceDat | Content::PerfData => Kind::Capture,
            Content::Perfetto if is_own(&shown, &first, source) => Kind::Other,
            Content::Perfetto => Kind::Capture,
            Content::Text if is_report(&first) => Kind::Report,
            Content::Text if is_sound_text(&first) => Kind::Capture,
            _ => Kind::Other,
        })
    }

    fn open(&self, path: &Path) -> Result<Capture> {
        capture::open_source(&self.store.shown(path), self.store.open(path)?)
    }

    /// A directory with captures in it: they are one or several, and what is below belongs to them only if it says so.
    fn with_captures(&self, path: &Path, listing: Listing, parts: Vec<(OsString, Vec<Draft>)>) -> Result<Vec<Draft>> {
        let names: Vec<&OsStr> = listing.captures.iter().map(OsString::as_os_str).collect();
        let open = |index: usize| self.open(&path.join(names[index]));
        let division = divide(&names, &open, self.monitor)?;
        let apart: BTreeSet<OsString> = match &division {
            Division::One => {
                let all_guests = names.iter().all(|name| name.to_str().is_some_and(is_guest));
                self.apart(path, &names, &parts, all_guests)
            }
            Division::Several(_) => parts.iter().map(|(name, _)| name.clone()).collect(),
        };
        let mut drafts: Vec<Draft> = match division {
            Division::One => vec![Draft::directory(path, listing.captures.clone())],
            Division::Several(groups) => groups
                .iter()
                .map(|group| {
                    let mine: Vec<OsString> = group.iter().map(|&i| listing.captures[i].clone()).collect();
                    let others = listing.captures.iter().filter(|name| !mine.contains(name));
                    Draft {
                        except: others.map(PathBuf::from).collect(),
                        label: mine.first().map_or(path.to_owned(), |host| path.join(host)),
                        named_by_file: true,
                        ..Draft::directory(path, mine)
                    }
                })
                .collect(),
        };
        for draft in &mut drafts {
            draft.except.extend(apart.iter().map(PathBuf::from));
        }
        drafts.extend(parts.into_iter().filter(|(name, _)| apart.contains(name)).flat_map(|(_, drafts)| drafts));
        Ok(drafts)
    }

    /// Which parts of a directory with these captures are captures of their own.
    fn apart(
        &self,
        path: &Path,
        names: &[&OsStr],
        parts: &[(OsString, Vec<Draft>)],
        all_guests: bool,
    ) -> BTreeSet<OsString> {
        let mut apart: BTreeSet<OsString> = parts
            .iter()
            .filter(|(name, drafts)| !belongs(name) || !is_simple(drafts))
            .map(|(n, _)| n.clone())
            .collect();
        if all_guests && apart.len() == 1 {
            // Guests beside the directory of their host.
            let host = parts.iter().find(|(name, _)| apart.contains(name));
            if host.is_some_and(|(_, drafts)| is_simple(drafts)) {
                return BTreeSet::new();
            }
        }
        if apart.is_empty() {
            return apart;
        }
        let ids: Vec<u64> = names.iter().filter_map(|n| self.open(&path.join(n)).ok()?.info.trace_id).collect();
        for (name, drafts) in parts {
            let [draft] = drafts.as_slice() else { continue };
            let of_ours = |capture: &OsString| {
                let shift = self.open(&draft.root.join(capture)).ok().and_then(|c| c.info.time_shift);
                shift.is_some_and(|shift| ids.contains(&shift.peer_trace_id))
            };
            if is_simple(drafts) && !draft.is_file && !draft.captures.is_empty() && draft.captures.iter().all(of_ours) {
                apart.remove(name);
            }
        }
        apart
    }
}

/// A directory without captures of its own: guests beside the directory of their host are one capture, all else is apart.
fn without_captures(path: &Path, parts: Vec<(OsString, Vec<Draft>)>) -> Vec<Draft> {
    let named = |of: &dyn Fn(&str) -> bool| -> Vec<OsString> {
        let those = parts.iter().filter(|(name, drafts)| is_simple(drafts) && name.to_str().is_some_and(of));
        those.map(|(name, _)| name.clone()).collect()
    };
    let guests = named(&is_guest);
    let others = named(&|name| !is_guest(name));
    let hosts = named(&|name| name.split('.').next() == Some("host"));
    let host = match (others.as_slice(), hosts.as_slice()) {
        ([only], _) | (_, [only]) => only.clone(),
        _ => return parts.into_iter().flat_map(|(_, drafts)| drafts).collect(),
    };
    if guests.is_empty() {
        return parts.into_iter().flat_map(|(_, drafts)| drafts).collect();
    }
    let mut joined = Draft::directory(path, Vec::new());
    let mut drafts = Vec::new();
    for (name, apart) in parts {
        if name != host && !guests.contains(&name) {
            joined.except.insert(name.into());
            drafts.extend(apart);
        }
    }
    drafts.push(joined);
    drafts
}

/// One capture, and all of it: no part of a directory, and not several.
fn is_simple(drafts: &[Draft]) -> bool {
    matches!(drafts, [draft] if draft.except.is_empty() && (draft.is_file || !draft.named_by_file))
}

/// Whether the name of a directory or an archive says that it is part of the captures beside it.
fn belongs(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    is_guest(name) || matches!(name, "debugfs" | "kvm")
}

/// Whether a Perfetto trace is an output of this program: quickly where the first bytes say so.
fn is_own(shown: &Path, first: &[u8], source: Arc<dyn ReadAt>) -> bool {
    if memmem::find(first, b"kvm-timeline ").is_some() {
        return true;
    }
    match capture::open_source(shown, source) {
        Ok(capture) => capture.info.perfetto.is_some_and(|native| native.made_by.is_some()),
        Err(error) => error.to_string().ends_with(capture::perfetto::OWN_TIMELINE),
    }
}

/// An error for a path that is not there.
pub(super) fn absent(shown: &Path) -> Error {
    Error::new(ErrorKind::Io, "does not exist").in_file(shown)
}
