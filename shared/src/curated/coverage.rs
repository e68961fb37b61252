//! The coverage of a Delta table's version, out of the application transactions in its log.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use delta_kernel::actions::LOG_TXN_SCHEMA;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::{Engine, Snapshot};
use deltalake::logstore::LogStoreRef;
use object_store::path::Path;

use super::{CuratedError, table_url};
use crate::counts::Totals;
use crate::layout;
use crate::position::{Coverage, LogPartition};

/// Prefix of the application ids that are ours.
const PREFIX: &str = "tidemark/";

/// Application id that every commit which removes files moves (H2). It is no partition of the log.
pub const LAYOUT_TRANSACTION: &str = "tidemark/layout";

/// Application id that a vacuum moves, together with the coverage's own, before it removes data files that no commit
/// names: a commit that was planned before does not go through afterwards. It is no partition of the log either.
pub const VACUUM_TRANSACTION: &str = "tidemark/vacuum";

/// Application id that every commit which takes in segments moves. It is no partition of the log: by it, whoever means
/// the table as a whole (a freeze, a vacuum's fence) meets commits of partitions that he does not know of yet.
pub const STREAMS_TRANSACTION: &str = "tidemark/streams";

/// Prefixes of what a commit says of log partitions beside their coverage. They are outside of [`PREFIX`], so that nobody
/// takes them for partitions.
const COUNTS_PREFIX: &str = "tidemark-counts/";
const LOST_PREFIX: &str = "tidemark-lost/";

/// The application transactions under which a commit keeps what the records of `partition` became, below the coverage that
/// it moves: `tidemark-counts/trips/3/records` and so on. They are cumulative (H8).
#[must_use]
pub fn counts_transactions(partition: &LogPartition, totals: &Totals) -> [(String, u64); 4] {
    let id = |what: &str| format!("{COUNTS_PREFIX}{partition}/{what}");
    [
        (id("records"), totals.records),
        (id("accepted"), totals.accepted),
        (id("filtered"), totals.filtered),
        (id("rejected"), totals.rejected),
    ]
}

/// The application transaction by which a commit remembers that `lost` left the log before it was archived: its id ends with
/// the range's start, its version is the exclusive end.
#[must_use]
pub fn lost_transaction(partition: &LogPartition, lost: &Range<u64>) -> (String, u64) {
    (format!("{LOST_PREFIX}{partition}/{}", lost.start), lost.end)
}

/// Application id under which a commit records how far it covers `partition`: `tidemark/files`, `tidemark/trips/3`.
/// The transaction's version is the exclusive end.
#[must_use]
pub fn transaction_id(partition: &LogPartition) -> String {
    format!("{PREFIX}{partition}")
}

/// What the application transactions of a table's version say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transactions {
    /// How far the version covers each partition of the log.
    pub coverage: Coverage,
    /// Number of times that files were removed (compaction, rewrite, withdrawal); 0 if never.
    pub layout: u64,
    /// Number of times that a vacuum was about to remove files that no commit names.
    pub vacuums: u64,
    /// Number of commits that took in segments.
    pub streams: u64,
    /// What the records of each log partition became, below the coverage.
    pub counts: BTreeMap<LogPartition, Totals>,
    /// Ranges below the coverage that left the log before they were archived, in order.
    pub lost: BTreeMap<LogPartition, Vec<Range<u64>>>,
}

impl Transactions {
    /// Reads those of version `version` of the generation's table, in one replay of its log.
    ///
    /// # Errors
    /// [`CuratedError::Coverage`].
    pub async fn read(
        log_store: &LogStoreRef,
        dataset: &str,
        generation: &str,
        version: u64,
    ) -> Result<Self, CuratedError> {
        let url = table_url(dataset, generation);
        let root = layout::table(dataset, generation);
        Self::replay(log_store.engine(None), root, move |engine| {
            Snapshot::builder_for(&url).at_version(version).build(engine)
        })
        .await
    }

    /// Reads those of a snapshot of the table at `root`, so that its log need not be listed again.
    pub(super) async fn of_snapshot(
        log_store: &LogStoreRef,
        root: Path,
        snapshot: SnapshotRef,
    ) -> Result<Self, CuratedError> {
        Self::replay(log_store.engine(None), root, |_| Ok(snapshot)).await
    }

    async fn replay(
        engine: Arc<dyn Engine>,
        root: Path,
        open: impl FnOnce(&dyn Engine) -> Result<SnapshotRef, delta_kernel::Error> + Send + 'static,
    ) -> Result<Self, CuratedError> {
        let replay = tokio::task::spawn_blocking(move || {
            let snapshot = open(engine.as_ref()).map_err(|error| error.to_string())?;
            transactions(engine.as_ref(), &snapshot)
        });
        let read = replay.await.unwrap_or_else(|error| Err(error.to_string())).and_then(|all| Self::of(&all));
        read.map_err(|message| CuratedError::Coverage { root: root.to_string(), message })
    }

