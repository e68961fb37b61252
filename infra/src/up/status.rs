//! How a dataset's stream stands: per partition log end, archived, visible, coverage and lag.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use tidemark_shared::error::AnyError;
use tidemark_speed::freshness::Freshness;

use super::parts::Parts;
use super::stream::Stream;

/// A dataset with a stream.
#[derive(Debug, Serialize)]
struct DatasetStatus {
    dataset: String,
    topic: String,
    /// The newest definition.
    definition: String,
    /// The generation that the pointer names, if one does.
    generation: Option<GenerationStatus>,
    /// True if the newest definition makes other rows than the generation's: a recompute activates it.
    pending: bool,
    freshness: Freshness,
    partitions: BTreeMap<String, PartitionStatus>,
}

#[derive(Debug, Serialize)]
struct GenerationStatus {
    name: String,
    definition: String,
    table_version: u64,
    files_covered: u64,
}

#[derive(Debug, Default, Serialize)]
struct PartitionStatus {
    log_end: u64,
    archived: Option<u64>,
    visible: u64,
    coverage: u64,
    lag_records: u64,
    lag_ms: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lost: Vec<std::ops::Range<u64>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
}

/// The status of one stream.
pub(super) async fn of(parts: &Parts, stream: &Stream) -> Result<Value, AnyError> {
    let mut partitions: BTreeMap<String, PartitionStatus> = BTreeMap::new();
    for (partition, end) in stream.log_ends().await?.iter() {
        partitions.entry(partition.to_string()).or_default().log_end = end;
    }
    for (partition, archived) in stream.archiver.status() {
        let entry = partitions.entry(partition.to_string()).or_default();
        (entry.archived, entry.lost) = (archived.archived, archived.lost);
        entry.errors.extend(archived.error);
    }
    let pointers = parts.versions.pointers(&stream.dataset).await.map_err(AnyError::new)?;
    let (mut generation, mut freshness) = (None, Freshness::default());
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
            freshness = view.freshness;
            for (partition, indexed) in view.partitions {
                let entry = partitions.entry(partition).or_default();
                (entry.visible, entry.lag_records, entry.lag_ms) = (indexed.visible, indexed.lag, indexed.lag_ms);
                entry.errors.extend(indexed.error);
            }
        }
    }
    let definition = stream.definition().version.to_string();
    let status = DatasetStatus {
        dataset: stream.dataset.clone(),
        topic: stream.topic.name.to_string(),
        pending: generation.as_ref().is_some_and(|current| current.definition != definition),
        definition,
        generation,
        freshness,
        partitions,
    };
    Ok(serde_json::to_value(status).expect("a status is plain data"))
}
