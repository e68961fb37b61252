//! A generation's Delta table: creation, and commits that move data and coverage together (H2).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};
use deltalake::errors::DeltaTableError;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake::kernel::{Action, EagerSnapshot, MetadataExt as _, Remove, StructType, Transaction};
use deltalake::logstore::LogStoreRef;
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::table::state::DeltaTableState;
use futures::TryStreamExt as _;
use object_store::ObjectStore;
use object_store::path::Path;
use tidemark_shared::counts::Totals;
use tidemark_shared::curated::{
    LAYOUT_TRANSACTION, STREAMS_TRANSACTION, Transactions, VACUUM_TRANSACTION, counts_transactions, log_store,
    lost_transaction, transaction_id,
};
use tidemark_shared::dataset::SEMANTICS;
use tidemark_shared::layout;
use tidemark_shared::position::{Coverage, LogPartition};

use super::writer::StagedFile;
use crate::error::BatchError;

/// Table property: the generation that takes over. A table that has one is frozen: nobody extends it any more.
const SUCCESSOR_KEY: &str = "tidemark.successor";
/// Commit metadata: the unique id of the attempt, so that a lost acknowledgement can be told from a lost race.
const ATTEMPT_KEY: &str = "tidemark.attempt";
/// Table property: the definition version that made the generation.
const DEFINITION_KEY: &str = "tidemark.definition";
/// Table property: the semantics number of the release that made the generation. The first one left it out.
const SEMANTICS_KEY: &str = "tidemark.semantics";
const FIRST_SEMANTICS: u32 = 1;
/// How long a checkpoint keeps the names of removed data files, from which a vacuum knows what queries may still read:
/// [`crate::service::GRACE_MAX`], said here so that no default of the Delta library undercuts it.
const REMOVED_KEPT: &str = "interval 1 week";
/// How long commits stay that a checkpoint stands for. Longer than any reader takes from one to the next, and short enough
/// that a run a second does not leave millions.
const COMMITS_KEPT: &str = "interval 1 day";
/// Delta writes a checkpoint every so many commits.
const CHECKPOINT_INTERVAL: &str = "50";

/// A generation's table at the newest version, ready to be extended: what the next commit builds on.
pub(crate) struct TableHead {
    pub(crate) dataset: String,
    pub(crate) generation: String,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) root: Path,
    log_store: LogStoreRef,
    pub(crate) snapshot: EagerSnapshot,
    transactions: Transactions,
}

/// What a commit changes. Everything in it becomes visible at once, or nothing does.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) adds: Vec<StagedFile>,
    pub(crate) removes: Vec<Remove>,
    /// The partitions that moved, with their new exclusive ends.
    pub(crate) coverage: Vec<(LogPartition, u64)>,
    /// Of log partitions that moved: what their records became, below the new end.
    pub(crate) counts: Vec<(LogPartition, Totals)>,
    /// Ranges below the new ends that left the log before they were archived.
    pub(crate) lost: Vec<(LogPartition, Range<u64>)>,
    /// True if the same rows only lie in other files afterwards.
    pub(crate) same_rows: bool,
}

/// How a commit ended.
pub(crate) enum Committed {
    /// It is version so much of the table.
    Version(u64),
    /// Somebody else changed what it builds on: read the table again and decide anew.
    Conflict,
}

impl TableHead {
    /// Opens the newest version; `None` where there is no table.
    pub(crate) async fn open(
        objects: &Arc<dyn ObjectStore>,
        dataset: &str,
        generation: &str,
    ) -> Result<Option<Self>, BatchError> {
        let root = layout::table(dataset, generation);
        let failed = |e: DeltaTableError| BatchError::Delta { table: root.to_string(), source: Box::new(e) };
        let log_store = log_store(Arc::clone(objects), dataset, generation)?;
        if !log_store.is_delta_table_location().await.map_err(failed)? {
            return Ok(None);
        }
        let snapshot = EagerSnapshot::try_new(log_store.as_ref(), None).await.map_err(failed)?;
        let transactions = Transactions::read(&log_store, dataset, generation, snapshot.version()).await?;
        Ok(Some(Self {
            dataset: dataset.to_owned(),
            generation: generation.to_owned(),
            objects: Arc::clone(objects),
            root,
            log_store,
            snapshot,
            transactions,
        }))
    }

