//! Every byte is hostile: damaged files, absurd numbers, bombs. The outcome is a whole, valid timeline with the damage
//! counted and located, or an error with a code, a file and an offset.
//!
//! `KVM_TIMELINE_LONG=N` makes N times as many cases as usual.

#![allow(missing_docs)]

#[path = "../../fuzz/src/exercise/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod exercise;
#[path = "../support/perf_data_writer.rs"]
#[allow(dead_code, unreachable_pub)]
mod perf_data_writer;
#[path = "../support/recording.rs"]
#[allow(dead_code, unreachable_pub)]
mod recording;
#[path = "../support/ring_pages.rs"]
#[allow(dead_code, unreachable_pub)]
mod ring_pages;
#[path = "../support/trace_dat_writer.rs"]
#[allow(dead_code, unreachable_pub)]
mod trace_dat_writer;
#[path = "../support/world.rs"]
mod world;

mod codes;
mod damage;
mod limits;
mod outcome;
mod regressions;

/// How many cases, where `usual` are enough for every day.
fn cases(usual: usize) -> usize {
    let times = std::env::var("KVM_TIMELINE_LONG").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    usual * times
}
