//! The port's calls.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::live::{LiveBatch, LiveError, LivePin, LiveUsage, LiveView, ViewId};
use tidemark_shared::position::{Coverage, LogPartition};

use crate::cache::Cache;
use crate::calls::{Calls, NoCalls};
use crate::client::Client;
use crate::cluster::{Cluster, Handle};
use crate::failure::failed;
use crate::indices::Described;
use crate::leases::Leases;
use crate::names;
use crate::pin::OpenSearchPin;
use crate::url::OpenSearchUrl;
use crate::views::Views;

/// How an [`OpenSearchView`] behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSearchViewSettings {
    /// Offsets of a partition that go into one index. Of a view that is there, its own count.
    pub index_offsets: u64,
    /// Offsets that are read by one request, at most 10,000; fewer where rows are large.
    pub block_offsets: u64,
    /// Bytes of documents that are sent by one request.
    pub bulk_bytes_max: usize,
    /// Bytes of rows that are kept in memory for the next statement.
    pub cache_bytes_max: u64,
    /// Parts that a scan is split into at most, to be read side by side.
    pub scan_parts: usize,
    /// Groups that the cluster is asked for by one request.
    pub page_groups: usize,
    /// Aggregates that can be exact are made by the cluster; else of rows.
    pub aggregate_pushdown: bool,
    /// A request that takes longer fails.
    pub timeout: Duration,
}

impl Default for OpenSearchViewSettings {
    /// 262,144 offsets an index, 8,192 a request; 4 MiB a write; 256 MiB in memory; as many parts as there are processors;
    /// 8,192 groups a request, made by the cluster; a minute.
    fn default() -> Self {
        Self {
            index_offsets: 1 << 18,
            block_offsets: 1 << 13,
            bulk_bytes_max: 4 << 20,
            cache_bytes_max: 256 << 20,
            scan_parts: available_parallelism().map_or(1, usize::from),
            page_groups: 1 << 13,
            aggregate_pushdown: true,
            timeout: Duration::from_secs(60),
        }
    }
}

/// Real-time views in an OpenSearch cluster. Cheap to clone.
#[derive(Clone)]
pub struct OpenSearchView {
    cluster: Arc<Cluster>,
}

impl OpenSearchView {
    /// Views in the cluster at `url`; nothing is asked of it yet. To be called on the runtime that is to send the requests.
    /// `ambient` gives names and pauses.
    ///
    /// # Errors
    /// [`LiveError::Backend`] if no client can be made.
    pub fn new(
        url: &OpenSearchUrl,
        ambient: Arc<dyn Ambient>,
        settings: OpenSearchViewSettings,
    ) -> Result<Self, LiveError> {
        Self::with_calls(url, ambient, settings, Arc::new(NoCalls))
    }

    /// The same, where `calls` is told of each request.
    ///
    /// # Errors
    /// [`LiveError::Backend`] if no client can be made.
    pub fn with_calls(
        url: &OpenSearchUrl,
        ambient: Arc<dyn Ambient>,
        settings: OpenSearchViewSettings,
        calls: Arc<dyn Calls>,
    ) -> Result<Self, LiveError> {
        let client = Client::new(url, settings.timeout, calls);
        let client = client.map_err(|error| LiveError::backend("make a client", error.to_string()))?;
        let cache = Cache::new(settings.cache_bytes_max);
        let (prefix, leases) = (url.prefix.clone(), Leases::default());
        let cluster = Cluster { client, prefix, settings, ambient, leases, cache, views: Views::default() };
        Ok(Self { cluster: Arc::new(cluster) })
    }

    fn missing(view: &ViewId) -> LiveError {
        LiveError::Missing { view: view.clone(), partition: None }
    }

    async fn open_once(
        &self,
        view: &ViewId,
        schema: &SchemaRef,
        floors: &[(LogPartition, u64)],
    ) -> Result<(), LiveError> {
        let (cluster, operation) = (&self.cluster, "open a view");
        let is_known = cluster.views.handle(view).is_some();
        let handle = cluster.opened(view, schema).await?;
        if !is_known {
            cluster.wait_usable(&handle.state).await.map_err(failed(operation))?;
            cluster.remove_orphans(&view.dataset).await.map_err(failed(operation))?;
        }
        if handle.exact.held() != schema {
            return Err(LiveError::Schema { view: view.clone() });
        }
        let gone = |failure| cluster.gone(&handle, failure, operation);
        // Partitions begin at their coverage: below it, nobody needs their rows in a view.
        floors.iter().for_each(|(partition, floor)| handle.note_covered(partition, *floor));
        cluster.add_partitions(&handle, floors).await.map_err(gone)?;
        cluster.look_over(&handle).await.map_err(gone)
    }

