//! `vacuum`: finds objects that nothing names any more, and removes those that are old enough.
//!
//! What is named: data files of the current generation's table version, everything of its Delta log, its rejects,
//! the bytes of files in the ledger, and everything of archived streams: segments are facts, and none is ever an orphan. What a running ingest or recompute may still name is young; the caller's safe age
//! keeps it. What a running query may still read is kept for the grace, which begins when queries moved on ([`replaced`]).
//!
//! Age alone is no proof: a run may take, or stand still, longer than any age. So before something goes that a run could
//! still name, a *fence* is put where that run must name it, in the ledger or in the table's log: an entry that changes
//! nothing, and behind which nobody's older plan goes through. Whoever meets the fence takes it that his files are gone.

mod replaced;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::ObjectMeta;
use object_store::path::Path;
use tidemark_shared::backoff::{Attempts, Backoff};
use tidemark_shared::layout;
use tidemark_shared::ledger::{Entry, LedgerState, Location};
use tidemark_shared::position::Source;

use crate::curated::table::{Committed, TableHead};
use crate::error::BatchError;
use crate::report::VacuumReport;
use crate::service::{Batch, GRACE_MAX, VacuumRequest};

/// A vacuum begins anew when others committed meanwhile.
const BACKOFF: Backoff = Backoff { attempts_max: 100, ..Backoff::RACE };

/// What of a dataset's objects is in use.
#[derive(Default)]
pub(crate) struct Named {
    /// Keys in use: data files, raw files, and files removed so lately that a query may still read them.
    pub(crate) keys: BTreeSet<Path>,
    /// Folders everything in which is in use.
    pub(crate) folders: Vec<Path>,
    /// The current generation's folder.
    pub(crate) current: Option<Path>,
    /// Generations that another took over from, not long ago or not yet, and when: before that, queries read them.
    pub(crate) replaced: HashMap<String, DateTime<Utc>>,
    /// True while the first generation is being made or one takes over from another: then nothing curated goes, for
    /// there is no log to put a fence into.
    pub(crate) switching: bool,
}

/// The moments from which on objects are too young.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For what no commit and no entry names.
    pub(crate) unnamed: DateTime<Utc>,
    /// For what queries may have read: generations that answered, and removed data files.
    pub(crate) answered: DateTime<Utc>,
}

impl Limits {
    /// With force, nobody else is at work, and the age alone counts; otherwise the grace does, too.
    pub(crate) fn new(now: DateTime<Utc>, request: &VacuumRequest, grace: Duration) -> Self {
        let before = |age: Duration| {
            let age = chrono::Duration::from_std(age).unwrap_or(chrono::Duration::MAX);
            now.checked_sub_signed(age).unwrap_or(DateTime::<Utc>::MIN_UTC)
        };
        Self { unnamed: before(request.older_than), answered: before(kept(request, grace)) }
    }
}

/// How long what queries may have read is kept.
fn kept(request: &VacuumRequest, grace: Duration) -> Duration {
    if request.force { request.older_than } else { request.older_than.max(grace) }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What vacuum does with an object. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Named,
    TooYoung,
    Orphan,
}

/// Decides over one object. `alive_at` is the last sign of life of the generation it belongs to: a recompute in the making
/// writes on and on, and a generation that was in use counts as old only from the switch to the next one on.
pub(crate) fn fate(object: &ObjectMeta, named: &Named, alive_at: Option<DateTime<Utc>>, limits: Limits) -> Fate {
    let below = |folder: &Path| object.location.prefix_matches(folder);
    if named.keys.contains(&object.location) || named.folders.iter().any(below) {
        return Fate::Named;
    }
    let written = object.last_modified;
    let old = match alive_at {
        Some(_) if named.switching => false,
        Some(alive_at) if !named.current.as_ref().is_some_and(below) => written.max(alive_at) < limits.answered,
        _ => written < limits.unnamed,
    };
    if old { Fate::Orphan } else { Fate::TooYoung }
}

/// What one look at the store found.
struct Findings {
    orphans: Vec<ObjectMeta>,
    too_young: Vec<ObjectMeta>,
    /// Where a fence goes before anything curated does.
    table: Option<TableHead>,
}

