//! Appending: records on their way to the broker, and what it says of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Statistics};
use tidemark_shared::lock;
use tidemark_shared::log::{LogError, Position, Routed, Topic, TopicId, blocking};
use tokio::sync::oneshot;

use crate::clients::{Clients, Events, thread};
use crate::error::{client_failed, failed};
use crate::record::headers_and_time;

/// How long the thread that hands deliveries on looks for one before it looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);
/// Longest wait for what the broker says of a topic.
const METADATA_MAX: Duration = Duration::from_secs(5);
/// Most topics of which it is remembered what a producer knows.
const KNOWN_MAX: usize = 10_000;
/// Longest wait for deliveries.
const DELIVERY_MAX: Duration = Duration::from_secs(60);

/// A producer's events, and deliveries to whom they concern.
pub(crate) struct Deliveries(pub(crate) Events);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.0.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Slot>;

    fn delivery(&self, result: &DeliveryResult<'_>, slot: Self::DeliveryOpaque) {
        slot.batch.delivered(
            slot.at,
            match result {
                Ok(message) => Ok(u64::try_from(message.offset()).unwrap_or(0)),
                Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
            },
        );
    }
}

/// One record's place among those that were sent together.
pub(crate) struct Slot {
    batch: Arc<Batch>,
    at: usize,
}

/// Records that were sent together.
pub(crate) struct Batch(Mutex<Outcome>);

struct Outcome {
    positions: Vec<Position>,
    left: usize,
    failed: Option<RDKafkaErrorCode>,
    done: Option<oneshot::Sender<()>>,
}

impl Batch {
    fn new(records: &[Routed]) -> (Arc<Self>, oneshot::Receiver<()>) {
        let positions = records.iter().map(|routed| Position { partition: routed.partition, offset: 0 }).collect();
        let (done, is_done) = oneshot::channel();
        let outcome = Outcome { positions, left: records.len(), failed: None, done: Some(done) };
        (Arc::new(Self(Mutex::new(outcome))), is_done)
    }

    fn delivered(&self, at: usize, outcome: Result<u64, RDKafkaErrorCode>) {
        let mut state = self.state();
        match outcome {
            Ok(offset) => state.positions[at].offset = offset,
            Err(code) => drop(state.failed.get_or_insert(code)),
        }
        state.left -= 1;
        if state.left == 0
            && let Some(done) = state.done.take()
        {
            // who waited may be gone
            let _told = done.send(());
        }
    }

    /// Where the records are, once all were delivered.
    pub(crate) fn positions(&self) -> Result<Vec<Position>, RDKafkaErrorCode> {
        let state = self.state();
        match state.failed {
            Some(code) => Err(code),
            None if state.left > 0 => Err(RDKafkaErrorCode::MessageTimedOut),
            None => Ok(state.positions.clone()),
        }
    }

    /// True once the broker has said of each record what became of it.
    pub(crate) fn is_decided(&self) -> bool {
        self.state().left == 0
    }

    fn state(&self) -> MutexGuard<'_, Outcome> {
        // a panic inside leaves at most a record of which nothing is heard, and its batch ends by time
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands records to a producer, which sends them in order. The receiver is told when the broker has said of each what
/// became of it; so it is also of what the producer did not take.
///
/// # Errors
/// [`LogError::Invalid`]: nothing was sent.
pub(crate) fn send(
    producer: &BaseProducer<Deliveries>,
    topic: &str,
    records: &[Routed],
) -> Result<(Arc<Batch>, oneshot::Receiver<()>), LogError> {
    let headers: Vec<_> = records.iter().map(|routed| headers_and_time(&routed.record)).collect::<Result<_, _>>()?;
    let (batch, done) = Batch::new(records);
    for ((at, routed), (headers, time)) in records.iter().enumerate().zip(headers) {
        let slot = Box::new(Slot { batch: Arc::clone(&batch), at });
        let record = BaseRecord {
            topic,
            partition: i32::try_from(routed.partition).ok(),
            payload: routed.record.value.as_deref(),
            key: routed.record.key.as_deref(),
            timestamp: time,
            headers,
            delivery_opaque: slot,
        };
        if let Err((error, refused)) = producer.send::<[u8], [u8]>(record) {
            drop(refused);
            batch.delivered(at, Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)));
        }
    }
    Ok((batch, done))
}

/// Which partitions a producer knows of: it refuses records for others before it asks the broker whether there are more now.
#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<TopicId, u32>);

