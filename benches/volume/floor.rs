//! The least that any converter must do: read a capture's pages, unpack them where they are packed, and write as many
//! bytes as the output has.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::container::{Container, Result};

/// Pages that are read at once where there is no compression: what the program reads as a chunk.
const STEP: usize = 10;

/// Reads every page of the files once, and writes `bytes` bytes into `out`. Returns the bytes of all pages.
pub fn floor(files: &[PathBuf], bytes: u64, out: &Path) -> Result<u64> {
    let mut out = File::create(out)?;
    let mut pages = 0;
    let mut sum = 0_u64;
    for path in files {
        let container = Container::open(path)?;
        for buffer in &container.buffers {
            for &cpu in &buffer.cpus {
                container.chunks(buffer, cpu, STEP, |chunk| {
                    pages += chunk.len() as u64;
                    // Each page is touched, as whoever looks at its stamp does.
                    let stamps = chunk.chunks(buffer.page).filter_map(|page| page.first());
                    sum = stamps.fold(sum, |sum, &byte| sum.wrapping_add(u64::from(byte)));
                    Ok(())
                })?;
            }
        }
    }
    let block = vec![sum as u8; 256 << 10];
    let mut left = bytes;
    while left > 0 {
        let part = left.min(block.len() as u64);
        out.write_all(&block[..part as usize])?;
        left -= part;
    }
    Ok(pages)
}
