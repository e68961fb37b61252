//! The log of an actor: one log in memory, behind the gate. What was appended is remembered for the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use tidemark_shared::log::memory::MemoryLog;
use tidemark_shared::log::{
    Appended, Bounds, Fetched, GroupName, IdempotencyKey, Log, LogError, Membership, Position, ReadLimits, Retention,
    Routed, Topic, TopicName,
};

use crate::gate::{Call, Handle};

/// Everything that was ever appended, whatever has left the log since.
#[derive(Debug, Default)]
pub struct History(Mutex<Past>);

/// What [`History`] holds.
#[derive(Debug, Default)]
pub struct Past {
    /// Values by partition and offset.
    pub records: BTreeMap<(u32, u64), Bytes>,
    /// What producers were told: value and position.
    pub acknowledged: Vec<(Bytes, Position)>,
    /// Values that were sent with an idempotency key: they must be there once at most.
    pub once: BTreeSet<Bytes>,
}

impl History {
    /// What there is so far.
    pub fn past(&self) -> MutexGuard<'_, Past> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Exclusive end of a partition.
    pub fn end(&self, partition: u32) -> u64 {
        let past = self.past();
        past.records.range((partition, 0)..(partition + 1, 0)).next_back().map_or(0, |((_, offset), _)| offset + 1)
    }
}

/// See the module's text.
pub struct GatedLog {
    log: Arc<MemoryLog>,
    history: Arc<History>,
    handle: Handle,
}

impl fmt::Debug for GatedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedLog").finish_non_exhaustive()
    }
}

fn fault(reason: &'static str) -> LogError {
    LogError::backend("answer", reason)
}

impl GatedLog {
    /// The log as an actor has it.
    #[must_use]
    pub fn new(log: Arc<MemoryLog>, history: Arc<History>, handle: Handle) -> Self {
        Self { log, history, handle }
    }
}

async fn append(
    log: &MemoryLog,
    history: &History,
    topic: &Topic,
    records: Vec<Routed>,
    key: Option<&IdempotencyKey>,
) -> Result<Appended, LogError> {
    let values: Vec<Bytes> = records.iter().filter_map(|routed| routed.record.value.clone()).collect();
    let appended = log.append(topic, records, key).await?;
    let mut past = history.past();
    if !appended.repeated {
        let at = appended.positions.iter().map(|at| (at.partition, at.offset));
        past.records.extend(at.zip(values.iter().cloned()));
    }
    if key.is_some() {
        past.once.extend(values);
    }
    Ok(appended)
}

#[async_trait]
impl Log for GatedLog {
    async fn create_topic(&self, name: &TopicName, partitions: u32) -> Result<Topic, LogError> {
        self.log.create_topic(name, partitions).await
    }

    async fn add_partitions(&self, topic: &Topic, total: u32) -> Result<Topic, LogError> {
        self.log.add_partitions(topic, total).await
    }

    async fn delete_topic(&self, topic: &Topic) -> Result<(), LogError> {
        self.log.delete_topic(topic).await
    }

    async fn topic(&self, name: &TopicName) -> Result<Option<Topic>, LogError> {
        self.log.topic(name).await
    }

    async fn topics(&self) -> Result<Vec<Topic>, LogError> {
        self.log.topics().await
    }

    async fn append(
        &self,
        topic: &Topic,
        records: Vec<Routed>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Appended, LogError> {
        let act = || {
            let (log, history, topic) = (Arc::clone(&self.log), Arc::clone(&self.history), topic.clone());
            let (records, key) = (records.clone(), key.cloned());
            async move { append(&log, &history, &topic, records, key.as_ref()).await }.boxed()
        };
        self.handle.call(Call::Append, String::new(), act, fault).await
    }

    async fn read(&self, topic: &Topic, partition: u32, from: u64, limits: ReadLimits) -> Result<Fetched, LogError> {
        let act = || {
            let (log, topic) = (Arc::clone(&self.log), topic.clone());
            async move { log.read(&topic, partition, from, limits).await }.boxed()
        };
        self.handle.call(Call::Read, format!("{partition} from {from}"), act, fault).await
    }

    async fn wait(&self, topic: &Topic, beyond: &[Position], at_most: Duration) -> Result<bool, LogError> {
        self.log.wait(topic, beyond, at_most).await
    }

    async fn bounds(&self, topic: &Topic) -> Result<Vec<Bounds>, LogError> {
        let act = || {
            let (log, topic) = (Arc::clone(&self.log), topic.clone());
            async move { log.bounds(&topic).await }.boxed()
        };
        self.handle.call(Call::Bounds, String::new(), act, fault).await
    }

    async fn retain(
        &self,
        topic: &Topic,
        partition: u32,
        retention: &Retention,
        limit: u64,
    ) -> Result<Bounds, LogError> {
        let retention = *retention;
        let act = || {
            let (log, topic) = (Arc::clone(&self.log), topic.clone());
            async move { log.retain(&topic, partition, &retention, limit).await }.boxed()
        };
        self.handle.call(Call::Retain, format!("{partition} to {limit}"), act, fault).await
    }

    async fn join(&self, topic: &Topic, group: &GroupName) -> Result<Arc<dyn Membership>, LogError> {
        self.log.join(topic, group).await
    }

    async fn health(&self) -> Result<(), LogError> {
        self.log.health().await
    }

    async fn close(&self) -> Result<(), LogError> {
        self.log.close().await
    }
}
