//! The port's methods.

mod read;
mod wait;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::log::{
    Appended, Bounds, Fetched, GroupName, IdempotencyKey, Log, LogError, Membership, Position, ReadLimits, Retention,
    Routed, Topic, TopicName, blocking, check_append, check_partitions,
};
use tokio::sync::Semaphore;

use crate::clients::Clients;
use crate::error::client_failed;
use crate::keyed::{KEYS_PREFIX, Keyed, keys_topic};
use crate::member::Member;
use crate::offsets::Ask;
use crate::parts::Parts;
use crate::policy::DELETE;
use crate::produce::Plain;
use crate::readers::Readers;
use crate::settings::KafkaSettings;
use crate::stats::{NoStats, Stats};

/// Most KiB of records that wait for the broker; an append above it waits for memory.
const BUDGET_KIB: u32 = 64 << 10;
/// What a record costs beside its bytes.
const RECORD_COST: usize = 64;
/// Longest wait for the list of topics.
const LIST_MAX: Duration = Duration::from_secs(5);
/// A record's time is the producer's, and brokers refuse by default what is more than an hour ahead.
const ANY_TIME: (&str, &str) = ("message.timestamp.after.max.ms", "9223372036854775807");

/// A log on Kafka.
pub struct KafkaLog {
    parts: Arc<Parts>,
    readers: Readers,
    plain: Plain,
    keyed: Arc<Keyed>,
    /// Held by appends under way.
    budget: Semaphore,
}

impl KafkaLog {
    /// Makes a log of the brokers that the settings name. Does not wait for them: while they are away, calls fail with
    /// [`LogError::Backend`]. To be called in a Tokio runtime, which is to go on until the log is closed.
    ///
    /// # Errors
    /// [`LogError::Invalid`] for settings that contradict each other or that librdkafka does not take.
    pub fn open(settings: KafkaSettings, ambient: Arc<dyn Ambient>) -> Result<Self, LogError> {
        Self::with_stats(settings, ambient, Arc::new(NoStats))
    }

    /// As [`Self::open`]; `stats` is told what librdkafka counts.
    ///
    /// # Errors
    /// As of [`Self::open`].
    pub fn with_stats(
        settings: KafkaSettings,
        ambient: Arc<dyn Ambient>,
        stats: Arc<dyn Stats>,
    ) -> Result<Self, LogError> {
        let clients = Arc::new(Clients::start(settings, stats)?);
        let parts = Arc::new(Parts::open(Arc::clone(&clients), ambient)?);
        let keyed = Arc::new(Keyed::new(Arc::clone(&parts)));
        Ok(Self {
            parts,
            readers: Readers::new(Arc::clone(&clients)),
            plain: Plain::new(clients),
            keyed,
            budget: Semaphore::new(BUDGET_KIB as usize),
        })
    }

    fn check_open(&self) -> Result<(), LogError> {
        if self.parts.topics.is_closed() || self.budget.is_closed() { Err(LogError::Closed) } else { Ok(()) }
    }

    /// A failure of a call on `topic`: that the topic is gone, if it is.
    async fn explained(&self, topic: &Topic, error: LogError) -> LogError {
        // bounds may be those of the topic that was made again under its name
        let is_of_bounds = matches!(error, LogError::BeyondEnd { .. } | LogError::Gone { .. });
        if !is_of_bounds && !matches!(error, LogError::Backend { .. }) {
            return error;
        }
        match self.parts.topics.expect(topic).await {
            Err(gone @ (LogError::Missing { .. } | LogError::Replaced { .. })) => gone,
            // whose they are, nobody can tell now: who took them for this one's would stop for good
            Err(untold) if is_of_bounds => untold,
            _ => error,
        }
    }

