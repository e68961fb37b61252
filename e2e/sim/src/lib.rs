//! A simulation of the whole platform on one thread: producers, archivers, the batch layer, indexers and queries act in
//! an order that a seed decides, over a store, a log and a view in memory, while calls fail, are done twice or late, lose
//! their answers, and processes die. Every answer is compared with what plain Rust says it must be.
//!
//! The product's own code runs; only what is behind the ports is replaced. See ARCHITECTURE.md for what it can't see.

pub mod actors;
pub mod clock;
pub mod data;
pub mod day;
pub mod gate;
pub mod log;
pub mod oracle;
pub mod run;
pub mod schedule;
pub mod seeds;
pub mod store;
pub mod view;
pub mod world;

#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

use run::{Outcome, Wanted, simulate};

/// Stack of a thread that simulates: futures of the whole platform are polled inside each other.
pub const STACK_BYTES: usize = 64 << 20;

/// Runs the simulation of a seed on a runtime of its own.
///
/// # Errors
/// If the runtime or a folder for files can't be made.
pub fn run_seed(seed: u64, folder: &Path, wanted: Wanted) -> io::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let outcome = runtime.block_on(Box::pin(simulate(seed, folder, wanted)));
    runtime.shutdown_background();
    Ok(outcome)
}
