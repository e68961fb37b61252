//! One moment of one dataset: a curated version, then a pin of the same generation's view (H5, H6).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tidemark_shared::ambient::Ambient;
use tidemark_shared::curated::{CuratedTable, CurrentGeneration};
use tidemark_shared::dataset::{Definition, KnownDefinitions};
use tidemark_shared::error::{AnyError, ErrorKind};
use tidemark_shared::live::{LivePin, LiveView, ViewId};
use tidemark_shared::position::{Coverage, LogPartition, Source};
use tidemark_shared::sql::{CutError, Layer};
use tidemark_shared::store::Store;

use super::decide::{Candidate, Split, served, split};
use super::speed::SpeedStatus;
use super::versions::Versions;

/// How often a version is read again because the view has dropped rows above it; each time a newer one must be there.
const ATTEMPTS_MAX: u32 = 5;
/// Longest wait for positions before the dataset is looked at anew: another generation may answer by then.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Pause between two looks whether the curated table covers what is waited for. Every batch of real-time rows is a change,
/// too, and would ask the store for nothing.
const COVERAGE_AGAIN: Duration = Duration::from_millis(100);

/// Whether a generation has a view, if that can be told.
type HasView = Result<bool, CutError>;

/// What cuts are taken of.
pub(super) struct Sources {
    pub(super) store: Store,
    pub(super) versions: Arc<dyn Versions>,
    pub(super) live: Arc<dyn LiveView>,
    pub(super) speed: Arc<dyn SpeedStatus>,
    pub(super) ambient: Arc<dyn Ambient>,
    pub(super) definitions: KnownDefinitions,
    /// By dataset, the highest pointer that answered.
    pub(super) answered: Mutex<BTreeMap<String, u64>>,
}

/// The real-time part of a cut.
#[derive(Debug)]
pub(super) struct LivePart {
    pub(super) pin: Arc<dyn LivePin>,
    pub(super) split: Split,
    /// Rows above the coverage.
    pub(super) rows: u64,
}

/// One moment of one dataset.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) at: DateTime<Utc>,
    pub(super) definition: Arc<Definition>,
    pub(super) curated: Arc<CuratedTable>,
    /// `None` for a dataset without a stream. What is curated answers for itself even where there is an error.
    pub(super) live: Option<Result<LivePart, CutError>>,
    /// Likewise.
    pub(super) log_end: Option<Result<Coverage, CutError>>,
}

impl Cut {
    pub(super) fn coverage(&self) -> &Coverage {
        &self.curated.version().coverage
    }

    /// What curated and real-time rows cover together; only the coverage, where there is no real-time part.
    pub(super) fn positions(&self) -> &Coverage {
        match &self.live {
            Some(Ok(live)) => &live.split.positions,
            Some(Err(_)) | None => self.coverage(),
        }
    }

    /// The partitions that the dataset has or had.
    fn partitions(&self) -> impl Iterator<Item = &LogPartition> {
        let log = self.log_end.iter().flatten().flat_map(Coverage::iter).map(|(partition, _)| partition);
        let covered = self.positions().iter().map(|(partition, _)| partition);
        log.chain(covered).collect::<BTreeSet<_>>().into_iter()
    }

    /// A partition of `wanted` that there is none of; only where the log says what it has. The ledger of files is always
    /// there.
    fn without_partition<'a>(&self, wanted: &'a Coverage) -> Option<&'a LogPartition> {
        if matches!(self.log_end, Some(Err(_))) {
            return None;
        }
        let known: BTreeSet<&LogPartition> = self.partitions().collect();
        let mut named = wanted.iter().filter(|(_, end)| *end > 0).map(|(partition, _)| partition);
        named.find(|partition| partition.source != Source::files() && !known.contains(partition))
    }

    /// What a layer's table covers at this moment.
    pub(super) fn covered_by(&self, layer: Layer) -> &Coverage {
        if layer == Layer::Batch { self.coverage() } else { self.positions() }
    }
}

fn failed(error: impl ErrorKind) -> CutError {
    CutError::failed(error)
}

fn told(error: AnyError) -> CutError {
    CutError::Failed(Arc::new(error))
}

