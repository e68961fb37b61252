//! Which topics there are, and which incarnations they are. One thread asks the broker for all who want to know at the moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::error::RDKafkaErrorCode;
use tidemark_shared::lock;
use tidemark_shared::log::{LogError, Topic, TopicId, TopicName, check_partition};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clients::{Events, thread, unanswered};
use crate::error::failed;
use crate::native::{Described, describe};

/// Most questions that wait.
const QUESTIONS_MAX: usize = 1_024;
/// Longest wait for the broker's answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// After a failure nobody asks for so long: who comes meanwhile fails at once instead of waiting, too.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// What was heard of a broker so long ago says nothing of whether it is there.
const FRESH: Duration = Duration::from_secs(2);

const DESCRIBE: &str = "describe a topic";

type Answer = Result<Option<Topic>, LogError>;
type Description = Result<Option<Described>, RDKafkaErrorCode>;

/// A question: what is the topic of that name now?
struct Question {
    name: TopicName,
    answer: oneshot::Sender<Description>,
}

/// What is known of topics.
pub(crate) struct Topics {
    questions: Mutex<Option<mpsc::Sender<Question>>>,
    known: Mutex<HashMap<TopicName, Topic>>,
    pulse: Arc<Mutex<Pulse>>,
    /// Counts what may end a wait: a topic is another, or the log is closed.
    changes: watch::Sender<u64>,
}

/// When the broker answered last, and when it failed to.
#[derive(Debug, Clone, Copy, Default)]
struct Pulse {
    answered: Option<Instant>,
    failed: Option<(Instant, RDKafkaErrorCode)>,
}

impl Pulse {
    fn beats<T>(&mut self, found: &Result<T, RDKafkaErrorCode>) {
        match found {
            Ok(_) => *self = Self { answered: Some(Instant::now()), failed: None },
            Err(code) => self.failed = Some((Instant::now(), *code)),
        }
    }
}

impl Topics {
    /// Begins to answer, with `admin`.
    ///
    /// # Errors
    /// [`LogError::Backend`] if there is no thread to be had.
    pub(crate) fn start(admin: Arc<AdminClient<Events>>) -> Result<Self, LogError> {
        let (questions, mut receiver) = mpsc::channel(QUESTIONS_MAX);
        let pulse: Arc<Mutex<Pulse>> = Arc::default();
        let heard = Arc::clone(&pulse);
        // it ends when the sender is dropped
        let _thread = thread("kafka-topics", move || answer_all(&admin, &mut receiver, &heard))?;
        let known = Mutex::default();
        Ok(Self { questions: Mutex::new(Some(questions)), known, pulse, changes: watch::Sender::new(0) })
    }

    /// The topic as the broker describes it from now on: the question is asked after this call.
    pub(crate) async fn current(&self, name: &TopicName) -> Answer {
        let (answer, answered) = oneshot::channel();
        let questions = self.questions().clone().ok_or(LogError::Closed)?;
        if let Some((at, code)) = self.pulse().failed
            && at.elapsed() < ASK_AGAIN
        {
            return Err(failed(DESCRIBE, code));
        }
        let question = Question { name: name.clone(), answer };
        if questions.send(question).await.is_err() {
            return Err(LogError::Closed);
        }
        let described = answered.await.map_err(|_| unanswered(DESCRIBE))?;
        let found = topic_of(name, described)?;
        self.note(name, found.as_ref());
        Ok(found)
    }

    /// The incarnation as it is now, with its partitions.
    ///
    /// # Errors
    /// [`LogError::Missing`], [`LogError::Replaced`] if it is gone.
    pub(crate) async fn expect(&self, topic: &Topic) -> Result<Topic, LogError> {
        match self.current(&topic.name).await? {
            None => Err(LogError::Missing { topic: topic.name.clone() }),
            Some(found) if found.id != topic.id => {
                Err(LogError::Replaced { topic: topic.name.clone(), expected: topic.id.clone(), found: found.id })
            }
            Some(found) => Ok(found),
        }
    }

