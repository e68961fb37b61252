//! Logs that hand every call on to another one, but for those that they are made for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Appended, Bounds, Fetched, GroupName, IdempotencyKey, Log, LogError, Membership, Position, ReadLimits, Retention,
    Routed, Topic, TopicName,
};

/// Calls of a [`Log`] that come by before they go to another one, each handed on to [`LogLayer::inner`] unless a layer
/// says otherwise. Whoever implements this is a [`Log`] by it.
///
/// It has the calls that some layer changes; the others are handed on below, once for all layers. The port itself has no
/// default bodies, so that no other log can forget a call.
#[async_trait]
pub trait LogLayer: Send + Sync + fmt::Debug {
    /// Where calls go.
    fn inner(&self) -> &Arc<dyn Log>;

    /// [`Log::check_topic`].
    async fn check_topic(&self, topic: &Topic) -> Result<(), LogError> {
        self.inner().check_topic(topic).await
    }

    /// [`Log::append`].
    async fn append(
        &self,
        topic: &Topic,
        records: Vec<Routed>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Appended, LogError> {
        self.inner().append(topic, records, key).await
    }

    /// [`Log::read`].
    async fn read(&self, topic: &Topic, partition: u32, from: u64, limits: ReadLimits) -> Result<Fetched, LogError> {
        self.inner().read(topic, partition, from, limits).await
    }

    /// [`Log::bounds`].
    async fn bounds(&self, topic: &Topic) -> Result<Vec<Bounds>, LogError> {
        self.inner().bounds(topic).await
    }

    /// [`Log::retain`].
    async fn retain(
        &self,
        topic: &Topic,
        partition: u32,
        retention: &Retention,
        limit: u64,
    ) -> Result<Bounds, LogError> {
        self.inner().retain(topic, partition, retention, limit).await
    }

    /// [`Log::health`].
    async fn health(&self) -> Result<(), LogError> {
        self.inner().health().await
    }
}

#[async_trait]
impl<L: LogLayer> Log for L {
    async fn create_topic(&self, name: &TopicName, partitions: u32) -> Result<Topic, LogError> {
        self.inner().create_topic(name, partitions).await
    }

    async fn add_partitions(&self, topic: &Topic, total: u32) -> Result<Topic, LogError> {
        self.inner().add_partitions(topic, total).await
    }

    async fn delete_topic(&self, topic: &Topic) -> Result<(), LogError> {
        self.inner().delete_topic(topic).await
    }

    async fn topic(&self, name: &TopicName) -> Result<Option<Topic>, LogError> {
        self.inner().topic(name).await
    }

    async fn check_topic(&self, topic: &Topic) -> Result<(), LogError> {
        LogLayer::check_topic(self, topic).await
    }

    async fn topics(&self) -> Result<Vec<Topic>, LogError> {
        self.inner().topics().await
    }

    async fn append(
        &self,
        topic: &Topic,
        records: Vec<Routed>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Appended, LogError> {
        LogLayer::append(self, topic, records, key).await
    }

    async fn read(&self, topic: &Topic, partition: u32, from: u64, limits: ReadLimits) -> Result<Fetched, LogError> {
        LogLayer::read(self, topic, partition, from, limits).await
    }

    async fn wait(&self, topic: &Topic, beyond: &[Position], at_most: Duration) -> Result<bool, LogError> {
        self.inner().wait(topic, beyond, at_most).await
    }

    async fn bounds(&self, topic: &Topic) -> Result<Vec<Bounds>, LogError> {
        LogLayer::bounds(self, topic).await
    }

    async fn retain(
        &self,
        topic: &Topic,
        partition: u32,
        retention: &Retention,
        limit: u64,
    ) -> Result<Bounds, LogError> {
        LogLayer::retain(self, topic, partition, retention, limit).await
    }

    async fn join(&self, topic: &Topic, group: &GroupName) -> Result<Arc<dyn Membership>, LogError> {
        self.inner().join(topic, group).await
    }

    async fn health(&self) -> Result<(), LogError> {
        LogLayer::health(self).await
    }

    async fn close(&self) -> Result<(), LogError> {
        self.inner().close().await
    }
}
