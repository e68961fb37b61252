//! Indices: made explicitly, with an alias of their own; described, made searchable and removed whole (H7).

use std::collections::BTreeMap;

use opensearch::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tidemark_shared::backoff::Attempts;
use tidemark_shared::error::chain;
use tidemark_shared::live::ViewId;
use tidemark_shared::position::LogPartition;

use crate::calls::Call;
use crate::client::{BUSY, Content};
use crate::cluster::{Cluster, Handle};
use crate::failure::Failure;
use crate::names;
use crate::state::IndexRef;

/// An index as the cluster has it.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) name: String,
    /// Those of its aliases that are ours: the one that was made with it, unless somebody took that.
    pub(crate) aliases: Vec<String>,
    pub(crate) uuid: String,
    /// What we wrote about it; null if it is not ours.
    pub(crate) meta: Value,
}

/// Indices that are named in one request: a request's first line has at most 4,096 bytes.
const NAMED_MAX: usize = 8;

impl Described {
    /// The view that it is of, as it says itself; `None` if it is not ours.
    pub(crate) fn view(&self) -> Option<ViewId> {
        let text = |name: &str| self.meta[name].as_str().map(str::to_owned);
        Some(ViewId { dataset: text("dataset")?, generation: text("generation")? })
    }
}

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

/// What a request to remove an index has come to that was not answered with yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It is not there.
    Gone,
    /// It stays for as long as a snapshot is made of it, which may be hours.
    Kept,
    /// It may go in a moment, or has gone.
    Unsure,
    /// It does not go.
    Refused,
}

pub(crate) fn removal(failure: &Failure) -> Removal {
    match failure {
        failure if failure.is_missing() => Removal::Gone,
        Failure::Refused { kind, .. } if kind == "snapshot_in_progress_exception" => Removal::Kept,
        Failure::Unreachable { source, .. } if !source.is_timeout() => Removal::Unsure,
        failure if failure.is_passing() => Removal::Unsure,
        _ => Removal::Refused,
    }
}

