//! What end-to-end tests, the demo and the chaos runs share: a seeded generator of synthetic trips, a handle on the real
//! `tidemark` binary, and the killing of it.

pub mod chaos;
pub mod door;
pub mod platform;
pub mod random;
pub mod server;
pub mod synthetic;
