//! Domain types and ports of Tidemark: what a dataset is, where a record stands in its log, how bytes become rows,
//! and the interfaces behind which stores, catalogs and tables live.
//!
//! Decisions here are pure functions over observed facts. The crate links no broker, S3, SQL-database or HTTP server
//! client; adapters do, in the crates that sit on top.

pub mod ambient;
pub mod backoff;
pub mod catalog;
pub mod counts;
pub mod curated;
pub mod dataset;
pub mod decode;
pub mod document;
pub mod elsewhere;
pub mod error;
mod hex;
pub mod layout;
pub mod ledger;
pub mod live;
pub mod log;
mod misread;
pub mod output;
mod poison;
pub mod position;
pub mod reject;
pub mod rows;
pub mod secrets;
pub mod segment;
pub mod sql;
pub mod store;
pub mod telemetry;
pub mod transform;

pub use hex::hex;
pub use poison::{lock, read, write};
