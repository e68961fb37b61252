//! An indexer that is behind, on a log that gives a few records at a time, as a broker's client does.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tidemark_shared::live::LiveView;
use tidemark_shared::log::{
    Appended, Bounds, Fetched, GroupName, IdempotencyKey, Log, LogError, Membership, Position, ReadLimits, Retention,
    Routed, Topic, TopicName,
};
use tidemark_shared::position::Coverage;
use tidemark_speed::indexer::{Indexer, IndexerSettings, IndexerStep};

use super::indexer::{check, parts};
use super::support::{World, name};

/// Most records that a read gives.
const AT_A_TIME: usize = 7;

/// A log that gives little at a time, has no records at some offsets, and fails after so many reads.
struct Slow {
    inner: Arc<dyn Log>,
    /// Offsets of transactions that were given up.
    skipped: Range<u64>,
    reads: AtomicUsize,
    reads_max: AtomicUsize,
}

impl Slow {
    fn new(inner: Arc<dyn Log>) -> Self {
        Self { inner, skipped: 0..0, reads: AtomicUsize::new(0), reads_max: AtomicUsize::new(usize::MAX) }
    }

    /// One that reads past these offsets, and has no records there.
    fn skipping(inner: Arc<dyn Log>, skipped: Range<u64>) -> Self {
        Self { skipped, ..Self::new(inner) }
    }

    /// How many reads there were.
    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    /// Fails after so many further reads.
    fn fail_after(&self, reads: usize) {
        self.reads_max.store(self.reads().saturating_add(reads), Ordering::SeqCst);
    }
}

impl fmt::Debug for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl Log for Slow {
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
        self.inner.append(topic, records, key).await
    }

    async fn read(&self, topic: &Topic, partition: u32, from: u64, limits: ReadLimits) -> Result<Fetched, LogError> {
        if self.reads.fetch_add(1, Ordering::SeqCst) >= self.reads_max.load(Ordering::SeqCst) {
            return Err(LogError::backend("read records", "nobody is there"));
        }
        let limits = ReadLimits { records_max: limits.records_max.min(AT_A_TIME), ..limits };
        let mut read = self.inner.read(topic, partition, from, limits).await?;
        read.records.retain(|record| !self.skipped.contains(&record.offset));
        Ok(read)
    }

    async fn wait(&self, topic: &Topic, beyond: &[Position], at_most: Duration) -> Result<bool, LogError> {
        self.inner.wait(topic, beyond, at_most).await
    }

    async fn bounds(&self, topic: &Topic) -> Result<Vec<Bounds>, LogError> {
        self.inner.bounds(topic).await
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

/// The offsets of a step's batch, and how many reads of the log it took.
async fn step(indexer: &Indexer, log: &Slow) -> (u64, u64, usize) {
    let before = log.reads();
    match indexer.step(&name(0)).await.unwrap() {
        IndexerStep::Applied(range, _) => (range.start, range.end, log.reads() - before),
        other => panic!("{other:?}"),
    }
}

/// An indexer on `log`, with batches of 5 records, and of 40 when it is behind.
async fn indexer_on(world: &World, live: &Arc<dyn LiveView>, log: &Arc<Slow>) -> Indexer {
    let mut parts = parts(world, live);
    parts.log = Arc::clone(log) as Arc<dyn Log>;
    let behind = ReadLimits { records_max: 40, bytes_max: 1 << 20 };
    let settings = IndexerSettings { behind, fresh_records_max: 5, ..IndexerSettings::default() };
    Indexer::open(parts, Coverage::new(), settings).await.unwrap()
}

#[tokio::test]
async fn a_batch_is_of_several_reads_while_a_partition_is_behind() {
    let world = World::new(1).await;
    let live = world.live();
    let log = Arc::new(Slow::new(world.log()));
    let indexer = indexer_on(&world, &live, &log).await;
    world.produce(0, 0..100).await;
    assert_eq!(step(&indexer, &log).await, (0, 5, 1), "it does not know yet that it is behind");
    assert_eq!(step(&indexer, &log).await, (5, 40, 5), "as long as it has room");
    assert_eq!(step(&indexer, &log).await, (40, 75, 5));
    assert_eq!(step(&indexer, &log).await, (75, 100, 4), "as long as there is more");
    assert_eq!(indexer.step(&name(0)).await.unwrap(), IndexerStep::Idle);
    check(&live, 0, 100, 0).await;

    // What was read before a failure counts; the failure is the next step's.
    world.produce(0, 100..150).await;
    assert_eq!(step(&indexer, &log).await, (100, 105, 1));
    log.fail_after(2);
    assert_eq!(step(&indexer, &log).await, (105, 119, 3));
    check(&live, 0, 119, 0).await;
    indexer.step(&name(0)).await.unwrap_err();
    log.fail_after(usize::MAX);
    assert_eq!(step(&indexer, &log).await, (119, 150, 5));
    check(&live, 0, 150, 0).await;

    // Once it has caught up, a few records do not wait for others.
    world.produce(0, 150..158).await;
    assert_eq!(step(&indexer, &log).await, (150, 155, 1));
    assert_eq!(step(&indexer, &log).await, (155, 158, 1));
}

#[tokio::test]
async fn h8_offsets_without_records_are_got_past_step_by_step() {
    let world = World::new(1).await;
    let live = world.live();
    let log = Arc::new(Slow::skipping(world.log(), 12..60));
    let indexer = indexer_on(&world, &live, &log).await;
    world.produce(0, 0..100).await;
    assert_eq!(step(&indexer, &log).await, (0, 5, 1));
    // A further read that has no records ends a batch, so that the view gets on.
    for wanted in [(5, 19, 2), (19, 33, 2), (33, 47, 2), (47, 96, 7), (96, 100, 1)] {
        assert_eq!(step(&indexer, &log).await, wanted);
        let pin = live.pin(indexer.view()).await.unwrap().unwrap();
        assert_eq!(pin.ranges()[&name(0)].visible, wanted.1);
    }
    let pin = live.pin(indexer.view()).await.unwrap().unwrap();
    let counts = pin.counts(&Coverage::new()).await.unwrap();
    assert_eq!((counts.records, counts.adds_up()), (52, true));
}
