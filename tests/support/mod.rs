//! What several tests share.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod drawn;
pub mod random;
pub mod ring_pages;
pub mod trace_dat_writer;
pub mod trace_processor;
