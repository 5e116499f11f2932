//! Finds captures in directories and archives, which are searched alike.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::left_out::LeftOut;
use super::{Named, nothing_found};
use crate::capture::archive::{self, Budget, Packing, Unpacked};
use crate::capture::limits::{Limit, Limits};
use crate::capture::source::{FileSource, ReadAt};
use crate::capture::tree::{Directory, EntryKind, Tree, head};
use crate::capture::{self, Capture, Content, content, perfetto, text, tracefs};
use crate::error::{Code, Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::session::facts::{Facts, MAX_FACT_FILE};
use crate::session::manifest::{FILE_NAME, FileRole, Manifest};
use crate::session::request::Request;

/// Deep enough for a copied debugfs tree beside the captures.
const MAX_DEPTH: usize = 6;
/// Bytes that tell what a file is.
const HEAD: u64 = 8 << 10;
/// Largest manifest.
const MAX_MANIFEST: u64 = 1 << 20;
/// Files that say nothing are listed up to this number.
const MAX_SILENT: usize = 1000;

/// What captures are called: a file of such a name that is none was to be one.
const CAPTURES: [&str; 4] = ["dat", "data", "pftrace", "perfetto-trace"];

/// A capture and how it came to be found.
pub(super) struct Found {
    pub(super) capture: Capture,
    pub(super) named: Named,
    pub(super) above: usize,
}

/// What has been found so far.
pub(super) struct Search<'a> {
    monitor: &'a Monitor<'a>,
    pub(super) found: Vec<Found>,
    pub(super) facts: Facts,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) manifests: Vec<Manifest>,
    /// Set while a directory with a manifest is searched: its index.
    manifest: Option<usize>,
    /// Paths of it that were met.
    met: BTreeSet<PathBuf>,
    /// What flags name is not found a second time.
    flagged: BTreeSet<PathBuf>,
    limits: Limits,
    /// Shared by all archives, where the user set a limit.
    budget: Option<Arc<Budget>>,
}

/// Where a file stands: the tree, its path there, and its path from where the search began.
#[derive(Clone)]
struct Place<'t> {
    tree: &'t Arc<dyn Tree>,
    path: PathBuf,
    from_root: PathBuf,
    depth: usize,
    nested: usize,
    /// What may be unpacked, inside an archive.
    budget: Option<Arc<Budget>>,
}

impl Place<'_> {
    fn shown(&self) -> PathBuf {
        self.tree.shown(&self.path)
    }

    fn child(&self, name: &std::ffi::OsStr) -> Self {
        let (path, from_root) = (self.path.join(name), self.from_root.join(name));
        Self { path, from_root, depth: self.depth + 1, ..self.clone() }
    }
}

/// A text that is read once it is known what else lies beside it.
struct TextFile {
    shown: PathBuf,
    from_root: PathBuf,
    source: Arc<dyn ReadAt>,
    /// What `trace-cmd report` prints.
    report: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(request: &'a Request, monitor: &'a Monitor<'a>) -> Self {
        let guests = request.guests.iter().map(|guest| &guest.path);
        let flags = request.hosts.iter().chain(&request.offset_files).chain(guests);
        Self {
            monitor,
            found: Vec::new(),
            facts: Facts::default(),
            left_out: Vec::new(),
            manifests: Vec::new(),
            manifest: None,
            met: BTreeSet::new(),
            flagged: flags.filter_map(|path| fs::canonicalize(path).ok()).collect(),
            limits: request.limits,
            budget: (request.limits.get(Limit::Unpacked) > 0).then(|| Budget::within(0, &request.limits)),
        }
    }

    /// Searches a directory that the user named.
    pub(super) fn directory(&mut self, path: &Path) -> Result<()> {
        self.tree(&(Arc::new(Directory::new(path)) as Arc<dyn Tree>))
    }

    /// Searches a tree from its root.
    pub(super) fn tree(&mut self, tree: &Arc<dyn Tree>) -> Result<()> {
        self.root(&tree.shown(Path::new("")), tree, 0, None)
    }

