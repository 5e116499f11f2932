//! Some of a kernel's functions, and where to go on reading.

use super::Pieces;
use super::line::{function, is_module, name_at};
use crate::error::Result;

/// Where a function starts, and where its line stands in the text.
#[derive(Clone, Copy)]
struct Function {
    address: u64,
    line: u32,
}

/// Functions that are in order by address: the first, and which lines they stand in.
struct Stretch {
    address: u64,
    start: u32,
    end: u32,
}

/// How long a stretch is, in bytes: what is searched line by line.
const STRETCH: usize = 1 << 10;

/// The lines of functions, and how to find an address in them.
pub(super) struct Part {
    text: Vec<u8>,
    /// The kernel's own functions, in order, behind those of all parts before.
    ordered: Vec<Stretch>,
    /// The last of them starts here; 0 where there is none.
    last: u64,
    /// The functions from the first that is a module's, or out of order, to the end, by address.
    others: Vec<Function>,
    /// What comes behind this part.
    pub(super) next: Next,
}

/// What comes behind a part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Another part.
    Part,
    /// Nothing: this is the end of the text.
    Nothing,
    /// Nobody knows: the text cannot be read any further.
    Unknown,
}

/// Where reading has got to.
pub(super) struct Reading {
    /// `None` where there is no more text: a decompressor takes as much memory as the text.
    pieces: Option<Box<Pieces>>,
    /// A line whose end has not been read.
    begun: Vec<u8>,
    /// Where the last function in order starts.
    last: u64,
}

impl Reading {
    pub(super) fn new(pieces: Box<Pieces>) -> Self {
        Self { pieces: Some(pieces), begun: Vec::new(), last: 0 }
    }

    /// Reads until `text` has about `size` bytes.
    fn fill(&mut self, text: &mut Vec<u8>, size: usize) -> Result<()> {
        while let Some(pieces) = self.pieces.as_mut().filter(|_| text.len() < size) {
            let before = text.len();
            let read = pieces(size - before, text);
            if !matches!(read, Ok(true)) || text.len() == before {
                self.pieces = None;
            }
            read?;
        }
        Ok(())
    }

    /// The next part, of about `size` bytes of text or of all that is left, and what went wrong.
    ///
    /// Lines that are no function's and zero addresses (what a user without rights sees) are passed over; of several
    /// names of one address the first counts.
    pub(super) fn part(&mut self, size: usize) -> (Part, Result<()>) {
        let mut text = std::mem::take(&mut self.begun);
        let mut result = self.fill(&mut text, size);
        let mut part = Part::none(Next::Nothing);
        let (mut at, mut kept) = (0, 0);
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let len = match memchr::memchr(b'\n', rest) {
                Some(feed) => feed + 1,
                // A line that goes on, or that has broken off.
                None if self.pieces.is_some() || result.is_err() => break,
                None => rest.len(),
            };
            let line = at..at + len;
            at = line.end;
            let Some((address, _)) = text.get(line.clone()).and_then(function) else { continue };
            let first = part.others.is_empty();
            let in_order = first && address >= self.last && !text.get(line.clone()).is_some_and(is_module);
            // Another name of it.
            if in_order && address == self.last {
                continue;
            }
            // Only functions are kept, and they move up.
            text.copy_within(line, kept);
            let (Ok(start), Ok(end)) = (u32::try_from(kept), u32::try_from(kept + len)) else { break };
            kept += len;
            if in_order {
                match part.ordered.last_mut() {
                    Some(stretch) if (end - stretch.start) as usize <= STRETCH => stretch.end = end,
                    _ => part.ordered.push(Stretch { address, start, end }),
                }
                self.last = address;
                part.last = address;
                continue;
            }
            if first {
                result = result.and(self.fill(&mut text, usize::MAX));
            }
            part.others.push(Function { address, line: start });
        }
        self.begun = text.get(at..).unwrap_or(&[]).to_vec();
        text.truncate(kept);
        text.shrink_to_fit();
        part.text = text;
        part.next = match (&self.pieces, &result) {
            (_, Err(_)) => Next::Unknown,
            (Some(_), Ok(())) => Next::Part,
            (None, Ok(())) => Next::Nothing,
        };
        part.ordered.shrink_to_fit();
        part.others.shrink_to_fit();
        part.others.sort_by_key(|f| f.address);
        part.others.dedup_by_key(|f| f.address);
        (part, result)
    }
}

impl Part {
    /// Without functions.
    pub(super) fn none(next: Next) -> Self {
        Self { text: Vec::new(), ordered: Vec::new(), last: 0, others: Vec::new(), next }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ordered.is_empty() && self.others.is_empty()
    }

    /// Whether it has functions in order.
    pub(super) fn is_ordered(&self) -> bool {
        self.last != 0
    }

    /// Whether no function in order behind this part starts at `address` or before.
    pub(super) fn reaches(&self, address: u64) -> bool {
        address <= self.last
    }

    /// The last function in order that starts at `address` or before.
    pub(super) fn find_ordered(&self, address: u64) -> Option<(u64, &[u8])> {
        let index = self.ordered.partition_point(|s| s.address <= address).checked_sub(1)?;
        let Stretch { start, end, .. } = *self.ordered.get(index)?;
        let lines = self.text.get(start as usize..end as usize)?.split(|&byte| byte == b'\n').filter_map(function);
        let (start, name) = lines.take_while(|line| line.0 <= address).last()?;
        Some((start, name_at(name)))
    }

    /// The last of the other functions that starts at `address` or before.
    pub(super) fn find_other(&self, address: u64) -> Option<(u64, &[u8])> {
        let index = self.others.partition_point(|f| f.address <= address).checked_sub(1)?;
        let rest = self.text.get(self.others.get(index)?.line as usize..)?;
        let (start, name) = function(rest.split(|&byte| byte == b'\n').next()?)?;
        Some((start, name_at(name)))
    }
}
