//! kvm-timeline puts a Linux KVM host and its guests on one timeline.
//!
//! A [`Capture`] is opened once and then asked: for each vCPU's clock, for the audit, for a trace to look at, or for the
//! events themselves, host's and guests' in one order.
//!
//! ```
//! use kvm_timeline::Capture;
//!
//! let capture = Capture::open("fixtures/two-vm")?;
//!
//! // Which TSC offset held when, where that is known from, and how well.
//! for clock in capture.clocks() {
//!     for s in clock.segments {
//!         println!("{} {}: {} from {}, +-{}", clock.vm, clock.vcpu, s.offset, s.source, s.uncertainty);
//!     }
//! }
//!
//! // Whether to believe it: every guest event must lie where its vCPU was in guest mode.
//! let audit = capture.check()?;
//! assert_eq!(audit.verdict.map(|v| v.name()), Some("proved"));
//!
//! // How often each vCPU left guest mode, and why. Events come one by one, in host time, in bounded memory.
//! let mut exits = std::collections::BTreeMap::new();
//! for event in capture.events()? {
//!     let event = event?;
//!     if event.is_host() && event.name() == "kvm_exit"
//!         && let (Some(vm), Some(vcpu)) = (event.vm(), event.vcpu())
//!     {
//!         let reason = event.symbol("exit_reason").unwrap_or("?").to_owned();
//!         *exits.entry((vm, vcpu, reason)).or_insert(0) += 1;
//!     }
//! }
//! assert!(exits.keys().any(|(vm, vcpu, reason)| *vm == "a" && *vcpu == 0 && reason == "hlt"));
//!
//! // A trace for ui.perfetto.dev, into anything that can be written to.
//! let mut trace = Vec::new();
//! let report = capture.convert(&mut trace)?;
//! assert!(report.balances());
//! # Ok::<(), kvm_timeline::error::Error>(())
//! ```
//!
//! [`Capture::builder`] names hosts and guests one by one; [`Capture::view`] takes a part of a capture and other output
//! options. An [`Error`](error::Error) has a kind to decide by, and a hint for people.
//!
//! The modules are the rooms that this is made of; see ARCHITECTURE.md for who knows whom.

mod api;
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
mod output;
pub mod pipeline;
pub mod print;
mod printable;
pub mod record;
pub mod report;
pub mod selection;
pub mod session;
pub mod stats;
pub mod time;
pub mod timeline;

pub use api::{Capture, CaptureBuilder, Certainty, Event, EventKind, Events, Gap, Placed, VcpuClock, View};