    /// Reads a file that the user named without saying what it is.
    pub(super) fn file(&mut self, path: &Path, meta: &Metadata) -> Result<()> {
        if !meta.is_file() {
            return Err(capture::open(path).err().unwrap_or_else(|| nothing_found(path)));
        }
        self.source(path, Arc::new(FileSource::open(path)?))
    }

    /// Reads an open file of which nobody said what it is.
    pub(super) fn source(&mut self, path: &Path, source: Arc<dyn ReadAt>) -> Result<()> {
        let Content::Packed(packing) = content(&head(path, &*source, HEAD)?) else {
            return self.push(capture::open_source_within(path, source, &self.limits)?, Named::Found, 0);
        };
        let budget = self.budget_for(source.len());
        match self.unpack(path, source, packing, &budget)? {
            Unpacked::File(source) => {
                self.push(capture::open_source_within(path, source, &self.limits)?, Named::Found, 0)
            }
            Unpacked::Tree(tree, notes) => {
                self.notes(path, notes);
                self.root(path, &tree, 1, Some(budget))
            }
        }
    }

    /// Reads what a flag names: a file, a copied tracefs, or an archive with one capture.
    pub(super) fn named(&mut self, path: &Path, named: Named) -> Result<()> {
        let before = self.found.len();
        let flagged = std::mem::take(&mut self.flagged);
        let meta = fs::metadata(path).map_err(|e| Error::io(path, "open", e))?;
        if meta.is_dir() {
            self.directory(path)?
        } else {
            self.file(path, &meta)?
        }
        self.flagged = flagged;
        let mut new = self.found.iter_mut().skip(before).filter(|f| !matches!(f.named, Named::Beside(_)));
        let first = new.next().ok_or_else(|| nothing_found(path))?;
        first.named = named;
        match new.next() {
            None => Ok(()),
            Some(_) => Err(Error::new(ErrorKind::Usage, "holds several captures, expected one")
                .in_file(path)
                .hint("name one of them, or leave the flag out: what is what is found out from the contents")),
        }
    }

    /// Searches a tree that the user named.
    fn root(&mut self, path: &Path, tree: &Arc<dyn Tree>, nested: usize, budget: Option<Arc<Budget>>) -> Result<()> {
        let before = self.found.len();
        self.met.clear();
        self.manifest = self.read_manifest(tree)?;
        let place = Place { tree, path: PathBuf::new(), from_root: PathBuf::new(), depth: 0, nested, budget };
        self.search(&place)?;
        if let Some(manifest) = self.manifest.take().and_then(|index| self.manifests.get(index)) {
            let missing = manifest.files.iter().find(|file| !self.met.contains(&file.path));
            if let Some(file) = missing {
                return Err(manifest
                    .error(file.line, &format!("there is no file \"{}\"", file.path.display()))
                    .hint("paths are relative to the manifest"));
            }
        }
        let flags = !self.flagged.is_empty();
        if self.found.len() > before || flags {
            return Ok(());
        }
        let why = self.left_out.iter().find(|left| left.surprising && left.path.starts_with(path));
        Err(match why {
            Some(left) => nothing_found(path).hint(format!("{} is left out: {}", left.path.display(), left.why)),
            None => nothing_found(path),
        })
    }

    fn read_manifest(&mut self, tree: &Arc<dyn Tree>) -> Result<Option<usize>> {
        let path = Path::new(FILE_NAME);
        let there =
            tree.list(Path::new(""))?.into_iter().any(|e| e.name == FILE_NAME && e.kind != EntryKind::Directory);
        if !there {
            return Ok(None);
        }
        let shown = tree.shown(path);
        let source = tree.open(path)?;
        if source.len() > MAX_MANIFEST {
            let message = format!("has {} bytes, more than the limit of {MAX_MANIFEST}", source.len());
            return Err(Error::new(ErrorKind::Limit, message).in_file(shown));
        }
        let bytes = head(&shown, &*source, MAX_MANIFEST)?;
        let text = std::str::from_utf8(&bytes).map_err(|e| {
            Error::format("is no UTF-8 text").coded(Code::DamagedManifest).at(e.valid_up_to() as u64).in_file(&shown)
        })?;
        self.manifests.push(Manifest::parse(&shown, text)?);
        Ok(Some(self.manifests.len() - 1))
    }

