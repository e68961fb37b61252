//! The speed layer: the log's adapters, the real-time view's adapters, and what brings records from the one to the other
//! and into the raw zone.

pub mod archiver;
pub mod freshness;
pub mod indexer;
pub mod keep;
pub mod live;
pub mod log;
pub mod pressure;
pub mod trouble;

mod retry;
