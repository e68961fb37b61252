//! What the serving layer asks of the rest of the process.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tidemark_serving::http::{Backend, IntakeError, Readiness, Taken};
use tidemark_serving::merge::SpeedStatus;
use tidemark_shared::dataset::{Format, is_name, registry};
use tidemark_shared::error::{AnyError, chain};
use tidemark_shared::lock;
use tidemark_shared::log::IdempotencyKey;
use tidemark_shared::position::{Coverage, LogPartition};
use tidemark_shared::telemetry::TraceParent;
use tidemark_speed::pressure::Level;
use tokio::sync::watch;

use super::UpError;
use super::ages::Ages;
use super::parts::Parts;
use super::ready::{self, Observed};
use super::status;
use super::stream::Stream;
use super::streams::Streams;
use super::task_name::{TaskKind, TaskName};
use crate::config::Role;

/// Longest look at all that is asked for a status or a scrape: neither waits for a store, log or view that is away.
const STATUS_MAX: Duration = Duration::from_secs(3);
/// When a producer that was refused is to come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long records and statements wait for the stream of a dataset that was applied a moment ago.
const OPENING_MAX: Duration = Duration::from_secs(5);
/// How long they wait where the last attempt to open it failed: for the next one, which is made at once.
const OPENING_AGAIN_MAX: Duration = Duration::from_secs(1);

/// See the module's text.
pub(super) struct Facts {
    pub(super) parts: Parts,
    pub(super) streams: Arc<Streams>,
    /// Since when everything has been started; `None` before, and once the process begins to stop.
    pub(super) up_since: Mutex<Option<Instant>>,
    /// True once somebody was told that the process is ready.
    pub(super) was_ready: AtomicBool,
    /// Times of records that answers did not cover.
    pub(super) ages: Ages,
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts").finish_non_exhaustive()
    }
}

impl Facts {
    /// Says that everything has started.
    pub(super) fn started(&self) {
        *lock(&self.up_since) = Some(Instant::now());
    }

    /// Says that the process begins to stop.
    pub(super) fn stops(&self) {
        *lock(&self.up_since) = None;
    }

    fn up_for(&self) -> Option<Duration> {
        lock(&self.up_since).map(|since| since.elapsed())
    }

    /// A dataset's stream, or why there is none.
    async fn stream(&self, dataset: &str) -> Result<Arc<Stream>, IntakeError> {
        if let Some(stream) = self.streams.get(dataset) {
            return Ok(stream);
        }
        let known = registry::latest(&self.parts.store, dataset).await;
        let dataset = dataset.to_owned();
        Err(match known.map_err(|error| IntakeError::Failed(AnyError::new(error)))? {
            None => IntakeError::UnknownDataset { dataset },
            Some(applied) if applied.definition.stream.is_none() => IntakeError::NoStream { dataset },
            Some(_) => {
                self.streams.look_at_definitions();
                let opening = TaskName::of(TaskKind::Stream, &dataset);
                let failure = || self.parts.tasks.failure(&opening);
                let within = if failure().is_some() { OPENING_AGAIN_MAX } else { OPENING_MAX };
                if let Some(stream) = self.streams.opened(&dataset, within).await {
                    return Ok(stream);
                }
                not_open(dataset, failure())
            }
        })
    }

    /// How each dataset's stream stands, or why that can't be told. All are asked side by side.
    async fn all_statuses(&self, at_most: Duration) -> Vec<(String, Result<status::DatasetStatus, String>)> {
        let asked = self.streams.all().into_iter().map(|stream| async move {
            let status = match tokio::time::timeout(at_most, status::of(&self.parts, &stream)).await {
                Ok(status) => status.map_err(|error| chain(&error)),
                Err(_) => Err(format!("store, log and view did not tell within {} s", at_most.as_secs_f64())),
            };
            (stream.dataset.clone(), status)
        });
        futures::future::join_all(asked).await
    }

    /// Measures what can be had in so long. All is asked side by side, so that the scrape takes no longer.
    async fn measure_within(&self, at_most: Duration) {
        let Parts { live, metrics, tasks, .. } = &self.parts;
        let readiness = self.readiness_within(at_most.min(ready::ANSWER_MAX));
        let (readiness, statuses) = tokio::join!(readiness, self.all_statuses(at_most));
        metrics.process.show(matches!(readiness, Readiness::Ready { .. }), live.usage(), live.limit());
        metrics.process.tasks(&tasks.health());
        for (dataset, status) in statuses {
            match status {
                Ok(status) => metrics.dataset(&status),
                Err(error) => {
                    tracing::warn!(dataset, error, "the dataset can't be measured");
                    metrics.datasets.measure_failed(&dataset);
                }
            }
        }
    }

    async fn readiness_within(&self, at_most: Duration) -> Readiness {
        let up_for = self.up_for();
        // Of a process that starts or stops that is all there is to say: nobody is asked.
        let (lacking, made_anew) = match up_for {
            Some(_) => {
                tokio::join!(ready::lacking(&self.parts, at_most), ready::made_anew(&self.streams, at_most))
            }
            None => (None, BTreeMap::new()),
        };
        let readiness = ready::decide(&Observed {
            up_for,
            lacking,
            datasets: ready::standings(&self.parts, &self.streams),
            made_anew,
            was_ready: self.was_ready.load(Ordering::Relaxed),
            serves: self.parts.roles.has(Role::Serving),
        });
        if matches!(readiness, Readiness::Ready { .. }) {
            self.was_ready.store(true, Ordering::Relaxed);
        }
        readiness
    }
}