    fn search(&mut self, place: &Place<'_>) -> Result<()> {
        self.monitor.check()?;
        if tracefs::is_tracefs(&**place.tree, &place.path)? {
            return self.tracefs(place);
        }
        let (mut texts, before) = (Vec::new(), self.found.len());
        for entry in place.tree.list(&place.path)? {
            if entry.name.as_encoded_bytes().starts_with(b".") || place.depth == 0 && entry.name == FILE_NAME {
                continue;
            }
            let child = place.child(&entry.name);
            if self.is_flagged(&child) {
                self.met.insert(child.from_root);
                continue;
            }
            if self.is_ignored(&child) {
                continue;
            }
            match entry.kind {
                EntryKind::Directory if place.depth < MAX_DEPTH => self.search(&child)?,
                EntryKind::Directory => self.leave_out(LeftOut::surprising(child.shown(), "lies too deep")),
                EntryKind::File(_) => {
                    let source = place.tree.open(&child.path)?;
                    self.entry(&child, source, &mut texts)?;
                }
            }
        }
        let beside = self.found.iter().skip(before).any(|f| f.capture.path.parent() == Some(&*place.shown()));
        texts.into_iter().try_for_each(|text| self.text(place, text, beside))
    }

    fn is_flagged(&self, place: &Place<'_>) -> bool {
        let real = || fs::canonicalize(place.shown()).is_ok_and(|path| self.flagged.contains(&path));
        !self.flagged.is_empty() && place.nested == 0 && real()
    }

    fn is_ignored(&mut self, place: &Place<'_>) -> bool {
        let manifest = self.manifest.and_then(|index| self.manifests.get(index));
        let Some(file) = manifest.and_then(|m| m.file(&place.from_root)) else { return false };
        let ignored = file.role == FileRole::Ignore;
        self.met.insert(place.from_root.clone());
        if ignored {
            let why = format!("{FILE_NAME} says so (line {})", file.line);
            self.leave_out(LeftOut::capture(place.shown(), why));
        }
        ignored
    }

    /// What the manifest says of a file.
    fn named_in_manifest(&self, from_root: &Path) -> Option<Named> {
        let manifest = self.manifests.get(self.manifest?)?;
        let file = manifest.file(from_root)?;
        Some(match file.role {
            FileRole::Host => Named::Host,
            FileRole::Offsets => Named::Offsets,
            FileRole::Guest => Named::Guest(manifest.guest(file)?),
            FileRole::Ignore => return None,
        })
    }

    fn entry(&mut self, place: &Place<'_>, source: Arc<dyn ReadAt>, texts: &mut Vec<TextFile>) -> Result<()> {
        let shown = place.shown();
        let first = head(&shown, &*source, HEAD)?;
        match content(&first) {
            Content::TraceDat | Content::PerfData => {
                self.take(capture::open_source_within(&shown, source, &self.limits)?, place)
            }
            Content::Perfetto => self.perfetto(place, source),
            Content::Packed(packing) => self.packed(place, source, packing, texts),
            Content::Text if is_sound_text(&first) => {
                let (from_root, report) = (place.from_root.clone(), is_report(&first));
                texts.push(TextFile { shown, from_root, source, report });
                Ok(())
            }
            Content::Text | Content::Other => {
                self.other(&shown, &*source, &first)?;
                Ok(())
            }
        }
    }

