//! Appends with idempotency keys. Records and their key go in one transaction: all that was appended with a key is found by
//! it, whatever died in between and whoever asks.
//!
//! Beside a topic there is one of its keys, `tidemark-keys.<topic id>`, with one partition and a record for each key
//! ([`entry`]). Who appends does so under the topic's one transactional id. Taking that id over ends whatever its last owner
//! had begun, and fences him: what he sends later is refused. So between taking over and being fenced an owner knows all keys
//! that count, once he has read the topic of keys to its end ([`index`]); a process that was fenced takes over again, reads
//! what is new, and tries once more. Appends with keys of several processes to one topic are slow by that, and right.
//!
//! One thread a topic does it ([`work`]; what it knows of the keys, [`keys`]), all that waits in one transaction; threads of other incarnations end, and those that
//! are too many ([`workers`]).

mod entry;
mod index;
mod keys;
mod work;
mod workers;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tidemark_shared::log::{Appended, IdempotencyKey, LogError, Routed, Topic, TopicId, TopicName};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use self::workers::Workers;
use crate::clients::{thread, unanswered};
use crate::parts::Parts;

/// Most appends of a topic that wait.
const WAITING_MAX: usize = 256;
/// Topics of keys begin so, and are not shown.
pub(crate) const KEYS_PREFIX: &str = "tidemark-keys.";

/// What the topic of an incarnation's keys is called.
pub(crate) fn keys_topic(id: &TopicId) -> Result<TopicName, LogError> {
    TopicName::new(&format!("{KEYS_PREFIX}{id}"))
}

/// An append that waits for its turn.
struct Request {
    records: Vec<Routed>,
    key: IdempotencyKey,
    answer: oneshot::Sender<Result<Appended, LogError>>,
}

/// Appends with keys, to all topics.
pub(crate) struct Keyed {
    parts: Arc<Parts>,
    /// `None` when closed.
    workers: Mutex<Option<Workers<Worker>>>,
}

struct Worker {
    requests: mpsc::Sender<Request>,
    thread: JoinHandle<()>,
}

impl Keyed {
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        Self { parts, workers: Mutex::new(Some(Workers::new())) }
    }

    /// Appends records, unless the key was used.
    pub(crate) async fn append(
        &self,
        topic: &Topic,
        records: Vec<Routed>,
        key: &IdempotencyKey,
    ) -> Result<Appended, LogError> {
        let requests = self.worker(topic)?;
        let (answer, answered) = oneshot::channel();
        if requests.send(Request { records, key: key.clone(), answer }).await.is_err() {
            return Err(LogError::Closed);
        }
        answered.await.map_err(|_| unanswered("append records with a key"))?
    }

    fn worker(&self, topic: &Topic) -> Result<mpsc::Sender<Request>, LogError> {
        let mut workers = self.workers();
        let workers = workers.as_mut().ok_or(LogError::Closed)?;
        if let Some(worker) = workers.find(&topic.id) {
            return Ok(worker.requests.clone());
        }
        let (requests, mut waiting) = mpsc::channel(WAITING_MAX);
        let (parts, of_worker, runtime) = (Arc::clone(&self.parts), topic.clone(), Handle::current());
        let thread = thread("kafka-keys", move || work::run(&parts, &of_worker, &runtime, &mut waiting))?;
        // their threads end when they have done what waits
        drop(workers.insert(topic, Worker { requests: requests.clone(), thread }));
        Ok(requests)
    }

    /// Lets go of what is kept for an incarnation that we delete. One that somebody else deletes goes with the next append to
    /// its successor, or when there are too many.
    pub(crate) fn forget(&self, id: &TopicId) {
        if let Some(workers) = self.workers().as_mut() {
            // its thread ends when it has done what waits
            drop(workers.remove(id));
        }
    }

    /// Takes no more, and waits for what was begun. Blocks.
    pub(crate) fn close(&self) {
        let workers = self.workers().take().map(Workers::into_all).unwrap_or_default();
        // each ends once nobody can ask it any more
        let threads: Vec<JoinHandle<()>> = workers.into_iter().map(|worker| worker.thread).collect();
        for thread in threads {
            // a panic was made known when it happened
            drop(thread.join());
        }
    }

    fn workers(&self) -> MutexGuard<'_, Option<Workers<Worker>>> {
        // a panic inside leaves at most a worker too few
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
