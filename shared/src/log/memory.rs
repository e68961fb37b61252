//! A log in memory: for tests and simulations of what reads a log, and the second adapter of the contract.
//!
//! It can do what a broker does and the embedded log never will: skip offsets ([`MemoryLog::skip`]) and lose its end
//! ([`MemoryLog::lose_end`]). It runs on one thread as well as on many, and takes time and ids from its [`Ambient`].

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    Alone, Appended, Bounds, Fetched, Fingerprint, GroupName, IdempotencyKey, KeyedAppend, Log, LogError, Membership,
    OffsetRecord, Position, ReadLimits, Record, Retention, Routed, Topic, TopicId, TopicName, check_append,
    check_partition, check_partitions, check_within,
};
use crate::ambient::Ambient;

/// A log in memory.
pub struct MemoryLog {
    ambient: Arc<dyn Ambient>,
    state: Mutex<State>,
    /// Counts every change, for those who wait.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    closed: bool,
    topics: BTreeMap<TopicName, TopicState>,
}

struct TopicState {
    id: TopicId,
    partitions: Vec<Partition>,
    keys: HashMap<IdempotencyKey, KeyedAppend>,
}

#[derive(Default)]
struct Partition {
    bounds: Bounds,
    records: BTreeMap<u64, Stored>,
}

struct Stored {
    record: Record,
    appended_at_ms: i64,
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new(ambient: Arc<dyn Ambient>) -> Self {
        Self { ambient, state: Mutex::default(), changes: watch::Sender::new(0) }
    }

    /// Moves a partition's end on by `count` offsets that no record has, as transaction markers and aborted records do.
    ///
    /// # Errors
    /// Those of any call on a topic.
    pub fn skip(&self, topic: &Topic, partition: u32, count: u64) -> Result<(), LogError> {
        self.change(|state| {
            state.partition(topic, partition)?.bounds.end += count;
            Ok(())
        })
    }

    /// Takes a record out of the middle, as compaction does. One that is not there counts as taken.
    ///
    /// # Errors
    /// Those of any call on a topic.
    pub fn compact(&self, topic: &Topic, partition: u32, offset: u64) -> Result<(), LogError> {
        self.change(|state| {
            state.partition(topic, partition)?.records.remove(&offset);
            Ok(())
        })
    }

