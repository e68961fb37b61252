//! How a dataset's stream stands: per partition log end, archived, visible, coverage and lag.

use std::collections::BTreeMap;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use tidemark_shared::counts::Totals;
use tidemark_shared::error::AnyError;
use tidemark_shared::live::LiveUsage;
use tidemark_shared::log::{Assignment, Share};
use tidemark_shared::position::Coverage;
use tidemark_speed::freshness::Freshness;
use tidemark_speed::trouble::Trouble;

use super::parts::Parts;
use super::stream::Stream;
use crate::config::Role;

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
    /// Partitions of the process's roles.
    pub(super) assigned: Assigned,
    /// Of what this process has made visible; `None`: it has no indexer.
    pub(super) freshness: Option<Freshness>,
    pub(super) partitions: BTreeMap<String, PartitionStatus>,
    /// What the records became that this process's indexer of the generation has made visible.
    pub(super) totals: Option<Totals>,
}

#[derive(Debug, Serialize)]
struct GenerationStatus {
    name: String,
    definition: String,
    table_version: u64,
    files_covered: u64,
}

/// What of a partition the process has to do with.
#[derive(Debug, Default, Serialize)]
pub(super) struct PartitionStatus {
    /// `None` if the log does not have it: one of an earlier incarnation of the topic only archive and view may have.
    pub(super) log_end: Option<u64>,
    pub(super) archived: Option<u64>,
    /// Segments that this process has put.
    pub(super) segments: u64,
    pub(super) visible: Option<u64>,
    pub(super) coverage: Option<u64>,
    pub(super) lag_records: Option<u64>,
    /// `None` where another process keeps the partition up.
    pub(super) lag_ms: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) lost: Vec<std::ops::Range<u64>>,
    #[serde(flatten)]
    pub(super) troubles: Troubles,
}

/// What keeps a partition from being archived or indexed. Shown as `errors`, if there are any, and `stopped`: true if it goes on
/// only after a restart.
#[derive(Debug, Default)]
pub(super) struct Troubles(Vec<Trouble>);

impl Troubles {
    pub(super) fn stopped(&self) -> bool {
        self.0.iter().any(|trouble| trouble.stopped)
    }
}

impl Serialize for Troubles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let errors: Vec<&str> = self.0.iter().map(|trouble| trouble.error.as_str()).collect();
        let mut map = serializer.serialize_map(None)?;
        if !errors.is_empty() {
            map.serialize_entry("errors", &errors)?;
        }
        map.serialize_entry("stopped", &self.stopped())?;
        map.end()
    }
}

/// How many partitions a role of the process has; `None`: that is no role of it, or it has no share yet.
#[derive(Debug, Default, Serialize)]
pub(super) struct Assigned {
    pub(super) archiver: Option<u64>,
    pub(super) indexer: Option<u64>,
}

type Parted = BTreeMap<String, PartitionStatus>;

/// The status of one stream, as far as the process's roles have to do with it; of all of it, where one of them is to serve.
pub(super) async fn of(parts: &Parts, stream: &Stream) -> Result<DatasetStatus, AnyError> {
    let shows = |role| parts.roles.has(role) || parts.roles.has(Role::Serving);
    let mut partitions = Parted::new();
    let ends = stream.log_ends().await?;
    for (partition, end) in ends.iter() {
        partitions.entry(partition.to_string()).or_default().log_end = Some(end);
    }
    if shows(Role::Archiver) {
        archived(parts, stream, &ends, &mut partitions).await?;
    }
    let pointers = parts.versions.pointers(&stream.dataset).await.map_err(AnyError::new)?;
    let (mut generation, mut indexed) = (None, None);
    if let Some((_, current)) = pointers.first() {
        let table = parts.versions.newest(&stream.dataset, current).await.map_err(AnyError::new)?;
        let version = table.version();
        // what nothing was curated of yet is covered up to its beginning
        let known = ends.iter().chain(version.coverage.iter()).map(|(partition, _)| partition);
        for partition in known.filter(|_| shows(Role::Batch)) {
            if let Some(entry) = partitions.get_mut(&partition.to_string()) {
                entry.coverage = Some(version.coverage.end(partition));
            }
        }
        generation = Some(GenerationStatus {
            name: current.generation.clone(),
            definition: current.definition.clone(),
            table_version: version.table_version,
            files_covered: version.coverage.files_end(),
        });
        if shows(Role::Indexer) {
            indexed = visible(parts, stream, &ends, &current.generation, &mut partitions).await?;
        }
    }
    let known = stream.heard.partitions();
    let has = |share: Option<Assignment>| {
        let share = share.filter(|share| share.joined)?;
        Some(known.iter().filter(|number| share.partitions.has(**number)).count() as u64)
    };
    let assigned = Assigned {
        archiver: has(stream.archivers.get().map(Share::assignment)),
        indexer: has(generation.as_ref().and_then(|current| Some(stream.indexer(&current.name)?.share.assignment()))),
    };
    let definition = stream.definition().version.to_string();
    Ok(DatasetStatus {
        dataset: stream.dataset.clone(),
        topic: stream.topic.name.to_string(),
        pending: generation.as_ref().is_some_and(|current| current.definition != definition),
        definition,
        generation,
        assigned,
        freshness: indexed.map(|(freshness, _)| freshness),
        partitions,
        totals: indexed.map(|(_, totals)| totals),
    })
}