    /// Where the records go that `retention` does not keep: below this offset.
    async fn wanted_start(&self, topic: &Topic, partition: u32, retention: &Retention) -> Result<u64, LogError> {
        // of other sizes the broker tells nothing
        if retention.bytes_max == Some(0) {
            return Ok(u64::MAX);
        }
        let Some(age_max) = retention.age_max else { return Ok(0) };
        let age_max_ms = i64::try_from(age_max.as_millis()).unwrap_or(i64::MAX);
        let since = self.parts.ambient.now().timestamp_millis().saturating_sub(age_max_ms);
        if since <= 0 {
            return Ok(0);
        }
        let found = self.parts.offsets.of(topic, &[partition], Ask::Since(since)).await?;
        Ok(found.first().copied().unwrap_or(0))
    }
}

#[async_trait]
impl Log for KafkaLog {
    async fn create_topic(&self, name: &TopicName, partitions: u32) -> Result<Topic, LogError> {
        self.check_open()?;
        check_partitions(name, partitions)?;
        let found = match self.parts.topics.current(name).await? {
            Some(found) => found,
            None => match self.parts.make(name, partitions, &[DELETE, ANY_TIME]).await {
                // brokers before 3.6 do not know that setting, and take any time
                Err(LogError::Backend { .. }) => self.parts.make(name, partitions, &[DELETE]).await?,
                made => made?,
            },
        };
        if found.partitions != partitions {
            return Err(LogError::Mismatch { topic: name.clone(), expected: partitions, found: found.partitions });
        }
        Ok(found)
    }

    async fn add_partitions(&self, topic: &Topic, total: u32) -> Result<Topic, LogError> {
        self.check_open()?;
        check_partitions(&topic.name, total)?;
        let found = self.parts.topics.expect(topic).await?;
        match found.partitions {
            now if now > total => Err(LogError::Mismatch { topic: topic.name.clone(), expected: total, found: now }),
            now if now == total => Ok(found),
            _ => self.parts.grow(&found, total).await,
        }
    }

