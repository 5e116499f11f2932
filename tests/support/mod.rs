//! What several tests of the exporters share.
#![allow(dead_code, unreachable_pub)]

pub mod drawn;
pub mod random;
pub mod trace_processor;
