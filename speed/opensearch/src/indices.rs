//! Indices: made explicitly, with an alias of their own; described, compared and removed whole (H7).

use std::collections::BTreeMap;

use opensearch::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tidemark_shared::error::chain;
use tidemark_shared::live::{LiveUsage, ViewId};
use tidemark_shared::position::LogPartition;

use crate::calls::Call;
use crate::cluster::{Cluster, Handle, lock};
use crate::failure::Failure;
use crate::names;
use crate::state::IndexRef;

/// An index as the cluster has it.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) name: String,
    /// The alias that was made with it.
    pub(crate) alias: Option<String>,
    pub(crate) uuid: String,
    /// What we wrote about it; null if it is not ours.
    pub(crate) meta: Value,
}

/// Indices that are named in one request: a request's first line has at most 4,096 bytes.
const NAMED_MAX: usize = 8;

#[derive(Debug, Deserialize)]
struct Refreshed {
    #[serde(rename = "_shards")]
    shards: Shards,
}

/// How many copies took part in an answer.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Shards {
    #[serde(default)]
    pub(crate) successful: u64,
    #[serde(default)]
    pub(crate) failed: u64,
}

impl Cluster {
    /// Makes an index; one that is there stays as it is.
    pub(crate) async fn create_index(&self, index: &str, mappings: Value) -> Result<(), Failure> {
        let alias = names::alias(index, &self.ambient.unique_id());
        let of =
            |object: &str| mappings["properties"][object]["properties"].as_object().map_or(0, |fields| fields.len());
        let fields = of("row") + of("whole");
        let body = json!({
            "settings": {"index": {
                "number_of_shards": 1,
                // One copy where there is a second node for it.
                "auto_expand_replicas": "0-1",
                // Rows are searchable when a writer says so, and on every copy then.
                "refresh_interval": "-1",
                "replication.type": "DOCUMENT",
                "mapping.total_fields.limit": fields + 100,
            }},
            "mappings": mappings,
            "aliases": {(alias): {}},
        });
        let answer = self.send(Call::IndexMade, Method::Put, index, Some(&body)).await?;
        match answer.accepted() {
            Err(Failure::Refused { kind, .. }) if kind == "resource_already_exists_exception" => {
                self.wait_usable(index).await
            }
            outcome => outcome,
        }
    }

    /// Waits for an index that somebody else may be making at this moment: he is told when it can be used, and we are not. One
    /// that can't be used is met by whoever uses it.
    pub(crate) async fn wait_usable(&self, index: &str) -> Result<(), Failure> {
        let path = format!("_cluster/health/{index}?wait_for_active_shards=1&timeout=10s");
        self.send(Call::Other, Method::Get, &path, None).await.map(drop)
    }

    /// The indices that a name or pattern matches.
    pub(crate) async fn describe(&self, pattern: &str) -> Result<Vec<Described>, Failure> {
        let path = format!("{pattern}?filter_path=*.aliases,*.mappings._meta,*.settings.index.uuid");
        let answer = self.send(Call::Other, Method::Get, &path, None).await?;
        let all: BTreeMap<String, Value> = match answer.accepted() {
            Err(failure) if failure.is_missing() => return Ok(Vec::new()),
            Err(failure) => return Err(failure),
            Ok(()) => answer.parsed()?,
        };
        let described = |(name, index): (String, Value)| {
            let aliases = index["aliases"].as_object();
            let ours = |alias: &&String| alias.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.'));
            let alias = aliases.and_then(|aliases| aliases.keys().find(ours)).cloned();
            let uuid = index["settings"]["index"]["uuid"].as_str().unwrap_or_default().to_owned();
            let meta = index["mappings"]["_meta"]["tidemark"].clone();
            Described { name, alias, uuid, meta }
        };
        Ok(all.into_iter().map(described).collect())
    }

    /// The index of a partition's rows from `start` on, made if there is none. What is in one that is there counts: a row is
    /// known by its position.
    pub(crate) async fn ensure_row_index(
        &self,
        handle: &Handle,
        partition: &LogPartition,
        start: u64,
    ) -> Result<IndexRef, Failure> {
        let name = names::row_index(&self.prefix, &handle.view, partition, start);
        let _names = self.leases.names.read().await;
        self.leases.revive(&name);
        let meta = handle.row_meta();
        self.create_index(&name, handle.mapping.mappings(&meta)).await?;
        let found = self.describe(&name).await?.into_iter().next();
        let found = found.ok_or_else(|| Failure::Lost { index: name.clone() })?;
        let foreign = |reason: &str| Failure::Foreign { index: name.clone(), reason: reason.to_owned() };
        if found.meta != meta {
            return Err(foreign("its mapping is not ours"));
        }
        let alias = found.alias.ok_or_else(|| foreign("it lost the alias that was made with it"))?;
        Ok(IndexRef { name, alias, uuid: found.uuid })
    }

