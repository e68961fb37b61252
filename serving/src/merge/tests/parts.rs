//! What the worlds of these tests are made of here: a log and views in memory, and a folder. `real_invariants` has the same names
//! on servers, and so runs `cuts` and `switch` on those.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tidemark_shared::ambient::Ambient;
use tidemark_shared::live::LiveView;
use tidemark_shared::log::memory::MemoryLog;
use tidemark_shared::store::{IfMissing, Store};

pub(crate) use crate::merge;
use crate::testing::TestLive;

/// Longest wait for positions.
pub(crate) const WAIT_MAX: Duration = Duration::from_millis(500);

/// A time that records may have.
pub(crate) fn begun() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

/// An empty log.
pub(crate) fn log(ambient: Arc<dyn Ambient>) -> MemoryLog {
    MemoryLog::new(ambient)
}

/// An empty store.
pub(crate) async fn store(folder: &Path) -> Store {
    Store::local(folder, IfMissing::Create).expect("a store in it")
}

/// Views, of which there are none yet.
pub(crate) fn live() -> Arc<dyn LiveView> {
    Arc::new(TestLive::default())
}
