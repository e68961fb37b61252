//! The worst moments of a question: a version that is older than what the view keeps, and rows that go between two pins. And what
//! questions have views count.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use tidemark_shared::counts::Counts;
use tidemark_shared::curated::{CuratedTable, CurrentGeneration, Pointer};
use tidemark_shared::live::{
    AggregateRequest, LiveAggregation, LiveError, LiveLayer, LivePin, LiveRange, LiveView, ViewId,
};
use tidemark_shared::position::{Coverage, LogPartition};
use tidemark_shared::reject::Reject;

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
    /// How often a pin was to count what became of its records.
    counted: Arc<AtomicUsize>,
}

impl TestViews {
    pub(crate) fn new(inner: Arc<dyn LiveView>) -> Self {
        Self { inner, drops: Mutex::default(), away: AtomicBool::new(false), counted: Arc::default() }
    }

    /// Lets rows below `coverage` go between the pin after `pins` others and the one before.
    pub(crate) fn drop_after(&self, pins: usize, coverage: Coverage) {
        *self.drops.lock().expect("drops") = Some((pins, coverage));
    }

    /// Lets pins fail, or no longer.
    pub(crate) fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// How often a pin was to count what became of its records.
    pub(crate) fn counted(&self) -> usize {
        self.counted.load(Ordering::Relaxed)
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
impl LiveLayer for TestViews {
    fn inner(&self) -> &Arc<dyn LiveView> {
        &self.inner
    }

    async fn pin(&self, view: &ViewId) -> Result<Option<Arc<dyn LivePin>>, LiveError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(LiveError::backend("pin a view", "it is away"));
        }
        if let Some(coverage) = self.due() {
            self.inner.drop_below(view, &coverage).await?;
        }
        let pin = self.inner.pin(view).await?;
        let noting = |inner| Arc::new(TestPin { inner, counted: Arc::clone(&self.counted) }) as Arc<dyn LivePin>;
        Ok(pin.map(noting))
    }
}

/// A pin that takes note of what it is to count.
#[derive(Debug)]
struct TestPin {
    inner: Arc<dyn LivePin>,
    counted: Arc<AtomicUsize>,
}

#[async_trait]
impl LivePin for TestPin {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn ranges(&self) -> &BTreeMap<LogPartition, LiveRange> {
        self.inner.ranges()
    }

    fn lost(&self) -> BTreeMap<LogPartition, Vec<Range<u64>>> {
        self.inner.lost()
    }

    fn rows(&self, ranges: &BTreeMap<LogPartition, Range<u64>>) -> Option<u64> {
        self.inner.rows(ranges)
    }

    async fn counts(&self, from: &Coverage) -> Result<Counts, LiveError> {
        self.counted.fetch_add(1, Ordering::Relaxed);
        self.inner.counts(from).await
    }

    async fn rejects(&self, from: &Coverage, limit: usize) -> Result<Vec<(LogPartition, Reject)>, LiveError> {
        self.inner.rejects(from, limit).await
    }

    fn scan(
        &self,
        ranges: &BTreeMap<LogPartition, Range<u64>>,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, LiveError> {
        self.inner.scan(ranges, projection, filters, limit)
    }

    fn aggregation(&self, request: &AggregateRequest) -> Option<Arc<dyn LiveAggregation>> {
        self.inner.aggregation(request)
    }
}
