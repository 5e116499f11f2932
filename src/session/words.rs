//! Findings in words.

use crate::clock::history::Conflict;

/// A conflict in words, with both values.
pub fn conflict_words(conflict: &Conflict) -> String {
    match conflict {
        Conflict::Offset { used, other } => format!(
            "{} says offset {}, {} says {} ({} cycles apart); the first was used",
            used.0,
            used.1,
            other.0,
            other.1,
            used.1.raw().wrapping_sub(other.1.raw()).cast_signed().unsigned_abs()
        ),
        Conflict::Scaling { used, other } => format!(
            "two sources name different TSC scaling, {} / 2^{} and {} / 2^{}; the first was used",
            used.ratio(),
            used.frac_bits(),
            other.ratio(),
            other.frac_bits()
        ),
        Conflict::LostWrite { after, before, left, found } => {
            format!("an offset write is missing between host TSC {after} and {before}: {left} there, {found} here")
        }
    }
}
