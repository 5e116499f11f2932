//! Whole captures of made-up worlds, whose every guest event has a known true host time, through the library.

#![allow(missing_docs)]

#[path = "../support/recording.rs"]
#[allow(dead_code, unreachable_pub)]
mod recording;
#[path = "../support/ring_pages.rs"]
#[allow(dead_code, unreachable_pub)]
mod ring_pages;
#[path = "../support/trace_cmd.rs"]
#[allow(dead_code, unreachable_pub)]
mod trace_cmd;
#[path = "../support/trace_dat_writer.rs"]
#[allow(dead_code, unreachable_pub)]
mod trace_dat_writer;
#[path = "../support/world.rs"]
mod world;

mod against_trace_cmd;
mod any;
mod arm64;
mod audit;
mod fields;
mod histories;
mod nested;
mod pairing;
mod plain;
