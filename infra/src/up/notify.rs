//! Who tells that visible positions or coverage may have moved, and who waits for it: among the first, real-time views.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use tidemark_shared::live::{LiveBatch, LiveError, LivePin, LiveUsage, LiveView, ViewId};
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
impl LiveView for Notifying {
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

    async fn pin(&self, view: &ViewId) -> Result<Option<Arc<dyn LivePin>>, LiveError> {
        self.inner.pin(view).await
    }

    async fn drop_below(&self, view: &ViewId, coverage: &Coverage) -> Result<(), LiveError> {
        self.inner.drop_below(view, coverage).await
    }

    async fn close(&self, view: &ViewId) -> Result<(), LiveError> {
        self.inner.close(view).await
    }

    async fn views(&self) -> Result<Vec<ViewId>, LiveError> {
        self.inner.views().await
    }

    fn usage(&self) -> LiveUsage {
        self.inner.usage()
    }

    fn limit(&self) -> Option<LiveUsage> {
        self.inner.limit()
    }
}
