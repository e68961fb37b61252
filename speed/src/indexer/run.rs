//! The indexer's loops: partitions side by side, each stepping until it is idle and then waiting for the log or for room.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tidemark_shared::error::ErrorKind as _;
use tidemark_shared::log::{LogError, Position};
use tidemark_shared::position::LogPartition;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Indexer, IndexerError, IndexerStep, lock};
use crate::retry::{Retries, may_heal};

/// Longest wait for the log in one call: waiting costs nothing, and a call that never ends shows no sign of life.
const WAIT_MAX: Duration = Duration::from_secs(60);

impl Indexer {
    /// Keeps the view up until it is cancelled. What is made then is not applied: the next indexer reads it again.
    /// Failures of log, store and view are tried again; a partition that can't go on stops by itself and says so in
    /// [`Indexer::status`].
    ///
    /// # Errors
    /// The log is closed, the topic gone, or the view gone.
    pub async fn run(self: &Arc<Self>, cancel: &CancellationToken) -> Result<(), IndexerError> {
        match cancel.run_until_cancelled(self.run_on()).await {
            Some(Err(error)) => Err(error),
            None => Ok(()),
        }
    }

    async fn run_on(self: &Arc<Self>) -> Result<Infallible, IndexerError> {
        let permits = Arc::new(Semaphore::new(self.settings.parallel.max(1)));
        // dropped with this future, and the tasks with it
        let mut tasks = JoinSet::new();
        let start = |tasks: &mut JoinSet<_>, partitions: Vec<LogPartition>| {
            for partition in partitions {
                let (indexer, permits) = (Arc::clone(self), Arc::clone(&permits));
                tasks.spawn(async move { indexer.keep_up(&partition, &permits).await });
            }
        };
        match self.reopen().await {
            Err(error) if is_fatal(&error) => return Err(error),
            // Each partition comes upon it by itself.
            Err(_) | Ok(_) => start(&mut tasks, self.partitions()),
        }
        let mut retries = Retries::default();
        loop {
            let ended = tokio::time::timeout(self.settings.partitions_refresh, tasks.join_next()).await;
            match ended {
                Ok(Some(Ok(ended))) => ended?,
                Ok(Some(Err(panicked))) => std::panic::resume_unwind(panicked.into_panic()),
                // none is left that could end: only new partitions bring work
                Ok(None) => retries.pause(self.parts.ambient.as_ref()).await,
                Err(_) => {}
            }
            match self.look_again().await {
                Ok(partitions) => start(&mut tasks, partitions),
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!(view = %self.parts.view, error = %tidemark_shared::error::chain(&error), "partitions could not be listed")
                }
            }
        }
    }

    /// The partitions that work is to begin on: those that the topic has got since, and those of its earlier incarnations
    /// that must be read again. One of the topic itself waits for its log, and is told.
    async fn look_again(&self) -> Result<Vec<LogPartition>, IndexerError> {
        let mut partitions = self.reopen().await?;
        partitions.retain(|partition| partition.source != self.source);
        partitions.extend(self.open_log_partitions().await?);
        Ok(partitions)
    }

    /// Keeps one partition up. Ends without an error when it has stopped, or has nothing to wait for.
    async fn keep_up(&self, partition: &LogPartition, permits: &Semaphore) -> Result<(), IndexerError> {
        let mut retries = Retries::default();
        loop {
            let drops = self.parts.pressure.drops();
            let permit = permits.acquire().await.expect("nobody closes the semaphore");
            let stepped = self.step(partition).await;
            drop(permit);
            let waited = match stepped {
                Ok(IndexerStep::Applied(..)) => Ok(true),
                Ok(IndexerStep::Full) => {
                    self.parts.pressure.room(drops).await;
                    Ok(true)
                }
                Ok(IndexerStep::Idle) => self.wait(partition).await,
                Err(error) => Err(error),
            };
            match waited {
                Ok(true) => retries.succeeded(),
                Ok(false) => return Ok(()),
                Err(error) if ends_all(&error) => return Err(error),
                Err(error) if !may_heal(error.kind()) => return Ok(()),
                Err(error) => {
                    let shown = tidemark_shared::error::chain(&error);
                    tracing::warn!(%partition, view = %self.parts.view, error = %shown, "indexing is tried again");
                    retries.pause(self.parts.ambient.as_ref()).await;
                }
            }
        }
    }

    /// Waits for more in the log; false if there will be none.
    async fn wait(&self, partition: &LogPartition) -> Result<bool, IndexerError> {
        if partition.source != self.source {
            return Ok(false);
        }
        let slot = lock(&self.partitions).get(partition).cloned();
        let Some(slot) = slot else { return Ok(false) };
        let mut stepped_back = pin!(self.stepped_back.notified());
        // Counts from here on: a step back after the next line ends the wait.
        let _told = stepped_back.as_mut().enable();
        let offset = slot.lock().await.next;
        let beyond = [Position { partition: partition.partition, offset }];
        tokio::select! {
            more = self.parts.log.wait(&self.parts.topic, &beyond, WAIT_MAX) => drop(more?),
            () = stepped_back => {}
        }
        Ok(true)
    }
}

/// True for failures that no further look heals.
fn is_fatal(error: &IndexerError) -> bool {
    ends_all(error) || !may_heal(error.kind())
}

/// True for failures after which no partition can go on.
fn ends_all(error: &IndexerError) -> bool {
    matches!(
        error,
        IndexerError::ViewGone { .. }
            | IndexerError::Log(LogError::Closed | LogError::Missing { .. } | LogError::Replaced { .. })
    )
}
