//! From a guest's time stamp to host time, and how sure we are. Pure arithmetic and search: no I/O, no formats.

pub mod rate;
