//! From records in host-time order to what a person sees: slices, states, instants and marks on named tracks.

pub mod drawing;
pub mod setup;
