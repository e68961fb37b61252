//! `recompute`: a new generation from the raw zone, by the newest definition; then the switch (H9).
//!
//! The old generation answers, and is kept up by ingest, until the new one is not behind it. Then the old table is
//! frozen, which no running ingest can overlook, the new one catches up to the frozen coverage, and the pointer moves.
//! Interrupted before the freeze, the half-built generation is an orphan and the next try starts over; after it, whoever
//! comes next finishes the switch.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tidemark_shared::backoff::{Attempts, Backoff};
use tidemark_shared::layout;
use tidemark_shared::ledger::LedgerState;
use tidemark_shared::position::Coverage;
use tracing::Instrument as _;

use crate::curated::table::{Committed, TableHead};
use crate::error::BatchError;
use crate::failpoint;
use crate::generation::{Current, Definitions, Maker, whole_ledger};
use crate::rejects::{FOOTERS_MAX, FileRejects, absent};
use crate::report::{Counts, IngestReport, Progress, RecomputeReport};
use crate::service::Batch;
use crate::spans;

impl Batch {
    /// Builds a new generation by the newest definition and switches to it.
    ///
    /// # Errors
    /// [`BatchError`]; the old generation answers as before.
    pub async fn recompute(&self, dataset: &str, progress: &Arc<dyn Progress>) -> Result<RecomputeReport, BatchError> {
        let run = spans::run(dataset, "recompute");
        spans::ended(&run, Box::pin(self.build_and_switch(dataset, progress)).instrument(run.clone()).await)
    }