    /// A Perfetto trace: a recording, or what was made of one.
    fn perfetto(&mut self, place: &Place<'_>, source: Arc<dyn ReadAt>) -> Result<()> {
        let (shown, named) = (place.shown(), self.named_in_manifest(&place.from_root).is_some());
        match capture::open_source_within(&shown, source, &self.limits) {
            Ok(capture) => match capture.info.perfetto.as_ref().and_then(|native| native.made_by.as_ref()) {
                Some(tool) if !named => self.leave_out(LeftOut::capture(shown, format!("{tool} wrote it"))),
                _ => self.take(capture, place)?,
            },
            Err(error) if named || !matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Format) => {
                return Err(error);
            }
            Err(error) => {
                // The path is said already.
                let why = error.to_string();
                let why = why.split_once(": ").map_or(why.as_str(), |(_, why)| why).to_owned();
                let own = why == perfetto::OWN_TIMELINE;
                self.leave_out(LeftOut { surprising: !own, ..LeftOut::silently(shown, why) });
            }
        }
        Ok(())
    }

    /// A compressed file or an archive.
    fn packed(
        &mut self,
        place: &Place<'_>,
        source: Arc<dyn ReadAt>,
        packing: Packing,
        texts: &mut Vec<TextFile>,
    ) -> Result<()> {
        let shown = place.shown();
        let most = self.limits.get(Limit::Nesting);
        if place.nested as u64 >= most {
            let why = format!("is packed more than {most} times (--limit nesting=VALUE)");
            self.leave_out(LeftOut::surprising(shown, why));
            return Ok(());
        }
        let budget = place.budget.clone().unwrap_or_else(|| self.budget_for(source.len()));
        match self.unpack(&shown, source, packing, &budget)? {
            Unpacked::File(source) => {
                let inside = Place { nested: place.nested + 1, budget: Some(budget), ..place.clone() };
                self.entry(&inside, source, texts)
            }
            Unpacked::Tree(tree, notes) => {
                self.notes(&shown, notes);
                let inside = Place {
                    tree: &tree,
                    path: PathBuf::new(),
                    from_root: place.from_root.clone(),
                    depth: place.depth,
                    nested: place.nested + 1,
                    budget: Some(budget),
                };
                self.search(&inside)
            }
        }
    }

    fn unpack(
        &self,
        shown: &Path,
        source: Arc<dyn ReadAt>,
        packing: Packing,
        budget: &Arc<Budget>,
    ) -> Result<Unpacked> {
        archive::open(shown, source, packing, budget, &|| self.monitor.check().is_err())
    }

    fn budget_for(&self, size: u64) -> Arc<Budget> {
        self.budget.clone().unwrap_or_else(|| Budget::within(size, &self.limits))
    }

    fn tracefs(&mut self, place: &Place<'_>) -> Result<()> {
        let budget = place.budget.clone().unwrap_or_else(|| self.budget_for(0));
        let copied = tracefs::open(place.tree, &place.path, &budget)?;
        for (path, why) in copied.left_out {
            self.leave_out(LeftOut::silently(path, why));
        }
        let main = self.found.len();
        for (index, capture) in copied.captures.into_iter().enumerate() {
            if index == 0 {
                self.take(capture, place)?;
            } else {
                self.push(capture, Named::Beside(main), place.from_root.components().count())?;
            }
        }
        Ok(())
    }

    fn text(&mut self, place: &Place<'_>, text: TextFile, beside: bool) -> Result<()> {
        let named = self.named_in_manifest(&text.from_root);
        if text.report && beside && named.is_none() {
            let why = "a report of trace-cmd, whose trace.dat files lie beside it";
            self.leave_out(LeftOut::capture(text.shown, why));
            return Ok(());
        }
        let opened = text::open(&text.shown, text.source);
        match opened {
            Ok(capture) => self.take(capture, &Place { from_root: text.from_root, ..place.clone() }),
            Err(error) if named.is_some() || error.kind() == ErrorKind::Io => Err(error),
            Err(error) => {
                // The path is said already.
                let why = error.to_string();
                let why = why.split_once(": ").map_or(why.as_str(), |(_, why)| why).to_owned();
                self.leave_out(LeftOut::surprising(text.shown, why));
                Ok(())
            }
        }
    }

    fn take(&mut self, capture: Capture, place: &Place<'_>) -> Result<()> {
        self.met.insert(place.from_root.clone());
        let named = self.named_in_manifest(&place.from_root).unwrap_or(Named::Found);
        self.push(capture, named, place.from_root.components().count())
    }

    fn push(&mut self, capture: Capture, named: Named, above: usize) -> Result<()> {
        self.monitor.check()?;
        self.found.push(Found { capture, named, above });
        Ok(())
    }

    /// A file that is no capture: a fact, part of a recording that was not completed, or nothing.
    fn other(&mut self, shown: &Path, source: &dyn ReadAt, first: &[u8]) -> Result<()> {
        if source.len() <= MAX_FACT_FILE {
            let all = if source.len() > HEAD { head(shown, source, MAX_FACT_FILE)? } else { first.to_vec() };
            if read_fact(shown, &all, &mut self.facts) {
                return Ok(());
            }
        }
        let why = capture::why_not(shown, first);
        let surprising = why.kind() == ErrorKind::Unsupported;
        let damaged = match why.code() {
            Code::EmptyFile | Code::NotACapture => {
                shown.extension().is_some_and(|extension| CAPTURES.iter().any(|known| extension == *known))
            }
            code => code == Code::DamagedTraceDat,
        };
        let left = if damaged {
            LeftOut::damaged(shown, why.to_string())
        } else if surprising {
            LeftOut::surprising(shown, why.to_string())
        } else {
            LeftOut::silently(shown, "no capture, and no text that says something about one")
        };
        self.leave_out(left);
        Ok(())
    }

    fn notes(&mut self, path: &Path, notes: Vec<String>) {
        notes.into_iter().for_each(|note| self.leave_out(LeftOut::surprising(path, note)));
    }

    fn leave_out(&mut self, left: LeftOut) {
        if left.surprising || self.left_out.len() < MAX_SILENT {
            self.left_out.push(left);
        }
    }
}

