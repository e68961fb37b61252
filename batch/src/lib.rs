//! The batch layer: raw zone → curated tables → SQL.

pub mod catalog;
pub mod failpoint;
pub mod report;

mod compact;
mod curate;
mod curated;
mod error;
mod files;
mod gate;
mod generation;
mod ingest;
mod inspect;
mod pack;
mod pack_rejects;
mod pipeline;
mod recompute;
mod register;
mod rejects;
mod service;
mod spans;
mod stream_rejects;
mod upkeep;
mod vacuum;

pub use error::BatchError;
pub use service::{Batch, BatchSettings, GRACE_MAX, IngestRequest, VacuumRequest};
pub use upkeep::{Upkeep, UpkeepTask, VACUUM_AGE};
// The engine is of all layers; who has the batch layer has it, too.
pub use tidemark_shared::sql;
