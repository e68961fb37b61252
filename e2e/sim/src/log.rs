//! The log of an actor: one log in memory, behind the gate. What was appended is remembered for the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use tidemark_shared::log::memory::MemoryLog;
use tidemark_shared::log::{
    Appended, Bounds, Fetched, IdempotencyKey, Log, LogError, LogLayer, Position, ReadLimits, Retention, Routed, Topic,
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
        // a panic ends the simulation: nobody judges by what it left half done
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
    log: Arc<dyn Log>,
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
    log: &dyn Log,
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
impl LogLayer for GatedLog {
    fn inner(&self) -> &Arc<dyn Log> {
        &self.log
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
            async move { append(log.as_ref(), &history, &topic, records, key.as_ref()).await }.boxed()
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
}
