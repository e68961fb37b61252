//! The process that answers: it keeps indexers and views in step with generations, as `tidemark up` does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidemark_serving::merge::{VersionCache, VersionError, Versions};
use tidemark_shared::ambient::Ambient;
use tidemark_shared::curated::CurrentGeneration;
use tidemark_shared::dataset::registry;
use tidemark_shared::error::{AnyError, ErrorKind};
use tidemark_shared::live::{LiveView, ViewId};
use tidemark_shared::log::ReadLimits;
use tidemark_shared::position::Coverage;
use tidemark_shared::rows::StreamRows;
use tidemark_shared::segment::Archive;
use tidemark_shared::telemetry::NoTraces;
use tidemark_speed::indexer::{Indexer, IndexerError, IndexerParts, IndexerSettings, IndexerStep};
use tidemark_speed::keep::{Keep, Kept, plan};

use super::Actor;
use crate::data::DATASET;
use crate::view::GatedView;
use crate::world::Serving;

/// How long rows below the coverage stay, and a view whose generation answers no more.
const GRACE: Duration = Duration::from_millis(400);

/// Keeps indexers and views in step.
pub(super) async fn keep(actor: Actor) {
    let mut keeper = Keeper::new(&actor);
    while actor.handle.idle().await {
        let faults = actor.handle.faults();
        match keeper.look().await {
            Ok(()) => actor.world.count("look"),
            Err(error) => actor.world.judge("look", &error, actor.handle.faults() > faults),
        }
    }
}

fn view_id(generation: &str) -> ViewId {
    ViewId { dataset: DATASET.to_owned(), generation: generation.to_owned() }
}

/// What `tidemark up` has for one dataset, made of the same parts.
pub(crate) struct Keeper {
    actor: Actor,
    serving: Arc<Serving>,
    view: Arc<GatedView>,
    versions: VersionCache,
    kept: Kept,
}

impl Keeper {
    pub(crate) fn new(actor: &Actor) -> Self {
        let store = actor.world.disk.store(Some(&actor.handle));
        Self {
            actor: actor.clone(),
            serving: actor.world.serving(),
            view: actor.world.gated_view(&actor.handle),
            versions: VersionCache::new(store.objects()),
            kept: Kept::new(GRACE),
        }
    }

    fn indexers(&self) -> BTreeSet<String> {
        self.serving.indexers.lock().map(|indexers| indexers.keys().cloned().collect()).unwrap_or_default()
    }

    /// One look at pointers and coverage.
    pub(crate) async fn look(&mut self) -> Result<(), AnyError> {
        let pointers = self.versions.pointers(DATASET).await.map_err(AnyError::new)?;
        let Some(plan) = plan(&pointers, &self.indexers()) else { return Ok(()) };
        for keep in &plan.keep {
            self.keep_generation(keep).await?;
        }
        self.retire(&plan.newest, &plan.retire).await
    }

    async fn keep_generation(&mut self, keep: &Keep) -> Result<(), AnyError> {
        let generation = &keep.generation;
        let newest = self.versions.newest(DATASET, generation).await;
        let table = newest.map_err(|error: VersionError| AnyError::new(error))?;
        let coverage = table.version().coverage.clone();
        let name = &generation.generation;
        if keep.opens {
            let indexer = self.open(generation, coverage.clone()).await?;
            if let Ok(mut indexers) = self.serving.indexers.lock() {
                indexers.insert(name.clone(), Arc::new(indexer));
            }
        }
        let now = self.actor.world.clock.now();
        if let Some(drop_below) = self.kept.looked(name, &coverage, now).drop_below {
            self.view.drop_below(&view_id(name), &drop_below).await.map_err(AnyError::new)?;
            self.serving.pressure.dropped(self.view.as_ref());
            self.actor.world.count("drop");
        }
        Ok(())
    }

