//! `vacuum`: finds objects that nothing names any more, and removes those that are old enough.
//!
//! What is named: data files of the current generation's table version, everything of its Delta log, its rejects,
//! the bytes of files in the ledger. What a running ingest, recompute or query may still need is young; the caller's
//! safe age keeps it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use object_store::ObjectMeta;
use object_store::path::Path;
use tidemark_shared::layout;
use tidemark_shared::ledger::Location;

use crate::curated::table::CuratedTable;
use crate::error::BatchError;
use crate::report::VacuumReport;
use crate::service::Batch;

/// What of a dataset's objects is in use.
#[derive(Default)]
pub(crate) struct Named {
    /// Keys in use: data files, raw files, and files removed so lately that a query may still read them.
    pub(crate) keys: BTreeSet<Path>,
    /// Folders everything in which is in use.
    pub(crate) folders: Vec<Path>,
    /// The current generation's folder.
    pub(crate) current: Option<Path>,
    /// When the current generation took over: before that, queries read the one before it.
    pub(crate) switched_at: DateTime<Utc>,
}

/// What vacuum does with an object. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Named,
    TooYoung,
    Orphan,
}

/// Decides over one object. `newest_of_generation` is the last write to the generation it belongs to: a recompute in
/// the making writes on and on, and a generation that was in use counts as old only from the switch on.
pub(crate) fn fate(
    object: &ObjectMeta,
    named: &Named,
    newest_of_generation: Option<DateTime<Utc>>,
    before: DateTime<Utc>,
) -> Fate {
    let below = |folder: &Path| object.location.prefix_matches(folder);
    if named.keys.contains(&object.location) || named.folders.iter().any(below) {
        return Fate::Named;
    }
    let written = object.last_modified;
    let in_use_until = match newest_of_generation {
        Some(newest) if !named.current.as_ref().is_some_and(below) => written.max(newest).max(named.switched_at),
        _ => written,
    };
    if in_use_until < before { Fate::Orphan } else { Fate::TooYoung }
}

impl Batch {
    /// Removes orphans that were last written more than `older_than` ago; in a dry run it only names them.
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn vacuum(&self, dataset: &str, older_than: Duration, dry_run: bool) -> Result<VacuumReport, BatchError> {
        self.latest_definition(dataset).await?;
        let age = chrono::Duration::from_std(older_than).unwrap_or(chrono::Duration::MAX);
        let before = self.ambient.now().checked_sub_signed(age).unwrap_or(DateTime::<Utc>::MIN_UTC);
        // Objects are listed before names are read: what is named later was written later, and is not in the list.
        let mut objects = self.store.list(&layout::curated(dataset)).await?;
        objects.extend(self.store.list(&layout::raw_files(dataset)).await?);
        let named = self.named(dataset, before).await?;
        let newest = newest_by_generation(&objects, dataset);
        let mut report = VacuumReport { dataset: dataset.to_owned(), dry_run, ..VacuumReport::default() };
        for object in &objects {
            let newest = generation_of(&object.location, dataset).and_then(|g| newest.get(&g).copied());
            match fate(object, &named, newest, before) {
                Fate::Named => {}
                Fate::TooYoung => report.too_young += 1,
                Fate::Orphan => {
                    report.removed.push(object.location.to_string());
                    report.removed_bytes += object.size;
                }
            }
        }
        if !dry_run {
            let keys = report.removed.iter().map(|key| Path::parse(key).expect("listed just now")).collect();
            self.store.delete_many(keys).await?;
        }
        self.remove_leftovers(dataset, older_than, &mut report).await?;
        Ok(report)
    }

    /// Unfinished writes that killed processes left behind: no listing shows them, they only take room.
    async fn remove_leftovers(
        &self,
        dataset: &str,
        older_than: Duration,
        report: &mut VacuumReport,
    ) -> Result<(), BatchError> {
        let ours = [layout::curated(dataset), layout::raw_files(dataset), layout::ledger(dataset)];
        for leftover in self.store.upkeep().leftovers(older_than).await? {
            let of_dataset = Path::parse(&leftover.key).is_ok_and(|key| ours.iter().any(|f| key.prefix_matches(f)));
            if !of_dataset {
                continue;
            }
            report.removed.push(leftover.handle.clone());
            report.removed_bytes += leftover.bytes.unwrap_or(0);
            if !report.dry_run {
                self.store.upkeep().remove_leftover(&leftover).await?;
            }
        }
        Ok(())
    }

    async fn named(&self, dataset: &str, before: DateTime<Utc>) -> Result<Named, BatchError> {
        let mut named = Named { folders: vec![layout::currents(dataset)], ..Named::default() };
        for file in self.ledger(dataset).state().await?.files() {
            if let Location::RawZone { key } = &file.file.location {
                named.keys.extend(Path::parse(key).ok());
            }
        }
        let Some((number, pointer)) = self.pointer(dataset).await? else { return Ok(named) };
        let pointers = self.store.list(&layout::currents(dataset)).await?;
        let newest = pointers.iter().find(|meta| layout::number_of(&meta.location) == Some(number));
        named.switched_at = newest.map(|meta| meta.last_modified).unwrap_or_default();
        let Some(table) = CuratedTable::open(&self.store.objects(), dataset, &pointer.generation).await? else {
            return Ok(named);
        };
        named.current = Some(layout::curated(dataset).join(pointer.generation.as_str()));
        named.folders.push(table.root.clone().join("_delta_log"));
        named.folders.push(layout::rejects(dataset, &pointer.generation));
        if let Some(successor) = table.successor() {
            named.folders.push(layout::curated(dataset).join(successor));
        }
        for view in table.snapshot.log_data().iter() {
            named.keys.insert(table.root.parts().chain(view.object_store_path().parts()).collect());
        }
        named.keys.extend(table.removed_since(before).await?);
        Ok(named)
    }
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

    #[test]
    fn only_old_and_unnamed_objects_go() {
        let time = |at| DateTime::from_timestamp(at, 0).expect("a small number of seconds");
        let named = |switched_at| Named {
            keys: BTreeSet::from([Path::from("curated/d/g/table/a")]),
            folders: vec![Path::from("curated/d/g/table/_delta_log")],
            current: Some(Path::from("curated/d/g")),
            switched_at: time(switched_at),
        };
        let cases = [
            ("curated/d/g/table/a", 0, Some(0), 0, Fate::Named),
            ("curated/d/g/table/_delta_log/0.json", 0, Some(0), 0, Fate::Named),
            ("curated/d/g/table/b", 5, Some(99), 0, Fate::Orphan),
            ("curated/d/g/table/b", 50, Some(50), 0, Fate::TooYoung),
            ("curated/d/old/table/a", 5, Some(5), 0, Fate::Orphan),
            // It answered until a moment ago.
            ("curated/d/old/table/a", 5, Some(5), 40, Fate::TooYoung),
            // A generation in the making: its first files are old, its last one is not.
            ("curated/d/new/table/a", 5, Some(50), 0, Fate::TooYoung),
            ("raw/d/files/data/ab/x.csv", 5, None, 40, Fate::Orphan),
        ];
        for (key, at, newest, switched, wanted) in cases {
            let decided = fate(&object(key, at), &named(switched), newest.map(time), time(20));
            assert_eq!(decided, wanted, "{key} at {at}");
        }
    }
}
