//! A log whose calls are counted and timed, whichever it is.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tidemark_shared::log::{
    Appended, Bounds, Fetched, IdempotencyKey, Log, LogError, LogLayer, ReadLimits, Routed, Topic,
};

use super::metrics::Metrics;

/// Hands every call on, and tells how long those took that go to the log each time.
pub(super) struct Measured {
    inner: Arc<dyn Log>,
    metrics: Arc<Metrics>,
}

impl Measured {
    pub(super) fn new(inner: Arc<dyn Log>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }

    async fn timed<T>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T, LogError>> + Send,
    ) -> Result<T, LogError> {
        let begun = Instant::now();
        let outcome = work.await;
        self.metrics.log_called(call, outcome.is_ok(), begun.elapsed());
        outcome
    }
}

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl LogLayer for Measured {
    fn inner(&self) -> &Arc<dyn Log> {
        &self.inner
    }

    async fn append(
        &self,
        topic: &Topic,
        records: Vec<Routed>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Appended, LogError> {
        self.timed("append", self.inner.append(topic, records, key)).await
    }

    async fn read(&self, topic: &Topic, partition: u32, from: u64, limits: ReadLimits) -> Result<Fetched, LogError> {
        self.timed("read", self.inner.read(topic, partition, from, limits)).await
    }

    async fn bounds(&self, topic: &Topic) -> Result<Vec<Bounds>, LogError> {
        self.timed("bounds", self.inner.bounds(topic)).await
    }
}
