//! trace.dat, both versions: the input is a file in pieces.

use super::{drain, model};

pub fn run(data: &[u8]) {
    drain::open("fuzz.dat", model::file(data));
}
