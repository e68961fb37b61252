//! What the tests of several modules need: the parts of a small process, and views and a log that do as a test says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::future::BoxFuture;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tidemark_batch::{Batch, BatchSettings};
use tidemark_shared::ambient::System;
use tidemark_shared::dataset::Sources;
use tidemark_shared::live::{LiveError, LiveLayer, LivePin, LiveView, ViewId};
use tidemark_shared::lock;
use tidemark_shared::log::{Bounds, Log, LogError, LogLayer, Topic};
use tidemark_shared::position::Coverage;
use tidemark_shared::store::Store;
use tidemark_shared::telemetry::NoTraces;
use tidemark_speed::log::embedded::{EmbeddedLog, Storage};
use tokio::sync::watch;

use super::metrics::Metrics;
use super::parts::Parts;
use super::stream::Stream;
use super::streams::Found;
use super::task_name::{TaskKind, TaskName};
use super::tasks::Tasks;
use crate::config::{Flags, resolve};

/// A dataset with a stream.
pub(super) fn sources(name: &str, description: &str) -> Sources {
    let toml = format!(
        "name = \"{name}\"\ndescription = \"{description}\"\ncolumns = [{{ name = \"id\", type = \"string\" }}]\n\
         [stream]\nformat = \"json\"\n"
    );
    [("dataset.toml", toml), ("transform.sql", "SELECT id FROM input".to_owned())]
        .map(|(name, text)| (name.to_owned(), text))
        .into()
}

/// What the streams of a process on `store` are made of; rows go from views at once when they are curated.
pub(super) async fn parts(store: Store, folder: &Path) -> Parts {
    let config = resolve(None, &|_| None, &Flags::default(), folder).expect("defaults are valid").server;
    let log = EmbeddedLog::open(&folder.join("log"), Storage::default(), Arc::new(System)).await.expect("a log");
    let log: Arc<dyn Log> = Arc::new(log);
    let batch = Batch::new(store.clone(), crate::context::stores(), None, BatchSettings::default());
    let metrics = Arc::new(Metrics::new(&mut Registry::default()));
    let parts = super::parts(store, batch, log, metrics, Arc::new(NoTraces), &config).expect("embedded parts");
    Parts { grace: Duration::ZERO, ..parts }
}

/// Nobody wants to know of new streams.
pub(super) fn nobody() -> Found {
    Arc::new(|_: Arc<Stream>| -> BoxFuture<'static, ()> { Box::pin(async {}) })
}

/// Waits for a condition.
pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let look = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), look).await.is_ok(), "{what}");
}

/// The tasks that keep views up.
pub(super) fn indexers(tasks: &Tasks) -> Vec<TaskName> {
    tasks.health().into_keys().filter(|name| name.kind == TaskKind::Indexer).collect()
}

/// The samples of a metric, without its name: labels and value.
pub(super) fn samples(registry: &Registry, name: &str) -> Vec<String> {
    let mut text = String::new();
    encode(&mut text, registry).expect("a string takes all text");
    let mut samples: Vec<String> = text.lines().filter_map(|line| line.strip_prefix(name)).map(str::to_owned).collect();
    samples.sort();
    samples
}

/// Where calls of a port wait for each other, if a test says so.
pub(super) struct Gate {
    kept: Mutex<BTreeSet<&'static str>>,
    under_way: watch::Sender<BTreeSet<&'static str>>,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self { kept: Mutex::default(), under_way: watch::Sender::new(BTreeSet::new()) })
    }

    /// From now on, none of these calls gets an answer before all of them are under way. One that nobody makes keeps the others
    /// for ever.
    pub(super) fn keep(&self, calls: &[&'static str]) {
        drop(self.under_way.send_replace(BTreeSet::new()));
        *lock(&self.kept) = calls.iter().copied().collect();
    }

    async fn pass(&self, call: &'static str) {
        let kept = lock(&self.kept).clone();
        if !kept.contains(call) {
            return;
        }
        let mut under_way = self.under_way.subscribe();
        self.under_way.send_modify(|all| {
            all.insert(call);
        });
        drop(under_way.wait_for(|all| *all == kept).await);
    }
}

/// A log whose calls `health` and `bounds` meet others at a gate.
pub(super) struct MeetingLog {
    pub(super) inner: Arc<dyn Log>,
    pub(super) gate: Arc<Gate>,
}

impl fmt::Debug for MeetingLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl LogLayer for MeetingLog {
    fn inner(&self) -> &Arc<dyn Log> {
        &self.inner
    }

    async fn bounds(&self, topic: &Topic) -> Result<Vec<Bounds>, LogError> {
        self.gate.pass("bounds").await;
        self.inner.bounds(topic).await
    }

    async fn health(&self) -> Result<(), LogError> {
        self.gate.pass("health").await;
        self.inner.health().await
    }
}

/// Views with faults of the tests' choice.
#[derive(Default)]
pub(super) struct Faults {
    /// No view is pinned while one of these tasks runs.
    pub(super) no_pin_beside: Option<Arc<Tasks>>,
    /// No view is opened.
    pub(super) no_open: bool,
    /// The dataset whose rows do not go: who asks for that waits for ever.
    pub(super) stuck: Option<&'static str>,
    /// How often rows of a dataset went.
    drops: BTreeMap<String, u64>,
}

pub(super) struct FaultyView {
    inner: Arc<dyn LiveView>,
    faults: Mutex<Faults>,
    /// Where the calls `views` and `pin` wait.
    pub(super) gate: Arc<Gate>,
}

impl FaultyView {
    /// Puts one in the place of the views that `parts` has.
    pub(super) fn before(parts: &mut Parts) -> Arc<Self> {
        let view = Arc::new(Self { inner: Arc::clone(&parts.live), faults: Mutex::default(), gate: Gate::new() });
        parts.live = Arc::clone(&view) as Arc<dyn LiveView>;
        view
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(super) fn drops(&self, dataset: &str) -> u64 {
        self.faults().drops.get(dataset).copied().unwrap_or(0)
    }
}

impl fmt::Debug for FaultyView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyView")
    }
}

#[async_trait]
impl LiveLayer for FaultyView {
    fn inner(&self) -> &Arc<dyn LiveView> {
        &self.inner
    }

    async fn open(&self, view: &ViewId, schema: &SchemaRef, floors: &Coverage) -> Result<(), LiveError> {
        if self.faults().no_open {
            return Err(LiveError::backend("open a view", std::io::Error::other("the cluster is away")));
        }
        self.inner.open(view, schema, floors).await
    }

    async fn pin(&self, view: &ViewId) -> Result<Option<Arc<dyn LivePin>>, LiveError> {
        let fails = self.faults().no_pin_beside.as_ref().is_some_and(|tasks| !indexers(tasks).is_empty());
        if fails {
            return Err(LiveError::backend("pin a view", std::io::Error::other("the cluster is away")));
        }
        self.gate.pass("pin").await;
        self.inner.pin(view).await
    }

    async fn drop_below(&self, view: &ViewId, coverage: &Coverage) -> Result<(), LiveError> {
        let is_stuck = self.faults().stuck == Some(view.dataset.as_str());
        if is_stuck {
            std::future::pending::<()>().await;
        }
        *self.faults().drops.entry(view.dataset.clone()).or_default() += 1;
        self.inner.drop_below(view, coverage).await
    }

    async fn views(&self) -> Result<Vec<ViewId>, LiveError> {
        self.gate.pass("views").await;
        self.inner.views().await
    }
}
