//! The real-time view of an actor: the product's view in memory, or for days of work another one, behind the gate.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::FutureExt as _;
use tidemark_shared::live::{LiveBatch, LiveError, LivePin, LiveUsage, LiveView, ViewId};
use tidemark_shared::position::Coverage;

use crate::gate::{Call, Handle};

/// A defect that is planted on purpose: a simulation that does not find it is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// The view takes the rows of some batches for visible without having them.
    RowsLost,
    /// Rows leave the view beyond the coverage.
    DroppedTooFar,
}

/// See the module's text.
pub struct GatedView {
    view: Arc<dyn LiveView>,
    handle: Handle,
    plant: Option<Plant>,
}

impl fmt::Debug for GatedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedView").finish_non_exhaustive()
    }
}

fn fault(reason: &'static str) -> LiveError {
    LiveError::backend("answer", reason)
}

impl GatedView {
    /// The view as an actor has it.
    #[must_use]
    pub fn new(view: Arc<dyn LiveView>, handle: Handle, plant: Option<Plant>) -> Self {
        Self { view, handle, plant }
    }
}

#[async_trait]
impl LiveView for GatedView {
    async fn open(&self, view: &ViewId, schema: &SchemaRef, floors: &Coverage) -> Result<(), LiveError> {
        let act = || {
            let (to, view) = (Arc::clone(&self.view), view.clone());
            let (schema, floors) = (Arc::clone(schema), floors.clone());
            async move { to.open(&view, &schema, &floors).await }.boxed()
        };
        self.handle.call(Call::Open, view.generation.clone(), act, fault).await
    }

    async fn apply(&self, view: &ViewId, mut batch: LiveBatch) -> Result<(), LiveError> {
        if self.plant == Some(Plant::RowsLost) && batch.range.start >= 10 {
            batch.rows.clear();
        }
        let act = || {
            let (to, view, batch) = (Arc::clone(&self.view), view.clone(), batch.clone());
            async move { to.apply(&view, batch).await }.boxed()
        };
        let key = format!("{} {} {}-{}", view.generation, batch.partition, batch.range.start, batch.range.end);
        self.handle.call(Call::Apply, key, act, fault).await
    }

    async fn pin(&self, view: &ViewId) -> Result<Option<Arc<dyn LivePin>>, LiveError> {
        let act = || {
            let (to, view) = (Arc::clone(&self.view), view.clone());
            async move { to.pin(&view).await }.boxed()
        };
        self.handle.call(Call::Pin, view.generation.clone(), act, fault).await
    }

    async fn drop_below(&self, view: &ViewId, coverage: &Coverage) -> Result<(), LiveError> {
        let coverage: Coverage = match self.plant {
            Some(Plant::DroppedTooFar) => coverage.iter().map(|(p, end)| (p.clone(), end + 1)).collect(),
            _ => coverage.clone(),
        };
        let act = || {
            let (to, view, coverage) = (Arc::clone(&self.view), view.clone(), coverage.clone());
            async move { to.drop_below(&view, &coverage).await }.boxed()
        };
        self.handle.call(Call::Drop, view.generation.clone(), act, fault).await
    }

    async fn close(&self, view: &ViewId) -> Result<(), LiveError> {
        let act = || {
            let (to, view) = (Arc::clone(&self.view), view.clone());
            async move { to.close(&view).await }.boxed()
        };
        self.handle.call(Call::Close, view.generation.clone(), act, fault).await
    }

    async fn views(&self) -> Result<Vec<ViewId>, LiveError> {
        self.view.views().await
    }

    fn usage(&self) -> LiveUsage {
        self.view.usage()
    }

    fn limit(&self) -> Option<LiveUsage> {
        self.view.limit()
    }
}
