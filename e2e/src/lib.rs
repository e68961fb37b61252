//! What end-to-end tests, the demo and the chaos runs share: a seeded generator of synthetic trips, and a handle on the
//! real `tidemark` binary.

pub mod platform;
pub mod random;
pub mod synthetic;
