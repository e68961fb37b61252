//! Queries through the product's own engine and cuts; every answer is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tidemark_serving::merge::{ServedTables, SpeedStatus, VersionCache};
use tidemark_shared::ambient::Ambient;
use tidemark_shared::curated::{heads, pointer};
use tidemark_shared::error::{AnyError, chain};
use tidemark_shared::position::{Coverage, LogPartition};
use tidemark_shared::sql::{CutError, DatasetAsOf, NoCatalogTables, Query, SqlConfig, SqlEngine, SqlError, Wants};

use super::Actor;
use crate::data::{DATASET, PARTITIONS};
use crate::oracle::{self, Row, STATEMENT};
use crate::world::World;

/// What the speed layer tells the serving layer.
struct Speed {
    world: Arc<World>,
}

impl fmt::Debug for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speed").finish_non_exhaustive()
    }
}

#[async_trait]
impl SpeedStatus for Speed {
    fn has_stream(&self, _: &str) -> bool {
        true
    }

    async fn log_ends(&self, _: &str) -> Result<Coverage, AnyError> {
        let end = |number| (self.world.partition(number), self.world.history.end(number));
        Ok((0..PARTITIONS).map(end).collect())
    }

    async fn oldest_beyond(&self, _: &str, _: &Coverage) -> Result<Option<DateTime<Utc>>, AnyError> {
        Ok(None)
    }

    fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::Sender::new(0).subscribe()
    }

    async fn lost(&self, _: &str) -> Result<BTreeMap<LogPartition, Vec<Range<u64>>>, AnyError> {
        Ok(BTreeMap::new())
    }
}

/// The engine of an actor, on the views of the process that answers now.
fn engine(actor: &Actor) -> Result<SqlEngine, SqlError> {
    let world = &actor.world;
    let store = world.disk.store(Some(&actor.handle));
    let served = ServedTables::new(
        store.clone(),
        Arc::new(VersionCache::new(store.objects())),
        world.gated_view(&actor.handle),
        Arc::new(Speed { world: Arc::clone(world) }),
        Arc::clone(&world.clock) as Arc<dyn Ambient>,
    );
    let served = served.with_wait_max(Duration::ZERO);
    let config = SqlConfig { threads: Some(1), memory_bytes_max: 64 << 20, spill_bytes_max: 0, ..SqlConfig::default() };
    Ok(SqlEngine::new(store.objects(), Arc::new(NoCatalogTables), config)?.with_datasets(Arc::new(served)))
}

async fn answer(engine: &SqlEngine, wants: Wants) -> Result<(DatasetAsOf, Vec<Row>), SqlError> {
    let query = Query { sql: STATEMENT.to_owned(), wants, ..Query::default() };
    let mut answer = engine.query(&query).await?;
    let mut batches = Vec::new();
    while let Some(batch) = answer.next().await? {
        batches.push(batch);
    }
    let as_of = answer.as_of.datasets.get(DATASET).cloned().unwrap_or_default();
    let rows = oracle::rows(&batches).map_err(|message| SqlError::Syntax { message })?;
    Ok((as_of, rows))
}

/// Asks for all rows, now and then for those of an earlier answer.
pub(super) async fn query(actor: Actor) {
    let world = &actor.world;
    let mut chance = actor.chance();
    let engine = match engine(&actor) {
        Ok(engine) => engine,
        Err(error) => return world.found(format!("no engine: {error}")),
    };
    // Of its own answers: each querier stands for a process of its own, and of other processes it knows notes alone.
    let (mut earlier, mut reached): (Vec<Coverage>, Coverage) = (Vec::new(), Coverage::new());
    while actor.handle.idle().await {
        let again = match chance.per_mille(200) && !earlier.is_empty() {
            true => Some(earlier[usize::try_from(chance.below(earlier.len() as u64)).unwrap_or(0)].clone()),
            false => None,
        };
        if let Some(positions) = ask_once(&actor, &engine, again.as_ref(), &reached).await {
            if again.is_none() {
                reached.clone_from(&positions);
            }
            earlier.push(positions);
        }
    }
}

