//! Real-time views that hand every call on to others, but for those that they are made for.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::{LiveBatch, LiveError, LivePin, LiveUsage, LiveView, ViewId};
use crate::position::Coverage;

/// Calls of a [`LiveView`] that come by before they go to others, each handed on to [`LiveLayer::inner`] unless a layer
/// says otherwise. Whoever implements this is a [`LiveView`] by it.
///
/// It has the calls that some layer changes; the others are handed on below, as for [`LogLayer`](crate::log::LogLayer).
#[async_trait]
pub trait LiveLayer: Send + Sync + fmt::Debug {
    /// Where calls go.
    fn inner(&self) -> &Arc<dyn LiveView>;

    /// [`LiveView::open`].
    async fn open(&self, view: &ViewId, schema: &SchemaRef, floors: &Coverage) -> Result<(), LiveError> {
        self.inner().open(view, schema, floors).await
    }

    /// [`LiveView::apply`].
    async fn apply(&self, view: &ViewId, batch: LiveBatch) -> Result<(), LiveError> {
        self.inner().apply(view, batch).await
    }

    /// [`LiveView::pin`].
    async fn pin(&self, view: &ViewId) -> Result<Option<Arc<dyn LivePin>>, LiveError> {
        self.inner().pin(view).await
    }

    /// [`LiveView::drop_below`].
    async fn drop_below(&self, view: &ViewId, coverage: &Coverage) -> Result<(), LiveError> {
        self.inner().drop_below(view, coverage).await
    }

    /// [`LiveView::views`].
    async fn views(&self) -> Result<Vec<ViewId>, LiveError> {
        self.inner().views().await
    }
}

#[async_trait]
impl<L: LiveLayer> LiveView for L {
    async fn open(&self, view: &ViewId, schema: &SchemaRef, floors: &Coverage) -> Result<(), LiveError> {
        LiveLayer::open(self, view, schema, floors).await
    }

    async fn apply(&self, view: &ViewId, batch: LiveBatch) -> Result<(), LiveError> {
        LiveLayer::apply(self, view, batch).await
    }

    async fn pin(&self, view: &ViewId) -> Result<Option<Arc<dyn LivePin>>, LiveError> {
        LiveLayer::pin(self, view).await
    }

    async fn drop_below(&self, view: &ViewId, coverage: &Coverage) -> Result<(), LiveError> {
        LiveLayer::drop_below(self, view, coverage).await
    }

    async fn close(&self, view: &ViewId) -> Result<(), LiveError> {
        self.inner().close(view).await
    }

    async fn views(&self) -> Result<Vec<ViewId>, LiveError> {
        LiveLayer::views(self).await
    }

    fn usage(&self) -> LiveUsage {
        self.inner().usage()
    }

    fn limit(&self) -> Option<LiveUsage> {
        self.inner().limit()
    }
}