    async fn delete_topic(&self, topic: &Topic) -> Result<(), LogError> {
        self.check_open()?;
        match self.parts.topics.expect(topic).await {
            Ok(_) => {}
            Err(LogError::Missing { .. } | LogError::Replaced { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.keyed.forget(&topic.id);
        self.parts.delete(topic).await?;
        if let Some(keys) = self.parts.topics.current(&keys_topic(&topic.id)?).await? {
            self.parts.delete(&keys).await?;
        }
        Ok(())
    }

    async fn topic(&self, name: &TopicName) -> Result<Option<Topic>, LogError> {
        self.check_open()?;
        self.parts.topics.current(name).await
    }

    async fn check_topic(&self, topic: &Topic) -> Result<(), LogError> {
        self.check_open()?;
        let checked = self.parts.policies.check(topic).await;
        // settings are asked for by name: what was said may be of the topic that was made again
        self.parts.topics.expect(topic).await?;
        checked
    }

    async fn topics(&self) -> Result<Vec<Topic>, LogError> {
        self.check_open()?;
        let admin = Arc::clone(&self.parts.admin);
        let listed = blocking(move || {
            let metadata = admin.inner().fetch_metadata(None, LIST_MAX)?;
            Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect::<Vec<String>>())
        });
        let mut names = listed.await?.map_err(|error| client_failed("list topics", error))?;
        // those of Kafka's own begin with two underscores
        names.retain(|name| !name.starts_with("__") && !name.starts_with(KEYS_PREFIX));
        names.sort();
        let mut topics = Vec::with_capacity(names.len());
        // what no topic of ours can be called is somebody else's
        for name in names.iter().filter_map(|name| TopicName::new(name).ok()) {
            topics.extend(self.parts.topics.current(&name).await?);
        }
        Ok(topics)
    }

    async fn append(
        &self,
        topic: &Topic,
        records: Vec<Routed>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Appended, LogError> {
        self.check_open()?;
        let highest = records.iter().map(|routed| routed.partition).max().unwrap_or(0);
        let mut known = self.parts.topics.known(topic).await?;
        if highest >= known.partitions {
            known = self.parts.topics.expect(topic).await?;
        }
        let size = check_append(topic, &records, known.partitions)?;
        if records.is_empty() {
            return Ok(Appended { positions: Vec::new(), repeated: false });
        }
        let kib = u32::try_from((size.bytes + RECORD_COST * records.len()).div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let _budget = self.budget.acquire_many(kib.min(BUDGET_KIB)).await.map_err(|_| LogError::Closed)?;
        let outcome = match key {
            None => {
                let positions = self.plain.append(topic, &records).await;
                positions.map(|positions| Appended { positions, repeated: false })
            }
            Some(key) => self.keyed.append(topic, records, key).await,
        };
        match outcome {
            Ok(appended) => {
                // offsets of another incarnation would mean other records
                self.parts.topics.expect(topic).await?;
                Ok(appended)
            }
            Err(error) => Err(self.explained(topic, error).await),
        }
    }

    async fn read(&self, topic: &Topic, partition: u32, from: u64, limits: ReadLimits) -> Result<Fetched, LogError> {
        self.check_open()?;
        self.read_from(topic, partition, from, limits).await
    }

    async fn wait(&self, topic: &Topic, beyond: &[Position], at_most: Duration) -> Result<bool, LogError> {
        self.check_open()?;
        self.wait_beyond(topic, beyond, at_most).await
    }

    async fn bounds(&self, topic: &Topic) -> Result<Vec<Bounds>, LogError> {
        self.check_open()?;
        let known = self.parts.topics.known(topic).await?;
        let numbers: Vec<u32> = (0..known.partitions).collect();
        let mut bounds = self.parts.offsets.bounds(topic, &numbers).await?;
        let now = self.parts.topics.expect(topic).await?;
        if now.partitions > known.partitions {
            let new: Vec<u32> = (known.partitions..now.partitions).collect();
            bounds.extend(self.parts.offsets.bounds(topic, &new).await?);
            self.parts.topics.expect(topic).await?;
        }
        Ok(bounds)
    }

    async fn retain(
        &self,
        topic: &Topic,
        partition: u32,
        retention: &Retention,
        limit: u64,
    ) -> Result<Bounds, LogError> {
        self.check_open()?;
        self.parts.topics.known_with(topic, partition).await?;
        let bounds = self.parts.offsets.bounds_of(topic, partition).await?;
        let wanted = self.wanted_start(topic, partition, retention).await?;
        let start = wanted.min(limit).min(bounds.end);
        // records are deleted by the topic's name: not those of another incarnation
        self.parts.topics.expect(topic).await?;
        if start <= bounds.start {
            return Ok(bounds);
        }
        self.parts.delete_records(topic, partition, start).await?;
        self.readers.retained(topic, partition, start);
        self.parts.offsets.bounds_of(topic, partition).await
    }

    async fn join(&self, topic: &Topic, group: &GroupName) -> Result<Arc<dyn Membership>, LogError> {
        self.check_open()?;
        Ok(Arc::new(Member::start(&self.parts.clients, &topic.name, group)?))
    }

    async fn health(&self) -> Result<(), LogError> {
        self.check_open()?;
        self.parts.topics.any_answer().await
    }

    async fn close(&self) -> Result<(), LogError> {
        if self.parts.topics.is_closed() {
            return Ok(());
        }
        // intake stops; this waits for appends that were begun, whose records are with the broker or refused then
        if let Ok(all) = self.budget.acquire_many(BUDGET_KIB).await {
            self.budget.close();
            drop(all);
        }
        self.plain.close();
        let keyed = Arc::clone(&self.keyed);
        blocking(move || keyed.close()).await?;
        self.parts.topics.close();
        self.parts.offsets.close();
        let readers = self.readers.take_all();
        blocking(move || drop(readers)).await
    }
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLog").field("brokers", &self.parts.clients.settings().brokers).finish_non_exhaustive()
    }
}
