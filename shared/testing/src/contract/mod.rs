//! What every adapter of a port must do: one suite a port, which each adapter runs in its tests.

pub mod aggregates;
pub mod catalog;
pub mod live;
pub mod log;
pub mod store;
