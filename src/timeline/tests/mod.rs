//! The timeline from its outside: events in, drawn items out.

mod bench;
mod checks;
mod guest;
mod host_state;
mod marks;
mod native;
mod observe;
mod property;
