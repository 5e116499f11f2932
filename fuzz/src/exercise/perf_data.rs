//! perf.data.

use std::path::Path;
use std::sync::Arc;

use kvm_timeline::capture::limits::Limits;
use kvm_timeline::capture::perf_data;

use super::drain;

pub fn run(data: &[u8]) {
    match perf_data::open(Path::new("fuzz.data"), Arc::new(data.to_vec()), &Limits::default()) {
        Ok(capture) => drain::drain(&capture),
        Err(error) => drain::refused(&error),
    }
}
