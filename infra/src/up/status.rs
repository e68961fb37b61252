//! How a dataset's stream stands: per partition log end, archived, visible, coverage and lag.

use std::collections::BTreeMap;

use serde::Serialize;
use tidemark_shared::counts::Totals;
use tidemark_shared::error::AnyError;
use tidemark_speed::freshness::Freshness;

use super::parts::Parts;
use super::stream::Stream;

/// A dataset with a stream.
#[derive(Debug, Serialize)]
pub(super) struct DatasetStatus {
    pub(super) dataset: String,
    topic: String,
    /// The newest definition.
    definition: String,
    /// The generation that the pointer names, if one does.
    generation: Option<GenerationStatus>,
    /// True if the newest definition makes other rows than the generation's: a recompute activates it.
    pending: bool,
    pub(super) freshness: Freshness,
    pub(super) partitions: BTreeMap<String, PartitionStatus>,
    /// What the records became that the generation's indexer has made visible.
    pub(super) totals: Totals,
}

#[derive(Debug, Serialize)]
struct GenerationStatus {
    name: String,
    definition: String,
    table_version: u64,
    files_covered: u64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct PartitionStatus {
    pub(super) log_end: u64,
    pub(super) archived: Option<u64>,
    /// Segments that this process has put.
    pub(super) segments: u64,
    pub(super) visible: u64,
    pub(super) coverage: u64,
    pub(super) lag_records: u64,
    pub(super) lag_ms: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) lost: Vec<std::ops::Range<u64>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
}

/// The status of one stream.
pub(super) async fn of(parts: &Parts, stream: &Stream) -> Result<DatasetStatus, AnyError> {
    let mut partitions: BTreeMap<String, PartitionStatus> = BTreeMap::new();
    for (partition, end) in stream.log_ends().await?.iter() {
        partitions.entry(partition.to_string()).or_default().log_end = end;
    }
    for (partition, archived) in stream.archiver.status() {
        let entry = partitions.entry(partition.to_string()).or_default();
        (entry.archived, entry.segments, entry.lost) = (archived.archived, archived.segments, archived.lost);
        entry.errors.extend(archived.error);
    }
    let pointers = parts.versions.pointers(&stream.dataset).await.map_err(AnyError::new)?;
    let (mut generation, mut freshness, mut totals) = (None, Freshness::default(), Totals::default());
    if let Some((_, current)) = pointers.first() {
        let table = parts.versions.newest(&stream.dataset, current).await.map_err(AnyError::new)?;
        let version = table.version();
        for (partition, end) in version.coverage.iter() {
            if let Some(entry) = partitions.get_mut(&partition.to_string()) {
                entry.coverage = end;
            }
        }
        generation = Some(GenerationStatus {
            name: current.generation.clone(),
            definition: current.definition.clone(),
            table_version: version.table_version,
            files_covered: version.coverage.files_end(),
        });
        if let Some(running) = stream.indexer(&current.generation) {
            let view = running.indexer.status().await.map_err(AnyError::new)?;
            (freshness, totals) = (view.freshness, view.totals);
            for (partition, indexed) in view.partitions {
                let entry = partitions.entry(partition).or_default();
                (entry.visible, entry.lag_records, entry.lag_ms) = (indexed.visible, indexed.lag, indexed.lag_ms);
                entry.errors.extend(indexed.error);
            }
        }
    }
    let definition = stream.definition().version.to_string();
    Ok(DatasetStatus {
        dataset: stream.dataset.clone(),
        topic: stream.topic.name.to_string(),
        pending: generation.as_ref().is_some_and(|current| current.definition != definition),
        definition,
        generation,
        freshness,
        partitions,
        totals,
    })
}