    async fn build_and_switch(
        &self,
        dataset: &str,
        progress: &Arc<dyn Progress>,
    ) -> Result<RecomputeReport, BatchError> {
        let started = std::time::Instant::now();
        let mut definitions = self.definitions(dataset).await?;
        let maker = self.newest_maker(&mut definitions).await?;
        let old = self.current_to_replace(&mut definitions, &maker).await?;
        let generation = self.new_generation_name(&maker.version);
        let table = self.open_or_create(&maker, &generation).await?;
        failpoint::pass("generation.after_create");
        let mut state = self.ledger(dataset).state().await?;
        whole_ledger(dataset, &old.table, state.end())?;
        let to = state.end();
        if maker.streams.is_none() && old.table.stream_coverage() != Coverage::new() {
            return Err(BatchError::NoStream { dataset: dataset.to_owned() });
        }
        let mut curated_bytes = self.extend(&maker, table, &state, to, None, progress).await?.curated_bytes;
        curated_bytes += self.recompute_streams(&maker, &generation, progress).await?;
        failpoint::pass("recompute.before_freeze");
        let (switched, caught_up_bytes) =
            self.switch(&mut definitions, &old, &maker, &generation, &mut state, progress).await?;
        // Entries that came since are for the generation that answers now, whoever made it.
        let mut rest = IngestReport::default();
        self.bring_up(&mut definitions, None, None, &mut state, &mut rest, progress).await?;
        let catalog_error = self.tell_catalog(&mut definitions).await?;
        let now = self.current(&mut definitions).await?;
        let (mut previous_counts, mut rejects_taken_up) =
            self.compare(dataset, &old.generation, &now.generation, &state).await?;
        if let Some(frozen) = TableHead::open(&self.store.objects(), dataset, &old.generation).await? {
            previous_counts.add(&self.stream_counts(&frozen).await?);
            rejects_taken_up += self.stream_rejects_taken_up(&frozen, &now.table).await?;
        }
        if !switched {
            progress.remark("another recompute finished first; its generation answers");
        }
        let mut counts = self.generation_counts(dataset, &now, &state).await?;
        counts.add(&self.stream_counts(&now.table).await?);
        Ok(RecomputeReport {
            dataset: dataset.to_owned(),
            counts,
            generation: now.generation,
            previous_generation: Some(old.generation),
            definition: now.maker.version,
            previous_counts,
            rejects_taken_up,
            curated_bytes: curated_bytes + caught_up_bytes + rest.curated_bytes,
            catalog_error,
            elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Takes all archived segments into a new generation. Gives the bytes that it wrote.
    async fn recompute_streams(
        &self,
        maker: &Maker,
        generation: &str,
        progress: &Arc<dyn Progress>,
    ) -> Result<u64, BatchError> {
        if maker.streams.is_none() {
            return Ok(0);
        }
        let dataset = &maker.dataset;
        let abandoned = || BatchError::Abandoned { dataset: dataset.clone(), generation: generation.to_owned() };
        let table = TableHead::open(&self.store.objects(), dataset, generation).await?.ok_or_else(abandoned)?;
        let mut route = self.route_to_end(dataset, &table.coverage()).await?;
        Ok(self.extend_streams(maker, table, &mut route, progress).await?.curated_bytes)
    }

    /// Freezes the old generation once the new one is not behind, and hands over. Returns whether ours is the one that took
    /// over, or another recompute was first; and the bytes that catching up wrote.
    async fn switch(
        &self,
        definitions: &mut Definitions,
        old: &Current,
        maker: &Maker,
        generation: &str,
        state: &mut LedgerState,
        progress: &Arc<dyn Progress>,
    ) -> Result<(bool, u64), BatchError> {
        let (dataset, objects) = (&maker.dataset, self.store.objects());
        let abandoned = || BatchError::Abandoned { dataset: dataset.clone(), generation: generation.to_owned() };
        let (mut attempts, mut curated_bytes) = (Attempts::new(Backoff::RACE), 0);
        loop {
            let table = self.open_or_create(&old.maker, &old.generation).await?;
            if let Some(successor) = table.successor() {
                self.hand_over(definitions, old.number, &table, successor).await?;
                return Ok((successor == generation, curated_bytes));
            }
            // A vacuum bans a generation before it puts a fence into the old table, and removes it after. The freeze does
            // not go through over a fence that came since the old table was opened; one that came before is seen here.
            if self.store.size(&layout::ban(dataset, generation)).await?.is_some() {
                return Err(abandoned());
            }
            let new = TableHead::open(&objects, dataset, generation).await?.ok_or_else(abandoned)?;
            if !new.coverage().includes(&table.coverage()) {
                curated_bytes += self.catch_up(maker, new, &table, Some(state), progress).await?;
            }
            if let Committed::Version(_) = table.freeze(generation).await? {
                failpoint::pass("recompute.after_freeze");
                continue;
            }
            // Frozen by another, or an ingest came in between: the next round sees which.
            if !attempts.again(self.ambient.random()).await {
                return Err(BatchError::Contended { dataset: dataset.clone(), attempts: attempts.failed() });
            }
        }
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
            let Some(before) = FileRejects::open(&self.store, dataset, old, file.number).await? else { continue };
            counts.add(&before.counts);
            if before.counts.rejected_total() == 0 {
                continue;
            }
            let after = match FileRejects::open(&self.store, dataset, new, file.number).await? {
                Some(after) => after.offsets()?,
                None => stream::empty().boxed(),
            };
            taken_up += absent(before.offsets()?, after).await?;
        }
        Ok((counts, taken_up))
    }

    /// How many rejects of streams in `old` are none in `new`.
    async fn stream_rejects_taken_up(&self, old: &TableHead, new: &TableHead) -> Result<u64, BatchError> {
        let offset = |(offset, _): (u64, String)| offset;
        let mut taken_up = 0;
        for (partition, _) in old.stream_coverage().iter().filter(|(p, _)| old.totals(p).rejected > 0) {
            let before = self.stream_reject_reasons(old, partition).await?.map_ok(offset);
            let after = self.stream_reject_reasons(new, partition).await?.map_ok(offset);
            taken_up += absent(before, after).await?;
        }
        Ok(taken_up)
    }

    /// Counts of all files whose rows count, as a generation has them.
    pub(crate) async fn generation_counts(
        &self,
        dataset: &str,
        now: &Current,
        state: &LedgerState,
    ) -> Result<Counts, BatchError> {
        let covered = now.table.files_end();
        let numbers = state.files().map(|file| file.number).filter(|n| state.includes(*n) && *n < covered);
        let numbers: Vec<u64> = numbers.collect();
        stream::iter(numbers)
            .map(|number| FileRejects::open(&self.store, dataset, &now.generation, number))
            .buffered(FOOTERS_MAX)
            .try_fold(Counts::default(), |mut counts, file| async move {
                if let Some(file) = file {
                    counts.add(&file.counts);
                }
                Ok(counts)
            })
            .await
    }
}
