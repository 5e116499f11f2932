//! Where results go: a file that appears whole or not at all, or stdout.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::NamedTempFile;

use crate::error::{Code, Error, ErrorKind, Result};
use crate::printable;
use crate::session::Session;

/// An output that is written beside its final place and renamed at the end.
pub(crate) enum Output {
    Stdout(io::BufWriter<io::Stdout>),
    File {
        path: PathBuf,
        file: io::BufWriter<NamedTempFile>,
    },
    /// Devices and pipes cannot be renamed onto.
    Special {
        path: PathBuf,
        file: io::BufWriter<std::fs::File>,
    },
}

impl Output {
    /// Opens `path`, or stdout for `-`.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout(io::BufWriter::with_capacity(1 << 20, io::stdout())));
        }
        Self::create_file(path)
    }

    /// Opens `path`, whatever it is called.
    pub(crate) fn create_file(path: &Path) -> Result<Self> {
        let fail = |e| Error::io(path, "create the output", e);
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => {
                return Err(fail(io::Error::from(io::ErrorKind::IsADirectory)).hint("name a file, not a directory"));
            }
            Ok(meta) if !meta.is_file() => {
                let file = std::fs::OpenOptions::new().write(true).open(path).map_err(fail)?;
                return Ok(Self::Special { path: path.to_owned(), file: io::BufWriter::new(file) });
            }
            _ => {}
        }
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".kvm-timeline-");
        // A temporary file is private; a result is as readable as any other new file.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder
            .tempfile_in(directory)
            .map_err(|e| fail(e).hint("check that the directory exists and can be written"))?;
        Ok(Self::File { path: path.to_owned(), file: io::BufWriter::with_capacity(1 << 20, file) })
    }

    /// Writes bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Stdout(out) => out.write_all(bytes).map_err(|e| Error::io("stdout", "write", e)),
            Self::File { path, file } => file.write_all(bytes).map_err(|e| Error::io(&*path, "write", e)),
            Self::Special { path, file } => file.write_all(bytes).map_err(|e| Error::io(&*path, "write", e)),
        }
    }

    /// Makes the result appear under its name.
    pub(crate) fn finish(self) -> Result<()> {
        match self {
            Self::Stdout(mut out) => out.flush().map_err(|e| Error::io("stdout", "write", e)),
            Self::Special { path, mut file } => file.flush().map_err(|e| Error::io(path, "write", e)),
            Self::File { path, file } => {
                let file = file.into_inner().map_err(|e| Error::io(&path, "write", e.into_error()))?;
                file.persist(&path).map_err(|e| Error::io(&path, "rename the finished output", e.error))?;
                Ok(())
            }
        }
    }
}

/// Refuses to write onto what was read.
pub(crate) fn keep_inputs(session: &Session, output: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|m| (m.dev(), m.ino()));
    let Some(written) = id(output) else { return Ok(()) };
    // A member of an archive has the archive's path in front.
    let read = session.inputs.iter().flat_map(|input| input.capture.path.ancestors());
    let beside = session.left_out.iter().map(|left| left.path.as_path());
    if read.chain(beside).any(|path| id(path) == Some(written)) {
        return Err(Error::new(ErrorKind::Usage, "is an input, and would be overwritten")
            .coded(Code::InputOverwritten)
            .in_file(output)
            .hint("name another file for the output"));
    }
    Ok(())
}

/// Writes a whole result at once.
pub(crate) fn write_all(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut output = Output::create(path)?;
    output.write(bytes)?;
    output.finish()
}

/// Prints a result to stdout.
pub(crate) fn print(text: &str) -> Result<()> {
    write_all(Path::new("-"), text.as_bytes())
}

/// What every document of JSON begins with; `docs/schemas/` has a file for each name.
#[derive(Serialize)]
pub(crate) struct Document<'a, T> {
    schema: &'static str,
    version: u32,
    #[serde(flatten)]
    body: &'a T,
}

impl<'a, T: Serialize> Document<'a, T> {
    /// Version 1 of a schema: what is added later keeps the number, what changes or goes raises it.
    pub(crate) fn new(schema: &'static str, body: &'a T) -> Self {
        Self { schema, version: 1, body }
    }
}

/// A result as JSON, with the line end that a text file has.
pub(crate) fn json(schema: &'static str, body: &impl Serialize) -> Result<String> {
    let mut text = serde_json::to_string_pretty(&Document::new(schema, body)).map_err(|e| unwritable(schema, &e))?;
    text.push('\n');
    Ok(printable::json(text))
}

/// The same in one line.
pub(crate) fn json_line(schema: &'static str, body: &impl Serialize) -> Result<String> {
    let mut text = serde_json::to_string(&Document::new(schema, body)).map_err(|e| unwritable(schema, &e))?;
    text.push('\n');
    Ok(printable::json(text))
}

fn unwritable(schema: &str, error: &serde_json::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot write {schema}: {error}"))
}
