//! The timeline from its outside: events in, drawn items out.

mod arrows;
mod bench;
mod checks;
mod guest;
mod host_state;
mod marks;
mod observe;
mod property;
