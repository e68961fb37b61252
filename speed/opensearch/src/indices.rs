//! Indices: made explicitly, with an alias of their own; described, made searchable and removed whole (H7).

use std::collections::BTreeMap;

use opensearch::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tidemark_shared::position::LogPartition;

use crate::calls::Call;
use crate::cluster::{Cluster, Handle};
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
        let found = found.ok_or_else(|| Failure::IndexGone { index: name.clone() })?;
        let foreign = |reason: &str| Failure::Foreign { index: name.clone(), reason: reason.to_owned() };
        if found.meta != meta {
            return Err(foreign("its mapping is not ours"));
        }
        let alias = found.alias.ok_or_else(|| foreign("it lost the alias that was made with it"))?;
        let history = Some(self.history(&name, &found.uuid).await?);
        Ok(IndexRef { name, alias, uuid: found.uuid, history })
    }

    /// Makes all that was written to an index searchable, on every copy of it (H4).
    pub(crate) async fn refresh(&self, index: &IndexRef) -> Result<(), Failure> {
        let answer = self.send(Call::Refresh, Method::Post, &format!("{}/_refresh", index.alias), None).await?;
        match answer.read::<Refreshed>() {
            Err(failure) if failure.is_missing() => Err(Failure::IndexGone { index: index.name.clone() }),
            Err(failure) => Err(failure),
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

/// Indices in a path.
pub(crate) fn aliases(indices: &[IndexRef]) -> String {
    indices.iter().map(|index| index.alias.as_str()).collect::<Vec<_>>().join(",")
}

/// Indices in portions that a path can name.
pub(crate) fn portions<T>(indices: &[T]) -> impl Iterator<Item = &[T]> {
    indices.chunks(NAMED_MAX)
}