    /// Creates the empty table, or opens the one that somebody else created meanwhile.
    pub(crate) async fn create(
        objects: &Arc<dyn ObjectStore>,
        dataset: &str,
        generation: &str,
        schema: &SchemaRef,
        partition_columns: &[String],
        definition: &str,
    ) -> Result<Self, BatchError> {
        let root = layout::table(dataset, generation);
        let failed = |e: DeltaTableError| BatchError::Delta { table: root.to_string(), source: Box::new(e) };
        let columns: StructType =
            schema.as_ref().try_into_kernel().map_err(|e| failed(DeltaTableError::generic(e.to_string())))?;
        let properties = [
            ("delta.checkpointInterval", CHECKPOINT_INTERVAL),
            ("delta.dataSkippingNumIndexedCols", "-1"),
            ("delta.deletedFileRetentionDuration", REMOVED_KEPT),
            ("delta.logRetentionDuration", COMMITS_KEPT),
            (DEFINITION_KEY, definition),
            (SEMANTICS_KEY, &SEMANTICS.to_string()),
        ];
        let created = CreateBuilder::new()
            .with_log_store(log_store(Arc::clone(objects), dataset, generation)?)
            .with_table_name(dataset)
            .with_columns(columns.fields().cloned())
            .with_partition_columns(partition_columns)
            .with_raise_if_key_not_exists(false)
            .with_configuration(properties.map(|(key, value)| (key.to_owned(), Some(value.to_owned()))))
            .with_save_mode(SaveMode::Ignore)
            .with_commit_properties(CommitProperties::default().with_max_retries(0))
            .await;
        match created {
            Ok(_) => {}
            // Lost the race for version 0: the winner's table is as good, both follow from one definition.
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(failed(error)),
        }
        Self::open(objects, dataset, generation).await?.ok_or_else(|| BatchError::Damaged {
            dataset: dataset.to_owned(),
            what: format!("{root} has no table after its creation"),
        })
    }

    /// The exclusive end of the covered ledger prefix.
    pub(crate) fn files_end(&self) -> u64 {
        self.transactions.coverage.files_end()
    }

    /// Coverage of this version.
    pub(crate) fn coverage(&self) -> Coverage {
        self.transactions.coverage.clone()
    }

    /// The part of the coverage that is not of files.
    pub(crate) fn stream_coverage(&self) -> Coverage {
        let files = LogPartition::files();
        let streams = self.transactions.coverage.iter().filter(|(partition, _)| **partition != files);
        streams.map(|(partition, end)| (partition.clone(), end)).collect()
    }

    /// What the records of a log partition became, below the coverage.
    pub(crate) fn totals(&self, partition: &LogPartition) -> Totals {
        self.transactions.counts.get(partition).copied().unwrap_or_default()
    }

    /// Ranges of a log partition below the coverage that left the log before they were archived.
    pub(crate) fn lost(&self, partition: &LogPartition) -> &[Range<u64>] {
        self.transactions.lost.get(partition).map_or(&[], Vec::as_slice)
    }

    /// How often a vacuum was about to remove files that no commit names: those that were written before the last time
    /// may be gone.
    pub(crate) fn vacuums(&self) -> u64 {
        self.transactions.vacuums
    }

    /// Version of the Delta table.
    pub(crate) fn version(&self) -> u64 {
        self.snapshot.version()
    }

