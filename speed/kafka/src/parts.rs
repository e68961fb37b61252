//! What the parts of a log share: clients, and what can be done to topics with them.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidemark_shared::ambient::Ambient;
use tidemark_shared::backoff::Attempts;
use tidemark_shared::log::{LogError, Topic, TopicName};

use crate::clients::{Clients, Events};
use crate::error::{SETTLING, client_failed, failed, is_unknown};
use crate::offsets::Offsets;
use crate::policy::Policies;
use crate::topics::Topics;

/// Longest wait for the controller.
const OPERATION_MAX: Duration = Duration::from_secs(10);

/// See the module's text.
pub(crate) struct Parts {
    pub(crate) clients: Arc<Clients>,
    pub(crate) ambient: Arc<dyn Ambient>,
    pub(crate) admin: Arc<AdminClient<Events>>,
    /// Reads what the log remembers for itself.
    pub(crate) looker: Arc<BaseConsumer<Events>>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) offsets: Offsets,
    pub(crate) policies: Policies,
}

impl Parts {
    /// Makes those that are always there; none waits for a broker.
    pub(crate) fn open(clients: Arc<Clients>, ambient: Arc<dyn Ambient>) -> Result<Self, LogError> {
        let admin = Arc::new(clients.admin()?);
        // Who asks for offsets reads nothing: a broker answers nobody's question while it keeps his request for records.
        let (asker, looker) = (clients.reader()?, clients.looker()?);
        let topics = Arc::new(Topics::start(Arc::clone(&admin))?);
        let offsets = Offsets::new(asker, Arc::clone(&topics), Arc::clone(&ambient));
        let policies = Policies::new(Arc::clone(&admin), Arc::clone(&topics), Arc::clone(&ambient));
        Ok(Self { clients, ambient, admin, looker, topics, offsets, policies })
    }

    /// Makes a topic, unless there is one of that name, and waits until it can be used.
    pub(crate) async fn make(
        &self,
        name: &TopicName,
        partitions: u32,
        config: &[(&str, &str)],
    ) -> Result<Topic, LogError> {
        let replication = TopicReplication::Fixed(self.clients.settings().replication.map_or(-1, i32::from));
        let count = i32::try_from(partitions).unwrap_or(i32::MAX);
        let mut new = NewTopic::new(name.as_str(), count, replication);
        new.config.extend_from_slice(config);
        let made = self.admin.create_topics([&new], &options()).await;
        match outcome("make a topic", made)? {
            Ok(()) | Err(RDKafkaErrorCode::TopicAlreadyExists) => {}
            Err(code) => return Err(failed("make a topic", code)),
        }
        let topic = self.settled(name, Option::is_some).await?;
        let topic = topic.ok_or_else(|| LogError::Missing { topic: name.clone() })?;
        let numbers: Vec<u32> = (0..topic.partitions).collect();
        // each has a leader that knows of it
        self.offsets.bounds(&topic, &numbers).await?;
        Ok(topic)
    }

    /// Gives a topic more partitions and waits until they can be used.
    pub(crate) async fn grow(&self, topic: &Topic, total: u32) -> Result<Topic, LogError> {
        let new = NewPartitions::new(topic.name.as_str(), total as usize);
        let grown = self.admin.create_partitions([&new], &options()).await;
        match outcome("add partitions", grown)? {
            // another one may have been faster, also with more
            Ok(()) | Err(RDKafkaErrorCode::InvalidPartitions) => {}
            Err(code) => return Err(failed("add partitions", code)),
        }
        let grown = |now: &Option<Topic>| now.as_ref().is_none_or(|now| now.id != topic.id || now.partitions >= total);
        let _now = self.settled(&topic.name, grown).await?;
        let now = self.topics.expect(topic).await?;
        if now.partitions != total {
            return Err(LogError::Mismatch { topic: topic.name.clone(), expected: total, found: now.partitions });
        }
        let new: Vec<u32> = (topic.partitions.min(total)..total).collect();
        self.offsets.bounds(&now, &new).await?;
        Ok(now)
    }

    /// Deletes a topic by its name, and waits until it is gone.
    pub(crate) async fn delete(&self, topic: &Topic) -> Result<(), LogError> {
        let deleted = self.admin.delete_topics(&[topic.name.as_str()], &options()).await;
        match outcome("delete a topic", deleted)? {
            Ok(()) => {}
            Err(code) if is_unknown(code) => {}
            Err(code) => return Err(failed("delete a topic", code)),
        }
        let gone = |now: &Option<Topic>| now.as_ref().is_none_or(|now| now.id != topic.id);
        let _now = self.settled(&topic.name, gone).await?;
        Ok(())
    }

    /// Lets the records of a partition below `offset` go.
    pub(crate) async fn delete_records(&self, topic: &Topic, partition: u32, offset: u64) -> Result<(), LogError> {
        let unrepresentable = |_| failed("delete records", RDKafkaErrorCode::OffsetOutOfRange);
        let number = i32::try_from(partition).map_err(unrepresentable)?;
        let offset = Offset::Offset(i64::try_from(offset).map_err(unrepresentable)?);
        let mut list = TopicPartitionList::with_capacity(1);
        let added = list.add_partition_offset(topic.name.as_str(), number, offset);
        added.map_err(|error| client_failed("delete records", error))?;
        let deleted = self.admin.delete_records(&list, &options()).await;
        let deleted = deleted.map_err(|error| client_failed("delete records", error))?;
        let found = deleted.find_partition(topic.name.as_str(), number);
        found.map_or(Ok(()), |found| found.error()).map_err(|error| client_failed("delete records", error))
    }

    /// The topic as brokers describe it once it is as it should be, or after a while as it is.
    async fn settled(
        &self,
        name: &TopicName,
        settled: impl Fn(&Option<Topic>) -> bool,
    ) -> Result<Option<Topic>, LogError> {
        let mut attempts = Attempts::new(SETTLING);
        loop {
            let now = self.topics.current(name).await?;
            if settled(&now) || !attempts.again(self.ambient.random()).await {
                return Ok(now);
            }
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(OPERATION_MAX)).operation_timeout(Some(OPERATION_MAX))
}

/// What became of the one topic that was asked for.
fn outcome(
    operation: &'static str,
    answer: Result<Vec<rdkafka::admin::TopicResult>, rdkafka::error::KafkaError>,
) -> Result<Result<(), RDKafkaErrorCode>, LogError> {
    let answer = answer.map_err(|error| client_failed(operation, error))?;
    match answer.into_iter().next() {
        None => Err(failed(operation, RDKafkaErrorCode::BadMessage)),
        Some(Ok(_)) => Ok(Ok(())),
        Some(Err((_, code))) => Ok(Err(code)),
    }
}
