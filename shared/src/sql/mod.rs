//! SQL over curated tables, other catalog tables and files in place: one engine, sessions of one statement each.
//!
//! Every statement runs in a session of its own, so that all its tables are of one moment and its limits and counts are
//! its own; memory ([`mod@memory`]), spill space, footers once read and tables made by `CREATE EXTERNAL TABLE` are the engine's.
//! Reads go through a [`meter`], which counts them and enforces the limit on bytes.
//!
//! A statement is planned and answered on threads of its own ([`workers`]), apart from those of the doors. What can't be
//! cancelled or accounted for is bounded beforehand: tables ([`weight`]), columns ([`unfold`]), planning ([`watch`]), and values that functions
//! make ([`guard`]).
//!
//! What DataFusion by itself would answer wrongly, or refuse though it is valid, is mended ([`mod@mended`]); [`far`] reaches
//! instants that its functions don't.

mod answer;
mod as_of;
mod catalog;
mod datasets;
mod engine;
mod error;
mod far;
mod files;
mod glue;
mod guard;
mod joins;
mod layers;
mod literals;
mod memory;
mod mended;
mod messages;
mod meter;
mod notes;
mod opening;
mod params;
mod planning;
mod pushdown;
mod spill;
mod statement;
mod subqueries;
#[cfg(test)]
mod tests;
mod unfold;
mod watch;
mod weight;
mod workers;

pub use answer::{Answer, Stats};
pub use as_of::{AsOf, DatasetAsOf, TableAsOf};
pub use catalog::{CatalogTable, CatalogTables, NoCatalogTables};
pub use datasets::{CutError, DatasetTables, Layer, OpenedDataset, StatementDatasets, Wants};
pub use engine::{Limits, Query, SqlConfig, SqlEngine};
pub use error::SqlError;
pub use files::{FileFormat, FileTable};
pub use glue::PortTables;
pub use mended::mended;
pub(crate) use mended::{CastsInPlace, IntervalLengths};
pub use params::Param;
pub(crate) use statement::similar_to;
pub use statement::split;
