//! A file of whatever kind its first bytes say, as it is.

use super::drain;

pub fn run(data: &[u8]) {
    drain::open("fuzz", data.to_vec());
}
