//! The part of a batch run that takes in archived streams.

use std::sync::Arc;

use super::SWITCHES_MAX;
use crate::curate::streams::{Route, TakenIn};
use crate::error::BatchError;
use crate::generation::{Current, Definitions};
use crate::report::{IngestReport, Progress};
use crate::service::Batch;

impl Batch {
    /// The way to the archive's end as it is now, from what `current` covers. `None` where the generation that answers, or
    /// would be the first, has no stream: then segments wait for a recompute.
    pub(super) async fn route(
        &self,
        definitions: &Definitions,
        current: Option<&Current>,
    ) -> Result<Option<Route>, BatchError> {
        let has_stream = current.map_or(definitions.has_stream(), |current| current.maker.streams.is_some());
        if !has_stream {
            return Ok(None);
        }
        let coverage = current.map(|current| current.table.coverage()).unwrap_or_default();
        self.route_to_end(&definitions.dataset, &coverage).await.map(Some)
    }

    /// Brings the generation that answers up to the targets of `route`, and the next one if a recompute switches.
    pub(super) async fn bring_up_streams(
        &self,
        definitions: &mut Definitions,
        current: Option<Current>,
        route: &mut Route,
        report: &mut IngestReport,
        progress: &Arc<dyn Progress>,
    ) -> Result<(), BatchError> {
        let dataset = definitions.dataset.clone();
        let mut opened = current;
        for _ in 0..SWITCHES_MAX {
            let nothing = route.targets().iter().next().is_none();
            if nothing && opened.is_none() && self.pointer(&dataset).await?.is_none() {
                return Ok(());
            }
            let Current { number, generation, maker, table } = match opened.take() {
                Some(current) => current,
                None => self.current(definitions).await?,
            };
            let done = self.extend_streams(&maker, table, route, progress).await?;
            let (committed, frozen) = (done.committed, done.frozen);
            report.committed |= committed;
            report.table_version = Some(done.table_version);
            report.generation = Some(generation);
            note(done, report);
            // A recompute may have switched while we committed to the old generation: then the new one lacks our segments.
            let switched = committed && self.pointer(&dataset).await?.is_some_and(|(now, _)| now != number);
            if !frozen && !switched {
                return Ok(());
            }
        }
        Err(BatchError::Contended { dataset, attempts: SWITCHES_MAX })
    }
}

/// What a second generation took in again counts once.
fn note(done: TakenIn, report: &mut IngestReport) {
    report.raw_bytes += done.raw_bytes;
    report.curated_bytes += done.curated_bytes;
    for stream in done.reports.into_values() {
        report.streams.retain(|known| known.partition != stream.partition);
        report.streams.push(stream);
    }
}
