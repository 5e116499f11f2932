//! What a user may name, and the captures behind it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern};

use super::Source;
use super::walk::{Draft, Walk, absent};
use crate::batch::store::{self, Store};
use crate::batch::worker::Worker;
use crate::capture::tree::{EntryKind, head};
use crate::capture::{Content, content};
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::Monitor;

/// Largest list of paths.
const MAX_LIST: u64 = 64 << 20;
/// As a shell has it: a star does not pass a slash, and hidden names are named.
const AS_IN_A_SHELL: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// What was found.
#[derive(Clone, Default)]
pub struct Found {
    /// The captures, by name.
    pub sources: Vec<Source>,
    /// What was named and holds none, in words.
    pub nothing: Vec<String>,
}

/// Finds captures.
pub struct Finder<'a> {
    worker: &'a Worker,
    skip: &'a (dyn Fn(&Path) -> bool + Sync),
    monitor: &'a Monitor<'a>,
    found: Found,
    /// Files that were asked for, by store and directory: lists name many in one.
    files: BTreeMap<PathBuf, Draft>,
}

impl<'a> Finder<'a> {
    /// A finder that does not look into directories for whose shown path `skip` holds.
    pub fn new(worker: &'a Worker, skip: &'a (dyn Fn(&Path) -> bool + Sync), monitor: &'a Monitor<'a>) -> Self {
        Self { worker, skip, monitor, found: Found::default(), files: BTreeMap::new() }
    }

    /// What was found, each capture once.
    pub fn finish(self) -> Found {
        let mut found = self.found;
        let mut met: Vec<Source> = Vec::new();
        // By where they are: one capture may be found by two names.
        found.sources.sort_by_cached_key(|source| (source.shown(), std::cmp::Reverse(source.name())));
        for source in found.sources {
            if met.last().is_none_or(|last| !last.same(&source)) {
                met.push(source);
            }
        }
        met.sort_by_cached_key(Source::name);
        found.sources = met;
        found
    }

    /// Finds the captures behind a directory, a pattern, a list, a capture's file, or, inside the file system or not,
    /// whatever [`store::locate`] knows.
    ///
    /// # Errors
    /// `Usage` where there is no such thing; `Io` where a directory cannot be read.
    pub fn named(&mut self, text: &str) -> Result<()> {
        let (store, path) = store::locate(text, self.worker)?;
        if store.stat(&path)?.is_some() {
            if let Some(list) = list(&*store, &path)? {
                return self.list(&list, &store.shown(&path).display().to_string());
            }
            let base = path.parent().unwrap_or(Path::new("")).to_owned();
            return self.file(&store, &path, &base);
        }
        if is_directory(&*store, &path)? {
            return self.directory(&store, &path, &path);
        }
        if !text.contains(['*', '?', '[']) {
            return Err(Error::new(ErrorKind::Usage, "does not exist").in_file(text).hint(
                "name a directory, a pattern in quotes, a file with a path per line, or - for such a list from stdin",
            ));
        }
        self.pattern(&store, &path, text)
    }

