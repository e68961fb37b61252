//! A log whose calls are counted and timed, whichever it is.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tidemark_shared::log::{
    Appended, Bounds, Fetched, GroupName, IdempotencyKey, Log, LogError, Membership, Position, ReadLimits, Retention,
    Routed, Topic, TopicName,
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
impl Log for Measured {
    async fn create_topic(&self, name: &TopicName, partitions: u32) -> Result<Topic, LogError> {
        self.inner.create_topic(name, partitions).await
    }

    async fn add_partitions(&self, topic: &Topic, total: u32) -> Result<Topic, LogError> {
        self.inner.add_partitions(topic, total).await
    }

    async fn delete_topic(&self, topic: &Topic) -> Result<(), LogError> {
        self.inner.delete_topic(topic).await
    }

    async fn topic(&self, name: &TopicName) -> Result<Option<Topic>, LogError> {
        self.inner.topic(name).await
    }

    async fn topics(&self) -> Result<Vec<Topic>, LogError> {
        self.inner.topics().await
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

    async fn wait(&self, topic: &Topic, beyond: &[Position], at_most: Duration) -> Result<bool, LogError> {
        self.inner.wait(topic, beyond, at_most).await
    }

    async fn bounds(&self, topic: &Topic) -> Result<Vec<Bounds>, LogError> {
        self.timed("bounds", self.inner.bounds(topic)).await
    }

    async fn retain(
        &self,
        topic: &Topic,
        partition: u32,
        retention: &Retention,
        limit: u64,
    ) -> Result<Bounds, LogError> {
        self.inner.retain(topic, partition, retention, limit).await
    }

    async fn join(&self, topic: &Topic, group: &GroupName) -> Result<Arc<dyn Membership>, LogError> {
        self.inner.join(topic, group).await
    }

    async fn health(&self) -> Result<(), LogError> {
        self.inner.health().await
    }

    async fn close(&self) -> Result<(), LogError> {
        self.inner.close().await
    }
}
