//! Appends with idempotency keys. Records and their key go in one transaction: all that was appended with a key is found by
//! it, whatever died in between and whoever asks.
//!
//! Beside a topic there is one of its keys, `tidemark-keys.<topic id>`, with one partition and a record for each key
//! ([`entry`]). Who appends does so under the topic's one transactional id. Taking that id over ends whatever its last owner
//! had begun, and fences him: what he sends later is refused. So between taking over and being fenced an owner knows all keys
//! that count, once he has read the topic of keys to its end ([`index`]); a process that was fenced takes over again, reads
//! what is new, and tries once more. Appends with keys of several processes to one topic are slow by that, and right.
//!
//! One thread a topic does it ([`work`]), all that waits in one transaction.

mod entry;
mod index;
mod work;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tidemark_shared::log::{Appended, IdempotencyKey, LogError, Routed, Topic, TopicId};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::parts::Parts;

/// Most appends of a topic that wait.
const WAITING_MAX: usize = 256;
/// Topics of keys begin so, and are not shown.
pub(crate) const KEYS_PREFIX: &str = "tidemark-keys.";

/// An append that waits for its turn.
struct Request {
    records: Vec<Routed>,
    key: IdempotencyKey,
    answer: oneshot::Sender<Result<Appended, LogError>>,
}

/// Appends with keys, to all topics.
pub(crate) struct Keyed {
    parts: Arc<Parts>,
    /// A thread for each topic that was appended to; `None` when closed.
    workers: Mutex<Option<HashMap<TopicId, Worker>>>,
}

struct Worker {
    requests: mpsc::Sender<Request>,
    thread: JoinHandle<()>,
}

impl Keyed {
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        Self { parts, workers: Mutex::new(Some(HashMap::new())) }
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
        answered.await.map_err(|_| LogError::Closed)?
    }

    fn worker(&self, topic: &Topic) -> Result<mpsc::Sender<Request>, LogError> {
        let mut workers = self.workers();
        let workers = workers.as_mut().ok_or(LogError::Closed)?;
        if let Some(worker) = workers.get(&topic.id)
            && !worker.thread.is_finished()
        {
            return Ok(worker.requests.clone());
        }
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let (parts, topic_of_worker, runtime) = (Arc::clone(&self.parts), topic.clone(), Handle::current());
        let thread = std::thread::Builder::new().name("kafka-keys".to_owned());
        let thread = thread
            .spawn(move || work::run(parts, topic_of_worker, &runtime, waiting))
            .map_err(|source| LogError::backend("start a thread", source))?;
        workers.insert(topic.id.clone(), Worker { requests: requests.clone(), thread });
        Ok(requests)
    }

    /// Lets go of what is kept for an incarnation.
    pub(crate) fn forget(&self, id: &TopicId) {
        if let Some(workers) = self.workers().as_mut() {
            // its thread ends when it has done what waits
            drop(workers.remove(id));
        }
    }

    /// Takes no more, and waits for what was begun. Blocks.
    pub(crate) fn close(&self) {
        let workers = self.workers().take().unwrap_or_default();
        let threads: Vec<JoinHandle<()>> = workers.into_values().map(|worker| worker.thread).collect();
        for thread in threads {
            // a panic was made known when it happened
            drop(thread.join());
        }
    }

    fn workers(&self) -> MutexGuard<'_, Option<HashMap<TopicId, Worker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