    /// Makes all that was written to an index searchable, on every copy of it (H4).
    pub(crate) async fn refresh(&self, index: &IndexRef) -> Result<(), Failure> {
        let answer = self.send(Call::Refresh, Method::Post, &format!("{}/_refresh", index.alias), None).await?;
        match answer.read::<Refreshed>() {
            Err(failure) if failure.is_missing() => Err(Failure::Lost { index: index.name.clone() }),
            Err(failure) => Err(failure),
            Ok(Refreshed { shards }) if shards.failed > 0 || shards.successful == 0 => {
                Err(answer.incomplete(format!("{} copies failed, {} did not", shards.failed, shards.successful)))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Checks that indices are the ones that they were when their ids were written down. To be called after they were read.
    ///
    /// # Errors
    /// [`Failure::Lost`] if one is gone or another.
    pub(crate) async fn check_identity(&self, indices: &[IndexRef]) -> Result<(), Failure> {
        for some in indices.chunks(NAMED_MAX) {
            let path = format!("{}/_settings/index.uuid?flat_settings=true", aliases(some));
            let answer = self.send(Call::Other, Method::Get, &path, None).await?;
            let lost = |index: &IndexRef| Failure::Lost { index: index.name.clone() };
            let all: BTreeMap<String, Value> = match answer.read() {
                Err(failure) if failure.is_missing() => match some {
                    [one] => return Err(lost(one)),
                    several => {
                        for one in several {
                            Box::pin(self.check_identity(std::slice::from_ref(one))).await?;
                        }
                        return Err(failure);
                    }
                },
                read => read?,
            };
            let uuid =
                |index: &IndexRef| all.get(&index.name).and_then(|found| found["settings"]["index.uuid"].as_str());
            if let Some(other) = some.iter().find(|index| uuid(index) != Some(index.uuid.as_str())) {
                return Err(lost(other));
            }
        }
        Ok(())
    }

    /// Removes the indices that are to go and that nobody reads. One that can't be removed is tried again the next time.
    pub(crate) async fn sweep(&self) -> Result<bool, Failure> {
        if !self.leases.has_doomed() {
            return Ok(false);
        }
        let _names = self.leases.names.write().await;
        let free = self.leases.take_free().await;
        let mut free = free.into_iter();
        let mut removed = false;
        while let Some(index) = free.next() {
            match self.remove_index(&index).await {
                Ok(()) => removed = true,
                Err(failure) => {
                    self.leases.doom(index);
                    free.for_each(|index| self.leases.doom(index));
                    return Err(failure);
                }
            }
        }
        Ok(removed)
    }

    /// Removes an index; one that is not there counts as removed.
    pub(crate) async fn remove_index(&self, index: &str) -> Result<(), Failure> {
        let answer = self.send(Call::IndexDropped, Method::Delete, index, None).await?;
        match answer.accepted() {
            Err(failure) if failure.is_missing() => Ok(()),
            outcome => outcome,
        }
    }

    /// Takes note of what a view takes, as the cluster counts it.
    pub(crate) async fn measure(&self, view: &ViewId) -> Result<(), Failure> {
        let pattern = names::row_indices(&self.prefix, view);
        let path = format!("{pattern}/_stats/store?filter_path=_all.primaries.store");
        let stats: Value = self.send(Call::Other, Method::Get, &path, None).await?.read()?;
        let bytes = stats["_all"]["primaries"]["store"]["size_in_bytes"].as_u64().unwrap_or(0);
        let counted = self.kinds(&pattern).await;
        let mut usage = lock(&self.usage);
        let of = usage.entry(view.clone()).or_default();
        *of = match counted {
            Ok(counted) => LiveUsage { bytes, ..counted },
            // An index that somebody is making at this moment can't be searched. It is only for people, who have the last figures.
            Err(failure) => {
                tracing::debug!(%view, error = %chain(&failure), "rows and rejects could not be counted");
                LiveUsage { bytes, ..*of }
            }
        };
        Ok(())
    }

    /// How many rows and rejects some indices hold.
    async fn kinds(&self, pattern: &str) -> Result<LiveUsage, Failure> {
        let body = json!({
            "size": 0,
            "track_total_hits": false,
            "aggs": {"kinds": {"terms": {"field": "kind", "size": 10}}},
        });
        let answer = self.send(Call::Aggregate, Method::Post, &format!("{pattern}/_search"), Some(&body)).await?;
        Ok(counted(&answer.read::<Value>()?))
    }
}

/// Rows and rejects in the answer to a search that has counted kinds of records; none, where there is no index yet.
fn counted(answer: &Value) -> LiveUsage {
    let buckets = answer["aggregations"]["kinds"]["buckets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |kind: &str| {
        let bucket = buckets.iter().find(|bucket| bucket["key"] == kind);
        bucket.and_then(|bucket| bucket["doc_count"].as_u64()).unwrap_or(0)
    };
    LiveUsage { rows: of("row"), rejects: of("reject"), bytes: 0 }
}

/// Indices in a path.
pub(crate) fn aliases(indices: &[IndexRef]) -> String {
    indices.iter().map(|index| index.alias.as_str()).collect::<Vec<_>>().join(",")
}

/// Indices in portions that a path can name.
pub(crate) fn portions<T>(indices: &[T]) -> impl Iterator<Item = &[T]> {
    indices.chunks(NAMED_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_rejects_are_counted_by_kind() {
        let bucket = |kind: &str, count: u64| json!({"key": kind, "doc_count": count});
        let answer = |buckets: Value| json!({"took": 1, "aggregations": {"kinds": {"buckets": buckets}}});
        let usage = |rows, rejects| LiveUsage { rows, rejects, bytes: 0 };
        let all = answer(json!([bucket("reject", 70), bucket("row", 20), bucket("filtered", 5)]));
        for (answer, wanted) in [
            (all, usage(20, 70)),
            (answer(json!([bucket("filtered", 5)])), usage(0, 0)),
            (json!({"took": 1, "hits": {"hits": []}}), usage(0, 0)),
        ] {
            assert_eq!(counted(&answer), wanted, "{answer}");
        }
    }
}
