//! One module per target.

pub mod any_bytes;
pub mod archive;
pub mod drain;
pub mod event_format;
pub mod manifest;
pub mod memory_tree;
pub mod model;
pub mod perf_data;
pub mod perfetto;
pub mod pipeline;
pub mod print_format;
pub mod ring_buffer;
pub mod text;
pub mod trace_dat;
pub mod tracefs;

/// A target: its name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 12] = [
    ("any_bytes", any_bytes::run),
    ("archive", archive::run),
    ("event_format", event_format::run),
    ("manifest", manifest::run),
    ("perf_data", perf_data::run),
    ("perfetto", perfetto::run),
    ("pipeline", pipeline::run),
    ("print_format", print_format::run),
    ("ring_buffer", ring_buffer::run),
    ("text", text::run),
    ("trace_dat", trace_dat::run),
    ("tracefs", tracefs::run),
];

/// What stands between the pieces of an input that has several. Bytes between two of them can grow and shrink without
/// any length to repair, which is what a fuzzer does best.
pub const SEPARATOR: &[u8] = b"\n=#=\n";

/// Splits an input into its pieces.
pub fn pieces(mut data: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some(at) = data.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        pieces.push(&data[..at]);
        data = &data[at + SEPARATOR.len()..];
    }
    pieces.push(data);
    pieces
}

/// Joins what [`pieces`] splits.
pub fn join(pieces: &[Vec<u8>]) -> Vec<u8> {
    pieces.join(SEPARATOR)
}
