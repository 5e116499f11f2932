//! What a user can observe: the real binary on real captures.

#![allow(missing_docs)]

mod arrows;
mod bad_input;
mod batch;
mod check;
mod convert;
mod determinism;
mod filters;
mod inputs;
mod integrity;
mod json;
mod library;
#[path = "../../examples/longest_stalls.rs"]
#[allow(dead_code, unreachable_pub)]
mod longest_stalls;
mod markers;
mod multiplied;
mod names;
mod native;
mod offsets;
mod open;
mod open_hostile;
mod perf_data;
#[path = "../support/perf_data_writer.rs"]
#[allow(dead_code, unreachable_pub)]
mod perf_data_writer;
mod perfetto;
#[path = "../support/perfetto_writer.rs"]
#[allow(dead_code, unreachable_pub)]
mod perfetto_writer;
mod picture;
mod print;
mod record;
mod run;
mod second_opinion;
mod shells;
mod sql;
mod stats;
#[path = "../support/trace_cmd.rs"]
#[allow(dead_code, unreachable_pub)]
mod trace_cmd;
#[path = "../support/trace_processor.rs"]
#[allow(dead_code, unreachable_pub)]
mod trace_processor;
/// Makes larger captures for the benches.
#[path = "../../benches/volume"]
#[allow(dead_code, unreachable_pub)]
mod volume {
    pub mod container;
    pub mod edits;
    pub mod multiply;
}
