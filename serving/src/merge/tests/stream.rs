//! The records of a world's dataset in a log, and what the speed layer tells of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tidemark_shared::ambient::Ambient;
use tidemark_shared::error::AnyError;
use tidemark_shared::log::{Log, OffsetRecord, ReadLimits, Record, Routed, Topic, TopicName};
use tidemark_shared::position::{Coverage, LogPartition};
use tokio::sync::watch;

use super::parts::{self, merge::SpeedStatus};
use super::support::partition;

const BYTES_MAX: usize = 1 << 20;

/// A topic of two partitions.
#[derive(Debug)]
pub(crate) struct Stream {
    log: Arc<dyn Log>,
    topic: Topic,
    changes: watch::Sender<u64>,
    /// How often its ends are told still; `None`: always.
    ends_left: Mutex<Option<usize>>,
}

impl Stream {
    pub(crate) async fn new(ambient: Arc<dyn Ambient>) -> Self {
        let log: Arc<dyn Log> = Arc::new(parts::log(ambient));
        let name = TopicName::new("orders").expect("a name");
        let topic = log.create_topic(&name, 2).await.expect("it is made");
        Self { log, topic, changes: watch::Sender::new(0), ends_left: Mutex::default() }
    }

    /// Appends a record; returns its offset.
    pub(crate) async fn append(&self, number: u32, value: &str, at: DateTime<Utc>) -> u64 {
        let value = Some(Bytes::copy_from_slice(value.as_bytes()));
        let record = Record { value, timestamp_ms: at.timestamp_millis(), ..Record::default() };
        let appended = self.log.append(&self.topic, vec![Routed { partition: number, record }], None).await;
        appended.expect("it is taken").positions[0].offset
    }

    /// The records of a range that the log has.
    pub(crate) async fn read(&self, number: u32, range: Range<u64>) -> Vec<OffsetRecord> {
        let (mut at, mut records) = (range.start, Vec::new());
        while at < range.end {
            let left = usize::try_from(range.end - at).expect("a few");
            let limits = ReadLimits { records_max: left, bytes_max: BYTES_MAX };
            let read = self.log.read(&self.topic, number, at, limits).await.expect("it is there");
            assert!(read.next > at, "the log ends at {at}");
            at = read.next;
            records.extend(read.records);
        }
        records
    }

    /// Whoever asks for the ends waits for ever, once they were told `times` more.
    pub(crate) fn silent_after(&self, times: usize) {
        *self.ends_left.lock().expect("a count") = Some(times);
    }

    /// True if the ends are told once more.
    fn tells_ends(&self) -> bool {
        match &mut *self.ends_left.lock().expect("a count") {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    /// Tells those who wait that visible positions may have moved.
    pub(crate) fn moved(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

#[async_trait]
impl SpeedStatus for Stream {
    fn has_stream(&self, dataset: &str) -> bool {
        dataset == "orders"
    }

    async fn log_ends(&self, _: &str) -> Result<Coverage, AnyError> {
        if !self.tells_ends() {
            std::future::pending::<()>().await;
        }
        let bounds = self.log.bounds(&self.topic).await.map_err(AnyError::new)?;
        Ok((0..).zip(bounds).map(|(number, bounds)| (partition(number), bounds.end)).collect())
    }

    async fn oldest_beyond(&self, _: &str, positions: &Coverage) -> Result<Option<DateTime<Utc>>, AnyError> {
        let mut oldest: Option<DateTime<Utc>> = None;
        for (number, bounds) in (0..).zip(self.log.bounds(&self.topic).await.map_err(AnyError::new)?) {
            let from = positions.end(&partition(number));
            if from >= bounds.end {
                continue;
            }
            let one = ReadLimits { records_max: 1, bytes_max: BYTES_MAX };
            let read = self.log.read(&self.topic, number, from, one).await.map_err(AnyError::new)?;
            let first = read.records.first().and_then(|read| DateTime::from_timestamp_millis(read.record.timestamp_ms));
            oldest = oldest.into_iter().chain(first).min();
        }
        Ok(oldest)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn lost(&self, _: &str) -> Result<BTreeMap<LogPartition, Vec<Range<u64>>>, AnyError> {
        Ok(BTreeMap::new())
    }
}
