//! The write side of curated tables: data files, and commits that name them.

pub(crate) mod floats;
pub(crate) mod paths;
pub(crate) mod read;
pub(crate) mod stats;
pub(crate) mod table;
mod upload;
pub(crate) mod writer;
