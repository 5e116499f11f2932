//! ftrace text.

use std::path::Path;
use std::sync::Arc;

use kvm_timeline::capture::text;

use super::drain;

pub fn run(data: &[u8]) {
    match text::open(Path::new("fuzz.txt"), Arc::new(data.to_vec())) {
        Ok(capture) => drain::drain(&capture),
        Err(error) => drain::refused(&error),
    }
    let _ = text::is_ftrace_text(data);
}
