//! What the parts of the adapter share, and what is known of a view.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use arrow::datatypes::SchemaRef;
use serde::Deserialize;
use serde_json::{Value, json};
use tidemark_shared::ambient::Ambient;
use tidemark_shared::live::{LiveError, ViewId};
use tidemark_shared::lock;
use tidemark_shared::position::LogPartition;

use crate::cache::Cache;
use crate::calls::Call;
use crate::client::{Answer, Client, NoRoom};
use crate::exact::{ExactRows, FORMAT};
use crate::failure::{Failure, failed};
use crate::floors::Refusal;
use crate::indices::Described;
use crate::leases::Leases;
use crate::mapping::{Mapping, schema_of_text, schema_text};
use crate::names;
use crate::state::PartitionState;
use crate::view::OpenSearchViewSettings;
use crate::views::Views;
use opensearch::http::Method;

/// A partition's state as this process last wrote or read it, for one writer at a time.
pub(crate) type Writer = Arc<tokio::sync::Mutex<Option<PartitionState>>>;

/// See the module's text.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) prefix: String,
    pub(crate) settings: OpenSearchViewSettings,
    pub(crate) ambient: Arc<dyn Ambient>,
    pub(crate) leases: Leases,
    pub(crate) cache: Cache,
    pub(crate) views: Views,
}

/// What is known of a view for as long as its state index is the same.
pub(crate) struct Handle {
    pub(crate) view: ViewId,
    pub(crate) exact: ExactRows,
    pub(crate) mapping: Mapping,
    /// How the state index is addressed.
    pub(crate) state: String,
    /// The state index's own id: the view's identity.
    pub(crate) uuid: String,
    /// Offsets of a row index.
    pub(crate) range: u64,
    pub(crate) known: Mutex<BTreeSet<LogPartition>>,
    writers: Mutex<BTreeMap<LogPartition, Writer>>,
    /// Floors that stand in the state index: who would raise one no higher need not wait for its writer.
    pub(crate) floors: Mutex<BTreeMap<LogPartition, u64>>,
    /// While the state index takes no writes.
    pub(crate) refused: Mutex<Option<Refusal>>,
    /// Up to where this process was told that partitions are curated: who reads a newer version needs no row below that.
    covered: Mutex<BTreeMap<LogPartition, u64>>,
}

/// What a state index says of its view.
#[derive(Debug, Deserialize)]
struct Meta {
    schema: String,
    range: u64,
}

impl Handle {
    /// The slot of a partition's writer.
    pub(crate) fn writer(&self, partition: &LogPartition) -> Writer {
        Arc::clone(lock(&self.writers).entry(partition.clone()).or_default())
    }

    /// Takes note that a partition is curated up to `end`.
    pub(crate) fn note_covered(&self, partition: &LogPartition, end: u64) {
        let mut covered = lock(&self.covered);
        let known = covered.entry(partition.clone()).or_default();
        *known = end.max(*known);
    }

    /// Up to where a partition is curated, as far as this process was told.
    pub(crate) fn covered(&self, partition: &LogPartition) -> u64 {
        lock(&self.covered).get(partition).copied().unwrap_or(0)
    }

    /// Where the row index of an offset begins.
    pub(crate) fn start_of(&self, offset: u64) -> u64 {
        offset - offset % self.range
    }

    /// What a view's indices say of themselves.
    pub(crate) fn row_meta(&self) -> Value {
        row_meta(&self.view)
    }

