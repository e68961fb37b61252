//! The batch layer's face: what the command line, a scheduler or a door asks of it.

use std::collections::BTreeMap;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Duration;

use tidemark_shared::ambient::{Ambient, System};
use tidemark_shared::catalog::Catalog;
use tidemark_shared::ledger::{Ledger, LedgerState};
use tidemark_shared::store::{IfMissing, Store, StoreUrl, Stores};
use tokio::sync::Mutex;

use crate::error::BatchError;

/// The longest grace: so long a table's log keeps the names of removed data files, by which vacuum spares them.
pub const GRACE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Settings of the batch layer. Plain data; see `tidemark.toml`, section `[batch]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSettings {
    /// Threads that decode, transform and encode. 0: as many as there are cores.
    pub threads: usize,
    /// Bytes of rows that a run may hold before it writes row groups early.
    pub buffer_bytes_max: usize,
    /// Raw bytes after which a run commits what it has and goes on.
    pub commit_bytes: u64,
    /// Size that a data file should reach before the next one is begun, in bytes.
    pub file_bytes_target: u64,
    /// How long a generation that no longer answers, and a removed data file, are kept for running queries; at most
    /// [`GRACE_MAX`].
    pub grace: Duration,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            threads: 0,
            buffer_bytes_max: 192 << 20,
            commit_bytes: 4 << 30,
            file_bytes_target: 128 << 20,
            grace: Duration::from_secs(3_600),
        }
    }
}

/// Files to take in, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngestRequest {
    /// Files, folders (all files below, by path), or `s3://bucket/prefix`; with `accept`, also names of held files.
    pub paths: Vec<String>,
    /// Name in the ledger instead of the path's; for exactly one file.
    pub name: Option<String>,
    /// Changed content under a known name replaces the old file.
    pub replace: bool,
    /// Known content under a new name is a file of its own.
    pub allow_duplicate: bool,
    /// Lets the rows of files count that the gate holds, now or before.
    pub accept: bool,
    /// Leaves remote files where they are; needs a versioned bucket.
    pub in_place: bool,
    /// Compares the bytes that are stored of known files with their digests, and puts back what changed. Without it, only
    /// what is gone or of another length is.
    pub verify: bool,
}

/// What to remove of what nothing names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VacuumRequest {
    /// Objects that were written later are left alone: a run that is still going on may be about to name them.
    pub older_than: Duration,
    /// Only name them.
    pub dry_run: bool,
    /// Neither a command nor a query is at work on the dataset: the age alone counts, the grace does not, and nobody
    /// needs to be kept from naming what goes.
    pub force: bool,
}

/// The batch layer of one store.
#[derive(Clone)]
pub struct Batch {
    pub(crate) store: Store,
    pub(crate) stores: Arc<dyn Stores>,
    pub(crate) catalog: Option<Arc<dyn Catalog>>,
    pub(crate) settings: BatchSettings,
    pub(crate) ambient: Arc<dyn Ambient>,
    /// Other buckets, by name, that were opened so far.
    buckets: Arc<Mutex<BTreeMap<String, Store>>>,
    /// File ledgers as they were when last read, by dataset: entries never change.
    ledgers: Arc<Mutex<BTreeMap<String, LedgerState>>>,
}

impl Batch {
    /// The batch layer on `store`. `stores` opens what remote paths name; curated tables register in `catalog`.
    #[must_use]
    pub fn new(
        store: Store,
        stores: Arc<dyn Stores>,
        catalog: Option<Arc<dyn Catalog>>,
        settings: BatchSettings,
    ) -> Self {
        let (buckets, ledgers) = (Arc::default(), Arc::default());
        Self { store, stores, catalog, settings, ambient: Arc::new(System), buckets, ledgers }
    }

    /// The same with another source of time and ids.
    #[must_use]
    pub fn with_ambient(mut self, ambient: Arc<dyn Ambient>) -> Self {
        self.ambient = ambient;
        self
    }

    pub(crate) fn ledger(&self, dataset: &str) -> Ledger {
        Ledger::new(self.store.clone(), dataset)
    }

    /// The file ledger's state. Of one that was read before, only what came since is: a process that runs every few seconds
    /// does not read all entries each time.
    pub(crate) async fn ledger_state(&self, dataset: &str) -> Result<LedgerState, BatchError> {
        let known = self.ledgers.lock().await.get(dataset).cloned();
        let ledger = self.ledger(dataset);
        let state = match known {
            Some(mut state) => {
                ledger.catch_up(&mut state).await?;
                state
            }
            None => ledger.state().await?,
        };
        self.ledgers.lock().await.insert(dataset.to_owned(), state.clone());
        Ok(state)
    }

    /// The bucket of that name, opened once: opening reads the configuration and asks the other side.
    pub(crate) async fn bucket(&self, name: &str) -> Result<Store, BatchError> {
        let mut buckets = self.buckets.lock().await;
        if let Some(store) = buckets.get(name) {
            return Ok(store.clone());
        }
        let url = StoreUrl::parse(&format!("s3://{name}"), FsPath::new(""))?;
        let store = self.stores.open(&url, IfMissing::Fail).await?;
        buckets.insert(name.to_owned(), store.clone());
        Ok(store)
    }

    /// Threads that decode and encode.
    pub(crate) fn threads(&self) -> usize {
        match self.settings.threads {
            0 => std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            threads => threads,
        }
    }
}
