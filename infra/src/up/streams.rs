//! Keeps the speed layer in step with what was applied and curated: a stream for every dataset that has one, an indexer
//! for every generation that may answer, and no row in a view that the curated table has long had.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use tidemark_serving::merge::Pointer;
use tidemark_shared::curated::CurrentGeneration;
use tidemark_shared::dataset::registry;
use tidemark_shared::error::chain;
use tidemark_shared::live::LivePin;
use tidemark_shared::position::Coverage;
use tokio::sync::Notify;

use super::UpError;
use super::parts::Parts;
use super::stream::Stream;

/// Longest time between two looks at definitions, pointers and coverage. Work of this process is seen at once.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How long rows below the coverage stay, and a view whose generation answers no more: a query that read an older version
/// before finds them, and needs no second try (H7; which rows an answer has does not depend on it).
const GRACE: Duration = Duration::from_secs(2);

/// All streams of the process.
pub(super) struct Streams {
    parts: Parts,
    all: RwLock<BTreeMap<String, Arc<Stream>>>,
    /// What is known of definitions: the newest number, and whether it has a stream. `None` before the first look.
    declared: RwLock<Option<BTreeMap<String, Declared>>>,
    look: Notify,
}

/// What a dataset's newest definition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Declared {
    n: Option<u64>,
    /// True also where the definition can't be read: then no answer is better than one without the stream.
    stream: bool,
}

/// What a look at one dataset remembers for the next one.
#[derive(Default)]
pub(super) struct Seen {
    /// Coverages with the time from which on they were known; rows below the newest that is old enough may go.
    coverages: BTreeMap<String, Vec<(DateTime<Utc>, Coverage)>>,
    /// Generations that answer no more, since when.
    retired: BTreeMap<String, DateTime<Utc>>,
}