impl Batch {
    /// Removes orphans that are old enough; in a dry run it only names them. See [`VacuumRequest`].
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn vacuum(&self, dataset: &str, request: &VacuumRequest) -> Result<VacuumReport, BatchError> {
        if self.settings.grace > GRACE_MAX {
            return Err(BatchError::BadRequest {
                message: "the grace is longer than tables remember which data files were removed when".to_owned(),
                hint: Some("set `batch.grace` to 7 days at most".to_owned()),
            });
        }
        let has_stream = self.latest_definition(dataset).await?.definition.stream.is_some();
        let mut attempts = Attempts::new(BACKOFF);
        loop {
            let Findings { mut orphans, too_young, table } = self.findings(dataset, has_stream, request).await?;
            if !request.dry_run {
                if !request.force && !self.put_fences(dataset, table.as_ref(), &mut orphans).await? {
                    if attempts.again(self.ambient.random()).await {
                        continue;
                    }
                    return Err(BatchError::Contended { dataset: dataset.to_owned(), attempts: attempts.failed() });
                }
                self.remove(dataset, &orphans).await?;
            }
            let mut report = VacuumReport {
                dataset: dataset.to_owned(),
                removed: orphans.iter().map(|object| object.location.to_string()).collect(),
                removed_bytes: orphans.iter().map(|object| object.size).sum(),
                too_young: too_young.len() as u64,
                spared: too_young.iter().map(|object| object.location.to_string()).collect(),
                spared_bytes: too_young.iter().map(|object| object.size).sum(),
                older_than_ms: millis(request.older_than),
                kept_ms: millis(kept(request, self.settings.grace)),
                dry_run: request.dry_run,
                ..VacuumReport::default()
            };
            self.remove_leftovers(dataset, request.older_than, &mut report).await?;
            return Ok(report);
        }
    }

    async fn findings(&self, dataset: &str, has_stream: bool, request: &VacuumRequest) -> Result<Findings, BatchError> {
        let limits = Limits::new(self.ambient.now(), request, self.settings.grace);
        // Objects are listed before names are read: what is named later was written later, and is not in the list.
        let mut objects = self.store.list(&layout::curated(dataset)).await?;
        objects.extend(self.store.list(&layout::raw_files(dataset)).await?);
        // Our own bans make nothing young; they go with the last of their generation.
        objects.retain(|object| !is_ban(&object.location, dataset));
        let (named, table) = self.named(dataset, has_stream, request, limits).await?;
        let mut alive = newest_by_generation(&objects, dataset);
        for (generation, at) in &named.replaced {
            alive.entry(generation.clone()).and_modify(|newest| *newest = (*newest).max(*at));
        }
        let mut found = Findings { orphans: Vec::new(), too_young: Vec::new(), table };
        for object in objects {
            let alive_at = generation_of(&object.location, dataset).and_then(|g| alive.get(&g).copied());
            match fate(&object, &named, alive_at, limits) {
                Fate::Named => {}
                Fate::TooYoung => found.too_young.push(object),
                Fate::Orphan => found.orphans.push(object),
            }
        }
        Ok(found)
    }

    /// Sees to it that nobody names `orphans` from now on; those that somebody named meanwhile are dropped from the
    /// list. False: the table was changed, look again.
    async fn put_fences(
        &self,
        dataset: &str,
        table: Option<&TableHead>,
        orphans: &mut Vec<ObjectMeta>,
    ) -> Result<bool, BatchError> {
        let attempt = self.ambient.unique_id();
        let generations: BTreeSet<String> =
            orphans.iter().filter_map(|object| generation_of(&object.location, dataset)).collect();
        if let (Some(table), false) = (table, generations.is_empty()) {
            for generation in generations.iter().filter(|generation| **generation != table.generation) {
                self.store.put_new(&layout::ban(dataset, generation), Bytes::from_static(b"{}")).await?;
            }
            if let Committed::Conflict = table.fence(&attempt).await? {
                return Ok(false);
            }
        }
        let raw_files = layout::raw_files(dataset);
        let is_raw = |object: &ObjectMeta| object.location.prefix_matches(&raw_files);
        // From the beginning, so that whoever names an orphan is seen, whatever was read before.
        let mut state = self.ledger(dataset).state().await?;
        let fence = |state: &LedgerState| {
            let named = raw_keys(state);
            orphans.retain(|object| !named.contains(&object.location));
            orphans.iter().any(is_raw).then(|| Entry::fence(state.end()))
        };
        self.ledger(dataset).append(&mut state, self.ambient.as_ref(), fence).await?;
        Ok(true)
    }

