//! Which kind of input a path is.

use std::path::Path;
use std::sync::Arc;

use super::source::{FileSource, ReadAt};
use super::{Capture, trace_dat};
use crate::error::{Error, ErrorKind, Result};

/// Opens a capture of any supported kind.
///
/// # Errors
/// `Io` where it cannot be read, `Unsupported` for inputs of another kind, with a hint what to do instead, and
/// whatever the reader of that kind reports.
pub fn open(path: impl AsRef<Path>) -> Result<Capture> {
    let path = path.as_ref();
    let metadata = std::fs::metadata(path).map_err(|error| Error::io(path, "open", error))?;
    if metadata.is_dir() {
        let hint = "name the capture file inside it";
        return Err(unsupported("is a directory, expected a capture file", hint).in_file(path));
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
    let mut first = vec![0; source.len().min(16) as usize];
    source.read_exact_at(&mut first, 0).map_err(|error| Error::io(path, "read", error))?;
    if trace_dat::is_trace_dat(&first) {
        return trace_dat::open(path, source);
    }
    Err(foreign(path, &first).in_file(path))
}

/// Why a file is no capture, as far as its name and first bytes tell.
fn foreign(path: &Path, first: &[u8]) -> Error {
    if is_cpu_file(path) {
        let what = "is one CPU's part of a recording that was not completed";
        let hint = "put the parts together: trace-cmd restore -o NAME.dat NAME.dat.cpu0 NAME.dat.cpu1 ...";
        return unsupported(what, hint);
    }
    if first.is_empty() {
        return Error::format("is empty").hint("was the recording stopped before it wrote anything?");
    }
    let packed =
        [(&b"\x1f\x8b"[..], "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"PK\x03\x04", "zip")];
    if let Some((_, kind)) = packed.iter().find(|(magic, _)| first.starts_with(magic)) {
        return unsupported(&format!("is a {kind} archive"), "unpack it and name the capture inside");
    }
    if trace_dat_cut_short(first) {
        return Error::format("is a trace.dat file cut off within its first bytes");
    }
    let start = first.get(..first.len().min(8)).unwrap_or(&[]).escape_ascii();
    Error::format(format!("is no capture: it starts with \"{start}\""))
        .hint("expected a file that trace-cmd recorded (trace.dat)")
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
        assert_eq!(error("a.gz", b"\x1f\x8b\x08\0").to_string(), "a.gz: is a gzip archive");
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
