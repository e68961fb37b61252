//! Where partitions begin and end, as their leaders say.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidemark_shared::ambient::Ambient;
use tidemark_shared::backoff::Attempts;
use tidemark_shared::log::{Bounds, LogError, Topic, blocking};
use tokio::sync::Semaphore;

use crate::clients::Events;
use crate::error::{SETTLING, failed, is_passing};
use crate::topics::Topics;

/// Longest wait for leaders' answers to one request.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Most requests at once.
const REQUESTS_MAX: usize = 16;

/// What is asked of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The first offset that is there.
    Start,
    /// The exclusive end of what is decided.
    End,
    /// The first offset whose record has such a time (ms since 1970) or a later one; the end, if none has.
    Since(i64),
}

/// Asks leaders.
pub(crate) struct Offsets {
    consumer: Arc<BaseConsumer<Events>>,
    topics: Arc<Topics>,
    ambient: Arc<dyn Ambient>,
    permits: Semaphore,
}

impl Offsets {
    /// With a client that reads committed records: the end is the last stable offset then.
    pub(crate) fn new(consumer: Arc<BaseConsumer<Events>>, topics: Arc<Topics>, ambient: Arc<dyn Ambient>) -> Self {
        Self { consumer, topics, ambient, permits: Semaphore::new(REQUESTS_MAX) }
    }

    /// The offsets of `partitions`, in their order. Tries again while a cluster settles, as long as the topic is there. The
    /// answer may be of another incarnation that came meanwhile: ask for the topic afterwards.
    ///
    /// # Errors
    /// [`LogError::Missing`], [`LogError::Replaced`]; [`LogError::Backend`] if a leader does not answer.
    pub(crate) async fn of(&self, topic: &Topic, partitions: &[u32], ask: Ask) -> Result<Vec<u64>, LogError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let _permit = self.permits.acquire().await.map_err(|_| LogError::Closed)?;
        let mut attempts = Attempts::new(SETTLING);
        loop {
            let (consumer, name, numbers) = (Arc::clone(&self.consumer), topic.name.clone(), partitions.to_vec());
            let answer = blocking(move || {
                let answer = request(&consumer, name.as_str(), &numbers, ask);
                if answer.as_ref().is_err_and(|code| is_passing(*code)) {
                    // what the client remembers of the topic is of another time
                    drop(consumer.fetch_metadata(Some(name.as_str()), ANSWER_MAX));
                }
                answer
            });
            let code = match answer.await? {
                Ok(offsets) => return Ok(offsets),
                Err(code) => code,
            };
            if is_passing(code) {
                let _there = self.topics.expect(topic).await?;
            }
            // leaders change, or a new topic is on its way to the brokers
            if !is_passing(code) || !attempts.again(self.ambient.random()).await {
                return Err(failed("ask for the bounds of partitions", code));
            }
        }
    }

    /// The end of one partition.
    pub(crate) async fn end(&self, topic: &Topic, partition: u32) -> Result<u64, LogError> {
        Ok(self.of(topic, &[partition], Ask::End).await?.first().copied().unwrap_or(0))
    }

    /// The bounds of `partitions`. The start is asked for first, so that it is never above the end.
    pub(crate) async fn bounds(&self, topic: &Topic, partitions: &[u32]) -> Result<Vec<Bounds>, LogError> {
        let starts = self.of(topic, partitions, Ask::Start).await?;
        let ends = self.of(topic, partitions, Ask::End).await?;
        Ok(starts.into_iter().zip(ends).map(|(start, end)| Bounds { start, end: end.max(start) }).collect())
    }

    /// The bounds of one partition.
    pub(crate) async fn bounds_of(&self, topic: &Topic, partition: u32) -> Result<Bounds, LogError> {
        Ok(self.bounds(topic, &[partition]).await?.first().copied().unwrap_or_default())
    }

    /// Asks no more.
    pub(crate) fn close(&self) {
        self.permits.close();
    }
}

fn request(
    consumer: &BaseConsumer<Events>,
    topic: &str,
    partitions: &[u32],
    ask: Ask,
) -> Result<Vec<u64>, RDKafkaErrorCode> {
    let wanted = match ask {
        Ask::Start => Offset::Beginning,
        Ask::End => Offset::End,
        Ask::Since(time) => Offset::Offset(time.max(0)),
    };
    let number = |partition: u32| i32::try_from(partition).map_err(|_| RDKafkaErrorCode::UnknownPartition);
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition_offset(topic, number(*partition)?, wanted).map_err(code_of)?;
    }
    let answered = consumer.offsets_for_times(list, ANSWER_MAX).map_err(code_of)?;
    let mut offsets = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let found = answered.find_partition(topic, number(*partition)?).ok_or(RDKafkaErrorCode::UnknownPartition)?;
        found.error().map_err(code_of)?;
        offsets.push(match found.offset() {
            Offset::Offset(offset) => u64::try_from(offset).map_err(|_| RDKafkaErrorCode::BadMessage)?,
            // no record has such a time: what comes next would
            Offset::End if matches!(ask, Ask::Since(_)) => u64::MAX,
            _ => return Err(RDKafkaErrorCode::OffsetNotAvailable),
        });
    }
    Ok(offsets)
}

fn code_of(error: KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)
}
