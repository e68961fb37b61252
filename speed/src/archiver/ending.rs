//! The end of a topic that was deleted, or made again: what was gathered of it is archived. What it had beyond that is lost once it
//! is sure that it is gone and that nobody else archives it: a broker that lags behind may tell of another topic for a while.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemark_shared::error::{ErrorKind as _, chain};
use tidemark_shared::lock;
use tidemark_shared::position::LogPartition;

use super::run::is_topic_gone;
use super::{Archiver, ArchiverError, Seal};
use crate::retry::may_heal;

/// Longest wait for the log to say whether the topic is there, before partitions with something gathered are let go: whoever
/// gets them waits for that.
const ASKED_MAX: Duration = Duration::from_secs(2);

impl Archiver {
    /// Archives what was gathered of a topic that is gone: nobody else has it. So also of partitions that have stopped, for
    /// what they stopped for was about what comes next.
    ///
    /// # Errors
    /// The first failure that may pass: it is to be called again then. One that does not pass is told, and holds up nothing.
    pub async fn seal_gathered(&self) -> Result<(), ArchiverError> {
        let known: Vec<u32> = lock(&self.partitions).keys().copied().collect();
        let mut failure = None;
        for number in known {
            let sealed = self.seal_partition(number).await;
            self.tell(number, sealed, &mut failure);
        }
        failure.map_or(Ok(()), Err)
    }

    /// How far the log was seen to reach. Of a topic that is gone, what nobody archived of that is lost.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<LogPartition, u64> {
        lock(&self.seen).iter().map(|(number, end)| (self.log_partition(*number), *end)).collect()
    }

    /// Takes note of a failure that says that the topic is gone; tells whether it does. From now on nothing that was gathered is
    /// let go: nobody could read it again.
    pub(super) fn notes_gone(&self, error: &ArchiverError) -> bool {
        let is_gone = is_topic_gone(error);
        if is_gone {
            self.is_gone.store(true, Ordering::Relaxed);
        }
        is_gone
    }

    /// The log has answered for the topic: what was kept of others' partitions is theirs to read after all.
    pub(super) async fn notes_there(&self) {
        if self.is_gone.swap(false, Ordering::Relaxed) {
            self.let_go_of_others().await;
        }
    }

    /// Lets go of what this archiver does not own. If something of that was gathered, the log is asked first whether the topic is
    /// there still.
    pub(super) async fn let_go_of_others(&self) {
        let known: Vec<u32> = lock(&self.partitions).keys().copied().collect();
        let others: Vec<u32> = known.into_iter().filter(|number| !self.owns(*number)).collect();
        if self.has_gathered(&others).await {
            let asked = tokio::time::timeout(ASKED_MAX, self.log.bounds(&self.topic)).await;
            if let Ok(Err(error)) = asked {
                self.notes_gone(&error.into());
            }
        }
        for number in others {
            self.let_go(number).await;
        }
    }

    async fn has_gathered(&self, numbers: &[u32]) -> bool {
        for number in numbers {
            if !self.partition(*number).lock().await.range().is_empty() {
                return true;
            }
        }
        false
    }

    async fn seal_partition(&self, number: u32) -> Result<(), ArchiverError> {
        let slot = self.partition(number);
        let mut partition = slot.lock().await;
        // Whoever was first where it begins may have put less than was gathered here.
        while !partition.range().is_empty() {
            let put = self.put_gathered(number, &mut partition, Seal::CutOff).await;
            self.count(&mut partition);
            let _step = self.note(number, put)?;
        }
        Ok(())
    }

    /// Keeps the first failure that may pass, and tells of any other.
    fn tell(&self, number: u32, outcome: Result<(), ArchiverError>, failure: &mut Option<ArchiverError>) {
        match outcome {
            Ok(()) => {}
            Err(error) if may_heal(error.kind()) => drop(failure.get_or_insert(error)),
            Err(error) => {
                let (partition, error) = (self.log_partition(number), chain(&error));
                tracing::error!(%partition, error, "the archive of a topic that is gone stays as it is");
            }
        }
    }
}
