//! The write side of curated tables.

pub(crate) mod paths;
pub(crate) mod stats;
pub(crate) mod table;
pub(crate) mod writer;
