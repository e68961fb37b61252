//! What end-to-end tests, the demo and the chaos runs share: a seeded generator of synthetic trips, a handle on the real
//! `tidemark` binary, the killing of it, and waiting for what nobody announces.

pub mod chaos;
pub mod door;
pub mod platform;
pub mod random;
pub mod server;
pub mod synthetic;
/// The same file as in `tidemark-testing`, which links all of Tidemark.
#[path = "../../shared/testing/src/wait.rs"]
pub mod wait;
