//! The launcher.

pub mod commands;
pub mod output;
pub mod units;
