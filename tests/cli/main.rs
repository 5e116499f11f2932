//! What a user can observe: the real binary on real captures.

#![allow(missing_docs)]

mod bad_input;
mod check;
mod convert;
mod determinism;
mod filters;
mod offsets;
mod open;
mod print;
mod run;
mod sql;
mod stats;
#[path = "../support/trace_processor.rs"]
#[allow(unreachable_pub, dead_code)]
mod trace_processor;
