//! Which kind of input a path is.

use std::path::Path;
use std::sync::Arc;

use super::archive::{self, Budget, Packing, Unpacked};
use super::limits::Limits;
use super::source::{FileSource, ReadAt};
use super::tree::{Directory, Tree, head};
use super::{Capture, perf_data, perfetto, text, trace_dat, tracefs};
use crate::error::{Code, Error, ErrorKind, Result};

/// Bytes from which [`content`] can tell.
pub(super) const HEAD: u64 = 8 << 10;

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A trace.dat.
    TraceDat,
    /// A perf.data.
    PerfData,
    /// A Perfetto trace.
    Perfetto,
    /// ftrace text.
    Text,
    /// An archive, or a compressed file.
    Packed(Packing),
    /// Nothing of these.
    Other,
}

/// What a file with these first bytes is; 8 KiB are enough.
pub fn content(first: &[u8]) -> Content {
    if trace_dat::is_trace_dat(first) {
        Content::TraceDat
    } else if perf_data::is_perf_data(first) {
        Content::PerfData
    } else if let Some(packing) = archive::packing(first) {
        Content::Packed(packing)
    } else if perfetto::is_perfetto(first) {
        Content::Perfetto
    } else if text::is_ftrace_text(first) {
        Content::Text
    } else {
        Content::Other
    }
}

/// Opens a capture of any supported kind: a trace.dat, a perf.data, a Perfetto trace or ftrace text, compressed or not, or a
/// copied tracefs directory, of which the main buffers are returned.
///
/// # Errors
/// `Io` where it cannot be read, `Unsupported` for inputs of another kind, with a hint what to do instead, and
/// whatever the reader of that kind reports.
pub fn open(path: impl AsRef<Path>) -> Result<Capture> {
    let path = path.as_ref();
    let metadata = std::fs::metadata(path).map_err(|error| Error::io(path, "open", error))?;
    if metadata.is_dir() {
        let tree: Arc<dyn Tree> = Arc::new(Directory::new(path));
        let copied = match tracefs::is_tracefs(&*tree, Path::new(""))? {
            true => tracefs::open(&tree, Path::new(""), &Budget::for_archive(0))?.captures,
            false => Vec::new(),
        };
        let hint = "name the capture file inside it";
        return copied
            .into_iter()
            .next()
            .ok_or_else(|| unsupported("is a directory, expected a capture file", hint).in_file(path));
    }
    if !metadata.is_file() {
        let hint = "captures are read at several places at once: copy it into a file first";
        return Err(unsupported("is not a regular file", hint).in_file(path));
    }
    open_source(path, Arc::new(FileSource::open(path)?))
}

/// Opens a capture whose bytes come from `source`; `path` is its name.
///
/// # Errors
/// As [`open`].
pub fn open_source(path: &Path, source: Arc<dyn ReadAt>) -> Result<Capture> {
    open_source_within(path, source, &Limits::default())
}

/// As [`open_source`], with other limits than usual.
///
/// # Errors
/// As [`open`].
pub fn open_source_within(path: &Path, source: Arc<dyn ReadAt>, limits: &Limits) -> Result<Capture> {
    let first = head(path, &*source, HEAD)?;
    match content(&first) {
        Content::TraceDat => trace_dat::open(path, source, limits),
        Content::PerfData => perf_data::open(path, source, limits),
        Content::Perfetto => perfetto::open(path, source, limits),
        Content::Text => text::open(path, source),
        Content::Packed(packing) => {
            let budget = Budget::within(source.len(), limits);
            match archive::open(path, source, packing, &budget, &|| false)? {
                Unpacked::File(source) => match content(&head(path, &*source, HEAD)?) {
                    Content::Packed(_) => Err(unsupported("is compressed twice", "unpack it once").in_file(path)),
                    _ => open_source_within(path, source, limits),
                },
                Unpacked::Tree(..) => Err(archive::several_files(packing).in_file(path)),
            }
        }
        Content::Other => Err(why_not(path, &first).in_file(path)),
    }
}

