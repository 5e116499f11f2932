//! kvm-timeline puts a Linux KVM host and its guests on one timeline.

pub mod capture;
pub mod clock;
pub mod error;
pub mod export;
pub mod time;
pub mod timeline;