    /// The incarnation as it was when somebody asked last; asks, if that was another or long ago. So who begins something while
    /// the broker is away is told soon.
    pub(crate) async fn known(&self, topic: &Topic) -> Result<Topic, LogError> {
        let known = self.table().get(&topic.name).cloned();
        let fresh = self.pulse().answered.is_some_and(|at| at.elapsed() < FRESH);
        match known {
            Some(known) if known.id == topic.id && fresh => Ok(known),
            _ => self.expect(topic).await,
        }
    }

    /// Checks that the incarnation has the partition; it may have come since somebody asked last.
    ///
    /// # Errors
    /// [`LogError::NoPartition`], and those of [`Self::expect`].
    pub(crate) async fn known_with(&self, topic: &Topic, partition: u32) -> Result<Topic, LogError> {
        let mut known = self.known(topic).await?;
        if partition >= known.partitions {
            known = self.expect(topic).await?;
        }
        check_partition(topic, partition, known.partitions)?;
        Ok(known)
    }

    /// Asks the broker for any topic, to see whether it answers.
    ///
    /// # Errors
    /// As of [`Self::current`].
    pub(crate) async fn any_answer(&self) -> Result<(), LogError> {
        let known = self.table().keys().next().cloned();
        let name = known.map_or_else(|| TopicName::new("tidemark-health"), Ok)?;
        self.current(&name).await.map(drop)
    }

    /// For those who wait for a topic.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// True if [`Self::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.questions().is_none()
    }

    /// Answers no more questions, and wakes those who wait.
    pub(crate) fn close(&self) {
        drop(self.questions().take());
        self.changes.send_modify(|count| *count += 1);
    }

    fn note(&self, name: &TopicName, found: Option<&Topic>) {
        let before = match found {
            Some(found) => self.table().insert(name.clone(), found.clone()),
            None => self.table().remove(name),
        };
        if before.is_some_and(|before| found.is_none_or(|found| found.id != before.id)) {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    fn questions(&self) -> MutexGuard<'_, Option<mpsc::Sender<Question>>> {
        lock(&self.questions)
    }

    fn pulse(&self) -> MutexGuard<'_, Pulse> {
        lock(&self.pulse)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<TopicName, Topic>> {
        lock(&self.known)
    }
}

/// Answers until nobody can ask any more: all that wait, by one request.
fn answer_all(admin: &AdminClient<Events>, questions: &mut mpsc::Receiver<Question>, pulse: &Mutex<Pulse>) {
    while let Some(first) = questions.blocking_recv() {
        let mut asked: HashMap<TopicName, Vec<oneshot::Sender<Description>>> = HashMap::new();
        let mut next = Some(first);
        while let Some(Question { name, answer }) = next {
            asked.entry(name).or_default().push(answer);
            next = questions.try_recv().ok();
        }
        let asked: Vec<(TopicName, Vec<oneshot::Sender<Description>>)> = asked.into_iter().collect();
        let names: Vec<&str> = asked.iter().map(|(name, _)| name.as_str()).collect();
        let found = describe(admin.inner(), &names, ANSWER_MAX);
        lock(pulse).beats(&found);
        for (at, (_, waiting)) in asked.into_iter().enumerate() {
            for answer in waiting {
                let described = match &found {
                    Ok(found) => found.get(at).cloned().unwrap_or(Err(RDKafkaErrorCode::BadMessage)),
                    Err(code) => Err(*code),
                };
                // who asked may be gone
                drop(answer.send(described));
            }
        }
    }
}

fn topic_of(name: &TopicName, described: Description) -> Answer {
    match described {
        Err(code) => Err(failed(DESCRIBE, code)),
        Ok(None) => Ok(None),
        Ok(Some(Described { id: None, .. })) => Err(LogError::Invalid {
            what: format!("the broker of topic `{name}`"),
            reason:
                "it tells no topic ids, so that a topic made again could not be told from the old one (Apache Kafka \
                     does from 2.8 on)"
                    .to_owned(),
        }),
        Ok(Some(Described { id: Some(id), partitions })) => {
            Ok(Some(Topic { name: name.clone(), id: TopicId::new(&id), partitions }))
        }
    }
}
