//! An offset in a manifest: a number, or a text where the number does not fit TOML's 64 bits with sign.

use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::session::request::parse_offset;
use crate::time::TscOffset;

/// `-33610754878`, `"0xfffffff82ca494c2"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cycles(pub(super) TscOffset);

impl<'de> Deserialize<'de> for Cycles {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(CyclesVisitor)
    }
}

impl Serialize for Cycles {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(self.0.signed())
    }
}

struct CyclesVisitor;

impl Visitor<'_> for CyclesVisitor {
    type Value = Cycles;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an offset in cycles, such as -33610754878 or \"0xfffffff82ca494c2\"")
    }

    fn visit_i64<E>(self, value: i64) -> Result<Cycles, E> {
        Ok(Cycles(TscOffset::from_signed(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Cycles, E> {
        Ok(Cycles(TscOffset::from_raw(value)))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Cycles, E> {
        parse_offset(text).map(Cycles).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}
