//! Who tells that visible positions or coverage may have moved, and who waits for it: among the first, real-time views.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use tidemark_shared::live::{LiveBatch, LiveError, LiveLayer, LiveView, ViewId};
use tidemark_shared::position::Coverage;
use tokio::sync::watch;

/// Counts what may have moved visible positions or coverage, for those who wait for them. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Moves(watch::Sender<u64>);

impl Moves {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// Wakes those who wait for positions.
    pub(super) fn tell(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes with each of them.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    /// True if somebody waits for one.
    pub(super) fn are_waited_for(&self) -> bool {
        self.0.receiver_count() > 0
    }
}

/// Hands every call on, and tells of those that moved something.
pub(super) struct Notifying {
    inner: Arc<dyn LiveView>,
    moves: Moves,
}

impl fmt::Debug for Notifying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Notifying {
    pub(super) fn new(inner: Arc<dyn LiveView>, moves: Moves) -> Self {
        Self { inner, moves }
    }
}

#[async_trait]
impl LiveLayer for Notifying {
    fn inner(&self) -> &Arc<dyn LiveView> {
        &self.inner
    }

    async fn open(&self, view: &ViewId, schema: &SchemaRef, floors: &Coverage) -> Result<(), LiveError> {
        self.inner.open(view, schema, floors).await?;
        self.moves.tell();
        Ok(())
    }

    async fn apply(&self, view: &ViewId, batch: LiveBatch) -> Result<(), LiveError> {
        self.inner.apply(view, batch).await?;
        self.moves.tell();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidemark_speed::live::memory::{MemoryView, MemoryViewSettings};
    use tidemark_testing::contract::live as contract;

    use super::*;

    fn notifying(bytes_max: u64) -> (Arc<dyn LiveView>, Moves) {
        let settings = MemoryViewSettings { bytes_max, scan_parts: 2 };
        let moves = Moves::new();
        (Arc::new(Notifying::new(Arc::new(MemoryView::new(settings)), moves.clone())), moves)
    }

    #[tokio::test]
    async fn views_that_tell_of_moves_keep_the_contract() {
        contract::check_all(&notifying(64 << 20).0).await;
        contract::check_full(&notifying(1 << 20).0).await;
    }

    #[tokio::test]
    async fn only_what_moved_something_is_told() {
        let (live, moves) = notifying(1 << 20);
        let mut changes = moves.changes();
        let mut told = || {
            let told = changes.has_changed().expect("it is there");
            changes.mark_unchanged();
            told
        };
        let (view, partition) = (contract::view("moves"), contract::partition(0));
        let batch = |range| contract::batch(&partition, range);
        live.apply(&view, batch(0..5)).await.expect_err("it is not open");
        assert!(!told(), "what failed");
        live.open(&view, &contract::schema(), &contract::coverage(&[0])).await.expect("it opens");
        assert!(told(), "a view was opened");
        live.apply(&view, batch(0..5)).await.expect("it is taken in");
        assert!(told(), "a batch was taken in");
        live.apply(&view, batch(6..9)).await.expect_err("there is a gap");
        drop(live.pin(&view).await.expect("it is there"));
        assert!(!told(), "what failed, and what reads");
    }
}
