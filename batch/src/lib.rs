//! The batch layer: raw zone → curated tables → SQL.

pub mod catalog;
pub mod report;
pub mod sql;
