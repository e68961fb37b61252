//! Runs the batch layer on a dataset: every so often, and when real-time views fill up. From time to time it tidies up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemark_batch::Upkeep;
use tidemark_batch::report::quiet;
use tidemark_shared::backoff::passed;
use tidemark_shared::error::chain;
use tidemark_speed::pressure::Level;

use super::UpError;
use super::parts::Parts;
use super::stream::Stream;
use super::streams::Streams;
use super::task_name::{TaskKind, TaskName};

/// Pause between two runs for want of room: what the first one covered leaves the views only after the grace.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

/// The loop of one dataset.
pub(super) struct Runs {
    pub(super) parts: Parts,
    pub(super) stream: Arc<Stream>,
    pub(super) streams: Arc<Streams>,
    pub(super) intervals: Intervals,
}

/// How often what is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Intervals {
    /// Runs; `None`: only for want of room.
    pub(super) runs: Option<Duration>,
    /// Vacuums, each after a run; `None`: never.
    pub(super) vacuums: Option<Duration>,
}

impl Runs {
    /// Runs until it is stopped. A run that fails is told, and tried again at the next occasion.
    pub(super) async fn run(&self) -> Result<(), UpError> {
        tokio::select! {
            ended = self.run_on() => ended,
            () = self.settle() => Ok(()),
        }
    }

    /// Lets the group have its way at once: a run under way goes on beside another process's, and one of them works in vain.
    async fn settle(&self) {
        let Some(mut share) = self.stream.runners.get().cloned() else { return std::future::pending().await };
        loop {
            let now = share.take();
            share.settle(&now);
            share.changed().await;
        }
    }

    async fn run_on(&self) -> Result<(), UpError> {
        let name = TaskName::of(TaskKind::Batch, &self.stream.dataset);
        let mut upkeep = Upkeep::default();
        while self.due().await {
            if !self.stream.runs_batch() && self.parts.pressure.level() < Level::BatchWanted {
                // another process does, and this one once it does not any more
                self.parts.tasks.works(&name);
                continue;
            }
            let begun = Instant::now();
            let ended = self.stream.stop_batch.run_until_cancelled(Box::pin(self.once(&mut upkeep))).await;
            let Some(ended) = ended else { break };
            let well_at = ended.is_ok().then(|| self.parts.ambient.now());
            self.parts.metrics.runs.ended(&self.stream.dataset, begun.elapsed(), well_at);
            match ended {
                Ok(()) => self.parts.tasks.works(&name),
                Err(error) => {
                    tracing::error!(dataset = self.stream.dataset, error = %chain(&error), "a batch run failed");
                    self.parts.tasks.fails(&name, chain(&error));
                }
            }
        }
        Ok(())
    }

    /// Waits for the next occasion; false: it is to stop.
    async fn due(&self) -> bool {
        let wait = async {
            let interval = async {
                match self.intervals.runs {
                    Some(interval) => passed(interval).await,
                    None => std::future::pending().await,
                }
            };
            let room = async {
                passed(ROOM_PAUSE).await;
                self.parts.pressure.reaches(Level::BatchWanted).await;
            };
            tokio::select! {
                () = interval => {}
                () = room => {}
            }
        };
        self.stream.stop_batch.run_until_cancelled(wait).await.is_some()
    }

    /// Seals what the log has, takes it in, and from time to time tidies up.
    async fn once(&self, upkeep: &mut Upkeep) -> Result<(), UpError> {
        let dataset = &self.stream.dataset;
        // A partition that can't be archived keeps files and the other partitions from nothing.
        let flushed = self.stream.seal_own().await;
        let report = self.parts.batch.run(dataset, &quiet()).await?;
        self.streams.look_now();
        flushed?;
        let catalog = TaskName::of(TaskKind::Catalog, dataset);
        match report.catalog_error {
            Some(reason) => self.parts.tasks.fails(&catalog, reason),
            None => self.parts.tasks.works(&catalog),
        }
        if !report.committed {
            return Ok(());
        }
        for task in upkeep.after_commit(self.parts.ambient.now(), self.intervals.vacuums) {
            if let Some(report) = self.parts.batch.keep_up(dataset, task).await? {
                let (objects, bytes) = (report.removed.len(), report.removed_bytes);
                tracing::info!(dataset, objects, bytes, "removed what nothing names");
            }
            self.streams.look_now();
        }
        Ok(())
    }
}