impl Streams {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, all: RwLock::default(), declared: RwLock::default(), look: Notify::new() }
    }

    pub(super) fn get(&self, dataset: &str) -> Option<Arc<Stream>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(dataset).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Stream>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// True if the dataset has a stream, whether or not it is open yet; true for all before the first look.
    pub(super) fn declares(&self, dataset: &str) -> bool {
        match &*self.declared.read().unwrap_or_else(PoisonError::into_inner) {
            None => true,
            Some(declared) => declared.get(dataset).is_some_and(|declared| declared.stream),
        }
    }

    fn declared(&self, dataset: &str) -> Option<Declared> {
        self.declared.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(dataset).copied()
    }

    fn declare(&self, dataset: &str, declared: Declared) {
        let mut all = self.declared.write().unwrap_or_else(PoisonError::into_inner);
        all.get_or_insert_default().insert(dataset.to_owned(), declared);
    }

    /// Asks for a look now.
    pub(super) fn look_now(&self) {
        self.look.notify_one();
    }

    /// Looks at definitions until it is stopped, and tells of streams that are new.
    pub(super) async fn run(
        &self,
        found: &(dyn Fn(Arc<Stream>) -> BoxFuture<'static, ()> + Send + Sync),
    ) -> Result<(), UpError> {
        let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
        let stop = self.parts.stop_speed.clone();
        while !stop.is_cancelled() {
            self.discover(found).await?;
            for stream in self.all() {
                let seen = seen.entry(stream.dataset.clone()).or_default();
                let name = format!("keeper {}", stream.dataset);
                match self.keep(&stream, seen).await {
                    Ok(()) => self.parts.tasks.works(&name),
                    Err(error) => {
                        tracing::warn!(dataset = stream.dataset, error = %chain(&error), "looking again");
                        self.parts.tasks.fails(&name, chain(&error));
                    }
                }
            }
            let waited = tokio::time::timeout(LOOK_AGAIN, self.look.notified());
            let _woken = stop.run_until_cancelled(waited).await;
        }
        Ok(())
    }

    /// Opens the streams of datasets that were applied since, and hands each to `found` once it is open. One dataset's failure
    /// keeps no other from its stream, and is tried again at the next look.
    ///
    /// # Errors
    /// If the datasets can't be listed.
    pub(super) async fn discover(
        &self,
        found: &(dyn Fn(Arc<Stream>) -> BoxFuture<'static, ()> + Send + Sync),
    ) -> Result<(), UpError> {
        let datasets = registry::list(&self.parts.store).await?;
        for dataset in &datasets {
            let name = format!("stream {dataset}");
            match self.look_at(dataset).await {
                Ok(new) => {
                    self.parts.tasks.works(&name);
                    if let Some(stream) = new {
                        found(stream).await;
                    }
                }
                Err(error) => {
                    tracing::error!(dataset, error = %chain(&error), "the dataset's stream is not taken up");
                    self.parts.tasks.fails(&name, chain(&error));
                }
            }
        }
        self.declared.write().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
        Ok(())
    }

    /// Takes up a dataset's newest definition; its stream, if that is new.
    async fn look_at(&self, dataset: &str) -> Result<Option<Arc<Stream>>, UpError> {
        let n = registry::numbers(&self.parts.store, dataset).await?.into_iter().max();
        let before = self.declared(dataset);
        if before.is_some_and(|before| before.n == n) {
            return Ok(None);
        }
        let known = self.get(dataset);
        let read = registry::latest(&self.parts.store, dataset).await;
        // Until it is open, and where it can't be read, a stream is there and has no answer; a dataset without one answers
        // while it is looked at.
        let unsure = match &read {
            Ok(applied) => applied.as_ref().is_some_and(|applied| applied.definition.stream.is_some()),
            Err(_) => true,
        };
        if before.is_none() && unsure {
            self.declare(dataset, Declared { n: None, stream: true });
        }
        let Some(applied) = read? else { return Ok(None) };
        let now = Declared { n: Some(applied.n), stream: applied.definition.stream.is_some() || known.is_some() };
        match (&applied.definition.stream, known) {
            (Some(spec), Some(known)) => {
                if spec.topic != known.topic.name.as_str() || spec.partitions > known.topic.partitions {
                    let text =
                        "its `[stream]` names another topic or more partitions: that takes effect after a restart";
                    tracing::warn!(dataset, "{text}");
                    self.parts.tasks.fails(&format!("keeper {dataset}"), text.to_owned());
                }
                *known.definition.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(applied);
            }
            (Some(_), None) => {
                let stream = Arc::new(Stream::open(&self.parts, applied).await?);
                // Without a generation nothing could answer, nor without its view.
                self.parts.batch.ensure_generation(dataset).await?;
                self.keep(&stream, &mut Seen::default()).await?;
                let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
                all.insert(dataset.to_owned(), Arc::clone(&stream));
                drop(all);
                self.declare(dataset, now);
                return Ok(Some(stream));
            }
            // A stream that the newest definition has no more goes on until the process ends: its rows are still shown.
            (None, _) => {}
        }
        self.declare(dataset, now);
        Ok(None)
    }

    /// Brings one dataset's indexers and views in step with its generations.
    pub(super) async fn keep(&self, stream: &Arc<Stream>, seen: &mut Seen) -> Result<(), UpError> {
        let pointers = self.parts.versions.pointers(&stream.dataset).await?;
        let Some(newest) = pointers.first().cloned() else { return Ok(()) };
        for (_, generation) in wanted(&pointers, |generation| stream.indexer(generation).is_some()) {
            self.keep_generation(stream, generation, seen).await?;
        }
        let now = self.parts.ambient.now();
        self.retire(stream, &newest.1.generation, seen, now).await
    }

    async fn keep_generation(
        &self,
        stream: &Arc<Stream>,
        generation: &CurrentGeneration,
        seen: &mut Seen,
    ) -> Result<(), UpError> {
        let table = self.parts.versions.newest(&stream.dataset, generation).await?;
        let coverage = table.version().coverage.clone();
        let name = &generation.generation;
        if stream.indexer(name).is_none() {
            let running = stream.open_indexer(generation, coverage.clone()).await?;
            let (indexer, stop) = (running.indexer, running.stop);
            let task = format!("indexer {} {name}", stream.dataset);
            let work = {
                let stop = stop.clone();
                move || {
                    let (indexer, stop) = (Arc::clone(&indexer), stop.clone());
                    async move { indexer.run(&stop).await.map_err(|error| chain(&error)) }
                }
            };
            self.parts.tasks.spawn(task, stop, work).await;
        }
        let now = self.parts.ambient.now();
        let known = seen.coverages.entry(name.clone()).or_default();
        if known.last().is_none_or(|(_, last)| *last != coverage) {
            known.push((now, coverage));
            self.parts.has_moved();
        }
        if let Some(drop_below) = old_enough(known, now) {
            let before = self.parts.live.usage();
            self.parts.live.drop_below(&stream.view(name), &drop_below).await?;
            // Who waits for room is woken only by room.
            if self.parts.live.usage().bytes < before.bytes {
                self.parts.pressure.dropped(self.parts.live.as_ref());
            }
        }
        Ok(())
    }

    /// Lets generations go that answer no more: the newest one's view is not behind theirs.
    async fn retire(
        &self,
        stream: &Arc<Stream>,
        newest: &str,
        seen: &mut Seen,
        now: DateTime<Utc>,
    ) -> Result<(), UpError> {
        let Some(ahead) = self.parts.live.pin(&stream.view(newest)).await? else { return Ok(()) };
        for (generation, _) in stream.all_indexers().into_iter().filter(|(generation, _)| generation != newest) {
            let old = self.parts.live.pin(&stream.view(&generation)).await?;
            if old.is_some_and(|old| is_behind(ahead.as_ref(), old.as_ref())) {
                continue;
            }
            let since = *seen.retired.entry(generation.clone()).or_insert(now);
            if now - since >= chrono::Duration::from_std(GRACE).unwrap_or_default() {
                stream.close_indexer(&generation).await?;
                seen.retired.remove(&generation);
                seen.coverages.remove(&generation);
            }
        }
        Ok(())
    }
}

/// The newest generation, and those before that still have an indexer: until the newest's view is not behind theirs, one of
/// them answers, and need not be the last but one. After a start none has one: then only the newest is built.
fn wanted(pointers: &[Pointer], has_indexer: impl Fn(&str) -> bool) -> Vec<&Pointer> {
    let newest = pointers.first().into_iter();
    newest.chain(pointers.iter().skip(1).filter(|(_, before)| has_indexer(&before.generation))).collect()
}

fn is_behind(view: &dyn LivePin, old: &dyn LivePin) -> bool {
    let visible = |partition| view.ranges().get(partition).map_or(0, |range| range.visible);
    old.ranges().iter().any(|(partition, range)| visible(partition) < range.visible)
}

/// Takes out of `known` the newest coverage that was known for the grace time, and all before it.
fn old_enough(known: &mut Vec<(DateTime<Utc>, Coverage)>, now: DateTime<Utc>) -> Option<Coverage> {
    let grace = chrono::Duration::from_std(GRACE).unwrap_or_default();
    let count = known.iter().take_while(|(since, _)| now - *since >= grace).count();
    // The newest stays, so that it is known again.
    let dropped = count.checked_sub(1)?;
    let coverage = known[dropped].1.clone();
    let keep_from = if count == known.len() { dropped } else { count };
    known.drain(..keep_from);
    Some(coverage)
}

#[cfg(test)]
mod tests {
    use tidemark_shared::position::LogPartition;

    use super::*;

    fn coverage(end: u64) -> Coverage {
        [(LogPartition::files(), end)].into_iter().collect()
    }

    #[test]
    fn rows_go_when_a_higher_coverage_has_been_known_for_the_grace() {
        let start = DateTime::<Utc>::UNIX_EPOCH;
        let at = |seconds: i64| start + chrono::Duration::seconds(seconds);
        let mut known = vec![(at(0), coverage(1)), (at(1), coverage(2)), (at(5), coverage(3))];
        assert_eq!(old_enough(&mut known, at(1)), None);
        assert_eq!(old_enough(&mut known, at(4)), Some(coverage(2)));
        assert_eq!(known, [(at(5), coverage(3))]);
        assert_eq!(old_enough(&mut known, at(9)), Some(coverage(3)));
        assert_eq!(known, [(at(5), coverage(3))], "the newest stays known");
    }

    #[test]
    fn a_generation_before_is_kept_up_only_while_it_has_an_indexer() {
        let pointer = |n, name: &str| (n, CurrentGeneration::new(name, "d", 1));
        let pointers = [pointer(3, "new"), pointer(2, "skipped"), pointer(1, "old")];
        let names = |has: &[&str]| -> Vec<String> {
            let has = |name: &str| has.contains(&name);
            wanted(&pointers, has).into_iter().map(|(_, generation)| generation.generation.clone()).collect()
        };
        assert_eq!(names(&[]), ["new"]);
        assert_eq!(names(&["old"]), ["new", "old"]);
    }
}
