//! From a guest's time stamp to host time, and how sure we are. Pure arithmetic and search: no I/O, no formats.
//!
//! The way of a stamp: evidence about the offset becomes a [`history::History`] per vCPU; [`place`] walks a guest
//! CPU's stream along it and says for every run of events which segment it belongs to; each such
//! [`place::Piece`] maps a stamp to a [`scaling::HostRange`]; [`rate`] turns that into nanoseconds. Where there is no
//! evidence, [`infer`] finds the offset from the run windows ([`windows`]).

pub mod history;
pub mod infer;
pub mod line;
pub mod mapping;
pub mod place;
pub mod pvclock;
pub mod rate;
pub mod scaling;
pub mod stamps;
pub mod windows;
