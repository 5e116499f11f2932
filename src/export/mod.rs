//! From drawn items to bytes: one folder or file per output format, each an
//! [`Exporter`].
//!
//! A format writes plain bytes. Whoever wants them compressed passes each piece through [`gzip::member`].

pub mod chrome_json;
pub mod gzip;
pub mod perfetto;
mod text;

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::timeline::drawing::Exporter;

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Perfetto protobuf.
    Perfetto,
    /// Chrome JSON.
    ChromeJson,
}

impl Format {
    /// What a file of this name holds, and whether it is gzip: `.pftrace`, `.perfetto-trace`, `.pb` or `.json`, then
    /// perhaps `.gz`.
    pub fn of_name(path: &Path) -> (Option<Self>, bool) {
        let extension = |path: &Path| path.extension().and_then(|e| e.to_str()).map(str::to_owned);
        let gzip = extension(path).as_deref() == Some("gz");
        let plain = if gzip { path.with_extension("") } else { path.to_owned() };
        let format = match extension(&plain).as_deref() {
            Some("pftrace" | "perfetto-trace" | "pb") => Some(Self::Perfetto),
            Some("json") => Some(Self::ChromeJson),
            _ => None,
        };
        (format, gzip)
    }

    /// What a file of this name holds, and whether it is gzip.
    ///
    /// # Errors
    ///
    /// If the name does not say.
    pub(crate) fn named(path: &Path) -> Result<(Self, bool)> {
        let (format, gzip) = Self::of_name(path);
        let format = format.ok_or_else(|| {
            let name = path.display();
            Error::new(ErrorKind::Usage, format!("the name `{name}` does not say which format to write"))
                .hint("end it in .pftrace or .json (and .gz), or give the format: --format pftrace or --format json")
        })?;
        Ok((format, gzip))
    }

    /// A writer of this format.
    pub fn exporter(self) -> Box<dyn Exporter> {
        match self {
            Self::Perfetto => Box::new(perfetto::Perfetto),
            Self::ChromeJson => Box::new(chrome_json::ChromeJson),
        }
    }
}