/// Reads a small file that says something about captures beside it.
pub(super) fn read_fact(shown: &Path, bytes: &[u8], facts: &mut Facts) -> bool {
    // A kernel log may hold any bytes.
    facts.read(shown, &String::from_utf8_lossy(bytes))
}

/// Whether the first line that is no heading is an event: a README that shows one is no capture.
pub(crate) fn is_sound_text(first: &[u8]) -> bool {
    let mut lines = first.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let heading = first.starts_with(b"# tracer:");
    heading || is_report(first) || lines.find(|line| !text::is_remark(line)).is_some_and(text::is_ftrace_text)
}

/// Whether it begins as what `trace-cmd report` prints: `cpus=2`, with the file's name in front where there are several.
pub(crate) fn is_report(first: &[u8]) -> bool {
    let count = |line: &[u8]| {
        let line = line.trim_ascii();
        let digits = line.rsplit(|&byte| byte == b'=').next().unwrap_or_default();
        let before = line.len() - digits.len();
        let name = line.get(..before).unwrap_or_default();
        !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) && (name == b"cpus=" || name.ends_with(b": cpus="))
    };
    first.split(|&byte| byte == b'\n').take(8).any(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_by_their_first_lines() {
        let event = b"          <idle>-0     [001] d..1.  100: sched_switch: prev_comm=a\n";
        assert!(is_sound_text(&[&b"# tracer: nop\n#\n"[..], event].concat()));
        for before in
            ["CPU:0 [LOST 5 EVENTS]\n", "CPU 0 is empty\n", "version = 6\n", "##### CPU 1 buffer started ####\n"]
        {
            assert!(is_sound_text(&[before.as_bytes(), event].concat()), "{before}");
        }
        assert!(is_sound_text(&[&b"\n#\n"[..], event].concat()));
        assert!(!is_sound_text(&[&b"# Notes\n\nThe kernel prints:\n\n"[..], event].concat()));
        assert!(is_report(b"cpus=2\n") && is_report(b"  host.dat: cpus=2\nguest.dat: cpus=1\n"));
        assert!(!is_report(b"the host has cpus=2 of them\n") && !is_report(event));
    }
}