/// Why a file is no capture, as far as its name and first bytes tell; `path` is not yet part of it.
pub fn why_not(path: &Path, first: &[u8]) -> Error {
    if is_cpu_file(path) {
        let what = "is one CPU's part of a recording that was not completed";
        let hint = "put the parts together: trace-cmd restore -o NAME.dat NAME.dat.cpu0 NAME.dat.cpu1 ...";
        return unsupported(what, hint);
    }
    if first.is_empty() {
        return Error::format("is empty")
            .coded(Code::EmptyFile)
            .hint("was the recording stopped before it wrote anything?");
    }
    if trace_dat_cut_short(first) {
        return Error::format("is a trace.dat file cut off within its first bytes")
            .coded(Code::DamagedTraceDat)
            .hint("copy it again");
    }
    if trace_dat::is_nearly_trace_dat(first) {
        let start = first.get(..10).unwrap_or(&[]).escape_ascii();
        return Error::format(format!("is a trace.dat file whose first bytes are damaged: \"{start}\""))
            .coded(Code::DamagedTraceDat)
            .hint("copy it again");
    }
    if let Some((what, hint)) = look_alike(first) {
        return unsupported(what, hint);
    }
    let start = first.get(..first.len().min(8)).unwrap_or(&[]).escape_ascii();
    Error::format(format!("is no capture: it starts with \"{start}\""))
        .coded(Code::NotACapture)
        .hint("expected a trace.dat of trace-cmd, a perf.data, a Perfetto trace, ftrace text, a copied tracefs directory, or an archive of them")
}

/// Files that people have at hand and that are something else.
fn look_alike(first: &[u8]) -> Option<(&'static str, &'static str)> {
    let known: [(&[u8], &str, &str); 6] = [
        (b"7z\xbc\xaf\x27\x1c", "is a 7z archive", "unpack it and name the directory"),
        (b"Rar!", "is a rar archive", "unpack it and name the directory"),
        (b"\x04\x22\x4d\x18", "is an lz4 file", "unpack it: lz4 -d FILE"),
        (b"{\"traceEvents\"", "is a Chrome JSON trace", "name what it was made of: the captures"),
        (
            b"packet {",
            "is a Perfetto trace in words (textproto)",
            "turn it into a trace: traceconv binary FILE FILE.pftrace",
        ),
        (b"\x7fELF", "is a program", "name the capture that trace-cmd wrote"),
    ];
    known.iter().find(|(magic, ..)| first.starts_with(magic)).map(|&(_, what, hint)| (what, hint))
}

fn unsupported(what: &str, hint: &str) -> Error {
    Error::new(ErrorKind::Unsupported, what).hint(hint)
}

fn trace_dat_cut_short(first: &[u8]) -> bool {
    first.len() < 10 && b"\x17\x08\x44tracing".starts_with(first)
}

/// `NAME.cpuN`: what `trace-cmd record` leaves when it is killed.
fn is_cpu_file(path: &Path) -> bool {
    let number = path.extension().and_then(|extension| extension.to_str()?.strip_prefix("cpu"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(name: &str, bytes: &[u8]) -> Error {
        match open_source(Path::new(name), Arc::new(bytes.to_vec())) {
            Ok(_) => panic!("{name} opened"),
            Err(error) => error,
        }
    }

    #[test]
    fn files_that_are_no_capture() {
        let killed = error("trace.dat.side.cpu12", &[0; 4096]);
        assert_eq!(killed.kind(), ErrorKind::Unsupported);
        assert!(killed.hint_text().unwrap().contains("trace-cmd restore"));
        assert_eq!(error("a.dat", b"").to_string(), "a.dat: is empty");
        let cut = error("a.gz", b"\x1f\x8b\x08\0").to_string();
        assert_eq!(cut, "a.gz: is a gzip file that was cut short");
        assert_eq!(error("x", b"hello, world").to_string(), "x: is no capture: it starts with \"hello, w\"");
        let short = error("x", b"\x17\x08\x44tra").to_string();
        assert_eq!(short, "x: is a trace.dat file cut off within its first bytes");
    }

    #[test]
    fn a_directory_is_no_file() {
        let error = open(env!("CARGO_MANIFEST_DIR")).map(|_| ()).unwrap_err();
        assert!(error.to_string().ends_with("is a directory, expected a capture file"), "{error}");
        assert_eq!(open("/nonexistent/trace.dat").map(|_| ()).unwrap_err().kind(), ErrorKind::Io);
    }
}
