//! Going on after the disk was full: once there is space again, the folder is opened anew, in the same process.
//!
//! The database takes no more writes after one that failed, for it can't know what of it is on the disk; opening it settles
//! that, as after a restart. What was acknowledged is there. What was not is there whole or not at all, under offsets that
//! nobody else was told; with an idempotency key it can be repeated, as after a lost answer.

use std::time::Duration;

use tidemark_shared::backoff::Backoff;
use tidemark_shared::error::{ErrorKind as _, Kind, chain};
use tidemark_shared::log::LogError;
use tokio::sync::mpsc::error::TryRecvError;

use super::READS_MAX;
use super::keys::Purge;
use super::store::{LogStore, check_space};
use super::writer::Writer;

/// Pauses between two looks for space, for as long as it takes.
const LOOK_AGAIN: Backoff = Backoff {
    first: Duration::from_millis(100),
    pause_max: Duration::from_secs(5),
    attempts_max: u32::MAX,
    time_max: Duration::MAX,
    attempts_min: 1,
};

impl Writer {
    /// Waits until the disk takes writes again, and goes on with what is there. False if the log is closed meanwhile, or
    /// does not hold what it must.
    pub(super) fn goes_on(&mut self) -> bool {
        for failed in 1.. {
            let pause = LOOK_AGAIN.pause(failed, Duration::ZERO, self.shared.ambient.random());
            if self.shared.is_closed_within(pause.unwrap_or(LOOK_AGAIN.pause_max)) || !self.turn_away() {
                return false;
            }
            let reopened = match check_space(&self.folder) {
                Ok(()) => self.reopen(),
                Err(error) => Err(LogError::backend("write to its disk", error)),
            };
            match reopened {
                Ok(()) => return true,
                Err(error) if matches!(error.kind(), Kind::Retryable | Kind::Conflict) => {
                    tracing::debug!(error = %chain(&error), "the log can't go on yet");
                }
                Err(error) => {
                    tracing::error!(error = %chain(&error), "the log can't go on");
                    self.shared.fail(chain(&error));
                    return false;
                }
            }
        }
        false
    }

    /// Lets go of what waits: who asked is told why. False if nobody can ask any more.
    fn turn_away(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(command) => drop(command),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn reopen(&mut self) -> Result<(), LogError> {
        // Whoever reads ends first; a keyspace that somebody has would keep the folder locked.
        let all = futures::executor::block_on(self.reads.acquire_many(READS_MAX)).map_err(|_| LogError::Closed)?;
        self.shared.topics.let_go();
        self.store = None;
        let store = LogStore::open(&self.folder)?;
        let (found, next_number) = store.recover()?;
        self.shared.topics.take_over(found)?;
        (self.store, self.next_number, self.purge) = (Some(store), next_number, Purge::default());
        self.shared.works_again();
        drop(all);
        Ok(())
    }
}
