//! Many captures in one run that is safe to repeat and to share among machines.

pub mod state;
pub mod store;
pub mod worker;