    /// Forgets all records from offset `end` on, as a broker does that was elected though it lagged behind.
    ///
    /// # Errors
    /// Those of any call on a topic.
    pub fn lose_end(&self, topic: &Topic, partition: u32, end: u64) -> Result<(), LogError> {
        self.change(|state| {
            let partition = state.partition(topic, partition)?;
            partition.records.retain(|offset, _| *offset < end);
            partition.bounds.end = partition.bounds.end.min(end);
            partition.bounds.start = partition.bounds.start.min(end);
            Ok(())
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // a panic inside leaves nothing half done that a reader could mistake
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, LogError> {
        let state = self.lock();
        if state.closed { Err(LogError::Closed) } else { Ok(state) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> Result<T, LogError>) -> Result<T, LogError> {
        let outcome = change(&mut *self.open()?);
        self.changes.send_modify(|count| *count += 1);
        outcome
    }

    fn now_ms(&self) -> i64 {
        self.ambient.now().timestamp_millis()
    }
}

impl State {
    fn topic(&mut self, topic: &Topic) -> Result<&mut TopicState, LogError> {
        let Some(found) = self.topics.get_mut(&topic.name) else {
            return Err(LogError::Missing { topic: topic.name.clone() });
        };
        if found.id != topic.id {
            return Err(LogError::Replaced {
                topic: topic.name.clone(),
                expected: topic.id.clone(),
                found: found.id.clone(),
            });
        }
        Ok(found)
    }

    fn partition(&mut self, topic: &Topic, partition: u32) -> Result<&mut Partition, LogError> {
        let found = self.topic(topic)?;
        check_partition(topic, partition, found.count())?;
        Ok(&mut found.partitions[partition as usize])
    }
}

impl TopicState {
    fn count(&self) -> u32 {
        u32::try_from(self.partitions.len()).expect("a topic has at most PARTITIONS_MAX partitions")
    }

    fn described(&self, name: &TopicName) -> Topic {
        Topic { name: name.clone(), id: self.id.clone(), partitions: self.count() }
    }

    fn append(&mut self, records: Vec<Routed>, now_ms: i64) -> Vec<Position> {
        let placed = records.into_iter().map(|Routed { partition, record }| {
            let to = &mut self.partitions[partition as usize];
            let offset = to.bounds.end;
            to.records.insert(offset, Stored { record, appended_at_ms: now_ms });
            to.bounds.end += 1;
            Position { partition, offset }
        });
        placed.collect()
    }
}

impl Partition {
    fn read(&self, from: u64, limits: ReadLimits) -> Fetched {
        let mut fetched = Fetched { records: Vec::new(), next: self.bounds.end, bounds: self.bounds };
        let mut bytes = 0;
        for (offset, stored) in self.records.range(from..) {
            bytes += stored.record.bytes();
            let full = fetched.records.len() >= limits.records_max.max(1) || bytes > limits.bytes_max;
            if full && !fetched.records.is_empty() {
                fetched.next = *offset;
                break;
            }
            fetched.records.push(OffsetRecord { offset: *offset, record: stored.record.clone() });
        }
        fetched
    }

    /// The start that `retention` asks for.
    fn wanted_start(&self, retention: &Retention, now_ms: i64) -> u64 {
        if *retention == Retention::default() {
            return self.bounds.start;
        }
        let mut bytes: u64 = self.records.values().map(|stored| stored.record.bytes() as u64).sum();
        let age_max_ms = retention.age_max.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        for (offset, stored) in &self.records {
            let too_old = age_max_ms.is_some_and(|max| now_ms.saturating_sub(stored.appended_at_ms) > max);
            let too_many = retention.bytes_max.is_some_and(|max| bytes > max);
            if !too_old && !too_many {
                return *offset;
            }
            bytes -= stored.record.bytes() as u64;
        }
        self.bounds.end
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn create_topic(&self, name: &TopicName, partitions: u32) -> Result<Topic, LogError> {
        check_partitions(name, partitions)?;
        let id = TopicId::new(&self.ambient.unique_id());
        self.change(|state| {
            let found = state.topics.entry(name.clone()).or_insert_with(|| TopicState {
                id,
                partitions: (0..partitions).map(|_| Partition::default()).collect(),
                keys: HashMap::new(),
            });
            if found.count() != partitions {
                let topic = name.clone();
                return Err(LogError::Mismatch { topic, expected: partitions, found: found.count() });
            }
            Ok(found.described(name))
        })
    }

    async fn add_partitions(&self, topic: &Topic, total: u32) -> Result<Topic, LogError> {
        check_partitions(&topic.name, total)?;
        self.change(|state| {
            let found = state.topic(topic)?;
            if found.count() > total {
                let topic = topic.name.clone();
                return Err(LogError::Mismatch { topic, expected: total, found: found.count() });
            }
            found.partitions.resize_with(total as usize, Partition::default);
            Ok(found.described(&topic.name))
        })
    }

    async fn delete_topic(&self, topic: &Topic) -> Result<(), LogError> {
        self.change(|state| {
            match state.topic(topic) {
                Ok(_) => {}
                Err(LogError::Missing { .. } | LogError::Replaced { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
            state.topics.remove(&topic.name);
            Ok(())
        })
    }

    async fn topic(&self, name: &TopicName) -> Result<Option<Topic>, LogError> {
        Ok(self.open()?.topics.get(name).map(|found| found.described(name)))
    }

    async fn check_topic(&self, topic: &Topic) -> Result<(), LogError> {
        self.open()?.topic(topic).map(|_| ())
    }

    async fn topics(&self) -> Result<Vec<Topic>, LogError> {
        Ok(self.open()?.topics.iter().map(|(name, found)| found.described(name)).collect())
    }

    async fn append(
        &self,
        topic: &Topic,
        records: Vec<Routed>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Appended, LogError> {
        let now_ms = self.now_ms();
        self.change(|state| {
            let found = state.topic(topic)?;
            check_append(topic, &records, found.count())?;
            let Some(key) = key else {
                return Ok(Appended { positions: found.append(records, now_ms), repeated: false });
            };
            let fingerprint = Fingerprint::of(&records);
            found.keys.retain(|_, append| append.is_alive(now_ms));
            if let Some(first) = found.keys.get(key) {
                return first.clone().repeated(&topic.name, key, fingerprint);
            }
            let positions = found.append(records, now_ms);
            let append = KeyedAppend { at_ms: now_ms, fingerprint, positions: positions.clone() };
            found.keys.insert(key.clone(), append);
            Ok(Appended { positions, repeated: false })
        })
    }

    async fn read(&self, topic: &Topic, partition: u32, from: u64, limits: ReadLimits) -> Result<Fetched, LogError> {
        let mut state = self.open()?;
        let found = state.partition(topic, partition)?;
        check_within(&topic.name, partition, from, found.bounds)?;
        Ok(found.read(from, limits))
    }

    async fn wait(&self, topic: &Topic, beyond: &[Position], at_most: Duration) -> Result<bool, LogError> {
        let mut changes = self.changes.subscribe();
        let wait = async {
            loop {
                // seen before the look, so that a change after it wakes us
                changes.borrow_and_update();
                if has_more(&mut *self.open()?, topic, beyond)? {
                    return Ok(true);
                }
                if changes.changed().await.is_err() {
                    return Err(LogError::Closed);
                }
            }
        };
        tokio::time::timeout(at_most, wait).await.unwrap_or(Ok(false))
    }

    async fn bounds(&self, topic: &Topic) -> Result<Vec<Bounds>, LogError> {
        Ok(self.open()?.topic(topic)?.partitions.iter().map(|partition| partition.bounds).collect())
    }

    async fn retain(
        &self,
        topic: &Topic,
        partition: u32,
        retention: &Retention,
        limit: u64,
    ) -> Result<Bounds, LogError> {
        let now_ms = self.now_ms();
        self.change(|state| {
            let found = state.partition(topic, partition)?;
            let wanted = found.wanted_start(retention, now_ms).min(limit).min(found.bounds.end);
            if wanted > found.bounds.start {
                found.bounds.start = wanted;
                found.records = found.records.split_off(&wanted);
            }
            Ok(found.bounds)
        })
    }

    async fn join(&self, topic: &Topic, _group: &GroupName) -> Result<Arc<dyn Membership>, LogError> {
        self.open()?.topic(topic)?;
        Ok(Arc::new(Alone::default()))
    }

    async fn health(&self) -> Result<(), LogError> {
        self.open().map(drop)
    }

    async fn close(&self) -> Result<(), LogError> {
        self.lock().closed = true;
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLog").finish_non_exhaustive()
    }
}

fn has_more(state: &mut State, topic: &Topic, beyond: &[Position]) -> Result<bool, LogError> {
    for position in beyond {
        if state.partition(topic, position.partition)?.bounds.end > position.offset {
            return Ok(true);
        }
    }
    Ok(false)
}