    async fn remove(&self, dataset: &str, orphans: &[ObjectMeta]) -> Result<(), BatchError> {
        self.store.delete_many(orphans.iter().map(|object| object.location.clone()).collect()).await?;
        // A ban stands until nothing is left that a recompute could take for a table.
        let left = self.store.list(&layout::curated(dataset)).await?;
        let (bans, others): (Vec<_>, Vec<_>) = left.iter().partition(|object| is_ban(&object.location, dataset));
        let full: BTreeSet<_> = others.iter().filter_map(|object| generation_of(&object.location, dataset)).collect();
        let is_alone = |ban: &&&ObjectMeta| {
            generation_of(&ban.location, dataset).is_some_and(|generation| !full.contains(&generation))
        };
        let alone = bans.iter().filter(is_alone).map(|ban| ban.location.clone()).collect();
        Ok(self.store.delete_many(alone).await?)
    }

    /// Unfinished writes that killed processes left behind: no listing shows them, they only take room.
    async fn remove_leftovers(
        &self,
        dataset: &str,
        older_than: Duration,
        report: &mut VacuumReport,
    ) -> Result<(), BatchError> {
        let ours = [
            layout::curated(dataset),
            layout::raw_files(dataset),
            layout::streams(dataset),
            layout::stream_sources(dataset),
            layout::ledger(dataset),
            layout::definitions(dataset),
        ];
        for leftover in self.store.upkeep().leftovers(older_than).await? {
            let of_dataset = Path::parse(&leftover.key).is_ok_and(|key| ours.iter().any(|f| key.prefix_matches(f)));
            if !of_dataset {
                continue;
            }
            report.leftovers.push(leftover.key.clone());
            report.leftover_bytes += leftover.bytes.unwrap_or(0);
            if !report.dry_run {
                self.store.upkeep().remove_leftover(&leftover).await?;
            }
        }
        Ok(())
    }

    async fn named(
        &self,
        dataset: &str,
        has_stream: bool,
        request: &VacuumRequest,
        limits: Limits,
    ) -> Result<(Named, Option<TableHead>), BatchError> {
        let mut named = Named { folders: vec![layout::currents(dataset)], ..Named::default() };
        named.keys = raw_keys(&self.ledger(dataset).state().await?);
        named.switching = !request.force;
        let Some((number, pointer)) = self.pointer(dataset).await? else { return Ok((named, None)) };
        let table = TableHead::open(&self.store.objects(), dataset, &pointer.generation).await?;
        // A stream that the newest definition has no more is still served by whoever has it open.
        let is_stream = |table: &TableHead| table.coverage().iter().any(|(of, _)| of.source != Source::files());
        // With force, no query is at work that could still move.
        let by_notes = !request.force && (has_stream || table.as_ref().is_some_and(is_stream));
        named.replaced = self.replaced_since(dataset, number, by_notes, limits.answered).await?;
        let Some(table) = table else { return Ok((named, None)) };
        named.current = Some(layout::curated(dataset).join(pointer.generation.as_str()));
        named.folders.push(layout::delta_log(dataset, &pointer.generation));
        named.folders.push(layout::rejects(dataset, &pointer.generation));
        if let Some(successor) = table.successor() {
            named.folders.push(layout::curated(dataset).join(successor));
        }
        named.switching &= table.successor().is_some();
        for view in table.snapshot.log_data().iter() {
            named.keys.insert(table.root.parts().chain(view.object_store_path().parts()).collect());
        }
        named.keys.extend(table.removed_since(limits.answered).await?);
        Ok((named, Some(table)))
    }
}

/// Keys of the raw files that the ledger names, whatever became of them.
fn raw_keys(state: &LedgerState) -> BTreeSet<Path> {
    let keys = state.files().filter_map(|file| match &file.file.location {
        Location::RawZone { key } => Path::parse(key).ok(),
        Location::InPlace { .. } => None,
    });
    keys.collect()
}

