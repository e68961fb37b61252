//! The embedded log: one folder of local disk, one process.
//!
//! Appends are encoded where they come from, then go through a bounded channel to the one thread that writes
//! ([`writer`]), which puts all that has gathered into one batch of the journal, syncs it, and answers. Reads go beside
//! it, on Tokio's blocking threads, and only up to the ends that the writer has announced. An acknowledged record is on
//! the disk; no offset is skipped.
//!
//! | file | what |
//! | --- | --- |
//! | `codec` | how records lie in a value |
//! | `store` | what lies in the folder |
//! | `topics`, `status` | what readers and the writer share |
//! | `writer`, `group` | the thread, and one round of it |
//! | `failure`, `reopen` | what goes on once the disk is not full any more |
//! | `keys` | idempotency keys |
//! | `read`, `retain` | the other side |

mod codec;
mod failure;
mod group;
mod keys;
mod read;
mod reopen;
mod retain;
mod status;
mod store;
mod topics;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt};
use tidemark_shared::ambient::Ambient;
use tidemark_shared::lock;
use tidemark_shared::log::{
    Alone, Appended, Bounds, Fetched, Fingerprint, GroupName, IdempotencyKey, Log, LogError, Membership, Position,
    ReadLimits, Retention, Routed, Topic, TopicName, blocking, check_append, check_partitions, check_within,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

use codec::ValueBuilder;
use keys::{Keyed, Purge};
use status::Shared;
use store::LogStore;
use topics::{PartitionState, TopicState, Topics};
use writer::{AppendRequest, Command, PendingValue, TrimRequest, Writer};

/// Most commands that wait for the writer.
const COMMANDS_MAX: usize = 1_024;
/// Most KiB of records that wait for the writer; an append above it waits for memory.
const BUDGET_KIB: u32 = 64 << 10;
/// Most reads that are under way; the next ones wait.
const READS_MAX: u32 = 16;
/// What takes longer to encode does so off the runtime's threads.
const ENCODE_INLINE_BYTES: usize = 64 << 10;

/// How an embedded log stores records. Logs that were written otherwise are read all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage {
    /// Zstd level, negative ones being the fast ones; `None` stores records as they are.
    pub compression_level: Option<i32>,
    /// Most records of one append and partition that are stored together.
    pub value_records_max: u32,
    /// Bytes of records after which a new value is begun.
    pub value_bytes_max: usize,
}

impl Default for Storage {
    fn default() -> Self {
        Self { compression_level: Some(1), value_records_max: 4_096, value_bytes_max: 128 << 10 }
    }
}

/// A log on local disk.
pub struct EmbeddedLog {
    folder: PathBuf,
    storage: Storage,
    shared: Arc<Shared>,
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    budget: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

impl EmbeddedLog {
    /// Opens the log in `folder`; makes it if there is none. What a killed process left is recovered.
    ///
    /// # Errors
    /// [`LogError::Locked`] if another process has it open, [`LogError::NewerFormat`] and [`LogError::Corrupt`] if it can't
    /// be read, [`LogError::Backend`] if the disk fails.
    pub async fn open(folder: &Path, storage: Storage, ambient: Arc<dyn Ambient>) -> Result<Self, LogError> {
        let folder = folder.to_owned();
        blocking(move || Self::open_blocking(folder, storage, ambient)).await?
    }

    fn open_blocking(folder: PathBuf, storage: Storage, ambient: Arc<dyn Ambient>) -> Result<Self, LogError> {
        let store = LogStore::open(&folder)?;
        let (recovered, next_number) = store.recover()?;
        let topics = Topics::default();
        topics.write().extend(recovered.into_iter().map(|topic| (topic.name.clone(), topic)));
        let shared = Arc::new(Shared::new(ambient, topics));
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let (purge, writer_shared) = (Purge::default(), Arc::clone(&shared));
        let reads = Arc::new(Semaphore::new(READS_MAX as usize));
        let writer = Writer {
            folder: folder.clone(),
            store: Some(store),
            shared: writer_shared,
            reads: Arc::clone(&reads),
            commands: receiver,
            next_number,
            purge,
        };
        let thread = std::thread::Builder::new().name("log-writer".to_owned()).spawn(|| writer.run());
        let thread = thread.map_err(|source| LogError::backend("start its writer", source))?;
        Ok(Self {
            folder,
            storage,
            shared,
            commands: Mutex::new(Some(commands)),
            writer: Mutex::new(Some(thread)),
            budget: Arc::new(Semaphore::new(BUDGET_KIB as usize)),
            reads,
        })
    }

