//! What the tests' worlds are made of here: a log and views in memory, and a folder. `real_invariants` has the same names on
//! servers, and so runs `archiver`, `indexer` and `shares` on those.

use std::path::Path;
use std::sync::Arc;

use tidemark_shared::ambient::Ambient;
use tidemark_shared::live::LiveView;
use tidemark_shared::log::Topic;
use tidemark_shared::log::memory::MemoryLog;
use tidemark_shared::store::{IfMissing, Store};
use tidemark_speed::live::memory::{MemoryView, MemoryViewSettings};
use tidemark_testing::contract::log::SteppedClock;

pub(crate) type TestLog = MemoryLog;

/// How often something is done in turn, of `many` times.
pub(crate) fn rounds(many: u64) -> u64 {
    many
}

/// A clock that stands at a time that records may have.
pub(crate) fn clock() -> SteppedClock {
    SteppedClock::default()
}

/// An empty log.
pub(crate) fn log(ambient: Arc<dyn Ambient>) -> TestLog {
    MemoryLog::new(ambient)
}

/// Moves a partition's end on by `count` offsets that no record has.
pub(crate) async fn skip(log: &TestLog, topic: &Topic, partition: u32, count: u64) {
    log.skip(topic, partition, count).unwrap();
}

/// An empty store.
pub(crate) async fn store(folder: &Path) -> Store {
    Store::local(folder, IfMissing::Create).unwrap()
}

/// Views, of which there are none yet.
pub(crate) fn live() -> Arc<dyn LiveView> {
    Arc::new(MemoryView::new(MemoryViewSettings { bytes_max: 1 << 30, scan_parts: 2 }))
}
