//! What all parts of an opened log share: its topics, and whether it still works.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemark_shared::ambient::Ambient;
use tidemark_shared::lock;
use tidemark_shared::log::{LogError, TopicId};

use super::topics::Topics;

pub(super) struct Shared {
    pub(super) ambient: Arc<dyn Ambient>,
    pub(super) topics: Topics,
    /// Groups that were written, each with one sync.
    pub(super) commits: AtomicU64,
    status: Mutex<Status>,
    /// Wakes who waits for the end.
    closed: Condvar,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Status {
    Works,
    Failed(String),
    Closed,
}

impl Shared {
    pub(super) fn new(ambient: Arc<dyn Ambient>, topics: Topics) -> Self {
        Self { ambient, topics, commits: AtomicU64::new(0), status: Mutex::new(Status::Works), closed: Condvar::new() }
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.ambient.now().timestamp_millis()
    }

    pub(super) fn new_id(&self) -> TopicId {
        TopicId::new(&self.ambient.unique_id())
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        lock(&self.status)
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
            if *status != Status::Closed {
                *status = Status::Failed(reason);
            }
        }
        self.topics.wake_all();
    }

    /// What made it fail has passed.
    pub(super) fn works_again(&self) {
        let mut status = self.status();
        if matches!(*status, Status::Failed(_)) {
            *status = Status::Works;
        }
    }

    pub(super) fn close(&self) {
        *self.status() = Status::Closed;
        self.closed.notify_all();
        self.topics.wake_all();
    }

    /// Waits for the end, at most so long; tells whether it has come.
    pub(super) fn is_closed_within(&self, at_most: Duration) -> bool {
        let goes_on = |status: &mut Status| *status != Status::Closed;
        let waited = self.closed.wait_timeout_while(self.status(), at_most, goes_on);
        // as `lock` does: who waits takes the lock again
        *waited.unwrap_or_else(PoisonError::into_inner).0 == Status::Closed
    }
}
