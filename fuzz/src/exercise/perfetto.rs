//! Perfetto traces, whose own packets are copied too.

use std::path::Path;
use std::sync::Arc;

use kvm_timeline::capture::limits::Limits;
use kvm_timeline::capture::perfetto;

use super::drain;

pub fn run(data: &[u8]) {
    match perfetto::open(Path::new("fuzz.pftrace"), Arc::new(data.to_vec()), &Limits::default()) {
        Ok(capture) => {
            drain::drain(&capture);
            if let Some(native) = &capture.info.perfetto {
                let mut copied = 0;
                let mut write = |bytes: Vec<u8>| {
                    copied += bytes.len();
                    Ok(())
                };
                let _ = native.copy_start(&mut write).and_then(|()| native.copy_rest(&mut write));
            }
        }
        Err(error) => drain::refused(&error),
    }
    let _ = perfetto::is_perfetto(data);
}
