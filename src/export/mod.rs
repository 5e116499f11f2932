//! From drawn items to bytes: one folder or file per output format, each an
//! [`Exporter`].
//!
//! A format writes plain bytes. Whoever wants them compressed passes each piece through [`gzip::member`].

pub mod chrome_json;
pub mod gzip;
pub mod perfetto;
mod text;

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
    /// A writer of this format.
    pub fn exporter(self) -> Box<dyn Exporter> {
        match self {
            Self::Perfetto => Box::new(perfetto::Perfetto),
            Self::ChromeJson => Box::new(chrome_json::ChromeJson),
        }
    }
}
