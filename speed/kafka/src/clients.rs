//! The clients of librdkafka that a log has, what they tell on the way, and the threads of a log.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;
use rdkafka::{ClientContext, Statistics};
use tidemark_shared::error::chain;
use tidemark_shared::log::LogError;

use crate::error::client_failed;
use crate::produce::Deliveries;
use crate::settings::KafkaSettings;
use crate::stats::{ClientKind, Stats, Tally, Told};

/// How often clients are heard that their users need not poll.
const HEAR_EVERY: Duration = Duration::from_secs(1);
/// Most that is heard of each of them then; what is left waits for the next time.
const HEAR_MAX: usize = 64;

/// Takes what a client says on the way: into our own log, and what it counts to whom it is for.
pub(crate) struct Events(Option<Told>);

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            // a client goes on by itself from all that it calls an error; who asked something of it is told
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "kafka", facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::warn!(target: "kafka", facility, "{message}"),
            _ => tracing::debug!(target: "kafka", facility, "{message}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        if let Some(told) = &self.0 {
            told.tell(&statistics);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", error = %chain(&error), "{reason}");
    }
}

impl ConsumerContext for Events {}

/// A client whose user need not poll it: what it says would pile up.
trait Heard: Send + Sync {
    /// Takes what it has to say. Does not wait.
    fn hear(&self);
}

impl Heard for BaseConsumer<Events> {
    fn hear(&self) {
        for _ in 0..HEAR_MAX {
            // records come by queues of their own
            drop(self.poll(Duration::ZERO));
        }
    }
}

impl Heard for BaseProducer<Deliveries> {
    fn hear(&self) {
        for _ in 0..HEAR_MAX {
            self.poll(Duration::ZERO);
        }
    }
}

/// Makes clients, and hears those that nobody polls all the time.
pub(crate) struct Clients {
    settings: KafkaSettings,
    tally: Arc<Tally>,
    heard: Sender<Weak<dyn Heard>>,
}

impl Clients {
    /// Makes none yet; what they will count, `stats` is told.
    ///
    /// # Errors
    /// [`LogError::Invalid`] for settings that contradict each other, [`LogError::Backend`] if there is no thread to be had.
    pub(crate) fn start(settings: KafkaSettings, stats: Arc<dyn Stats>) -> Result<Self, LogError> {
        settings.check()?;
        let (heard, new) = channel();
        let mut clients = Vec::new();
        // it ends when the sender is dropped
        let _thread = thread("kafka-events", move || hear(&mut clients, &new))?;
        Ok(Self { settings, tally: Arc::new(Tally::new(stats)), heard })
    }

    pub(crate) fn settings(&self) -> &KafkaSettings {
        &self.settings
    }

    /// Takes what one more client says.
    pub(crate) fn events(&self, kind: ClientKind) -> Events {
        Events(Some(self.tally.client(kind)))
    }

    /// A client that asks for topics and makes them.
    ///
    /// # Errors
    /// [`LogError::Invalid`] if librdkafka does not take the settings; so also below.
    pub(crate) fn admin(&self) -> Result<AdminClient<Events>, LogError> {
        let made = AdminClient::from_config_and_context(&self.settings.admin(), Events(None));
        made.map_err(|error| client_failed("make a client", error))
    }

    /// One that reads partitions on and on.
    pub(crate) fn reader(&self) -> Result<Arc<BaseConsumer<Events>>, LogError> {
        self.consumer(&self.settings.reader())
    }

    /// One that reads a record here and there.
    pub(crate) fn looker(&self) -> Result<Arc<BaseConsumer<Events>>, LogError> {
        self.consumer(&self.settings.looker())
    }

    fn consumer(&self, config: &ClientConfig) -> Result<Arc<BaseConsumer<Events>>, LogError> {
        let made = BaseConsumer::from_config_and_context(config, self.events(ClientKind::Reader));
        let made = Arc::new(made.map_err(|error| client_failed("make a reader", error))?);
        let client = Arc::downgrade(&made);
        self.hear(client);
        Ok(made)
    }

    /// One that appends without keys, and that its user polls.
    pub(crate) fn producer(&self) -> Result<Arc<BaseProducer<Deliveries>>, LogError> {
        self.appender(&self.settings.producer())
    }

    /// One that appends with keys, as `id`.
    pub(crate) fn transactional(&self, id: &str) -> Result<Arc<BaseProducer<Deliveries>>, LogError> {
        let made = self.appender(&self.settings.transactional(id))?;
        let client = Arc::downgrade(&made);
        self.hear(client);
        Ok(made)
    }

    fn appender(&self, config: &ClientConfig) -> Result<Arc<BaseProducer<Deliveries>>, LogError> {
        let events = Deliveries(self.events(ClientKind::Producer));
        let made = BaseProducer::from_config_and_context(config, events);
        made.map(Arc::new).map_err(|error| client_failed("make a producer", error))
    }

    fn hear(&self, client: Weak<dyn Heard>) {
        self.heard.send(client).expect("the thread ends after the sender is dropped");
    }
}

/// Hears clients until nobody makes any more. Those that are dropped are forgotten.
fn hear(clients: &mut Vec<Weak<dyn Heard>>, new: &Receiver<Weak<dyn Heard>>) {
    loop {
        match new.recv_timeout(HEAR_EVERY) {
            Ok(client) => clients.push(client),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        clients.retain(|client| client.upgrade().inspect(|client| client.hear()).is_some());
    }
}

/// Starts a thread of a log. It works until `work` returns. A panic is told, and the work begun again with what it has: who
/// waited for the answer that it was about is told that there is none, and everybody else is served.
///
/// So `work` takes a thing out of its queue before it works on it, and does not meet again what made it panic.
///
/// # Errors
/// [`LogError::Backend`] if there is no thread to be had.
pub(crate) fn thread(name: &'static str, mut work: impl FnMut() + Send + 'static) -> Result<JoinHandle<()>, LogError> {
    let works = move || while caught(name, &mut work).is_err() {};
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(works);
    started.map_err(|source| LogError::backend("start a thread", source))
}

/// Does a piece of a thread's work.
///
/// # Errors
/// What it panicked with; that is told, too.
pub(crate) fn caught<T>(name: &str, work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let said = said(&*panic);
        tracing::error!(thread = name, said, "it panicked, and begins again");
        said
    })
}

/// What a panic says.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "nothing".to_owned())
}

/// Nobody answers: the thread that was to do so panicked over it.
pub(crate) fn unanswered(operation: &'static str) -> LogError {
    LogError::backend(operation, "the thread that was about to panicked; it goes on with what else there is")
}

#[cfg(test)]
mod tests;
