//! The indexer's loops: partitions side by side, each stepping until it is idle and then waiting for the log or for room.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tidemark_shared::error::{ErrorKind as _, chain};
use tidemark_shared::lock;
use tidemark_shared::log::{Partitions, Position, Share};
use tidemark_shared::position::LogPartition;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

use super::{Indexer, IndexerError, IndexerStep};
use crate::retry::{self, Retries, may_heal};

/// Longest wait for the log in one call: waiting costs nothing, and a call that never ends shows no sign of life.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What is at work on partitions.
#[derive(Default)]
struct Work {
    /// Dropped with the run, and the tasks with it.
    tasks: JoinSet<Result<(), IndexerError>>,
    running: HashMap<Id, (LogPartition, AbortHandle)>,
}

impl Work {
    fn has(&self, partition: &LogPartition) -> bool {
        self.running.values().any(|(running, _)| running == partition)
    }

    fn spawn(
        &mut self,
        partition: LogPartition,
        work: impl Future<Output = Result<(), IndexerError>> + Send + 'static,
    ) {
        let handle = self.tasks.spawn(work);
        self.running.insert(handle.id(), (partition, handle));
    }

    /// The next piece of work that ends; `None` if there is none.
    async fn ended(&mut self) -> Option<Result<(), IndexerError>> {
        match self.tasks.join_next_with_id().await? {
            Ok((id, ended)) => {
                self.running.remove(&id);
                Some(ended)
            }
            Err(error) => {
                self.running.remove(&error.id());
                if error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
                Some(Ok(()))
            }
        }
    }

    /// Ends the work on some partitions: when this returns, nothing is done on them. What was under way counts whole or not at
    /// all.
    async fn end(&mut self, these: impl Fn(&LogPartition) -> bool) -> Result<(), IndexerError> {
        for (_, handle) in self.running.values().filter(|(partition, _)| these(partition)) {
            handle.abort();
        }
        while self.running.values().any(|(partition, _)| these(partition)) {
            match self.ended().await {
                Some(ended) => ended?,
                None => break,
            }
        }
        Ok(())
    }
}

impl Indexer {
    /// Keeps its share of the view's partitions up until it is cancelled. What is made then is not applied: the next indexer
    /// reads it again. So with a partition that it has no more. Failures of log, store and view are tried again; a partition
    /// that can't go on stops by itself and says so in [`Indexer::status`].
    ///
    /// # Errors
    /// The log is closed, the topic gone, or the view gone.
    pub async fn run(self: &Arc<Self>, share: &Share, cancel: &CancellationToken) -> Result<(), IndexerError> {
        let ended = cancel.run_until_cancelled(self.run_on(share.clone())).await;
        lock(&self.resumed).clear();
        match ended {
            Some(Err(error)) => Err(error),
            None => Ok(()),
        }
    }

    async fn run_on(self: &Arc<Self>, mut share: Share) -> Result<Infallible, IndexerError> {
        let permits = Arc::new(Semaphore::new(self.settings.parallel.max(1)));
        let mut work = Work::default();
        match self.reopen().await {
            Err(error) if is_fatal(&error) => return Err(error),
            // Each partition comes upon it by itself.
            Err(_) | Ok(_) => {}
        }
        let mut own = self.follow(&mut share, &mut work).await?;
        self.start(&mut work, &permits, &own, self.partitions());
        let mut looks =
            interval_at(Instant::now() + self.settings.partitions_refresh, self.settings.partitions_refresh);
        let mut retries = Retries::default();
        loop {
            tokio::select! {
                Some(ended) = work.ended() => ended?,
                () = share.changed() => {
                    own = self.follow(&mut share, &mut work).await?;
                    self.start(&mut work, &permits, &own, self.partitions());
                    continue;
                }
                // also where none is left that could end: only new partitions bring work
                _ = looks.tick() => {}
            }
            let looked = tokio::select! {
                looked = self.look_again() => looked,
                // who waits for a partition does not wait for that
                () = share.changed() => continue,
            };
            match looked {
                Ok(partitions) => {
                    retries.succeeded();
                    self.start(&mut work, &permits, &own, partitions);
                }
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!(view = %self.parts.view, error = %chain(&error), "partitions could not be listed");
                    tokio::select! {
                        () = retries.pause(self.parts.ambient.as_ref()) => {}
                        () = share.changed() => {}
                    }
                }
            }
        }
    }

    /// Takes up its newest share, once nothing is done any more on what it has not.
    async fn follow(&self, share: &mut Share, work: &mut Work) -> Result<Partitions, IndexerError> {
        let assignment = share.take();
        let others = |partition: &LogPartition| !self.owns(&assignment.partitions, partition);
        work.end(others).await?;
        lock(&self.resumed).retain(|partition| !others(partition));
        // Whoever has one now tells what keeps it; and this one, should it come back, begins anew, as another process would.
        for partition in self.partitions() {
            if others(&partition) {
                self.troubles.forget(&partition);
            }
        }
        share.settle(&assignment);
        Ok(assignment.partitions)
    }

    /// Sets work going on those of the partitions that are its own and have none.
    fn start(
        self: &Arc<Self>,
        work: &mut Work,
        permits: &Arc<Semaphore>,
        own: &Partitions,
        partitions: Vec<LogPartition>,
    ) {
        for partition in partitions {
            let owns = self.owns(own, &partition);
            if owns && work.has(&partition) {
                continue;
            }
            lock(&self.to_read).remove(&partition);
            if owns {
                let (indexer, permits, name) = (Arc::clone(self), Arc::clone(permits), partition.clone());
                work.spawn(partition, async move { indexer.keep_up(&name, &permits).await });
            }
        }
    }

    /// The partitions that work is to begin on: those that the topic has got since, and those of its earlier incarnations
    /// that must be read again, or whose archive has gone on. One of the topic itself waits for its log, and is told.
    async fn look_again(&self) -> Result<Vec<LogPartition>, IndexerError> {
        let mut partitions = self.reopen().await?;
        // They stay until work on them has begun: what ends at this moment still counts as at work, and a look may be cut off.
        let further = lock(&self.to_read).clone();
        if !further.is_empty() {
            // An archive that had not even begun was none of the view's.
            let _reopened = self.open_partitions(further.iter().cloned().collect()).await?;
        }
        partitions.extend(further);
        partitions.retain(|partition| partition.source != self.source);
        partitions.extend(self.open_log_partitions().await?);
        Ok(partitions)
    }

    /// Keeps one partition up. Ends without an error when it has stopped, or has nothing to wait for.
    async fn keep_up(&self, partition: &LogPartition, permits: &Semaphore) -> Result<(), IndexerError> {
        let (mut retries, mut resumed) = (Retries::default(), false);
        loop {
            let drops = self.parts.pressure.drops();
            let permit = permits.acquire().await.expect("nobody closes the semaphore");
            let stepped = match resumed {
                true => self.step(partition).await,
                false => self.begin(partition).await,
            };
            resumed |= stepped.is_ok();
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
                    let view = &self.parts.view;
                    tracing::warn!(%partition, %view, error = %chain(&error), "indexing is tried again");
                    retries.pause(self.parts.ambient.as_ref()).await;
                }
            }
        }
    }

    /// The first step: it goes on where the view is.
    async fn begin(&self, partition: &LogPartition) -> Result<IndexerStep, IndexerError> {
        self.resume(partition).await?;
        self.step(partition).await
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
    match error {
        IndexerError::ViewGone { .. } => true,
        IndexerError::Log(error) => retry::ends_all(error),
        _ => false,
    }
}