fn is_ban(key: &Path, dataset: &str) -> bool {
    generation_of(key, dataset).is_some_and(|generation| *key == layout::ban(dataset, &generation))
}

/// The generation that a key belongs to; the pointers' folder counts as one, to no effect.
fn generation_of(key: &Path, dataset: &str) -> Option<String> {
    key.prefix_match(&layout::curated(dataset))?.next().map(|part| part.as_ref().to_owned())
}

fn newest_by_generation(objects: &[ObjectMeta], dataset: &str) -> HashMap<String, DateTime<Utc>> {
    let mut newest: HashMap<String, DateTime<Utc>> = HashMap::new();
    for object in objects {
        if let Some(generation) = generation_of(&object.location, dataset) {
            let latest = newest.entry(generation).or_insert(object.last_modified);
            *latest = object.last_modified.max(*latest);
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, at: i64) -> ObjectMeta {
        let last_modified = DateTime::from_timestamp(at, 0).expect("a small number of seconds");
        ObjectMeta { location: Path::from(key), last_modified, size: 1, e_tag: None, version: None }
    }

    fn time(at: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(at, 0).expect("a small number of seconds")
    }

    #[test]
    fn only_old_and_unnamed_objects_go() {
        let named = Named {
            keys: BTreeSet::from([Path::from("curated/d/g/table/a")]),
            folders: vec![Path::from("curated/d/g/table/_delta_log")],
            current: Some(Path::from("curated/d/g")),
            replaced: HashMap::new(),
            switching: false,
        };
        let limits = Limits { unnamed: time(20), answered: time(10) };
        let cases = [
            ("curated/d/g/table/a", 0, Some(0), Fate::Named),
            ("curated/d/g/table/_delta_log/0.json", 0, Some(0), Fate::Named),
            ("curated/d/g/table/b", 5, Some(99), Fate::Orphan),
            ("curated/d/g/table/b", 50, Some(50), Fate::TooYoung),
            ("curated/d/old/table/a", 5, Some(5), Fate::Orphan),
            // It answered until a moment ago, or within the grace.
            ("curated/d/old/table/a", 5, Some(40), Fate::TooYoung),
            ("curated/d/old/table/a", 5, Some(15), Fate::TooYoung),
            ("curated/d/old/table/a", 5, Some(9), Fate::Orphan),
            // A generation in the making: its first files are old, its last one is not.
            ("curated/d/new/table/a", 5, Some(50), Fate::TooYoung),
            ("raw/d/files/data/ab/x.csv", 5, None, Fate::Orphan),
            ("raw/d/files/data/ab/x.csv", 15, None, Fate::Orphan),
        ];
        for (key, at, alive_at, wanted) in cases {
            let decided = fate(&object(key, at), &named, alive_at.map(time), limits);
            assert_eq!(decided, wanted, "{key} at {at}");
        }
        let switching = Named { switching: true, ..named };
        for (key, newest, wanted) in [
            ("curated/d/g/table/b", Some(time(5)), Fate::TooYoung),
            ("curated/d/old/table/a", Some(time(5)), Fate::TooYoung),
            ("raw/d/files/data/ab/x.csv", None, Fate::Orphan),
        ] {
            assert_eq!(fate(&object(key, 5), &switching, newest, limits), wanted, "{key} during a switch");
        }
    }

    #[test]
    fn the_grace_holds_whatever_the_age_unless_forced() {
        let grace = Duration::from_secs(30);
        for (older_than, force, unnamed, answered) in
            [(10, false, 90, 70), (50, false, 50, 50), (10, true, 90, 90), (0, true, 100, 100)]
        {
            let request = VacuumRequest { older_than: Duration::from_secs(older_than), force, dry_run: false };
            let limits = Limits::new(time(100), &request, grace);
            assert_eq!((limits.unnamed, limits.answered), (time(unnamed), time(answered)), "{request:?}");
        }
        let forever = VacuumRequest { older_than: Duration::MAX, force: false, dry_run: false };
        assert_eq!(Limits::new(time(100), &forever, grace).unnamed, DateTime::<Utc>::MIN_UTC);
    }
}
