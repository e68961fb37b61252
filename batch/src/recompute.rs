//! `recompute`: a new generation from the raw zone, by the newest definition; then the switch (H9).
//!
//! The old generation answers, and is kept up by ingest, until the new one is not behind it. Then the old table is
//! sealed, which no running ingest can overlook, the new one catches up to the sealed coverage, and the pointer moves.
//! Interrupted before the seal, the half-built generation is an orphan and the next try starts over; after it, whoever
//! comes next finishes the switch.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidemark_shared::ledger::LedgerState;

use crate::curated::table::{Committed, CuratedTable};
use crate::error::BatchError;
use crate::failpoint;
use crate::generation::Current;
use crate::rejects::FileRejects;
use crate::report::{Counts, IngestReport, Progress, RecomputeReport};
use crate::service::Batch;

/// How often the last stretch is tried again because an ingest committed to the old generation meanwhile.
const SEAL_ATTEMPTS_MAX: u32 = 1_000;

impl Batch {
    /// Builds a new generation by the newest definition and switches to it.
    ///
    /// # Errors
    /// [`BatchError`]; the old generation answers as before.
    pub async fn recompute(&self, dataset: &str, progress: &Arc<dyn Progress>) -> Result<RecomputeReport, BatchError> {
        let started = std::time::Instant::now();
        let latest = self.latest_definition(dataset).await?;
        let version = latest.version.to_string();
        let old = self.current(dataset).await?;
        let maker = self.maker(dataset, &version).await?;
        let generation = self.new_generation_name(&version);
        self.open_or_create(&maker, &generation).await?;
        failpoint::pass("generation.after_create");
        let to = self.ledger(dataset).state().await?.end();
        let mut curated_bytes = self.extend(&maker, &generation, to, None, progress).await?.curated_bytes;
        failpoint::pass("recompute.before_seal");
        let switched = self.switch(&old, &maker, &generation, &mut curated_bytes, progress).await?;
        // Entries that came since are for the generation that answers now, whoever made it.
        let mut rest = IngestReport::default();
        self.bring_up(dataset, None, &mut rest, progress).await?;
        self.register(dataset).await?;
        let now = self.current(dataset).await?;
        let state = self.ledger(dataset).state().await?;
        let (previous_counts, rejects_taken_up) =
            self.compare(dataset, &old.generation, &now.generation, &state).await?;
        if !switched {
            progress.remark("another recompute finished first; its generation answers");
        }
        Ok(RecomputeReport {
            dataset: dataset.to_owned(),
            counts: self.generation_counts(dataset, &now.generation, &state).await?,
            generation: now.generation,
            previous_generation: Some(old.generation),
            definition: now.maker.version,
            previous_counts,
            rejects_taken_up,
            curated_bytes: curated_bytes + rest.curated_bytes,
            elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Seals the old generation once the new one is not behind, and hands over. False: another recompute did first.
    async fn switch(
        &self,
        old: &Current,
        maker: &crate::generation::Maker,
        generation: &str,
        curated_bytes: &mut u64,
        progress: &Arc<dyn Progress>,
    ) -> Result<bool, BatchError> {
        let dataset = &maker.dataset;
        for _ in 0..SEAL_ATTEMPTS_MAX {
            let table = self.open_or_create(&old.maker, &old.generation).await?;
            if let Some(successor) = table.successor() {
                self.hand_over(dataset, old.number, &table, successor).await?;
                return Ok(successor == generation);
            }
            let done = self.extend(maker, generation, table.files_end(), None, progress).await?;
            *curated_bytes += done.curated_bytes;
            if let Committed::Version(_) = table.seal(generation).await? {
                failpoint::pass("recompute.after_seal");
            }
            // Sealed by us, sealed by another, or an ingest came in between: the next round sees which.
        }
        Err(BatchError::Contended { dataset: dataset.clone(), attempts: SEAL_ATTEMPTS_MAX })
    }

    /// Counts of the old generation, and how many of its rejects are none in the new one.
    async fn compare(
        &self,
        dataset: &str,
        old: &str,
        new: &str,
        state: &LedgerState,
    ) -> Result<(Counts, u64), BatchError> {
        let (mut counts, mut taken_up) = (Counts::default(), 0);
        for file in state.files().filter(|file| state.includes(file.number)) {
            let Some(before) = FileRejects::read(&self.store, dataset, old, file.number).await? else { continue };
            counts.add(&before.counts);
            if before.counts.rejected_total() == 0 {
                continue;
            }
            let still: BTreeSet<u64> = match FileRejects::read(&self.store, dataset, new, file.number).await? {
                Some(after) => after.rejects()?.map(|r| r.map(|r| r.offset)).collect::<Result<_, _>>()?,
                None => BTreeSet::new(),
            };
            for reject in before.rejects()? {
                taken_up += u64::from(!still.contains(&reject?.offset));
            }
        }
        Ok((counts, taken_up))
    }

    /// Counts of all files whose rows count, as a generation has them.
    pub(crate) async fn generation_counts(
        &self,
        dataset: &str,
        generation: &str,
        state: &LedgerState,
    ) -> Result<Counts, BatchError> {
        let mut counts = Counts::default();
        let covered = match CuratedTable::open(&self.store.objects(), dataset, generation).await? {
            Some(table) => table.files_end(),
            None => return Ok(counts),
        };
        for file in state.files().filter(|file| state.includes(file.number) && file.number < covered) {
            if let Some(rejects) = FileRejects::read(&self.store, dataset, generation, file.number).await? {
                counts.add(&rejects.counts);
            }
        }
        Ok(counts)
    }
}
