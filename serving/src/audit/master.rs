//! The rows of a dataset, made from the master dataset alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemark_shared::dataset::Definition;
use tidemark_shared::dataset::registry;
use tidemark_shared::ledger::{Ledger, LedgerState};
use tidemark_shared::position::{Coverage, FILES_SOURCE, LogPartition};
use tidemark_shared::rows::{StreamRows, table_schema};
use tidemark_shared::segment::Archive;
use tidemark_shared::store::{Store, Stores};
use tidemark_shared::transform::Transform;

use super::AuditError;
use super::files::{FileRows, open};

/// Records decoded at once.
const RECORDS_MAX: usize = 16_384;

/// Where the truth is: the store with the raw zone. What is in the log alone is archived before an audit.
#[derive(Clone)]
pub struct Master {
    store: Store,
    stores: Arc<dyn Stores>,
}

/// One dataset by one definition version, ready to be derived.
pub(super) struct Derivation {
    pub(super) dataset: String,
    pub(super) definition: Definition,
    pub(super) schema: SchemaRef,
    pub(super) ledger: LedgerState,
    files: Option<FileRows>,
    stream: Option<StreamRows>,
    archive: Archive,
}

impl Master {
    /// The master dataset in `store`; `stores` opens other buckets. What was not archived yet can't be derived.
    #[must_use]
    pub fn new(store: Store, stores: Arc<dyn Stores>) -> Self {
        Self { store, stores }
    }

    /// Prepares to derive `dataset` by definition `version`.
    pub(super) async fn prepare(&self, dataset: &str, version: &str) -> Result<Derivation, AuditError> {
        let missing = || AuditError::NoDefinition { dataset: dataset.to_owned(), version: version.to_owned() };
        let applied = registry::by_version(&self.store, dataset, version).await?.ok_or_else(missing)?;
        let definition = applied.definition;
        let transform = Arc::new(Transform::compile(&definition)?);
        let schema = table_schema(&transform.output_schema());
        let files = definition.file_input().map(|spec| FileRows {
            dataset: dataset.to_owned(),
            spec,
            transform: Arc::clone(&transform),
            schema: Arc::clone(&schema),
        });
        let stream = match definition.stream {
            Some(_) => Some(StreamRows::with_transform(&definition, transform)?),
            None => None,
        };
        let archive = Archive::new(self.store.clone(), dataset);
        Ok(Derivation {
            dataset: dataset.to_owned(),
            schema,
            ledger: Ledger::new(self.store.clone(), dataset).state().await?,
            files,
            stream,
            archive,
            definition,
        })
    }

    /// Hands every row below `ends` to `sink`: those of files that count in any of the ledger's prefixes `files_ends`,
    /// then those of the streams, in order of position.
    pub(super) async fn derive(
        &self,
        from: &Derivation,
        ends: &Coverage,
        files_ends: &BTreeSet<u64>,
        sink: &mut (dyn FnMut(RecordBatch) -> Result<(), AuditError> + Send),
    ) -> Result<(), AuditError> {
        let counts = |file: &&tidemark_shared::ledger::LedgerFile| files_ends.iter().any(|end| file.counts_at(*end));
        if let Some(rows) = &from.files {
            for file in from.ledger.files().filter(counts) {
                let source = open(&self.store, &self.stores, &from.dataset, file).await?;
                let mut batches = rows.read(file, source);
                while let Some(batch) = batches.recv().await {
                    sink(batch?)?;
                }
            }
        }
        let streams = ends.iter().filter(|(partition, _)| partition.source.as_str() != FILES_SOURCE);
        for (partition, end) in streams {
            if let Some(rows) = &from.stream {
                self.derive_partition(from, rows, partition, end, sink).await?;
            }
        }
        Ok(())
    }

    async fn derive_partition(
        &self,
        from: &Derivation,
        rows: &StreamRows,
        partition: &LogPartition,
        end: u64,
        sink: &mut (dyn FnMut(RecordBatch) -> Result<(), AuditError> + Send),
    ) -> Result<(), AuditError> {
        let origin = from.archive.origin(partition).await?;
        let mut at = origin.unwrap_or(0);
        let segments = match origin {
            Some(origin) => from.archive.segments_from(partition, origin).await?,
            None => Vec::new(),
        };
        for segment in segments.iter().take_while(|segment| segment.start < end) {
            let segment = from.archive.read(partition, segment).await?;
            let records: Vec<_> = segment.records.into_iter().filter(|record| record.offset < end).collect();
            for records in records.chunks(RECORDS_MAX) {
                rows.make(partition, records)?.batches.into_iter().try_for_each(&mut *sink)?;
            }
            at = segment.header.range.end;
        }
        if at < end {
            let (dataset, partition) = (from.dataset.clone(), partition.clone());
            return Err(AuditError::Unreachable { dataset, partition, end: at, claimed: end });
        }
        Ok(())
    }
}

/// The cuts of all answers: per partition of a stream the offsets, ascending, at which some answer ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cuts {
    streams: BTreeMap<LogPartition, Vec<u64>>,
    pub(super) files: BTreeSet<u64>,
}

impl Cuts {
    pub(super) fn of<'a>(positions: impl IntoIterator<Item = &'a Coverage>) -> Self {
        let mut cuts = Self::default();
        let mut streams: BTreeMap<LogPartition, BTreeSet<u64>> = BTreeMap::new();
        for (partition, end) in positions.into_iter().flat_map(Coverage::iter) {
            if partition.source.as_str() == FILES_SOURCE {
                cuts.files.insert(end);
            } else {
                streams.entry(partition.clone()).or_default().insert(end);
            }
        }
        cuts.streams = streams.into_iter().map(|(partition, ends)| (partition, ends.into_iter().collect())).collect();
        cuts
    }

    /// The interval of a row: an answer that ends at the `i`-th cut has all rows of intervals up to `i`.
    pub(super) fn interval(&self, partition: &LogPartition, offset: u64) -> usize {
        self.streams.get(partition).map_or(0, |ends| ends.partition_point(|end| *end <= offset))
    }

    /// Which cut `end` is.
    pub(super) fn index(&self, partition: &LogPartition, end: u64) -> Option<usize> {
        self.streams.get(partition)?.binary_search(&end).ok()
    }

    pub(super) fn len(&self, partition: &LogPartition) -> usize {
        self.streams.get(partition).map_or(0, Vec::len)
    }

    /// Partitions of streams.
    pub(super) fn partitions(&self) -> impl Iterator<Item = &LogPartition> {
        self.streams.keys()
    }

    /// The highest cut of every partition.
    pub(super) fn ends(&self) -> Coverage {
        let last = |ends: &Vec<u64>| ends.last().copied().unwrap_or(0);
        self.streams.iter().map(|(partition, ends)| (partition.clone(), last(ends))).collect()
    }
}
