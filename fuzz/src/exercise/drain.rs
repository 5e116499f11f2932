//! Reads everything that a capture offers.

use std::path::Path;
use std::sync::Arc;

use kvm_timeline::capture::event_format::PrintContext;
use kvm_timeline::capture::source::ReadAt;
use kvm_timeline::capture::{self, Capture, Chunk};
use kvm_timeline::error::{Error, ErrorKind};

/// Events of a chunk that are rendered and whose fields are looked at.
const RENDERED: usize = 64;

/// An error about bytes names the file they stand in.
pub fn refused(error: &Error) {
    assert!(error.file().is_some(), "names no file: {error}");
    assert_ne!(error.kind(), ErrorKind::Interrupted);
    assert!(!error.to_string().is_empty());
}

/// Opens `data` as what its first bytes say, and reads it all.
pub fn open(name: &str, data: Vec<u8>) {
    let source: Arc<dyn ReadAt> = Arc::new(data);
    match capture::open_source(Path::new(name), source) {
        Ok(capture) => drain(&capture),
        Err(error) => refused(&error),
    }
}

/// Reads all events of a capture and looks at their fields.
pub fn drain(capture: &Capture) {
    let info = &capture.info;
    let context = PrintContext { printk: &info.printk_formats, symbols: info.kallsyms.as_deref() };
    let mut chunk = Chunk::default();
    let mut line = Vec::new();
    for buffer in &capture.buffers {
        assert!(buffer.streams.is_sorted_by_key(|stream| stream.cpu));
        for stream in &buffer.streams {
            for index in 0..stream.source.chunks() {
                if let Err(error) = stream.source.read(index, &mut chunk) {
                    refused(&error);
                    continue;
                }
                check(&chunk);
                for record in chunk.records.iter().take(RENDERED) {
                    let payload = chunk.payload(record);
                    let Some(format) = capture.formats.get(record.event) else { continue };
                    for field in format.common.iter().chain(&format.fields) {
                        let _ = field.value(payload, capture.endian);
                    }
                    line.clear();
                    format.render(payload, capture.endian, &context, &mut line);
                }
            }
        }
    }
}

/// What holds for every chunk, whatever the bytes.
pub fn check(chunk: &Chunk) {
    for record in &chunk.records {
        let end = record.at as usize + record.len as usize;
        assert!(end <= chunk.data.len(), "a record ends at {end}, the data at {}", chunk.data.len());
    }
    for lost in &chunk.lost {
        assert!(lost.before <= chunk.records.len());
    }
    assert!(chunk.damage.len() as u64 <= chunk.damaged, "damage is described and not counted");
    assert!(chunk.damaged == 0 || !chunk.damage.is_empty(), "damage is counted and not described");
}
