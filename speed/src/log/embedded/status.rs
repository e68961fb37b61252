//! What all parts of an opened log share: its topics, and whether it still works.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemark_shared::ambient::Ambient;
use tidemark_shared::log::{LogError, TopicId};

use super::topics::Topics;

pub(super) struct Shared {
    pub(super) ambient: Arc<dyn Ambient>,
    pub(super) topics: Topics,
    /// Groups that were written, each with one sync.
    pub(super) commits: AtomicU64,
    status: Mutex<Status>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Status {
    Works,
    Failed(String),
    Closed,
}

impl Shared {
    pub(super) fn new(ambient: Arc<dyn Ambient>, topics: Topics) -> Self {
        Self { ambient, topics, commits: AtomicU64::new(0), status: Mutex::new(Status::Works) }
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.ambient.now().timestamp_millis()
    }

    pub(super) fn new_id(&self) -> TopicId {
        TopicId::new(&self.ambient.unique_id())
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails once the log is closed.
    pub(super) fn check_open(&self) -> Result<(), LogError> {
        if *self.status() == Status::Closed { Err(LogError::Closed) } else { Ok(()) }
    }

    /// Fails once the log is closed or takes no more records.
    pub(super) fn check_works(&self) -> Result<(), LogError> {
        match &*self.status() {
            Status::Works => Ok(()),
            Status::Failed(reason) => Err(LogError::Failed { reason: reason.clone() }),
            Status::Closed => Err(LogError::Closed),
        }
    }

    pub(super) fn fail(&self, reason: String) {
        {
            let mut status = self.status();
            if *status == Status::Works {
                *status = Status::Failed(reason);
            }
        }
        self.topics.wake_all();
    }

    pub(super) fn close(&self) {
        *self.status() = Status::Closed;
        self.topics.wake_all();
    }
}