impl Known {
    /// True if the producer may not know of all these records' partitions.
    pub(crate) fn lacks(&self, topic: &Topic, records: &[Routed]) -> bool {
        let known = self.0.get(&topic.id).copied().unwrap_or(0);
        records.iter().any(|routed| routed.partition >= known)
    }

    /// Lets the producer ask the broker. Blocks.
    pub(crate) fn learn(producer: &BaseProducer<Deliveries>, topic: &Topic) -> Result<u32, LogError> {
        let metadata = producer.client().fetch_metadata(Some(topic.name.as_str()), METADATA_MAX);
        let metadata = metadata.map_err(|error| client_failed("describe a topic", error))?;
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        Ok(u32::try_from(partitions).unwrap_or(u32::MAX))
    }

    /// Notes what it learned.
    pub(crate) fn note(&mut self, topic: &Topic, partitions: u32) {
        if self.0.len() >= KNOWN_MAX {
            self.0.clear();
        }
        self.0.insert(topic.id.clone(), partitions);
    }
}

/// Appends without keys. The client is made when it is first needed, and anew after a failure that it can't go on from.
pub(crate) struct Plain {
    clients: Arc<Clients>,
    client: Mutex<Option<Arc<Client>>>,
}

/// A producer, and the thread that hands on what the broker says.
struct Client {
    producer: Arc<BaseProducer<Deliveries>>,
    known: Mutex<Known>,
    stop: Arc<AtomicBool>,
}

impl Client {
    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

impl Plain {
    pub(crate) fn new(clients: Arc<Clients>) -> Self {
        Self { clients, client: Mutex::new(None) }
    }

    /// Appends records; returns when the broker has them, or says why it has not.
    pub(crate) async fn append(&self, topic: &Topic, records: &[Routed]) -> Result<Vec<Position>, LogError> {
        let client = self.client()?;
        if client.known().lacks(topic, records) {
            let (producer, asked) = (Arc::clone(&client.producer), topic.clone());
            let partitions = blocking(move || Known::learn(&producer, &asked)).await??;
            client.known().note(topic, partitions);
        }
        let (batch, done) = send(&client.producer, topic.name.as_str(), records)?;
        // librdkafka's own limit is shorter: this one is only there so that nothing can wait for ever
        let _told = tokio::time::timeout(DELIVERY_MAX, done).await;
        batch.positions().map_err(|code| {
            if client.producer.client().fatal_error().is_some() {
                self.let_go(&client);
            }
            refused(code, records)
        })
    }

    fn client(&self) -> Result<Arc<Client>, LogError> {
        let mut held = self.held();
        if let Some(client) = &*held {
            return Ok(Arc::clone(client));
        }
        let producer = self.clients.producer()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (polled, stopped) = (Arc::clone(&producer), Arc::clone(&stop));
        let poll = move || {
            while !stopped.load(Ordering::Relaxed) {
                polled.poll(POLL);
            }
        };
        // it ends by itself within one poll of being told to
        let _thread = thread("kafka-deliveries", poll)?;
        let client = Arc::new(Client { producer, known: Mutex::default(), stop });
        *held = Some(Arc::clone(&client));
        Ok(client)
    }

    fn let_go(&self, client: &Arc<Client>) {
        let mut held = self.held();
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, client)) {
            *held = None;
        }
    }

    /// Lets the client go. Appends under way must have ended.
    pub(crate) fn close(&self) {
        drop(self.held().take());
    }

    fn held(&self) -> MutexGuard<'_, Option<Arc<Client>>> {
        lock(&self.client)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Why records were not appended.
pub(crate) fn refused(code: RDKafkaErrorCode, records: &[Routed]) -> LogError {
    let largest = records.iter().map(|routed| routed.record.bytes()).max().unwrap_or(0);
    let reason = match code {
        RDKafkaErrorCode::MessageSizeTooLarge => "the topic takes none so large (`max.message.bytes`)",
        RDKafkaErrorCode::InvalidTimestamp => {
            "the topic does not take the time that one has (`message.timestamp.before.max.ms`, `message.timestamp.after.max.ms`)"
        }
        RDKafkaErrorCode::InvalidRecord => {
            "the topic does not take one of them, as one without a key in a compacted topic"
        }
        code => return failed("append records", code),
    };
    LogError::Invalid { what: format!("an append of records of up to {largest} bytes"), reason: reason.to_owned() }
}
