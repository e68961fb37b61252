//! The batch layer: raw zone → curated tables → SQL.

pub mod report;
pub mod sql;
