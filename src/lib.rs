//! kvm-timeline puts a Linux KVM host and its guests on one timeline.

pub mod batch;
pub mod capture;
pub mod check;
pub mod cli;
pub mod clock;
pub mod convert;
pub mod error;
pub mod export;
pub mod filter;
pub mod inspect;
pub mod monitor;
pub mod open;
pub mod pipeline;
pub mod print;
pub mod record;
pub mod report;
pub mod selection;
pub mod session;
pub mod stats;
pub mod time;
pub mod timeline;
