//! The speed layer: the log's adapters and, on top of them, what keeps the real-time view up.

pub mod log;