/// One question; gives the positions of an answer that was right.
async fn ask_once(actor: &Actor, engine: &SqlEngine, again: Option<&Coverage>, before: &Coverage) -> Option<Coverage> {
    let (world, faults) = (&actor.world, actor.handle.faults());
    let since = world.answered.load(Ordering::Relaxed);
    let serving = world.serving();
    let views: BTreeSet<String> =
        serving.indexers.lock().map(|indexers| indexers.keys().cloned().collect()).unwrap_or_default();
    let mut wants = Wants::default();
    wants.positions.extend(again.cloned().map(|again| (DATASET.to_owned(), again)));
    let (as_of, rows) = match answer(engine, wants).await {
        Ok(answer) => answer,
        Err(error) => {
            let without_view = match &error {
                SqlError::Cut { source: CutError::NoView { generation }, .. } => Some(generation.clone()),
                _ => None,
            };
            let may_lack = match without_view {
                Some(generation) => may_lack_view(world, &generation, &views).await,
                None => false,
            };
            judge(actor, &error, faults, again.is_some(), may_lack);
            return None;
        }
    };
    let checked = match again {
        Some(again) if *again != as_of.positions => Err(format!("asked for {again:?}, got {:?}", as_of.positions)),
        Some(again) => oracle::compare(world, &as_of.definition, again, &rows).await,
        None => oracle::check(world, &as_of, &rows, before).await,
    };
    let went_on = goes_on(world, &as_of.generation, since).await;
    if let Err(wrong) = checked.and(went_on) {
        let generation = &as_of.generation;
        world.found(format!("answer of {generation} version {}: {wrong}", as_of.table_version));
        return None;
    }
    world.count(if again.is_some() { "answer again" } else { "answer" });
    Some(as_of.positions)
}

/// H9: whoever is asked, the answer is of no generation before one that had answered when the question began.
async fn goes_on(world: &World, generation: &str, since: u64) -> Result<(), String> {
    let objects = world.disk.store(None).objects();
    let mut n = 0;
    while let Some(found) = pointer(objects.as_ref(), DATASET, n).await.map_err(|error| chain(&error))? {
        if found.generation == generation {
            world.answered.fetch_max(n, Ordering::Relaxed);
            return match n < since {
                true => Err(format!("its pointer is {n}, and {since} had answered before")),
                false => Ok(()),
            };
        }
        n += 1;
    }
    Err("no pointer names its generation".to_owned())
}

/// Whether a generation may be without a view, where `views` were there when the question began: all were, or it was noted
/// at a moment when all were, and takes its view on later.
async fn may_lack_view(world: &World, generation: &str, views: &BTreeSet<String>) -> bool {
    if views.is_empty() || views.contains(generation) {
        return views.is_empty();
    }
    let objects = world.disk.store(None).objects();
    let noted = heads(objects.as_ref(), DATASET, None).await.ok().and_then(|heads| heads.noted);
    let Some(n) = noted else { return false };
    let found = pointer(objects.as_ref(), DATASET, n).await.ok().flatten();
    found.is_some_and(|found| found.generation == generation)
}

/// A question without an answer: after a fault, before there is a view, or one that can't be answered again.
fn judge(actor: &Actor, error: &SqlError, faults: u64, asked_again: bool, may_lack_view: bool) {
    let world = &actor.world;
    if let SqlError::Cut { source, .. } = error {
        let expected = match source {
            CutError::NoView { .. } => may_lack_view,
            // Another process saw that the new view was ready, which this one finds short of its own last answer.
            CutError::ViewBehind { .. } => true,
            CutError::NotReached { .. } | CutError::PositionsGone { .. } => asked_again,
            _ => false,
        };
        if expected {
            return world.count(&format!("no answer: {}", source.code().unwrap_or("failed")));
        }
        if !matches!(source, CutError::Failed(_)) {
            return world.found(format!("no answer: {error}: {source}"));
        }
    }
    world.judge("answer", error, actor.handle.faults() > faults);
}

/// Asks at the end, when nothing goes wrong any more.
pub(crate) async fn ask(actor: &Actor) -> Option<(DatasetAsOf, Vec<Row>)> {
    let engine = engine(actor).map_err(|error| actor.world.found(format!("no engine: {error}"))).ok()?;
    match answer(&engine, Wants::default()).await {
        Ok(answer) => Some(answer),
        Err(error) => {
            actor.world.found(format!("no answer at the end: {}", chain(&error)));
            None
        }
    }
}