impl Sources {
    /// The dataset as it is now, or as soon as `layer` covers `at_least`, if that is within `wait_max`. `None` if nothing
    /// was curated of it yet.
    pub(super) async fn cut(
        &self,
        dataset: &str,
        layer: Layer,
        at_least: Option<&Coverage>,
        wait_max: Duration,
    ) -> Result<Option<Cut>, CutError> {
        let begun = tokio::time::Instant::now();
        loop {
            let mut changes = self.speed.changes();
            changes.mark_unchanged();
            let Some(cut) = self.attempt(dataset).await? else { return Ok(None) };
            let Some(wanted) = at_least.filter(|wanted| !cut.covered_by(layer).includes(wanted)) else {
                return Ok(Some(cut));
            };
            if let Some(partition) = cut.without_partition(wanted) {
                let known = cut.partitions().cloned().collect();
                return Err(CutError::UnknownPartition { partition: partition.clone(), known });
            }
            let waited = begun.elapsed();
            let Some(left) = wait_max.checked_sub(waited).filter(|left| !left.is_zero()) else {
                let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
                let reached = cut.covered_by(layer).clone();
                return match cut.live {
                    Some(Err(error)) if layer != Layer::Batch => Err(error),
                    _ => Err(CutError::NotReached { wanted: wanted.clone(), reached, waited_ms }),
                };
            };
            // What nobody tells (a sender that is gone) is looked for all the same.
            let waiting = async {
                if layer == Layer::Batch || changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let again = if layer == Layer::Batch { COVERAGE_AGAIN } else { LOOK_AGAIN };
            let _woken = tokio::time::timeout(left.min(again), waiting).await;
        }
    }

    async fn attempt(&self, dataset: &str) -> Result<Option<Cut>, CutError> {
        if !self.speed.has_stream(dataset) {
            let pointers = self.versions.pointers(dataset).await.map_err(failed)?;
            let Some((_, generation)) = pointers.first() else { return Ok(None) };
            let at = self.ambient.now();
            let curated = self.versions.newest(dataset, generation).await.map_err(failed)?;
            let definition = self.definition(dataset, &generation.definition).await?;
            return Ok(Some(Cut { at, definition, curated, live: None, log_end: None }));
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            let Some((generation, view)) = self.generation(dataset).await? else { return Ok(None) };
            let has_view = matches!(view, Ok(true));
            let at = self.ambient.now();
            // H5: the coverage first, then the visible positions.
            let curated = self.versions.newest(dataset, &generation).await.map_err(failed)?;
            let live = match view {
                Ok(true) => self.live_part(dataset, &generation, &curated).await,
                Ok(false) => Err(CutError::NoView { generation: generation.generation.clone() }),
                Err(error) => Err(error),
            };
            // A floor above the coverage means that a newer version is there; a view that went, that another generation
            // answers now. Either way: look again.
            let again = matches!(live, Err(CutError::RealtimeGap { .. } | CutError::NoView { .. }));
            if again && has_view && attempt < ATTEMPTS_MAX {
                continue;
            }
            let definition = self.definition(dataset, &generation.definition).await?;
            let log_end = Some(self.speed.log_ends(dataset).await.map_err(told));
            return Ok(Some(Cut { at, definition, curated, live: Some(live), log_end }));
        }
    }

    /// The generation that answers, and whether it has a view; `None` if nothing was curated yet. Where no generation has
    /// a view, the newest answers for what is curated; where nobody can tell, the one that last did.
    async fn generation(&self, dataset: &str) -> Result<Option<(CurrentGeneration, HasView)>, CutError> {
        let pointers = self.versions.pointers(dataset).await.map_err(failed)?;
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner).get(dataset).copied();
        let mut pins: Vec<(u64, Option<Arc<dyn LivePin>>)> = Vec::new();
        for (n, generation) in &pointers {
            // Before one that has answered none is asked while that one can be.
            if answered.is_some_and(|answered| *n < answered) && pins.iter().any(|(_, pin)| pin.is_some()) {
                break;
            }
            match self.live.pin(&view_id(dataset, generation)).await {
                Ok(pin) => pins.push((*n, pin)),
                // What is curated answers without the real-time view.
                Err(error) => {
                    let last = pointers.iter().find(|(n, _)| Some(*n) == answered).or(pointers.first());
                    return Ok(last.map(|(_, generation)| (generation.clone(), Err(failed(error)))));
                }
            }
        }
        let views = pins.iter().map(|(n, pin)| Candidate { n: *n, view: pin.as_ref().map(|pin| pin.ranges()) });
        let candidates: Vec<Candidate<'_>> = views.collect();
        let n = served(&candidates, answered);
        let found = pointers.iter().find(|(number, _)| Some(*number) == n);
        if let Some((n, _)) = found {
            let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
            let highest = answered.entry(dataset.to_owned()).or_insert(*n);
            *highest = (*highest).max(*n);
        }
        Ok(found
            .map(|(_, generation)| (generation.clone(), Ok(true)))
            .or_else(|| pointers.first().map(|(_, generation)| (generation.clone(), Ok(false)))))
    }

    async fn live_part(
        &self,
        dataset: &str,
        generation: &CurrentGeneration,
        curated: &CuratedTable,
    ) -> Result<LivePart, CutError> {
        let pin = self.live.pin(&view_id(dataset, generation)).await.map_err(failed)?;
        let pin = pin.ok_or_else(|| CutError::NoView { generation: generation.generation.clone() })?;
        // H6: floors and rows are of one pin.
        let split = split(&curated.version().coverage, pin.ranges())?;
        let rows = match split.live.is_empty() {
            true => 0,
            false => pin.counts(&curated.version().coverage).await.map_err(failed)?.accepted,
        };
        Ok(LivePart { pin, split, rows })
    }

    async fn definition(&self, dataset: &str, version: &str) -> Result<Arc<Definition>, CutError> {
        let known = self.definitions.get(dataset, version).await.map_err(failed)?;
        known.ok_or_else(|| failed(NoDefinition { dataset: dataset.to_owned(), version: version.to_owned() }))
    }
}

fn view_id(dataset: &str, generation: &CurrentGeneration) -> ViewId {
    ViewId { dataset: dataset.to_owned(), generation: generation.generation.clone() }
}

/// A generation without the definition that made it.
#[derive(Debug, thiserror::Error)]
#[error("dataset `{dataset}` has no definition of version {version}, which made its table")]
struct NoDefinition {
    dataset: String,
    version: String,
}

impl ErrorKind for NoDefinition {
    fn kind(&self) -> tidemark_shared::error::Kind {
        tidemark_shared::error::Kind::Corrupt
    }
}
