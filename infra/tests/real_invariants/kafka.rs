//! Kafka as the worlds see it.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tidemark_kafka::{KafkaLog, KafkaSettings};
use tidemark_shared::ambient::System;
use tidemark_shared::log::{
    Appended, Bounds, Fetched, GroupName, IdempotencyKey, Log, LogError, Membership, Position, ReadLimits, Retention,
    Routed, Topic, TopicName,
};
use tokio::runtime::{Builder, Runtime};

use crate::servers::{address, unique};

const PATIENCE: Duration = Duration::from_secs(30);

/// One log for all worlds, on a runtime that goes on: those of tests end with them.
static KAFKA: LazyLock<(Runtime, Arc<dyn Log>)> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let settings = KafkaSettings { brokers: brokers(), ..KafkaSettings::default() };
    let log = {
        let _entered = runtime.enter();
        KafkaLog::open(settings, Arc::new(System)).expect("settings that go together")
    };
    (runtime, Arc::new(log) as Arc<dyn Log>)
});

fn brokers() -> String {
    address("TIDEMARK_TEST_KAFKA")
}

/// A log whose topics have, on the broker, names that no other world has. A read gives all that is there, not only what has come
/// already, so that tests can count steps.
#[derive(Debug)]
pub(crate) struct TestLog {
    kafka: Arc<dyn Log>,
    suffix: String,
}

impl TestLog {
    pub(crate) fn new() -> Self {
        Self { kafka: Arc::clone(&KAFKA.1), suffix: format!("-{}", unique()) }
    }

    fn name(&self, name: &TopicName) -> TopicName {
        TopicName::new(&format!("{name}{}", self.suffix)).expect("a legal name")
    }

    /// The topic as it is called on the broker.
    fn there(&self, topic: &Topic) -> Topic {
        Topic { name: self.name(&topic.name), ..topic.clone() }
    }
}

/// The topic of the broker as it is called here.
fn here(name: &TopicName, topic: Topic) -> Topic {
    Topic { name: name.clone(), ..topic }
}

#[async_trait]
impl Log for TestLog {
    async fn create_topic(&self, name: &TopicName, partitions: u32) -> Result<Topic, LogError> {
        Ok(here(name, self.kafka.create_topic(&self.name(name), partitions).await?))
    }

    async fn add_partitions(&self, topic: &Topic, total: u32) -> Result<Topic, LogError> {
        Ok(here(&topic.name, self.kafka.add_partitions(&self.there(topic), total).await?))
    }

    async fn delete_topic(&self, topic: &Topic) -> Result<(), LogError> {
        self.kafka.delete_topic(&self.there(topic)).await
    }

    async fn topic(&self, name: &TopicName) -> Result<Option<Topic>, LogError> {
        Ok(self.kafka.topic(&self.name(name)).await?.map(|topic| here(name, topic)))
    }

    async fn check_topic(&self, topic: &Topic) -> Result<(), LogError> {
        self.kafka.check_topic(&self.there(topic)).await
    }

    async fn topics(&self) -> Result<Vec<Topic>, LogError> {
        let own = |topic: Topic| {
            let name = TopicName::new(topic.name.as_str().strip_suffix(&self.suffix)?).ok()?;
            Some(here(&name, topic))
        };
        Ok(self.kafka.topics().await?.into_iter().filter_map(own).collect())
    }

    async fn append(
        &self,
        topic: &Topic,
        records: Vec<Routed>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Appended, LogError> {
        self.kafka.append(&self.there(topic), records, key).await
    }

    async fn read(&self, topic: &Topic, partition: u32, from: u64, limits: ReadLimits) -> Result<Fetched, LogError> {
        let topic = self.there(topic);
        let mut read = self.kafka.read(&topic, partition, from, limits).await?;
        loop {
            let bytes: usize = read.records.iter().map(|read| read.record.bytes()).sum();
            let left = ReadLimits {
                records_max: limits.records_max.saturating_sub(read.records.len()),
                bytes_max: limits.bytes_max.saturating_sub(bytes),
            };
            if read.next >= read.bounds.end || left.records_max == 0 || left.bytes_max == 0 {
                return Ok(read);
            }
            let more = self.kafka.read(&topic, partition, read.next, left).await?;
            (read.next, read.bounds) = (more.next, more.bounds);
            read.records.extend(more.records);
        }
    }

    async fn wait(&self, topic: &Topic, beyond: &[Position], at_most: Duration) -> Result<bool, LogError> {
        self.kafka.wait(&self.there(topic), beyond, at_most).await
    }

    async fn bounds(&self, topic: &Topic) -> Result<Vec<Bounds>, LogError> {
        self.kafka.bounds(&self.there(topic)).await
    }

    async fn retain(
        &self,
        topic: &Topic,
        partition: u32,
        retention: &Retention,
        limit: u64,
    ) -> Result<Bounds, LogError> {
        self.kafka.retain(&self.there(topic), partition, retention, limit).await
    }

    async fn join(&self, topic: &Topic, group: &GroupName) -> Result<Arc<dyn Membership>, LogError> {
        self.kafka.join(&self.there(topic), group).await
    }

    async fn health(&self) -> Result<(), LogError> {
        self.kafka.health().await
    }

    /// Other worlds go on with it.
    async fn close(&self) -> Result<(), LogError> {
        Ok(())
    }
}

/// Moves a partition's end on by `count` offsets that no record has: those of a transaction that is aborted, and its mark.
pub(crate) async fn skip(log: &TestLog, topic: &Topic, partition: u32, count: u64) {
    assert!(count > 1, "a transaction without a record leaves no mark");
    let end = log.bounds(topic).await.expect("bounds")[partition as usize].end + count;
    let name = log.name(&topic.name);
    let aborting = tokio::task::spawn_blocking(move || abort(name.as_str(), partition, count - 1));
    aborting.await.expect("it is aborted");
    // the mark comes a moment after the transaction
    let beyond = [Position { partition, offset: end - 1 }];
    assert!(log.wait(topic, &beyond, PATIENCE).await.expect("waits"), "the log did not come to {end}");
    assert_eq!(log.bounds(topic).await.expect("bounds")[partition as usize].end, end);
}

fn abort(topic: &str, partition: u32, records: u64) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers()).set("transactional.id", unique());
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(PATIENCE).expect("init");
    producer.begin_transaction().expect("begin");
    let partition = i32::try_from(partition).expect("a small number");
    for _ in 0..records {
        let record: BaseRecord<'_, (), str> = BaseRecord::to(topic).payload("aborted").partition(partition);
        producer.send(record).map_err(|(error, _)| error).expect("send");
    }
    producer.flush(PATIENCE).expect("flush");
    producer.abort_transaction(PATIENCE).expect("abort");
}