    /// Ids that are not ours are left alone; one of ours that is neither known nor a partition, or a negative version,
    /// is an error: guessing would put a hole or a double into answers.
    fn of(versions: &BTreeMap<String, i64>) -> Result<Self, String> {
        let mut found = Self::default();
        for (id, version) in versions {
            let number = || u64::try_from(*version).map_err(|_| format!("application id `{id}` has version {version}"));
            if let Some(name) = id.strip_prefix(COUNTS_PREFIX) {
                found.count(name, number()?).ok_or_else(|| format!("application id `{id}` counts nothing known"))?;
                continue;
            }
            if let Some(name) = id.strip_prefix(LOST_PREFIX) {
                found.lose(name, number()?).ok_or_else(|| format!("application id `{id}` names no lost range"))?;
                continue;
            }
            let Some(name) = id.strip_prefix(PREFIX) else { continue };
            let number = number()?;
            match id.as_str() {
                LAYOUT_TRANSACTION => found.layout = number,
                VACUUM_TRANSACTION => found.vacuums = number,
                STREAMS_TRANSACTION => found.streams = number,
                _ => {
                    let partition: LogPartition =
                        name.parse().map_err(|_| format!("application id `{id}` names no partition"))?;
                    found.coverage.set(partition, number);
                }
            }
        }
        for ranges in found.lost.values_mut() {
            ranges.sort_by_key(|range| range.start);
        }
        Ok(found)
    }

    /// Takes `trips/3/records`.
    fn count(&mut self, name: &str, number: u64) -> Option<()> {
        let (partition, what) = name.rsplit_once('/')?;
        let totals = self.counts.entry(partition.parse().ok()?).or_default();
        let field = match what {
            "records" => &mut totals.records,
            "accepted" => &mut totals.accepted,
            "filtered" => &mut totals.filtered,
            "rejected" => &mut totals.rejected,
            _ => return None,
        };
        *field = number;
        Some(())
    }

    /// Takes `trips/3/17`.
    fn lose(&mut self, name: &str, end: u64) -> Option<()> {
        let (partition, start) = name.rsplit_once('/')?;
        let start: u64 = start.parse().ok()?;
        self.lost.entry(partition.parse().ok()?).or_default().push(start..end);
        Some(())
    }
}

/// The newest version of every application id in the log of `snapshot`. Blocking.
fn transactions(engine: &dyn Engine, snapshot: &Snapshot) -> Result<BTreeMap<String, i64>, String> {
    let text = |error: delta_kernel::Error| error.to_string();
    let batches = snapshot.log_segment().read_actions(engine, LOG_TXN_SCHEMA.clone()).map_err(text)?;
    let mut newest = BTreeMap::new();
    for batch in batches {
        let data = ArrowEngineData::try_from_engine_data(batch.map_err(text)?.actions).map_err(text)?;
        collect(data.record_batch(), &mut newest).map_err(|error| error.to_string())?;
    }
    Ok(newest)
}

/// Adds a batch of `txn` actions. The log is replayed newest first, so the first version of an id counts.
fn collect(batch: &RecordBatch, newest: &mut BTreeMap<String, i64>) -> Result<(), arrow::error::ArrowError> {
    let Some(txn) = batch.column_by_name("txn").and_then(|column| column.as_struct_opt()) else { return Ok(()) };
    let (Some(ids), Some(versions)) = (txn.column_by_name("appId"), txn.column_by_name("version")) else {
        return Ok(());
    };
    let ids = cast(ids, &DataType::Utf8)?;
    let ids = ids.as_string::<i32>();
    let versions = cast(versions, &DataType::Int64)?;
    let versions = versions.as_primitive::<Int64Type>();
    for row in (0..batch.num_rows()).filter(|row| txn.is_valid(*row) && ids.is_valid(*row) && versions.is_valid(*row)) {
        newest.entry(ids.value(row).to_owned()).or_insert_with(|| versions.value(row));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_that_are_understood_pass() {
        let of = |entries: &[(&str, i64)]| {
            Transactions::of(&entries.iter().map(|(id, version)| ((*id).to_owned(), *version)).collect())
        };
        let partition: LogPartition = "trips/3".parse().expect("a partition");
        let totals = Totals { records: 9, accepted: 4, filtered: 3, rejected: 2 };
        let counts = counts_transactions(&partition, &totals);
        let lost = [lost_transaction(&partition, &(17..20)), lost_transaction(&partition, &(5..6))];
        let mut ids = vec![("other", -9), ("tidemark/files", 3), (LAYOUT_TRANSACTION, 2), (VACUUM_TRANSACTION, 1)];
        ids.extend([(STREAMS_TRANSACTION, 7), ("tidemark/trips/3", 20)]);
        ids.extend(
            counts.iter().chain(&lost).map(|(id, number)| (id.as_str(), i64::try_from(*number).expect("small"))),
        );
        let wanted = Transactions {
            coverage: [(LogPartition::files(), 3), (partition.clone(), 20)].into_iter().collect(),
            layout: 2,
            vacuums: 1,
            streams: 7,
            counts: [(partition.clone(), totals)].into(),
            lost: [(partition, vec![5..6, 17..20])].into(),
        };
        assert_eq!(of(&ids), Ok(wanted));
        for bad in [
            ("tidemark/nonsense", 1),
            ("tidemark/files", -1),
            (LAYOUT_TRANSACTION, -1),
            ("tidemark-counts/trips/3/nonsense", 1),
            ("tidemark-counts/trips/records", 1),
            ("tidemark-lost/trips/3/x", 1),
        ] {
            assert!(of(&[bad]).is_err(), "{bad:?}");
        }
    }
}
