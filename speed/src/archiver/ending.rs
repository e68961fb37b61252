//! The end of a topic that was deleted, or made again: what was gathered of it is archived, and what it had beyond that is lost.
//! Its log is gone, and is not asked.

use tidemark_shared::error::{ErrorKind as _, chain};
use tidemark_shared::lock;

use super::{Archiver, ArchiverError, ArchiverStep, Seal};
use crate::retry::may_heal;

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

    /// Says in the archive of a topic that is gone that all is lost which the log was seen to have and nobody archived (H1), of
    /// the partitions that this archiver owns. To be called when what was gathered is archived, and for a topic that is known
    /// not to come back.
    ///
    /// # Errors
    /// As of [`Self::seal_gathered`].
    pub async fn lose_rest(&self) -> Result<(), ArchiverError> {
        let seen: Vec<(u32, u64)> = lock(&self.seen).iter().map(|(number, end)| (*number, *end)).collect();
        let mut failure = None;
        for (number, end) in seen.into_iter().filter(|(number, _)| self.owns(*number)) {
            let lost = self.lose_partition(number, end).await;
            self.tell(number, lost, &mut failure);
        }
        failure.map_or(Ok(()), Err)
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

    async fn lose_partition(&self, number: u32, end: u64) -> Result<(), ArchiverError> {
        let (slot, name) = (self.partition(number), self.log_partition(number));
        let mut partition = slot.lock().await;
        if end <= partition.archived.unwrap_or(0) {
            return Ok(());
        }
        let Some(lost) = self.archive.lose(&name, end).await? else { return Ok(()) };
        partition.archived_to(lost.end, self.ambient.now());
        self.count(&mut partition);
        self.set_archived(number, lost.end);
        tracing::error!(partition = %name, start = lost.start, end = lost.end, "records went with their topic before they were archived");
        let _step = self.note(number, Ok(ArchiverStep::Lost(lost)))?;
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