    /// Finds what a list names, one path per line. An output mirrors the path as it is written; one from the root, without
    /// the first slash.
    ///
    /// # Errors
    /// As [`Finder::named`], for the first line that names nothing.
    pub fn list(&mut self, text: &str, shown: &str) -> Result<()> {
        for (number, line) in text.lines().enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            self.monitor.check()?;
            let (store, path) = store::locate(line, self.worker)?;
            let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
            // A path that leads upwards is mirrored from where it ends to do so.
            let up = path.components().take_while(|part| *part == Component::ParentDir);
            let base: PathBuf = up.collect();
            if store.stat(&path)?.is_some() {
                self.file(&store, &path, &base)?;
            } else if is_directory(&*store, &path)? {
                self.directory(&store, &path, &base)?;
            } else {
                let hint = format!("line {} of {shown} names it", number + 1);
                return Err(Error::new(ErrorKind::Usage, "does not exist").in_file(line).hint(hint));
            }
        }
        Ok(())
    }

    fn walk<'s>(&'s self, store: &'s Arc<dyn Store>) -> Walk<'s> {
        Walk { store, skip: self.skip, monitor: self.monitor }
    }

    fn directory(&mut self, store: &Arc<dyn Store>, path: &Path, base: &Path) -> Result<()> {
        let drafts = self.walk(store).directory(path)?;
        if drafts.is_empty() {
            self.found.nothing.push(store.shown(path).display().to_string());
        }
        self.add(store, drafts, base);
        Ok(())
    }

    fn file(&mut self, store: &Arc<dyn Store>, path: &Path, base: &Path) -> Result<()> {
        let shown = store.shown(path);
        let draft = match self.files.get(&shown) {
            Some(draft) => draft.clone(),
            None => {
                let draft = self.walk(store).file(path)?;
                let directory = shown.parent().unwrap_or(Path::new(""));
                self.files.extend(draft.captures.iter().map(|name| (directory.join(name), draft.clone())));
                draft
            }
        };
        self.add(store, vec![draft], base);
        Ok(())
    }

    fn add(&mut self, store: &Arc<dyn Store>, drafts: Vec<Draft>, base: &Path) {
        self.found.sources.extend(drafts.into_iter().map(|draft| Source::new(store, draft, base)));
    }

    /// A pattern, for which a shell had no room. Outputs mirror what is behind its last fixed directory.
    fn pattern(&mut self, store: &Arc<dyn Store>, path: &Path, text: &str) -> Result<()> {
        let magic = |part: &Component<'_>| part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
        let base: PathBuf = path.components().take_while(|part| !magic(part)).collect();
        let rest: Vec<String> =
            path.components().skip_while(|p| !magic(p)).map(|p| p.as_os_str().to_string_lossy().into_owned()).collect();
        let parts: Vec<Pattern> = rest
            .iter()
            .map(|part| Pattern::new(part))
            .collect::<Result<_, _>>()
            .map_err(|e| Error::new(ErrorKind::Usage, format!("the pattern `{text}` cannot be read: {e}")))?;
        let mut matches = Vec::new();
        self.matching(&**store, &base, &parts, &mut matches)?;
        matches.sort();
        matches.dedup();
        if matches.is_empty() {
            self.found.nothing.push(text.to_owned());
        }
        for (path, is_directory) in matches {
            if is_directory {
                let drafts = self.walk(store).directory(&path)?;
                self.add(store, drafts, &base);
            } else {
                self.file(store, &path, &base)?;
            }
        }
        Ok(())
    }

    fn matching(
        &self,
        store: &dyn Store,
        at: &Path,
        parts: &[Pattern],
        matches: &mut Vec<(PathBuf, bool)>,
    ) -> Result<()> {
        self.monitor.check()?;
        let Some((part, rest)) = parts.split_first() else { return Ok(()) };
        let any_depth = part.as_str() == "**";
        if any_depth {
            self.matching(store, at, rest, matches)?;
        }
        for entry in store.list(at)? {
            let (name, path) = (entry.name.to_string_lossy(), at.join(&entry.name));
            let is_directory = entry.kind == EntryKind::Directory;
            if any_depth {
                let deep = path.components().count() < 64;
                if is_directory && deep && !name.starts_with('.') && !(self.skip)(&store.shown(&path)) {
                    self.matching(store, &path, parts, matches)?;
                }
            } else if part.matches_with(&name, AS_IN_A_SHELL) {
                match rest {
                    [] => matches.push((path, is_directory)),
                    _ if is_directory => self.matching(store, &path, rest, matches)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Whether something is listed there: stores of objects have no directories without files.
fn is_directory(store: &dyn Store, path: &Path) -> Result<bool> {
    let shown = store.shown(path);
    Ok(shown.is_dir() || !store.list(path)?.is_empty())
}

/// The text of a file that is no capture and that names paths, one per line.
fn list(store: &dyn Store, path: &Path) -> Result<Option<String>> {
    let shown = store.shown(path);
    let source = store.open(path)?;
    let first = head(&shown, &*source, 8 << 10)?;
    if content(&first) != Content::Other || first.is_empty() || first.contains(&0) {
        return Ok(None);
    }
    // What is cut within a letter is text.
    let is_text = match std::str::from_utf8(&first) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    let line = first.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
    if !is_text || line.len() > 4096 {
        return Ok(None);
    }
    let bytes = store.read(path, MAX_LIST)?.ok_or_else(|| absent(&shown))?;
    String::from_utf8(bytes).map(Some).map_err(|_| Error::format("is a list of paths that is no UTF-8").in_file(shown))
}
