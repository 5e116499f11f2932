//! Recorded writes of a vCPU's offset, and joining the copies that several buffers hold of one write.

use crate::time::{HostTsc, TscOffset};

/// One `kvm_write_tsc_offset` event of one vCPU, as one buffer holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// Its host time stamp.
    pub at: HostTsc,
    /// `prev`.
    pub prev: TscOffset,
    /// `next`.
    pub next: TscOffset,
    /// Which buffer (or file) it was read from: two copies of one write never come from the same buffer.
    pub buffer: u16,
}

/// One write, after its copies in several buffers have been joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Host time stamp of the earliest copy.
    pub at: HostTsc,
    /// The offset before.
    pub prev: TscOffset,
    /// The offset after; may equal `prev`.
    pub next: TscOffset,
    /// In how many buffers it was found.
    pub copies: u16,
}

/// Joins the copies of each write. `writes` are those of one vCPU, in any order (of equal stamps in one buffer: in
/// recording order); the result is sorted by time and holds repeats of a value too.
///
/// A vCPU's writes are made one after the other, so all copies of a write are neighbours in time; their stamps are
/// microseconds apart and are never compared for equality.
pub fn join_copies(writes: &[Write]) -> Vec<Change> {
    let mut writes = writes.to_vec();
    writes.sort_by_key(|write| write.at);
    let mut changes: Vec<Change> = Vec::new();
    // The buffers in which the last change was found.
    let mut buffers: Vec<u16> = Vec::new();
    for write in writes {
        match changes.last_mut() {
            Some(last) if (last.prev, last.next) == (write.prev, write.next) && !buffers.contains(&write.buffer) => {
                last.copies = last.copies.saturating_add(1);
            }
            _ => {
                buffers.clear();
                changes.push(Change { at: write.at, prev: write.prev, next: write.next, copies: 1 });
            }
        }
        buffers.push(write.buffer);
    }
    changes
}