impl Cluster {
    /// Makes an index; one that is there stays as it is.
    pub(crate) async fn create_index(&self, index: &str, mut mappings: Value) -> Result<(), Failure> {
        let alias = names::alias(index, &self.ambient.unique_id());
        let of =
            |object: &str| mappings["properties"][object]["properties"].as_object().map_or(0, |fields| fields.len());
        let fields = of("row") + of("whole");
        // Whatever a template says: positions and rejects are read from there, and no document names a shard.
        mappings["_source"] = json!({"enabled": true});
        mappings["_routing"] = json!({"required": false});
        let body = json!({
            "settings": {"index": settings(fields)},
            "mappings": mappings,
            // Whoever gives the alias to another index as well writes to this one still, and no copy of it is restored beside it
            // with the same alias.
            "aliases": {(alias): {"is_write_index": true}},
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

    /// The indices that a name or pattern matches, closed ones too: whoever takes those for gone indexes again what is there.
    pub(crate) async fn describe(&self, pattern: &str) -> Result<Vec<Described>, Failure> {
        let wanted = "*.aliases,*.mappings._meta,*.settings.index.uuid";
        let path = format!("{pattern}?expand_wildcards=open,closed&filter_path={wanted}");
        let answer = self.send(Call::Other, Method::Get, &path, None).await?;
        let all: BTreeMap<String, Value> = match answer.accepted() {
            Err(failure) if failure.is_missing() => return Ok(Vec::new()),
            Err(failure) => return Err(failure),
            Ok(()) => answer.parsed()?,
        };
        let described = |(name, index): (String, Value)| {
            let aliases = index["aliases"].as_object().into_iter().flat_map(|aliases| aliases.keys());
            let ours = |alias: &&String| alias.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.'));
            let aliases = aliases.filter(ours).cloned().collect();
            let uuid = index["settings"]["index"]["uuid"].as_str().unwrap_or_default().to_owned();
            let meta = index["mappings"]["_meta"]["tidemark"].clone();
            Described { name, aliases, uuid, meta }
        };
        Ok(all.into_iter().map(described).collect())
    }

    /// The index of a partition's rows from `start` on, made if there is none. What is in one that is there counts, for a row is
    /// known by its position; but not in the one with the id `stale`, which is removed first, if it can be.
    pub(crate) async fn ensure_row_index(
        &self,
        handle: &Handle,
        partition: &LogPartition,
        start: u64,
        stale: Option<&str>,
    ) -> Result<IndexRef, Failure> {
        let name = names::row_index(&self.prefix, &handle.view, partition, start);
        let _names = self.leases.names.read().await;
        self.leases.revive(&name);
        if let Some(stale) = stale {
            self.remove_stale(&name, stale).await?;
        }
        let meta = handle.row_meta();
        self.create_index(&name, handle.mapping.mappings(&meta)).await?;
        let found = self.describe(&name).await?.into_iter().next();
        let found = found.ok_or_else(|| Failure::IndexGone { index: name.clone() })?;
        if found.meta != meta {
            return Err(Failure::Foreign { index: name, reason: "its mapping is not ours".to_owned() });
        }
        let alias = self.ensure_alias(&found).await?;
        // If it is another by now, its id says so.
        let history = Some(self.history(&name, &found.uuid).await?);
        Ok(IndexRef { name, alias, uuid: found.uuid, history })
    }

    /// Removes an index with rows from before a step back, unless it is another by now: somebody else has written them again.
    ///
    /// It goes whoever reads it. A statement that does is told so by the index's name, as it is by the one that was gone: it would
    /// wait for rows that are not coming back, and all who read this partition for it. Writers of other processes that still write
    /// to it are told the same, and find in the state that the position stepped back. Two that come to the same offset at once may
    /// both remove it, one of them what the other has made: he is told, too, and makes it again. That is between a look and the request
    /// after it, and no longer: a request names no id, so none is sent a second time without a look.
    ///
    /// While a snapshot is made of it, it can't go, and its partition does not wait for that: it is written over, and may keep rows of
    /// records that log and archive have no more. The position counts on it from then on, so that it is stale no longer.
    async fn remove_stale(&self, name: &str, uuid: &str) -> Result<(), Failure> {
        let mut attempts = Attempts::new(BUSY);
        while self.describe(name).await?.iter().any(|found| found.uuid == uuid) {
            tracing::info!(index = name, "rows from before a step back are removed; they are indexed again");
            let answer = self.client.once(Call::IndexDropped, Method::Delete, name, Content::Json, None).await;
            let Err(failure) = answer.and_then(|answer| answer.accepted()) else { return Ok(()) };
            match removal(&failure) {
                Removal::Gone => return Ok(()),
                Removal::Kept => {
                    let (error, what) = (
                        chain(&failure),
                        "a snapshot is made of rows from before a step back; they are written over and not removed",
                    );
                    tracing::warn!(index = name, error, "{what}");
                    return Ok(());
                }
                Removal::Unsure => {
                    if !attempts.again(self.ambient.random()).await {
                        return Err(failure);
                    }
                }
                Removal::Refused => return Err(failure),
            }
        }
        Ok(())
    }

    /// The alias by which an index of ours is reached, given to it if it has none. That is one that nobody had before: who means the
    /// index by another may mean one that was here before this, and what was written by another while that led elsewhere is not here.
    ///
    /// So it is for indices of which nothing is taken for granted but what they hold: for a row index that no position counts on yet,
    /// or that is to be written over, and for a state index. What that says is of the moment when its alias was taken. Positions and
    /// floors that were written elsewhere since are not in it; rows above its positions are indexed again, and an index that it counts
    /// on and that was removed or made anew meanwhile is known by its id.
    pub(crate) async fn ensure_alias(&self, found: &Described) -> Result<String, Failure> {
        if let Some(alias) = found.aliases.first() {
            return Ok(alias.clone());
        }
        let (index, alias) = (&found.name, names::alias(&found.name, &self.ambient.unique_id()));
        tracing::warn!(index, alias, "an index has no alias; it gets a new one");
        let add = json!({"actions": [{"add": {"index": index, "alias": alias, "is_write_index": true}}]});
        let answer = self.send(Call::Other, Method::Post, "_aliases", Some(&add)).await?;
        answer.accepted().map_err(|failure| failure.about(index))?;
        Ok(alias)
    }

    /// Makes all that was written to an index searchable, on every copy of it (H4).
    pub(crate) async fn refresh(&self, index: &IndexRef) -> Result<(), Failure> {
        let answer = self.send(Call::Refresh, Method::Post, &format!("{}/_refresh", index.alias), None).await?;
        match answer.read::<Refreshed>() {
            Err(failure) => Err(failure.about(&index.name)),
            Ok(Refreshed { shards }) if shards.failed > 0 || shards.successful == 0 => {
                Err(answer.incomplete(format!("{} copies failed, {} did not", shards.failed, shards.successful)))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Removes an index; one that is not there counts as removed.
    pub(crate) async fn remove_index(&self, index: &str) -> Result<(), Failure> {
        let answer = self.send(Call::IndexDropped, Method::Delete, index, None).await?;
        match answer.accepted() {
            Err(failure) if failure.is_missing() => Ok(()),
            outcome => outcome,
        }
    }
}

/// The settings of an index whose mapping has so many fields. All that a user's template could set, and by which rows would be lost,
/// changed or not found, is set here: what a request says goes before what templates say.
fn settings(fields: usize) -> Value {
    json!({
        "number_of_shards": 1,
        "routing_partition_size": 1,
        // One copy where there is a second node for it.
        "auto_expand_replicas": "0-1",
        // Rows are searchable when a writer says so, and on every copy then.
        "refresh_interval": "-1",
        "replication.type": "DOCUMENT",
        "mapping.total_fields.limit": fields + 100,
        // What is answered survives a node that loses its power.
        "translog.durability": "request",
        // Documents are written, and answers read, as they are.
        "default_pipeline": "_none",
        "final_pipeline": "_none",
        "search.default_pipeline": "_none",
        // A value that a field can't hold is refused, and then named in `unindexed`: left out in silence, it would be found by no
        // filter.
        "mapping.ignore_malformed": false,
        // A document's text is kept: what the mapping does not name can't be made of its fields.
        "derived_source.enabled": false,
        // Documents are written over what is there.
        "append_only.enabled": false,
        // Patterns of names must find it.
        "hidden": false,
        "blocks": {"read_only": false, "read_only_allow_delete": false, "read": false, "write": false, "metadata": false},
        // As much may be asked for as is asked for at once.
        "max_result_window": 10_000,
        "max_terms_count": 65_536,
        "max_docvalue_fields_search": 100,
    })
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
    fn an_index_that_can_not_be_removed_is_kept_only_where_a_snapshot_is_made_of_it() {
        for (status, kind, wanted) in [
            (404, "index_not_found_exception", Removal::Gone),
            (400, "snapshot_in_progress_exception", Removal::Kept),
            (429, "rejected_execution_exception", Removal::Unsure),
            (503, "cluster_manager_not_discovered_exception", Removal::Unsure),
            (503, "process_cluster_event_timeout_exception", Removal::Unsure),
            (400, "illegal_argument_exception", Removal::Refused),
            (403, "security_exception", Removal::Refused),
            (403, "cluster_block_exception", Removal::Refused),
            (500, "null_pointer_exception", Removal::Refused),
        ] {
            let failure = Failure::refused("DELETE /i", status, &format!(r#"{{"error": {{"type": "{kind}"}}}}"#));
            assert_eq!(removal(&failure), wanted, "{status} {kind}");
        }
        assert_eq!(removal(&Failure::IndexGone { index: "i".to_owned() }), Removal::Gone);
    }
}
