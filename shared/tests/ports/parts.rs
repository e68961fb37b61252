//! What the tests of `archive` are made of here: a folder. `real_invariants` has the same names on servers.

use std::path::Path;

use tidemark_shared::store::{IfMissing, Store};

/// An empty store.
pub(crate) async fn store(folder: &Path) -> Store {
    Store::local(folder, IfMissing::Create).expect("a test's own input is right")
}