#[async_trait]
impl SpeedStatus for Facts {
    fn has_stream(&self, dataset: &str) -> bool {
        self.streams.declares(dataset)
    }

    async fn opens(&self, dataset: &str) -> bool {
        // What a statement names may be any text.
        is_name(dataset) && self.stream(dataset).await.is_ok()
    }

    async fn log_ends(&self, dataset: &str) -> Result<Coverage, AnyError> {
        match self.streams.get(dataset) {
            Some(stream) => stream.log_ends().await,
            None => Err(AnyError::new(UpError::Opening { dataset: dataset.to_owned() })),
        }
    }

    async fn oldest_beyond(&self, dataset: &str, positions: &Coverage) -> Result<Option<DateTime<Utc>>, AnyError> {
        let Some(stream) = self.streams.get(dataset) else { return Ok(None) };
        let (ends, heard) = stream.heard.ends().await?;
        if heard.is_some() {
            // Nobody knows what came since the log was heard of last: an answer is as old as that.
            return Ok(heard);
        }
        let oldest = self.ages.oldest(self.parts.log.as_ref(), &stream, &ends, positions).await?;
        Ok(oldest.and_then(DateTime::from_timestamp_millis))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.parts.moves.changes()
    }

    async fn lost(&self, dataset: &str) -> Result<BTreeMap<LogPartition, Vec<Range<u64>>>, AnyError> {
        let Some(stream) = self.streams.get(dataset) else { return Ok(BTreeMap::new()) };
        let status = stream.archiver.status();
        Ok(status.into_iter().map(|(partition, status)| (partition, status.lost)).collect())
    }
}

#[async_trait]
impl Backend for Facts {
    async fn stream_format(&self, dataset: &str) -> Result<Format, IntakeError> {
        let stream = self.stream(dataset).await?;
        let missing = || IntakeError::NoStream { dataset: dataset.to_owned() };
        stream.definition().definition.stream.as_ref().map(|stream| stream.format.clone()).ok_or_else(missing)
    }

    async fn append(
        &self,
        dataset: &str,
        values: Vec<Bytes>,
        key: Option<&IdempotencyKey>,
        origin: Option<TraceParent>,
    ) -> Result<Taken, IntakeError> {
        let stream = self.stream(dataset).await?;
        if self.parts.pressure.level() == Level::SlowDown {
            let reason = "the real-time views are nearly full, and a batch run is making room".to_owned();
            return Err(IntakeError::Busy { dataset: dataset.to_owned(), reason, retry_after: RETRY_AFTER });
        }
        stream.append(values, key, origin).await
    }

    async fn seal(&self, dataset: &str) -> Result<Coverage, IntakeError> {
        let stream = self.stream(dataset).await?;
        stream.archiver.flush().await.map_err(|error| IntakeError::Failed(AnyError::new(error)))
    }

    async fn status(&self) -> Result<Value, AnyError> {
        // One that can't be told hides none of the others.
        let (mut datasets, mut failed) = (Vec::new(), Vec::new());
        let readiness = self.readiness_within(ready::ANSWER_MAX);
        let (readiness, statuses) = tokio::join!(readiness, self.all_statuses(STATUS_MAX));
        for (dataset, status) in statuses {
            match status {
                Ok(status) => datasets.push(serde_json::to_value(status).expect("a status is plain data")),
                Err(error) => failed.push(json!({"dataset": dataset, "error": error})),
            }
        }
        let not_ready = match readiness {
            Readiness::NotReady { reason } => Some(reason),
            Readiness::Ready { .. } => None,
        };
        let usage = self.parts.live.usage();
        Ok(json!({
            "roles": self.parts.roles.names(),
            "ready": not_ready.is_none(),
            "not_ready": not_ready,
            "datasets": datasets,
            "degraded": ready::degraded(&ready::standings(&self.parts, &self.streams)),
            "failed": failed,
            "live": {"usage": usage, "limit": status::limit(self.parts.live.limit()), "level": self.parts.pressure.level()},
            "tasks": self.parts.tasks.health(),
        }))
    }

    async fn measure(&self) {
        self.measure_within(STATUS_MAX).await;
    }

    async fn readiness(&self) -> Readiness {
        self.readiness_within(ready::ANSWER_MAX).await
    }
}

/// Why records are not taken whose stream is not open: who comes again soon is taken in, or, after a failure, who comes once
/// that has passed.
fn not_open(dataset: String, failure: Option<String>) -> IntakeError {
    match failure {
        Some(reason) => IntakeError::Failed(AnyError::new(UpError::NotOpened { dataset, reason })),
        None => {
            let reason = "its stream is being opened".to_owned();
            IntakeError::Busy { dataset, reason, retry_after: RETRY_AFTER }
        }
    }
}

#[cfg(test)]
mod tests;
