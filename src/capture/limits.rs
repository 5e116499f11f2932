//! How much of anything is believed: bounds on what numbers in a file can make this program do.
//!
//! A capture may come from anybody. Nothing is allocated for a number that only claims to be a size, but a small file
//! may still hold a lot: compressed data, members, long lists. Each such thing has a limit with a name, which a user who
//! knows better raises with `--limit NAME=VALUE`.

use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// Bytes that an archive, or the compressed parts of a capture, unpack to in all.
    Unpacked,
    /// Bytes of one text or metadata section of a capture, unpacked.
    Section,
    /// Bytes of one compressed chunk of sub-buffers, unpacked.
    Chunk,
    /// How many times its own size a chunk of more than 1 MiB may unpack to.
    Ratio,
    /// Bytes of the description of one event.
    Format,
    /// Fields of one event.
    Fields,
    /// CPUs of a machine, in all buffers together four times as many.
    Cpus,
    /// Options sections of a trace.dat.
    Options,
    /// Events, and ids of events, of a perf.data.
    Ids,
    /// Bytes of one packet of a Perfetto trace.
    Packet,
    /// Members of an archive.
    Members,
    /// Bytes of headers in front of one member of a compressed tar.
    Headers,
    /// Archives in archives.
    Nesting,
}

/// A limit, for people and for `--limit`.
#[derive(Clone, Copy, Debug)]
pub struct LimitInfo {
    /// Which it is.
    pub limit: Limit,
    /// Its name.
    pub name: &'static str,
    /// Where it stands if nobody says otherwise; 0 for [`Limit::Unpacked`]: it depends on the input.
    pub default: u64,
    /// The most it can be raised to.
    pub most: u64,
    /// What it bounds.
    pub what: &'static str,
}

const TIB: u64 = 1 << 40;
/// Sizes in records are of 32 bits.
const HALF: u64 = 1 << 31;

/// All limits.
pub const LIMITS: [LimitInfo; 13] = [
    info(
        Limit::Unpacked,
        "unpacked",
        0,
        1 << 20 << 40,
        "bytes that an archive or a compressed capture unpacks to in all",
    ),
    info(Limit::Section, "section", 256 << 20, HALF, "bytes of one text or metadata section, unpacked"),
    info(Limit::Chunk, "chunk", 64 << 20, HALF, "bytes of one compressed chunk of sub-buffers, unpacked"),
    info(Limit::Ratio, "ratio", 2000, HALF, "times its own size that a chunk of more than 1 MiB unpacks to"),
    info(Limit::Format, "format", 1 << 20, 64 << 20, "bytes of one event's description"),
    info(Limit::Fields, "fields", 4096, 65_535, "fields of one event"),
    info(Limit::Cpus, "cpus", 65_536, 1 << 22, "CPUs of a machine"),
    info(Limit::Options, "options", 4096, 1 << 24, "options sections of a trace.dat"),
    info(Limit::Ids, "ids", 16 << 20, HALF, "ids of events in a perf.data"),
    info(Limit::Packet, "packet", 16 << 20, HALF, "bytes of one packet of a Perfetto trace"),
    info(Limit::Members, "members", 500_000, HALF, "members of an archive"),
    info(Limit::Headers, "headers", 1 << 20, TIB, "bytes of headers in front of one member of a compressed tar"),
    info(Limit::Nesting, "nesting", 3, 16, "archives in archives"),
];

const fn info(limit: Limit, name: &'static str, default: u64, most: u64, what: &'static str) -> LimitInfo {
    LimitInfo { limit, name, default, most, what }
}

impl Limit {
    /// Its name, default and meaning.
    pub fn info(self) -> LimitInfo {
        LIMITS.into_iter().find(|info| info.limit == self).unwrap_or(LIMITS[0])
    }

    /// Its name in `--limit` and, behind `limit-`, in errors.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The error where it is exceeded; `message` says what was found and what the limit is.
    pub fn exceeded(self, message: impl Into<String>) -> Error {
        let name = self.name();
        Error::limit(self, message).hint(format!(
            "the file is damaged or made up; if you know that it is neither, allow more with --limit {name}=VALUE"
        ))
    }
}

/// The value of every limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits([u64; LIMITS.len()]);

impl Default for Limits {
    fn default() -> Self {
        Self(LIMITS.map(|info| info.default))
    }
}

impl Limits {
    /// The value of a limit.
    pub fn get(&self, limit: Limit) -> u64 {
        let index = LIMITS.iter().position(|info| info.limit == limit);
        index.and_then(|index| self.0.get(index)).copied().unwrap_or(0)
    }