    /// A pin of what is known of the view; `None` if its state index is gone.
    async fn pin_of(&self, handle: &Arc<Handle>) -> Result<Option<OpenSearchPin>, LiveError> {
        let cluster = &self.cluster;
        // Until the indices are held, none of them is found to be free.
        let _gate = cluster.leases.gate.read().await;
        let states = match cluster.read_state(handle).await {
            Ok(states) => states,
            Err(failure) => {
                return match cluster.gone(handle, failure, "look at a view") {
                    LiveError::Missing { .. } => Ok(None),
                    error => Err(error),
                };
            }
        };
        Ok(Some(OpenSearchPin::new(Arc::clone(cluster), Arc::clone(handle), states)))
    }
}

#[async_trait]
impl LiveView for OpenSearchView {
    async fn open(&self, view: &ViewId, schema: &SchemaRef, floors: &Coverage) -> Result<(), LiveError> {
        let floors: Vec<(LogPartition, u64)> = floors
            .iter()
            .filter(|(partition, _)| **partition != LogPartition::files())
            .map(|(partition, floor)| (partition.clone(), floor))
            .collect();
        // A view that is known may have lost its state index: then the second attempt makes it.
        match self.open_once(view, schema, &floors).await {
            Err(LiveError::Missing { .. }) => self.open_once(view, schema, &floors).await,
            outcome => outcome,
        }
    }

    async fn apply(&self, view: &ViewId, batch: LiveBatch) -> Result<(), LiveError> {
        let handle = self.cluster.handle(view).await?.ok_or_else(|| Self::missing(view))?;
        let columns = handle.exact.held().fields().len();
        if !batch.rows.iter().all(|rows| rows.num_columns() == columns) {
            return Err(LiveError::Schema { view: view.clone() });
        }
        self.cluster.take(&handle, &Arc::new(batch)).await
    }

    async fn pin(&self, view: &ViewId) -> Result<Option<Arc<dyn LivePin>>, LiveError> {
        // Another process may have let the view go and opened one of the same name: then its state index is another.
        for _ in 0..2 {
            let Some(handle) = self.cluster.handle(view).await? else { return Ok(None) };
            if let Some(pin) = self.pin_of(&handle).await? {
                return Ok(Some(Arc::new(pin)));
            }
        }
        Ok(None)
    }

    async fn drop_below(&self, view: &ViewId, coverage: &Coverage) -> Result<(), LiveError> {
        let cluster = &self.cluster;
        let handle = cluster.handle(view).await?.ok_or_else(|| Self::missing(view))?;
        let failed = failed("drop rows");
        let of_log = coverage.iter().filter(|(partition, _)| **partition != LogPartition::files());
        let ends: Vec<(LogPartition, u64)> = of_log.map(|(partition, end)| (partition.clone(), end)).collect();
        let refused = cluster.raise_floors(&handle, &ends).await?;
        if cluster.sweep().await.map_err(&failed)? {
            cluster.measure(view).await.map_err(&failed)?;
        }
        // Rows went all the same; the floors are raised by another call.
        refused.map_or(Ok(()), |failure| Err(failed(failure)))
    }

    async fn close(&self, view: &ViewId) -> Result<(), LiveError> {
        let (cluster, failed) = (&self.cluster, failed("let a view go"));
        // From here on it is not there, whoever still reads its rows.
        cluster.remove_index(&names::state_index(&cluster.prefix, view)).await.map_err(&failed)?;
        cluster.views.let_go(view);
        let rows = cluster.describe(&names::row_indices(&cluster.prefix, view)).await.map_err(&failed)?;
        rows.into_iter().for_each(|index| cluster.leases.doom(index.name));
        cluster.sweep().await.map(drop).map_err(failed)
    }

    async fn views(&self) -> Result<Vec<ViewId>, LiveError> {
        let pattern = names::state_indices(&self.cluster.prefix);
        let found = self.cluster.describe(&pattern).await.map_err(failed("list views"))?;
        let views: BTreeSet<ViewId> = found.iter().filter_map(Described::view).collect();
        Ok(views.into_iter().collect())
    }

    /// As far as this process knows: what it wrote since it last asked the cluster, and what that said.
    fn usage(&self) -> LiveUsage {
        self.cluster.views.usage_of_all()
    }

    /// The cluster sees to its own.
    fn limit(&self) -> Option<LiveUsage> {
        None
    }
}

impl fmt::Debug for OpenSearchView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cluster.fmt(f)
    }
}
