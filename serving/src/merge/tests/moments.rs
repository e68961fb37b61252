//! The worst moments of a question: a version that is older than what the view keeps, and rows that go between two pins.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use tidemark_shared::curated::{CuratedTable, CurrentGeneration, Pointer};
use tidemark_shared::live::{LiveBatch, LiveError, LivePin, LiveUsage, LiveView, ViewId};
use tidemark_shared::position::Coverage;

use super::parts::merge::{Generations, VersionCache, VersionError, Versions};

/// Versions of curated tables; the next one that is asked for may be older than what was committed since.
#[derive(Debug)]
pub(crate) struct TestVersions {
    inner: VersionCache,
    held: Mutex<Option<Arc<CuratedTable>>>,
}

impl TestVersions {
    pub(crate) fn new(inner: VersionCache) -> Self {
        Self { inner, held: Mutex::default() }
    }

    /// Gives the version of now to who asks next.
    pub(crate) async fn hold(&self, dataset: &str, generation: &CurrentGeneration) {
        let table = self.inner.newest(dataset, generation).await.expect("a version");
        *self.held.lock().expect("held") = Some(table);
    }
}

#[async_trait]
impl Versions for TestVersions {
    async fn generations(&self, dataset: &str) -> Result<Generations, VersionError> {
        self.inner.generations(dataset).await
    }

    async fn pointers(&self, dataset: &str) -> Result<Vec<Pointer>, VersionError> {
        self.inner.pointers(dataset).await
    }

    async fn newest(&self, dataset: &str, generation: &CurrentGeneration) -> Result<Arc<CuratedTable>, VersionError> {
        let held = self.held.lock().expect("held").take();
        match held {
            Some(table) => Ok(table),
            None => self.inner.newest(dataset, generation).await,
        }
    }
}

/// Real-time views; rows may go between two pins.
#[derive(Debug)]
pub(crate) struct TestViews {
    inner: Arc<dyn LiveView>,
    /// Pins from now on before rows below a coverage go.
    drops: Mutex<Option<(usize, Coverage)>>,
    /// True while no view can be reached.
    away: AtomicBool,
}

impl TestViews {
    pub(crate) fn new(inner: Arc<dyn LiveView>) -> Self {
        Self { inner, drops: Mutex::default(), away: AtomicBool::new(false) }
    }

    /// Lets rows below `coverage` go between the pin after `pins` others and the one before.
    pub(crate) fn drop_after(&self, pins: usize, coverage: Coverage) {
        *self.drops.lock().expect("drops") = Some((pins, coverage));
    }

    /// Lets pins fail, or no longer.
    pub(crate) fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    fn due(&self) -> Option<Coverage> {
        let mut drops = self.drops.lock().expect("drops");
        match &mut *drops {
            Some((0, _)) => drops.take().map(|(_, coverage)| coverage),
            Some((pins, _)) => {
                *pins -= 1;
                None
            }
            None => None,
        }
    }
}

#[async_trait]
impl LiveView for TestViews {
    async fn open(&self, view: &ViewId, schema: &SchemaRef, floors: &Coverage) -> Result<(), LiveError> {
        self.inner.open(view, schema, floors).await
    }

    async fn apply(&self, view: &ViewId, batch: LiveBatch) -> Result<(), LiveError> {
        self.inner.apply(view, batch).await
    }

    async fn pin(&self, view: &ViewId) -> Result<Option<Arc<dyn LivePin>>, LiveError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(LiveError::backend("pin a view", "it is away"));
        }
        if let Some(coverage) = self.due() {
            self.inner.drop_below(view, &coverage).await?;
        }
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