/// How far the archive is, whoever puts segments.
async fn archived(parts: &Parts, stream: &Stream, ends: &Coverage, partitions: &mut Parted) -> Result<(), AnyError> {
    if !parts.own_log {
        let count = u32::try_from(ends.iter().count()).unwrap_or(u32::MAX);
        stream.archiver.look_at_others(count).await.map_err(AnyError::new)?;
    }
    for (partition, archived) in stream.archiver.status() {
        let entry = partitions.entry(partition.to_string()).or_default();
        (entry.archived, entry.segments, entry.lost) = (archived.archived, archived.segments, archived.lost);
        entry.troubles.0.extend(archived.trouble);
    }
    Ok(())
}

/// How far the view of a generation is, whoever keeps it up; and how this process's indexer of it does, if it has one.
async fn visible(
    parts: &Parts,
    stream: &Stream,
    ends: &Coverage,
    generation: &str,
    partitions: &mut Parted,
) -> Result<Option<(Freshness, Totals)>, AnyError> {
    if let Some(running) = stream.indexer(generation) {
        let view = running.indexer.status(ends).await.map_err(AnyError::new)?;
        for (partition, indexed) in view.partitions {
            let entry = partitions.entry(partition).or_default();
            (entry.visible, entry.lag_records) = (Some(indexed.visible), Some(indexed.lag));
            entry.lag_ms = indexed.own.then_some(indexed.lag_ms);
            entry.troubles.0.extend(indexed.trouble);
        }
        return Ok(Some((view.freshness, view.totals)));
    }
    let pin = parts.live.pin(&stream.view(generation)).await.map_err(AnyError::new)?;
    for (partition, range) in pin.iter().flat_map(|pin| pin.ranges()) {
        let entry = partitions.entry(partition.to_string()).or_default();
        entry.visible = Some(range.visible);
        entry.lag_records = entry.log_end.map(|end| end.saturating_sub(range.visible));
    }
    Ok(None)
}

/// What views may hold; a part without a limit is `null`.
pub(super) fn limit(limit: Option<LiveUsage>) -> Value {
    let told = |most: u64| (most != u64::MAX).then_some(most);
    limit.map_or(Value::Null, |LiveUsage { rows, rejects, bytes }| {
        json!({"rows": told(rows), "rejects": told(rejects), "bytes": told(bytes)})
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_limit_shows_none() {
        assert_eq!(limit(None), Value::Null);
        let bytes = LiveUsage { rows: u64::MAX, rejects: u64::MAX, bytes: 7 };
        assert_eq!(limit(Some(bytes)), json!({"rows": null, "rejects": null, "bytes": 7}));
    }

    #[test]
    fn a_partition_that_the_log_has_not_shows_no_end_of_it() {
        let earlier = PartitionStatus { archived: Some(4), visible: Some(4), ..PartitionStatus::default() };
        let shown: Value = serde_json::to_value(earlier).unwrap();
        assert_eq!((&shown["log_end"], &shown["archived"], &shown["visible"]), (&Value::Null, &json!(4), &json!(4)));
    }

    #[test]
    fn troubles_show_as_errors_and_whether_they_stop_a_partition() {
        let trouble = |error: &str, stopped| Trouble { error: error.to_owned(), stopped };
        let shown = |troubles: Vec<Trouble>| {
            let status =
                PartitionStatus { log_end: Some(7), troubles: Troubles(troubles), ..PartitionStatus::default() };
            let shown: Value = serde_json::to_value(status).unwrap();
            (shown["log_end"].clone(), shown.get("errors").cloned(), shown["stopped"].clone())
        };
        for (troubles, errors, stopped) in [
            (vec![], None, false),
            (vec![trouble("away", false)], Some(json!(["away"])), false),
            (vec![trouble("away", false), trouble("lost", true)], Some(json!(["away", "lost"])), true),
        ] {
            assert_eq!(shown(troubles), (json!(7), errors, json!(stopped)));
        }
    }
}
