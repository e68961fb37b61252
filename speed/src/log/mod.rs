//! Adapters of the log port.

pub mod embedded;
