//! From drawn items to bytes: one folder or file per output format, each an
//! [`Exporter`](crate::timeline::drawing::Exporter).
//!
//! A format writes plain bytes. Whoever wants them compressed wraps what the writer gets.

pub mod chrome_json;
pub mod perfetto;
mod text;
