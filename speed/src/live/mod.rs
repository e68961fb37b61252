//! Adapters of the real-time view port.

pub mod memory;
