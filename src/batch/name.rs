//! Where the output of a capture goes.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use super::find::Source;
use super::state;
use crate::error::{Error, ErrorKind, Result};

/// The table over all captures.
pub const TABLE: &str = "stats.parquet";

/// How outputs are called, in the directories of their captures: `{stem}` is the name of the capture's directory or of its
/// file without extensions, `{name}` with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(String);

impl FromStr for Template {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(ErrorKind::Usage, format!("name `{text}`: {what}"))
                .hint("write {stem} for a capture's name without extensions, {name} with them, as in {stem}.pftrace")
        };
        let rest = text.replace("{stem}", "").replace("{name}", "");
        if rest.contains(['{', '}']) {
            return Err(wrong("a brace that is not of {stem} or {name}"));
        }
        let filled = text.replace(['{', '}'], "");
        let plain = Path::new(&filled).components().all(|part| matches!(part, Component::Normal(_)));
        if filled.is_empty() || filled.ends_with('/') || !plain {
            return Err(wrong("is no path of a file below the destination"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Template {
    /// As it was given.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The output of a capture, below the destination.
    pub fn output(&self, source: &Source) -> PathBuf {
        let name = source.name();
        self.fill(&name, source.named_by_file())
    }

    fn fill(&self, name: &Path, is_file: bool) -> PathBuf {
        let last = name.file_name().map(|last| last.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = if is_file { stem(&last) } else { &last };
        // In one pass: a name may hold braces too.
        let mut filled = String::new();
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find('{') {
            filled.push_str(rest.get(..at).unwrap_or_default());
            rest = rest.get(at..).unwrap_or_default();
            let (value, length) = if rest.starts_with("{stem}") { (stem, 6) } else { (last.as_str(), 6) };
            filled.push_str(value);
            rest = rest.get(length..).unwrap_or_default();
        }
        filled.push_str(rest);
        name.parent().unwrap_or(Path::new("")).join(filled)
    }
}

/// A file's name without its extension and that of its packing.
fn stem(name: &str) -> &str {
    let without = |name: &'_ str, ends: &[&str]| -> Option<usize> {
        let end = ends.iter().find(|end| name.len() > end.len() && name.to_ascii_lowercase().ends_with(*end))?;
        Some(name.len() - end.len())
    };
    let packed = without(name, &[".gz", ".zst", ".xz", ".bz2"]).and_then(|end| name.get(..end)).unwrap_or(name);
    let short = without(packed, &[".tgz", ".txz", ".tzst", ".tbz2", ".tar", ".zip"]).and_then(|end| packed.get(..end));
    let stem = short.or_else(|| Some(packed.rsplit_once('.')?.0).filter(|stem| !stem.is_empty()));
    stem.unwrap_or(packed)
}

/// The statistics beside an output.
pub fn stats_beside(output: &Path) -> PathBuf {
    let name = output.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let stem = [".pftrace", ".perfetto-trace", ".pb", ".json"].iter().find_map(|end| name.strip_suffix(end));
    output.with_file_name(format!("{}.stats.json", stem.unwrap_or(name)))
}

/// The outputs of all captures.
///
/// # Errors
/// `Usage` where two would have one name, or one would be a directory of another.
pub fn outputs(sources: &[Source], template: &Template, stats: bool) -> Result<Vec<PathBuf>> {
    let outputs: Vec<PathBuf> = sources.iter().map(|source| template.output(source)).collect();
    let mut taken: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    if stats {
        taken.insert(TABLE.into(), "the table of all statistics".into());
    }
    for (source, output) in sources.iter().zip(&outputs) {
        for path in [Some(output.clone()), stats.then(|| stats_beside(output))].into_iter().flatten() {
            if path.starts_with(state::DIRECTORY) {
                return Err(clash(&path, &source.shown(), Path::new("what a batch keeps for itself")));
            }
            if let Some(other) = taken.insert(path.clone(), source.shown()) {
                return Err(clash(&path, &other, &source.shown()));
            }
        }
    }
    for (path, source) in &taken {
        let above = path.ancestors().skip(1).find_map(|above| Some((above, taken.get(above)?)));
        if let Some((above, other)) = above {
            return Err(clash(above, other, source));
        }
    }
    Ok(outputs)
}

fn clash(path: &Path, one: &Path, other: &Path) -> Error {
    let message = format!("{} and {} would both be written to {}", one.display(), other.display(), path.display());
    Error::new(ErrorKind::Usage, message).hint(
        "nothing was written; tell them apart with --name, as in --name '{name}.pftrace', or name the directory above",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str, name: &str, is_file: bool) -> String {
        template.parse::<Template>().unwrap().fill(Path::new(name), is_file).display().to_string()
    }

    #[test]
    fn outputs_mirror_the_tree() {
        assert_eq!(fill("{stem}.pftrace", "a/b", false), "a/b.pftrace");
        assert_eq!(fill("{stem}.pftrace", "a/b.2026", false), "a/b.2026.pftrace");
        assert_eq!(fill("{stem}.pftrace", "a/h.1.dat", true), "a/h.1.pftrace");
        assert_eq!(fill("{stem}/{name}.json.gz", "c.tar.zst", true), "c/c.tar.zst.json.gz");
        for (name, expected) in
            [("x.dat.gz", "x"), ("x.tgz", "x"), ("x", "x"), ("x.zip", "x"), (".x", ".x"), ("a.b.TAR.GZ", "a.b")]
        {
            assert_eq!(stem(name), expected, "{name}");
        }
        assert_eq!(fill("{stem}.pftrace", "{stem}{name", false), "{stem}{name.pftrace");
    }

    #[test]
    fn templates_stay_below_the_destination() {
        for bad in ["", "../{stem}", "/{stem}", "{stem}/", "{dir}", "{stem"] {
            assert_eq!(bad.parse::<Template>().unwrap_err().kind(), ErrorKind::Usage, "{bad}");
        }
    }

    #[test]
    fn statistics_beside() {
        assert_eq!(stats_beside(Path::new("a/b.pftrace")), Path::new("a/b.stats.json"));
        assert_eq!(stats_beside(Path::new("b.json.gz")), Path::new("b.stats.json"));
        assert_eq!(stats_beside(Path::new("b")), Path::new("b.stats.json"));
    }
}
