//! What the fuzz targets do with their bytes. The program's own tests run the same functions over every input that ever
//! failed (`tests/hostile/regressions.rs`), so nothing here depends on a fuzzer.
//!
//! A function returns if all is well: the bytes were read or refused, and what was read keeps its promises. It panics
//! otherwise.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[path = "../../tests/support/ring_pages.rs"]
pub mod ring_pages;
#[path = "../../tests/support/trace_dat_writer.rs"]
pub mod trace_dat_writer;

pub mod exercise;

pub use exercise::*;
