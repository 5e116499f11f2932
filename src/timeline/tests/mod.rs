//! The timeline from its outside: events in, drawn items out.

mod arrows;
mod bench;
mod checks;
mod functions;
mod guest;
mod host_state;
mod markers;
mod marks;
mod native;
mod observe;
mod property;