    /// How many groups were written since the log was opened, each with one sync of the disk.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    async fn ask<T>(&self, command: impl FnOnce(writer::Reply<T>) -> Command) -> Result<T, LogError> {
        let (reply, answer) = oneshot::channel();
        let commands = lock(&self.commands).clone();
        let commands = commands.ok_or(LogError::Closed)?;
        if commands.send(command(reply)).await.is_ok()
            && let Ok(outcome) = answer.await
        {
            return outcome;
        }
        self.shared.check_works()?;
        Err(LogError::Failed { reason: "its writer has ended, or did not take this in".to_owned() })
    }

    fn find(&self, topic: &Topic) -> Result<Arc<TopicState>, LogError> {
        self.shared.check_open()?;
        self.shared.topics.find(topic)
    }

    /// Runs `work` beside the writer, on a thread that may block; so many at once, and close waits for them.
    async fn beside<T: Send + 'static>(
        &self,
        topic: &TopicState,
        partition: &PartitionState,
        work: impl FnOnce(&fjall::Keyspace) -> Result<T, read::Unread> + Send + 'static,
    ) -> Result<T, LogError> {
        let permit = Arc::clone(&self.reads).acquire_owned().await.map_err(|_| LogError::Closed)?;
        let keyspace = partition.keyspace();
        // the keyspace of a deleted topic is let go of, too
        topic.check_there()?;
        let Some(keyspace) = keyspace else {
            self.shared.check_works()?;
            return Err(LogError::Failed { reason: "it is being opened again".to_owned() });
        };
        let outcome = blocking(move || {
            let outcome = work(&keyspace);
            // in this order: who has all permits knows that nobody has the keyspace
            drop(keyspace);
            drop(permit);
            outcome
        });
        let outcome = outcome.await?;
        topic.check_there()?;
        outcome.map_err(|unread| unread.into_error(&format!("{}/{}", topic.name, partition.number)))
    }

    fn join_writer(&self) -> Option<JoinHandle<()>> {
        lock(&self.writer).take()
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    async fn create_topic(&self, name: &TopicName, partitions: u32) -> Result<Topic, LogError> {
        check_partitions(name, partitions)?;
        self.ask(|reply| Command::Create { name: name.clone(), partitions, reply }).await
    }

    async fn add_partitions(&self, topic: &Topic, total: u32) -> Result<Topic, LogError> {
        check_partitions(&topic.name, total)?;
        let topic = self.find(topic)?;
        self.ask(|reply| Command::Grow { topic, total, reply }).await
    }

    async fn delete_topic(&self, topic: &Topic) -> Result<(), LogError> {
        match self.find(topic) {
            Ok(topic) => self.ask(|reply| Command::Delete { topic, reply }).await,
            Err(LogError::Missing { .. } | LogError::Replaced { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn topic(&self, name: &TopicName) -> Result<Option<Topic>, LogError> {
        self.shared.check_open()?;
        Ok(self.shared.topics.read().get(name).map(|found| found.described()))
    }

    async fn check_topic(&self, topic: &Topic) -> Result<(), LogError> {
        self.find(topic).map(drop)
    }

    async fn topics(&self) -> Result<Vec<Topic>, LogError> {
        self.shared.check_open()?;
        Ok(self.shared.topics.read().values().map(|found| found.described()).collect())
    }

    async fn append(
        &self,
        topic: &Topic,
        records: Vec<Routed>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Appended, LogError> {
        self.shared.check_works()?;
        let found = self.find(topic)?;
        let size = check_append(topic, &records, found.count())?;
        if records.is_empty() {
            return Ok(Appended { positions: Vec::new(), repeated: false });
        }
        // records have a price even when they are empty
        let kib = u32::try_from((size.bytes + 16 * records.len()).div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let budget = Arc::clone(&self.budget).acquire_many_owned(kib.min(BUDGET_KIB)).await;
        let budget = budget.map_err(|_| LogError::Closed)?;
        let (storage, key) = (self.storage, key.cloned());
        let encode = move || {
            let keyed = key.map(|key| Keyed { key, fingerprint: Fingerprint::of(&records) });
            let (values, order) = encode(&found, &records, storage);
            (found, values, order, keyed)
        };
        let inline = size.bytes <= ENCODE_INLINE_BYTES;
        let (topic, values, order, key) = if inline { encode() } else { blocking(encode).await? };
        self.ask(|reply| Command::Append(AppendRequest { topic, values, order, key, reply, budget })).await
    }

    async fn read(&self, topic: &Topic, partition: u32, from: u64, limits: ReadLimits) -> Result<Fetched, LogError> {
        let found = self.find(topic)?;
        let partition_state = found.partition(partition)?;
        let bounds = partition_state.bounds();
        check_within(&topic.name, partition, from, bounds)?;
        if from == bounds.end {
            return Ok(Fetched { records: Vec::new(), next: from, bounds });
        }
        let fetched =
            self.beside(&found, &partition_state, move |keyspace| read::read(keyspace, from, bounds, limits)).await;
        if matches!(fetched, Err(LogError::Corrupt { .. })) {
            // no damage if retention took it while we were reading
            check_within(&topic.name, partition, from, partition_state.bounds())?;
        }
        fetched
    }

    async fn wait(&self, topic: &Topic, beyond: &[Position], at_most: Duration) -> Result<bool, LogError> {
        let found = self.find(topic)?;
        let mut waiting = FuturesUnordered::new();
        for position in beyond {
            let (offset, mut live) = (position.offset, found.partition(position.partition)?.live.subscribe());
            waiting
                .push(async move { live.wait_for(|live| live.stopped || live.bounds.end > offset).await.map(|_| ()) });
        }
        let first = async {
            match waiting.next().await {
                Some(_) => {}
                // there is nothing to wait for but time
                None => std::future::pending().await,
            }
        };
        let more = tokio::time::timeout(at_most, first).await.is_ok();
        self.shared.check_works()?;
        found.check_there()?;
        Ok(more)
    }

    async fn bounds(&self, topic: &Topic) -> Result<Vec<Bounds>, LogError> {
        Ok(self.find(topic)?.partitions().iter().map(|partition| partition.bounds()).collect())
    }

    async fn retain(
        &self,
        topic: &Topic,
        partition: u32,
        retention: &Retention,
        limit: u64,
    ) -> Result<Bounds, LogError> {
        let found = self.find(topic)?;
        let partition = found.partition(partition)?;
        let (bounds, retention, now_ms) = (partition.bounds(), *retention, self.shared.now_ms());
        let wanted = self
            .beside(&found, &partition, move |keyspace| {
                retain::wanted_start(keyspace, bounds, &retention, now_ms, limit)
            })
            .await;
        let start = match wanted {
            Ok(start) => start,
            // no damage if another call took it meanwhile
            Err(LogError::Corrupt { .. }) if partition.bounds().start > bounds.start => return Ok(partition.bounds()),
            Err(error) => return Err(error),
        };
        if start > bounds.start {
            let (topic, trimmed) = (Arc::clone(&found), Arc::clone(&partition));
            self.ask(|reply| Command::Trim(TrimRequest { topic, partition: trimmed, start, reply })).await?;
            // the start is on the disk: what lies below it is never asked for again
            let free =
                move |keyspace: &fjall::Keyspace| retain::free_space(keyspace, start).map_err(read::Unread::Failed);
            self.beside(&found, &partition, free).await?;
        }
        Ok(partition.bounds())
    }

    async fn join(&self, topic: &Topic, _group: &GroupName) -> Result<Arc<dyn Membership>, LogError> {
        let _there = self.find(topic)?;
        Ok(Arc::new(Alone::default()))
    }

    async fn health(&self) -> Result<(), LogError> {
        self.shared.check_works()
    }

    async fn close(&self) -> Result<(), LogError> {
        // Intake stops; the writer ends when it has done what came before.
        drop(lock(&self.commands).take());
        self.shared.close();
        if let Some(writer) = self.join_writer() {
            // a panic was made known when it happened
            drop(blocking(move || writer.join()).await?);
        }
        // Reads that are under way end; what they hold would keep the folder locked.
        if let Ok(all) = self.reads.acquire_many(READS_MAX).await {
            drop(all);
            self.reads.close();
        }
        // A topic that was made meanwhile may have got waiters.
        self.shared.topics.wake_all();
        self.shared.topics.let_go();
        Ok(())
    }
}

impl fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedLog").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The values of an append, and the partition of each record.
fn encode(topic: &TopicState, records: &[Routed], storage: Storage) -> (Vec<PendingValue>, Vec<u32>) {
    let partitions = topic.partitions().clone();
    let mut open: Vec<ValueBuilder> = partitions.iter().map(|_| ValueBuilder::default()).collect();
    let mut values = Vec::new();
    let mut order = Vec::with_capacity(records.len());
    let mut finish = |partition: u32, builder: ValueBuilder| {
        let records = builder.records();
        if records > 0 {
            let bytes = builder.finish(storage.compression_level);
            values.push(PendingValue { partition: Arc::clone(&partitions[partition as usize]), records, bytes });
        }
    };
    for Routed { partition, record } in records {
        let builder = &mut open[*partition as usize];
        builder.push(record);
        if builder.records() >= storage.value_records_max || builder.bytes() >= storage.value_bytes_max {
            finish(*partition, std::mem::take(builder));
        }
        order.push(*partition);
    }
    for (partition, builder) in (0..).zip(open) {
        finish(partition, builder);
    }
    (values, order)
}
