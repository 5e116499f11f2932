//! Sub-buffers from the kernel to files while it records.
//!
//! A read of `trace_pipe_raw` gives a sub-buffer, also one that is hardly filled. Reading whenever there is an event
//! would give one event each time, and would itself cause the next: after a sub-buffer that is not full a thread
//! sleeps.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::system::{System, names, refused};
use crate::capture::Endian;
use crate::capture::ring_buffer::PageLayout;
use crate::error::{Error, Result};

/// How long a thread sleeps when the buffer is nearly empty.
const SLEEP: Duration = Duration::from_millis(100);
/// Bytes that are gathered before they are written.
const GATHER: usize = 256 << 10;

/// One CPU's buffer, to be copied.
pub(super) struct Job {
    pub(super) cpu: u32,
    from: PathBuf,
    to: PathBuf,
    reader: File,
    writer: File,
}

/// The size of a sub-buffer, and where its events begin.
#[derive(Clone, Copy)]
pub(super) struct Size {
    sub_buffer: usize,
    data: usize,
}

/// The size of the instance's sub-buffers.
pub(super) fn size(system: &System, instance: &Path) -> Result<Size> {
    let own = instance.join("events/header_page");
    let path = if own.is_file() { own } else { system.tracefs.join("events/header_page") };
    let layout = PageLayout::parse(&system.read(&path)?, Endian::Little).map_err(|error| error.in_file(path))?;
    Ok(Size { sub_buffer: layout.sub_buffer, data: layout.data_offset })
}

/// The buffers of all CPUs.
pub(super) fn jobs(system: &System, instance: &Path, host: &Path) -> Result<Vec<Job>> {
    let per_cpu = instance.join("per_cpu");
    let mut jobs = Vec::new();
    for name in names(&per_cpu) {
        let Some(cpu) = name.strip_prefix("cpu").and_then(|n| n.parse().ok()) else { continue };
        let from = per_cpu.join(&name).join("trace_pipe_raw");
        let directory = host.join("per_cpu").join(&name);
        fs::create_dir_all(&directory).map_err(|error| Error::io(&directory, "make the directory", error))?;
        let to = directory.join("trace_pipe_raw");
        let reader = open(&from).map_err(|error| refused(&from, "read", error))?;
        let writer = File::create(&to).map_err(|error| Error::io(&to, "create", error))?;
        jobs.push(Job { cpu, from, to, reader, writer });
    }
    if jobs.is_empty() {
        return Err(Error::io(per_cpu, "find the buffer of a CPU", io::Error::from(io::ErrorKind::NotFound))
            .hint(format!("is {} tracefs?", system.tracefs.display())));
    }
    Ok(jobs)
}

/// Opened so that an empty buffer does not block.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    without_blocking(&mut options);
    options.open(path)
}

/// A read of what would come only later fails instead.
#[cfg_attr(not(target_os = "linux"), allow(unused_variables))]
pub(super) fn without_blocking(options: &mut OpenOptions) {
    #[cfg(target_os = "linux")]
    {
        /// O_NONBLOCK of asm-generic/fcntl.h, which x86 uses.
        const NONBLOCK: i32 = 0o4000;
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, NONBLOCK);
    }
}

impl Job {
    /// Copies until `drain` is up and the buffer is empty. Returns the number of bytes.
    pub(super) fn pump(mut self, size: Size, drain: &AtomicBool) -> Result<u64> {
        let mut page = vec![0; size.sub_buffer];
        let mut gathered = io::BufWriter::with_capacity(GATHER, self.writer);
        let mut bytes = 0;
        let failed = |error| Error::io(&self.to, "write", error);
        loop {
            // Before the read: what was recorded before it was raised is found by a read after it.
            let draining = drain.load(Ordering::Acquire);
            match self.reader.read(&mut page) {
                Ok(0) if draining => break,
                Ok(0) => thread::park_timeout(SLEEP),
                Ok(count) => {
                    let page = page.get(..count).unwrap_or_default();
                    gathered.write_all(page).map_err(failed)?;
                    bytes += count as u64;
                    if !draining && !is_full(page, size) {
                        thread::park_timeout(SLEEP);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && draining => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::park_timeout(SLEEP),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(refused(&self.from, "read", error)),
            }
        }
        gathered.flush().map_err(failed)?;
        Ok(bytes)
    }
}

/// Whether more than half of a sub-buffer holds events: then there may well be another. Its length lies behind the
/// stamp, with two flags in the upper bits.
fn is_full(page: &[u8], size: Size) -> bool {
    let Some(&[a, b, c, d]) = page.get(8..12) else { return false };
    let committed = u32::from_le_bytes([a, b, c, d]) & !(0b11 << 30);
    committed as usize > (size.sub_buffer - size.data.min(size.sub_buffer)) / 2
}