    /// Moves a limit; values beyond what it can be raised to are cut.
    pub fn set(&mut self, limit: Limit, value: u64) {
        let index = LIMITS.iter().position(|info| info.limit == limit);
        if let Some(place) = index.and_then(|index| self.0.get_mut(index)) {
            *place = value.min(limit.info().most);
        }
    }

    /// These limits with another value for one of them.
    #[must_use]
    pub fn with(mut self, limit: Limit, value: u64) -> Self {
        self.set(limit, value);
        self
    }

    /// An error where `value` exceeds a limit.
    ///
    /// # Errors
    /// `Limit`.
    pub fn check(&self, limit: Limit, value: u64, what: &str) -> Result<()> {
        let most = self.get(limit);
        if value <= most {
            return Ok(());
        }
        Err(limit.exceeded(format!("{what}: {value}, more than the limit of {most}")))
    }

    /// What an input of `size` bytes may unpack to: what the user said, else a hundred times its size and at least 1 GiB.
    /// Captures seldom shrink to less than a thirtieth; bombs shrink to less than a thousandth.
    pub fn unpacked(&self, size: u64) -> u64 {
        match self.get(Limit::Unpacked) {
            0 => size.saturating_mul(100).max(1 << 30),
            said => said,
        }
    }
}

/// `NAME=VALUE`, where sizes may have a unit: `section=1G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSpec {
    /// Which limit.
    pub limit: Limit,
    /// Its value.
    pub value: u64,
}

impl FromStr for LimitSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: String| {
            let names: Vec<&str> = LIMITS.iter().map(|info| info.name).collect();
            Error::new(ErrorKind::Usage, format!("limit `{text}`: {what}"))
                .hint(format!("write NAME=VALUE, such as section=1G; the names: {}", names.join(", ")))
        };
        let (name, value) = text.split_once('=').ok_or_else(|| wrong("no `=VALUE`".into()))?;
        let info = LIMITS.iter().find(|info| info.name == name);
        let info = info.ok_or_else(|| wrong(format!("there is no limit `{name}`")))?;
        let value = size(value).map_err(&wrong)?;
        if value == 0 || value > info.most {
            return Err(wrong(format!("expected 1 to {}", info.most)));
        }
        Ok(Self { limit: info.limit, value })
    }
}

/// `500M`, `64G`, or a bare number.
///
/// # Errors
/// In words.
pub fn size(text: &str) -> std::result::Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KIB" => 1 << 10,
        "M" | "MIB" => 1 << 20,
        "G" | "GIB" => 1 << 30,
        "T" | "TIB" => TIB,
        _ => return Err(format!("unknown unit `{unit}`: use K, M, G or T")),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
    bytes.ok_or_else(|| "write a number and a unit, such as 64G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_by_name() {
        let spec: LimitSpec = "section=1G".parse().unwrap();
        assert_eq!(spec, LimitSpec { limit: Limit::Section, value: 1 << 30 });
        for wrong in ["section", "section=", "section=0", "sections=1", "section=9T", "fields=70000", "cpus=1Q"] {
            let error = wrong.parse::<LimitSpec>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{wrong}");
            assert!(error.hint_text().unwrap().contains("unpacked, section, "), "{wrong}");
        }
    }

    #[test]
    fn every_limit_has_one_name_and_room_above_its_default() {
        for (index, info) in LIMITS.iter().enumerate() {
            assert!(info.most > info.default, "{}", info.name);
            assert!(LIMITS.iter().skip(index + 1).all(|other| other.name != info.name && other.limit != info.limit));
            assert_eq!(Limits::default().with(info.limit, 7).get(info.limit), 7);
        }
    }

    #[test]
    fn an_exceeded_limit_says_how_to_raise_it() {
        let error = Limits::default().check(Limit::Cpus, 1 << 20, "CPUs").unwrap_err();
        assert_eq!(error.to_string(), "CPUs: 1048576, more than the limit of 65536");
        assert_eq!(error.code().name(), "limit-cpus");
        assert!(error.hint_text().unwrap().contains("--limit cpus="));
        assert!(Limits::default().check(Limit::Cpus, 65_536, "CPUs").is_ok());
    }

    #[test]
    fn what_may_be_unpacked() {
        assert_eq!(Limits::default().unpacked(5), 1 << 30);
        assert_eq!(Limits::default().unpacked(1 << 30), 100 << 30);
        assert_eq!(Limits::default().with(Limit::Unpacked, 77).unpacked(1 << 30), 77);
    }
}
