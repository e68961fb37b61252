//! The write side of curated tables.

pub(crate) mod paths;
pub(crate) mod stats;
pub(crate) mod table;
mod upload;
pub(crate) mod writer;