    /// Of a view whose state index was found, addressed by its name until its alias is known.
    fn of(view: &ViewId, found: &Described) -> Result<Self, LiveError> {
        let meta = &found.meta;
        let foreign = |reason: String| Failure::Foreign { index: found.name.clone(), reason };
        let unread = |reason: String| failed("open a view")(foreign(reason));
        let format = meta["format"].as_str().unwrap_or_default().to_owned();
        if format != FORMAT {
            return Err(LiveError::Format { view: view.clone(), found: format, known: FORMAT });
        }
        let meta: Meta = serde_json::from_value(meta.clone()).map_err(|error| unread(error.to_string()))?;
        let schema = schema_of_text(&meta.schema).map_err(|error| unread(error.to_string()))?;
        if meta.range == 0 {
            return Err(unread("its indices hold no offsets".to_owned()));
        }
        Ok(Self {
            view: view.clone(),
            exact: ExactRows::new(&schema).map_err(|error| LiveError::backend("open a view", error))?,
            mapping: Mapping::of(&schema),
            state: found.name.clone(),
            uuid: found.uuid.clone(),
            range: meta.range,
            known: Mutex::default(),
            writers: Mutex::default(),
            floors: Mutex::default(),
            refused: Mutex::default(),
            covered: Mutex::default(),
        })
    }
}

#[cfg(test)]
impl Handle {
    /// Of a view whose state index has this id.
    pub(crate) fn named(view: &ViewId, uuid: &str) -> Arc<Self> {
        let mut meta = row_meta(view);
        meta["schema"] = json!(schema_text(&tidemark_testing::contract::live::schema()).expect("a schema"));
        meta["range"] = json!(10);
        let name = names::state_index("test", view);
        let found = Described { name, aliases: Vec::new(), uuid: uuid.to_owned(), meta };
        Arc::new(Self::of(view, &found).expect("it is one of ours"))
    }
}

fn row_meta(view: &ViewId) -> Value {
    json!({"format": FORMAT, "dataset": view.dataset, "generation": view.generation})
}

impl Cluster {
    /// Sends a request that may be sent twice, told of as a `call`.
    pub(crate) async fn send(
        &self,
        call: Call,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        self.send_with(call, method, path, body, NoRoom::Waits).await
    }

    /// The same; `no_room` says what becomes of it where the cluster has no room for the answer.
    pub(crate) async fn send_with(
        &self,
        call: Call,
        method: Method,
        path: &str,
        body: Option<&Value>,
        no_room: NoRoom,
    ) -> Result<Answer, Failure> {
        self.client.send(call, method, path, body, no_room, self.ambient.random()).await
    }

    /// A view that is known, or that is found in the cluster.
    pub(crate) async fn handle(&self, view: &ViewId) -> Result<Option<Arc<Handle>>, LiveError> {
        match self.views.handle(view) {
            Some(handle) => Ok(Some(handle)),
            None => self.load(view).await,
        }
    }

    /// A view as the cluster has it.
    async fn load(&self, view: &ViewId) -> Result<Option<Arc<Handle>>, LiveError> {
        let index = names::state_index(&self.prefix, view);
        let found = self.describe(&index).await.map_err(failed("open a view"))?;
        let Some(found) = found.first() else { return Ok(None) };
        let mut handle = Handle::of(view, found)?;
        // Only one that is ours.
        handle.state = self.ensure_alias(found).await.map_err(failed("open a view"))?;
        let (handle, was_lost) = self.views.take_in(Arc::new(handle));
        if was_lost {
            tracing::warn!(%view, "the view's state index was lost; the view was made anew");
        }
        Ok(Some(handle))
    }

    /// A view, made if there is none.
    pub(crate) async fn opened(&self, view: &ViewId, schema: &SchemaRef) -> Result<Arc<Handle>, LiveError> {
        if let Some(handle) = self.handle(view).await? {
            return Ok(handle);
        }
        let index = names::state_index(&self.prefix, view);
        let schema = schema_text(schema).map_err(|error| LiveError::backend("open a view", error))?;
        let mut meta = row_meta(view);
        meta["schema"] = json!(schema);
        meta["range"] = json!(self.settings.index_offsets.max(1));
        // Nothing in it is searched.
        let mappings = json!({"dynamic": false, "_meta": {"tidemark": meta}});
        self.create_index(&index, mappings).await.map_err(failed("open a view"))?;
        let found = self.load(view).await?;
        found.ok_or_else(|| failed("open a view")(Failure::IndexGone { index }))
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("prefix", &self.prefix)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("view", &self.view).field("state", &self.state).finish_non_exhaustive()
    }
}
