//! Real-time views that tell when a visible position may have moved.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use tidemark_shared::live::{LiveBatch, LiveError, LivePin, LiveUsage, LiveView, ViewId};
use tidemark_shared::position::Coverage;
use tokio::sync::watch;

/// Hands every call on, and counts those that moved something.
pub(super) struct Notifying {
    inner: Arc<dyn LiveView>,
    moved: watch::Sender<u64>,
}

impl fmt::Debug for Notifying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Notifying {
    pub(super) fn new(inner: Arc<dyn LiveView>, moved: watch::Sender<u64>) -> Self {
        Self { inner, moved }
    }

    fn has_moved(&self) {
        self.moved.send_modify(|count| *count = count.wrapping_add(1));
    }
}

#[async_trait]
impl LiveView for Notifying {
    async fn open(&self, view: &ViewId, schema: &SchemaRef, floors: &Coverage) -> Result<(), LiveError> {
        self.inner.open(view, schema, floors).await?;
        self.has_moved();
        Ok(())
    }

    async fn apply(&self, view: &ViewId, batch: LiveBatch) -> Result<(), LiveError> {
        self.inner.apply(view, batch).await?;
        self.has_moved();
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
