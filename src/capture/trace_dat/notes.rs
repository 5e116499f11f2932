//! What was odd or damaged about a file: bounded lists, because a crafted file can be odd in a million places.

use crate::capture::CaptureInfo;

/// This many sentences are kept of each kind; the rest is counted.
const KEPT: usize = 100;

/// Collects sentences for [`CaptureInfo::warnings`] and [`CaptureInfo::damaged`].
#[derive(Default)]
pub(in crate::capture) struct Notes {
    warnings: Vec<String>,
    more_warnings: u64,
    damaged: Vec<String>,
    more_damaged: u64,
}

impl Notes {
    /// Something odd that cost no data.
    pub(in crate::capture) fn warn(&mut self, text: impl Into<String>) {
        push(&mut self.warnings, &mut self.more_warnings, text.into());
    }

    /// Data was lost or skipped.
    pub(in crate::capture) fn damaged(&mut self, text: impl Into<String>) {
        push(&mut self.damaged, &mut self.more_damaged, text.into());
    }

    /// Moves everything into `info`.
    pub(in crate::capture) fn store(self, info: &mut CaptureInfo) {
        let more = |list: &mut Vec<String>, more: u64| {
            if more > 0 {
                list.push(format!("{more} more of this kind"));
            }
        };
        info.warnings.extend(self.warnings);
        more(&mut info.warnings, self.more_warnings);
        info.damaged.extend(self.damaged);
        more(&mut info.damaged, self.more_damaged);
    }
}

fn push(list: &mut Vec<String>, more: &mut u64, text: String) {
    if list.len() < KEPT { list.push(text) } else { *more += 1 }
}
