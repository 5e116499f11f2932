//! What a user can observe: the real binary on real captures.

#![allow(missing_docs)]

mod bad_input;
mod check;
mod convert;
mod determinism;
mod inputs;
mod offsets;
mod run;
mod stats;
