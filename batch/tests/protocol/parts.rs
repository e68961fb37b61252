//! What the tests' worlds are made of here: a folder, and SQLite. `real_invariants` has the same names on servers, and so runs
//! `faults`, `layout`, `ledger`, `races` and `streams` on those.

use std::path::Path;

use tidemark_batch::catalog::SqlCatalog;
use tidemark_shared::store::{IfMissing, Store};
use tidemark_testing::faulty::Fault;

/// Of cases that a test goes over one by one, each so manieth is tried.
pub(crate) const EVERY: usize = 1;

/// How often a race is run, of `many` times.
pub(crate) fn rounds(many: u64) -> u64 {
    many
}

/// The writes that are met by a fault, one after the other.
pub(crate) fn writes(_: Fault) -> impl Iterator<Item = u64> {
    (0..).step_by(EVERY)
}

/// An empty store.
pub(crate) async fn store(folder: &Path) -> Store {
    Store::local(folder, IfMissing::Create).expect("a local store")
}

/// A catalog.
pub(crate) async fn catalog(folder: &Path) -> SqlCatalog {
    SqlCatalog::open("sqlite:catalog.db", folder, true).await.expect("opens")
}
