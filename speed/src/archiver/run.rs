//! The archiver's loop: steps until there is nothing to do, then waits for the log or for the oldest gathered record's age.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemark_shared::error::{ErrorKind as _, chain};
use tidemark_shared::log::{LogError, Position, Share};
use tokio_util::sync::CancellationToken;

use super::{Archiver, ArchiverError, ArchiverStep};
use crate::retry::{self, Retries, may_heal};

/// Steps of a partition after which the others are looked at again.
const ROUND_STEPS_MAX: usize = 8;

impl Archiver {
    /// Archives its share of the partitions until it is cancelled. What is gathered then is not put (the next archiver reads
    /// it again); call [`Archiver::flush_own`] afterwards to archive it. So with a partition that it has no more. Failures of log and store are tried again; a
    /// partition that can't go on stops by itself and says so in [`Archiver::status`].
    ///
    /// # Errors
    /// The log is closed, or the topic gone; or what was gathered of one that is gone can't be archived now.
    pub async fn run(&self, share: &Share, cancel: &CancellationToken) -> Result<(), ArchiverError> {
        match cancel.run_until_cancelled(self.run_on(share.clone())).await {
            Some(Err(error)) => Err(error),
            None => Ok(()),
        }
    }

    async fn run_on(&self, mut share: Share) -> Result<std::convert::Infallible, ArchiverError> {
        let mut retries = Retries::default();
        self.follow(&mut share).await;
        loop {
            if share.has_changed() {
                self.follow(&mut share).await;
            }
            match self.round(&share).await {
                Ok(None) => {}
                Ok(Some((beyond, at_most))) => {
                    retries.succeeded();
                    if beyond.is_empty() {
                        // every partition has stopped, or is another's: only new ones can bring work
                        tokio::time::timeout(at_most, share.changed()).await.unwrap_or_default();
                        continue;
                    }
                    let waited = tokio::select! {
                        waited = self.log.wait(&self.topic, &beyond, at_most) => waited,
                        () = share.changed() => continue,
                    };
                    match waited {
                        Ok(_) => {}
                        Err(error) => self.again(error.into(), &share, &mut retries).await?,
                    }
                }
                Err(error) => self.again(error, &share, &mut retries).await?,
            }
        }
    }

    /// Takes up its newest share and lets go of the rest.
    async fn follow(&self, share: &mut Share) {
        let assignment = share.take();
        self.own(assignment.partitions.clone()).await;
        share.settle(&assignment);
    }

    /// Waits before another attempt, unless `error` ends the work.
    async fn again(&self, error: ArchiverError, share: &Share, retries: &mut Retries) -> Result<(), ArchiverError> {
        if self.notes_gone(&error) {
            self.seal_gathered().await?;
        }
        if ends_all(&error) || !may_heal(error.kind()) {
            return Err(error);
        }
        tracing::warn!(topic = %self.topic.name, error = %chain(&error), "archiving is tried again");
        tokio::select! {
            () = retries.pause(self.ambient.as_ref()) => {}
            () = share.changed() => {}
        }
        Ok(())
    }

    /// Steps the partitions in turn until all are idle; tells what to wait for, and how long. A failure ends the round when all
    /// others are idle. While one has much to do, rounds end before that (`None`): no other waits for it with a segment that
    /// came of age, or with another attempt. So do they when the share is another.
    async fn round(&self, share: &Share) -> Result<Option<(Vec<Position>, Duration)>, ArchiverError> {
        let bounds = self.log.bounds(&self.topic).await?;
        self.saw(&bounds);
        self.notes_there().await;
        let count = u32::try_from(bounds.len()).unwrap_or(u32::MAX);
        let (mut idle, mut at_most) = (BTreeMap::new(), self.settings.partitions_refresh);
        let (mut busy, mut failure): (Vec<u32>, _) = ((0..count).filter(|number| self.owns(*number)).collect(), None);
        for _ in 0..ROUND_STEPS_MAX {
            let mut still = Vec::with_capacity(busy.len());
            for partition in busy {
                // What is under way then counts whole or not at all, and is looked for by whoever has the partition.
                let stepped = tokio::select! {
                    biased;
                    () = share.changed() => return Ok(None),
                    stepped = self.step(partition) => stepped,
                };
                match stepped {
                    Ok(ArchiverStep::Idle { due_in }) => {
                        at_most = at_most.min(due_in.unwrap_or(at_most));
                        idle.insert(partition, self.partition(partition).lock().await.next);
                    }
                    Ok(_) => still.push(partition),
                    Err(error) if ends_all(&error) => return Err(error),
                    Err(error) if may_heal(error.kind()) => drop(failure.get_or_insert(error)),
                    // this one has stopped, and its status says why
                    Err(_) => {}
                }
            }
            busy = still;
            if busy.is_empty() {
                let beyond = idle.into_iter().map(|(partition, offset)| Position { partition, offset }).collect();
                return failure.map_or(Ok(Some((beyond, at_most))), Err);
            }
        }
        Ok(None)
    }
}

/// True if the topic that is archived is no more.
pub(super) fn is_topic_gone(error: &ArchiverError) -> bool {
    matches!(error, ArchiverError::Log(LogError::Missing { .. } | LogError::Replaced { .. }))
}

/// True for failures after which no partition can go on.
fn ends_all(error: &ArchiverError) -> bool {
    matches!(error, ArchiverError::Log(error) if retry::ends_all(error))
}
