//! The batch layer.

pub mod sql;
