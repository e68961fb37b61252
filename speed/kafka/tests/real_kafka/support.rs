//! What the tests share.

use std::sync::Arc;

use bytes::Bytes;
use rdkafka::ClientConfig;
use tidemark_kafka::{KafkaLog, KafkaSettings};
use tidemark_shared::ambient::{Ambient, System};
use tidemark_shared::log::{Log, OffsetRecord, ReadLimits, Record, Routed, Topic, TopicName};

pub(crate) const ALL: ReadLimits = ReadLimits { records_max: 10_000, bytes_max: 64 << 20 };

pub(crate) fn brokers() -> String {
    std::env::var("TIDEMARK_TEST_KAFKA").expect("TIDEMARK_TEST_KAFKA names the test server")
}

pub(crate) fn open_with(ambient: Arc<dyn Ambient>) -> Arc<dyn Log> {
    let settings = KafkaSettings { brokers: brokers(), ..KafkaSettings::default() };
    Arc::new(KafkaLog::open(settings, ambient).expect("settings that go together"))
}

pub(crate) fn open() -> Arc<dyn Log> {
    open_with(Arc::new(System))
}

/// A client of somebody else's.
pub(crate) fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers());
    config
}

pub(crate) fn name(test: &str) -> TopicName {
    TopicName::new(&format!("{test}-{}", uuid::Uuid::new_v4().simple())).expect("a legal name")
}

pub(crate) async fn topic(log: &Arc<dyn Log>, test: &str, partitions: u32) -> Topic {
    log.create_topic(&name(test), partitions).await.expect("create")
}

pub(crate) fn record(partition: u32, value: &str) -> Routed {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    Routed { partition, record: Record { value, timestamp_ms: now_ms(), ..Record::default() } }
}

/// Of this moment: a broker lets old records go by the time that they have.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("it is after 1970").as_millis())
        .expect("it is before 292277026596")
}

pub(crate) async fn append(log: &Arc<dyn Log>, topic: &Topic, values: &[&str]) -> Vec<u64> {
    let records = values.iter().map(|value| record(0, value)).collect();
    let appended = log.append(topic, records, None).await.expect("append");
    appended.positions.iter().map(|position| position.offset).collect()
}

/// All of partition 0 from `from` on, and where that ends.
pub(crate) async fn read_on(log: &Arc<dyn Log>, topic: &Topic, from: u64) -> (Vec<OffsetRecord>, u64) {
    let (mut at, mut records) = (from, Vec::new());
    loop {
        let fetched = log.read(topic, 0, at, ALL).await.expect("read");
        assert!(fetched.next > at || at == fetched.bounds.end, "a read at {at} did not get on: {fetched:?}");
        records.extend(fetched.records);
        at = fetched.next;
        if at >= fetched.bounds.end {
            return (records, at);
        }
    }
}

pub(crate) fn values(records: &[OffsetRecord]) -> Vec<String> {
    let text = |read: &OffsetRecord| String::from_utf8_lossy(read.record.value.as_deref().unwrap_or_default()).into();
    records.iter().map(text).collect()
}