    async fn open(&self, generation: &CurrentGeneration, coverage: Coverage) -> Result<Indexer, AnyError> {
        let (world, handle) = (&self.actor.world, self.actor.handle.shared());
        let store = world.disk.store(Some(&handle));
        let applied = registry::by_version(&store, DATASET, &generation.definition).await.map_err(AnyError::new)?;
        let applied = applied.ok_or_else(|| AnyError::new(NoDefinition))?;
        let rows = StreamRows::compile(&applied.definition).map_err(AnyError::new)?;
        let parts = IndexerParts {
            log: world.gated_log(&handle),
            topic: world.topic.clone(),
            archive: Archive::new(store, DATASET),
            live: world.gated_view(&handle) as Arc<dyn LiveView>,
            view: view_id(&generation.generation),
            rows: Arc::new(rows),
            ambient: Arc::clone(&world.clock) as Arc<dyn Ambient>,
            pressure: Arc::clone(&self.serving.pressure),
            traces: Arc::new(NoTraces),
        };
        let settings = IndexerSettings {
            behind: ReadLimits { records_max: 9, bytes_max: 1 << 20 },
            fresh_records_max: 4,
            ..IndexerSettings::default()
        };
        Indexer::open(parts, coverage, settings).await.map_err(AnyError::new)
    }

    /// Lets generations go that answer no more.
    async fn retire(&mut self, newest: &str, retire: &[String]) -> Result<(), AnyError> {
        let Some(ahead) = self.view.pin(&view_id(newest)).await.map_err(AnyError::new)? else { return Ok(()) };
        for generation in retire {
            let old = self.view.pin(&view_id(generation)).await.map_err(AnyError::new)?;
            let now = self.actor.world.clock.now();
            let goes = self.kept.retires(generation, ahead.ranges(), old.as_ref().map(|old| old.ranges()), now);
            drop(old);
            if goes {
                if let Ok(mut indexers) = self.serving.indexers.lock() {
                    indexers.remove(generation);
                }
                self.view.close(&view_id(generation)).await.map_err(AnyError::new)?;
                self.kept.gone(generation);
                self.actor.world.count("retire");
            }
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a generation names a definition that is not there")]
struct NoDefinition;

impl ErrorKind for NoDefinition {
    fn kind(&self) -> tidemark_shared::error::Kind {
        tidemark_shared::error::Kind::Corrupt
    }
}

/// Makes steps of whichever indexer nobody else is at.
pub(super) async fn index(actor: Actor) {
    let (world, serving) = (&actor.world, actor.world.serving());
    let mut chance = actor.chance();
    while actor.handle.idle().await {
        let free: Vec<(String, Arc<Indexer>)> = {
            let (Ok(indexers), Ok(busy)) = (serving.indexers.lock(), serving.busy.lock()) else { return };
            let free = indexers.iter().filter(|(generation, _)| !busy.contains(*generation));
            free.map(|(generation, indexer)| (generation.clone(), Arc::clone(indexer))).collect()
        };
        let Some((generation, indexer)) =
            free.get(usize::try_from(chance.below(free.len() as u64)).unwrap_or(0)).cloned()
        else {
            continue;
        };
        let partitions = indexer.partitions();
        let partition = partitions.get(usize::try_from(chance.below(partitions.len() as u64)).unwrap_or(0)).cloned();
        let Some(partition) = partition else { continue };
        let mark = |is_busy: bool| {
            if let Ok(mut busy) = serving.busy.lock() {
                let _changed = if is_busy { busy.insert(generation.clone()) } else { busy.remove(&generation) };
            }
        };
        mark(true);
        let faults = actor.handle.faults();
        let stepped = indexer.step(&partition).await;
        mark(false);
        match stepped {
            Ok(IndexerStep::Applied(..)) => world.count("index"),
            Ok(IndexerStep::Idle) => {}
            Ok(IndexerStep::Full) => world.count("view full"),
            // Its generation answers no more, and its view was let go meanwhile.
            Err(IndexerError::ViewGone { .. }) if !has(&serving, &generation) => world.count("index ended"),
            Err(error) => world.judge("index", &error, actor.handle.faults() > faults),
        }
    }
}

fn has(serving: &Serving, generation: &str) -> bool {
    serving.indexers.lock().is_ok_and(|indexers| indexers.contains_key(generation))
}

/// Brings all indexers as far as they come, at the end, when nothing goes wrong any more.
pub(crate) async fn index_all(actor: &Actor) -> Result<(), IndexerError> {
    let serving = actor.world.serving();
    let all: Vec<Arc<Indexer>> =
        serving.indexers.lock().map(|indexers| indexers.values().cloned().collect()).unwrap_or_default();
    for indexer in all {
        for partition in indexer.partitions() {
            while let IndexerStep::Applied(..) = indexer.step(&partition).await? {}
        }
    }
    Ok(())
}
