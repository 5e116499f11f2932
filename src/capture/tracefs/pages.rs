//! Raw sub-buffers in a copied tracefs: where they are, and what shape they have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{cpu_directories, find};
use crate::capture::Endian;
use crate::capture::limits::Limits;
use crate::capture::ring_buffer::PageLayout;
use crate::capture::source::ReadAt;
use crate::capture::trace_dat::notes::Notes;
use crate::capture::tree::Tree;
use crate::error::{Error, Result};

/// The shape that every 64-bit kernel had before sub-buffers could be larger than a page.
const USUAL: &str = "field: u64 timestamp; offset:0; size:8;\nfield: local_t commit; offset:8; size:8;\n\
                     field: char data; offset:16; size:4080;\n";

/// How many sub-buffers of a file are looked at.
const LOOKED_AT: u64 = 16;

/// The sub-buffers of one CPU.
pub(super) struct CpuPages {
    pub(super) cpu: u32,
    /// The file, as shown.
    pub(super) path: PathBuf,
    pub(super) source: Arc<dyn ReadAt>,
}

/// `per_cpu/cpuN/trace_pipe_raw` of a buffer's directory.
pub(super) fn files(tree: &dyn Tree, directory: &Path, limits: &Limits) -> Result<Vec<(u32, PathBuf)>> {
    let mut files = Vec::new();
    for (cpu, path) in cpu_directories(tree, directory, limits)? {
        if let Some(entry) = find(&tree.list(&path)?, &["trace_pipe_raw"]) {
            files.push((cpu, path.join(&entry.name)));
        }
    }
    Ok(files)
}

/// What is said about the shape of a buffer's sub-buffers.
pub(super) struct Pages {
    /// `events/header_page` of the buffer.
    pub(super) header_page: Option<String>,
    /// The same of the top buffer: sizes may differ since Linux 6.8, the rest does not.
    pub(super) top: Option<String>,
    /// `buffer_subbuf_size_kb`.
    pub(super) size_kib: Option<u64>,
}

impl Pages {
    /// The shape. The byte order is that in which the sub-buffers make sense: no file of tracefs tells it.
    pub(super) fn layout(&self, label: &str, pages: &[CpuPages], notes: &mut Notes) -> Result<PageLayout> {
        let described = self.header_page.as_deref().or(self.top.as_deref());
        if described.is_none() {
            notes.warn(format!("{label}: events/header_page is missing, the usual shape of sub-buffers is assumed"));
        }
        let base = PageLayout::parse(described.unwrap_or(USUAL), Endian::Little)?;
        let stated = self.size_kib.and_then(|kib| usize::try_from(kib.checked_mul(1024)?).ok());
        // The buffer's own description first; else its own size; else what the top buffer has; else a page.
        let sizes = match &self.header_page {
            Some(_) => vec![base.sub_buffer],
            None => stated.into_iter().chain([base.sub_buffer, 4096]).collect(),
        };
        let layouts = sizes.into_iter().filter(|&size| PageLayout::is_sub_buffer(size)).flat_map(|size| {
            let little = base.with_sub_buffer(size);
            [little, PageLayout { endian: Endian::Big, ..little }]
        });
        for layout in layouts {
            let mut makes_sense = true;
            for cpu in pages {
                makes_sense &= cpu.make_sense(&layout)?;
            }
            if makes_sense {
                return Ok(layout);
            }
        }
        let files: Vec<String> = pages.iter().map(|cpu| cpu.path.display().to_string()).collect();
        Err(Error::format(format!(
            "{label}: {} do not hold sub-buffers of the shape that events/header_page describes ({} bytes)",
            files.join(", "),
            base.sub_buffer
        ))
        .hint("copy per_cpu/cpuN/trace_pipe_raw with `cat`, and events/header_page from the same kernel"))
    }
}

impl CpuPages {
    /// Whether the first sub-buffers begin with a stamp and a length that fits.
    fn make_sense(&self, layout: &PageLayout) -> Result<bool> {
        let size = layout.sub_buffer as u64;
        let mut header = [0; 16];
        for page in 0..self.source.len().div_ceil(size).min(LOOKED_AT) {
            let at = page * size;
            if self.source.len() - at < header.len() as u64 {
                break;
            }
            self.source.read_exact_at(&mut header, at).map_err(|error| Error::io(&self.path, "read", error).at(at))?;
            // The two top bits of the low word are flags.
            let commit = match (layout.endian, layout.long_size, header) {
                (Endian::Little, 4, [.., a, b, c, d, _, _, _, _]) => u64::from(u32::from_le_bytes([a, b, c, d])),
                (Endian::Big, 4, [.., a, b, c, d, _, _, _, _]) => u64::from(u32::from_be_bytes([a, b, c, d])),
                (Endian::Little, _, [.., a, b, c, d, e, f, g, h]) => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                (Endian::Big, _, [.., a, b, c, d, e, f, g, h]) => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            };
            let room = (layout.sub_buffer - layout.data_offset) as u64;
            if commit & !(0b11 << 30) > room {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