    /// The version after this one, up to `newest`, that `attempt` committed.
    pub(crate) async fn committed_by(&self, attempt: &str, newest: u64) -> Result<Option<u64>, BatchError> {
        let mark = format!("\"{ATTEMPT_KEY}\":\"{attempt}\"");
        for version in self.version() + 1..=newest {
            let entry = self.log_store.read_commit_entry(version).await.map_err(|e| self.failed(e))?;
            if entry.is_some_and(|bytes| String::from_utf8_lossy(&bytes).contains(&mark)) {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    /// Keys of the data files that commits removed at or after `since`: running queries may still read them.
    pub(crate) async fn removed_since(&self, since: DateTime<Utc>) -> Result<Vec<Path>, BatchError> {
        let state = DeltaTableState::new(self.snapshot.clone());
        let tombstones: Vec<_> =
            state.all_tombstones(self.log_store.as_ref()).try_collect().await.map_err(|e| self.failed(e))?;
        let recent =
            tombstones.iter().filter(|t| t.deletion_timestamp().is_none_or(|at| at >= since.timestamp_millis()));
        let key = |path: &str| Path::parse(path).map(|p| self.root.parts().chain(p.parts()).collect());
        Ok(recent.filter_map(|t| key(&t.path()).ok()).collect())
    }

    /// The generation that takes over, if the table is frozen.
    pub(crate) fn successor(&self) -> Option<&str> {
        self.snapshot.metadata().configuration().get(SUCCESSOR_KEY).map(String::as_str)
    }

    /// The definition version that made the generation.
    pub(crate) fn definition(&self) -> Option<&str> {
        self.snapshot.metadata().configuration().get(DEFINITION_KEY).map(String::as_str)
    }

    /// The semantics number under which the generation was made.
    pub(crate) fn semantics(&self) -> Result<u32, BatchError> {
        let Some(text) = self.snapshot.metadata().configuration().get(SEMANTICS_KEY) else {
            return Ok(FIRST_SEMANTICS);
        };
        text.parse().map_err(|_| BatchError::Damaged {
            dataset: self.dataset.clone(),
            what: format!("{}: `{SEMANTICS_KEY}` is `{text}`", self.root),
        })
    }

    /// Commits `change` onto exactly this version's coverage and layout.
    ///
    /// `attempt` is unique: by it [`Self::committed_by`] knows the commit again. Files go as of `now`: a vacuum reads the
    /// same clock, and the Delta library knows only the machine's.
    ///
    /// # Errors
    /// [`BatchError::Damaged`] if the change does not move the coverage forward: it was not planned on this version.
    pub(crate) async fn commit(
        &self,
        change: &Change,
        attempt: &str,
        now: DateTime<Utc>,
    ) -> Result<Committed, BatchError> {
        if let Some((partition, end)) =
            change.coverage.iter().find(|(p, end)| *end <= self.transactions.coverage.end(p))
        {
            let covered = self.transactions.coverage.end(partition);
            let what = format!("{}: a commit would move `{partition}` from {covered} to {end}", self.root);
            return Err(BatchError::Damaged { dataset: self.dataset.clone(), what });
        }
        let mut actions: Vec<Action> = change.adds.iter().map(|file| Action::Add(file.add.clone())).collect();
        let deletion_timestamp = Some(now.timestamp_millis());
        let removed = change.removes.iter().map(|remove| Remove { deletion_timestamp, ..remove.clone() });
        actions.extend(removed.map(Action::Remove));
        let mut numbers: Vec<(String, u64)> =
            change.coverage.iter().map(|(partition, end)| (transaction_id(partition), *end)).collect();
        if change.coverage.iter().any(|(partition, _)| *partition != LogPartition::files()) {
            numbers.push((STREAMS_TRANSACTION.to_owned(), self.transactions.streams + 1));
        }
        numbers.extend(change.counts.iter().flat_map(|(partition, totals)| counts_transactions(partition, totals)));
        numbers.extend(change.lost.iter().map(|(partition, lost)| lost_transaction(partition, lost)));
        if !change.removes.is_empty() {
            numbers.push((LAYOUT_TRANSACTION.to_owned(), self.transactions.layout + 1));
        }
        let operation = if change.same_rows {
            // A vacuum that took our files for orphans has put a fence, which moves this one; no coverage moves here.
            numbers.push((VACUUM_TRANSACTION.to_owned(), self.vacuums()));
            DeltaOperation::Optimize { predicate: None, target_size: 0 }
        } else {
            let partition_by = Some(self.snapshot.metadata().partition_columns().to_vec());
            DeltaOperation::Write { mode: SaveMode::Append, partition_by, predicate: None }
        };
        let transactions = numbers.into_iter().map(|(id, number)| Transaction::new(id, signed(number))).collect();
        self.submit(actions, transactions, operation, attempt).await
    }

    /// The ids that every commit which brings in rows moves one of, as they stand: whoever moves both meets all of these.
    fn all_appends(&self) -> Vec<Transaction> {
        vec![
            Transaction::new(transaction_id(&LogPartition::files()), signed(self.files_end())),
            Transaction::new(STREAMS_TRANSACTION, signed(self.transactions.streams)),
        ]
    }

    /// Freezes the table in favour of `successor`: no commit that was planned on an earlier version goes through
    /// afterwards, because changed metadata conflicts with all of them.
    pub(crate) async fn freeze(&self, successor: &str) -> Result<Committed, BatchError> {
        let metadata = self.snapshot.metadata().clone();
        let frozen = metadata.add_config_key(SUCCESSOR_KEY.to_owned(), successor.to_owned());
        let frozen = frozen.map_err(|e| self.failed(e.into()))?;
        let properties = HashMap::from([(SUCCESSOR_KEY.to_owned(), successor.to_owned())]);
        let operation = DeltaOperation::SetTableProperties { properties };
        self.submit(vec![Action::Metadata(frozen)], self.all_appends(), operation, successor).await
    }

    /// A commit that changes nothing but that no commit which was planned before goes through afterwards: neither rows
    /// nor a freeze. `attempt` is unique.
    pub(crate) async fn fence(&self, attempt: &str) -> Result<Committed, BatchError> {
        let mut transactions = self.all_appends();
        transactions.push(Transaction::new(VACUUM_TRANSACTION, signed(self.vacuums() + 1)));
        let operation = DeltaOperation::VacuumStart {
            retention_check_enabled: false,
            specified_retention_millis: None,
            default_retention_millis: 0,
        };
        self.submit(Vec::new(), transactions, operation, attempt).await
    }

    async fn submit(
        &self,
        actions: Vec<Action>,
        transactions: Vec<Transaction>,
        operation: DeltaOperation,
        attempt: &str,
    ) -> Result<Committed, BatchError> {
        let builder: CommitBuilder = CommitProperties::default()
            .with_metadata([(ATTEMPT_KEY.to_owned(), attempt.into())])
            .with_application_transactions(transactions)
            .with_create_checkpoint(true)
            .into();
        let outcome =
            builder.with_actions(actions).build(Some(&self.snapshot), Arc::clone(&self.log_store), operation).await;
        match outcome {
            Ok(finalized) => Ok(Committed::Version(finalized.version())),
            Err(error) if is_conflict(&error) => Ok(Committed::Conflict),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: DeltaTableError) -> BatchError {
        BatchError::Delta { table: self.root.to_string(), source: Box::new(error) }
    }
}

/// A transaction's version, as the Delta log has it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("offsets and counts stay below 2^63")
}

/// True if somebody else's commit is the reason.
fn is_conflict(error: &DeltaTableError) -> bool {
    match error {
        DeltaTableError::VersionAlreadyExists(_) => true,
        DeltaTableError::Transaction { source } => matches!(
            source,
            TransactionError::CommitConflict(_)
                | TransactionError::MaxCommitAttempts(_)
                | TransactionError::VersionAlreadyExists(_)
        ),
        _ => false,
    }
}
