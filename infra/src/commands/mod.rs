//! The commands.

pub mod sql;
