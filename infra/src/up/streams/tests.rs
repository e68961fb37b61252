use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use prometheus_client::registry::Registry;
use tidemark_batch::{Batch, BatchSettings};
use tidemark_shared::ambient::System;
use tidemark_shared::dataset::{Sources, registry};
use tidemark_shared::live::{LiveBatch, LiveError, LivePin, LiveUsage, LiveView, ViewId};
use tidemark_shared::log::Log;
use tidemark_shared::position::{Coverage, LogPartition};
use tidemark_shared::store::{IfMissing, Store};
use tidemark_shared::telemetry::NoTraces;
use tidemark_speed::keep::Kept;
use tidemark_speed::log::embedded::{EmbeddedLog, Storage};
use tidemark_testing::faulty::{Call, Fault, Faulty, Rule};

use super::*;
use crate::config::{Flags, resolve};
use crate::up::UpError;
use crate::up::metrics::Metrics;
use crate::up::ready::{Standing, made_anew, standings};
use crate::up::task_name::{TaskKind, TaskName};
use crate::up::tasks::Tasks;

fn sources(name: &str, description: &str) -> Sources {
    let toml = format!(
        "name = \"{name}\"\ndescription = \"{description}\"\ncolumns = [{{ name = \"id\", type = \"string\" }}]\n\
         [stream]\nformat = \"json\"\n"
    );
    [("dataset.toml", toml), ("transform.sql", "SELECT id FROM input".to_owned())]
        .map(|(name, text)| (name.to_owned(), text))
        .into()
}

/// What the streams of a process on `store` are made of; rows go from views at once when they are curated.
async fn parts(store: Store, folder: &Path) -> Parts {
    let config = resolve(None, &|_| None, &Flags::default(), folder).expect("defaults are valid").server;
    let log = EmbeddedLog::open(&folder.join("log"), Storage::default(), Arc::new(System)).await.expect("a log");
    let log: Arc<dyn Log> = Arc::new(log);
    let batch = Batch::new(store.clone(), crate::context::stores(), None, BatchSettings::default());
    let metrics = Arc::new(Metrics::new(&mut Registry::default()));
    let parts = crate::up::parts(store, batch, log, metrics, Arc::new(NoTraces), &config).expect("embedded parts");
    Parts { grace: Duration::ZERO, ..parts }
}

/// The streams of a process on `store`, whose loops do not run.
async fn streams(store: Store, folder: &Path) -> Streams {
    Streams::new(parts(store, folder).await)
}

/// Nobody wants to know of new streams.
fn nobody() -> Found {
    Arc::new(|_: Arc<Stream>| -> BoxFuture<'static, ()> { Box::pin(async {}) })
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let look = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), look).await.is_ok(), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_definitions_costs_a_listing_and_a_request_for_each_dataset() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::local(&folder.path().join("store"), IfMissing::Create).expect("a store");
    for name in ["a", "b", "c"] {
        registry::apply(&store, &sources(name, "a text")).await.expect("applied");
    }
    let faulty = Faulty::new(store.objects(), Vec::new());
    let streams = streams(store.decorated(|_| faulty.store()), folder.path()).await;
    let found = nobody();
    streams.discover(&found).await.expect("all are taken up");
    assert_eq!(streams.all().len(), 3);

    let before = faulty.made().len();
    streams.discover(&found).await.expect("nothing is new");
    let mut made: Vec<(Call, String)> =
        faulty.made().drain(before..).map(|(call, path)| (call, path.to_string())).collect();
    // side by side
    made[1..].sort_by(|(_, a), (_, b)| a.cmp(b));
    let head = |name: &str| (Call::Get, format!("definitions/{name}/00000002.json"));
    assert_eq!(made, [(Call::List, "definitions".to_owned()), head("a"), head("b"), head("c")]);

    registry::apply(&store, &sources("b", "another text")).await.expect("applied");
    streams.discover(&found).await.expect("it is taken up");
    let description = |name: &str| streams.get(name).expect("it is open").definition().definition.description.clone();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!((description("a"), description("b")), (text("a text"), text("another text")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataset_whose_stream_can_not_be_opened_is_known_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::local(&folder.path().join("store"), IfMissing::Create).expect("a store");
    for name in ["a", "b"] {
        registry::apply(&store, &sources(name, "a text")).await.expect("applied");
    }
    let faulty = Faulty::new(store.objects(), vec![Rule::new(Call::Put, "raw/b/sources", 0, Fault::Fails)]);
    let streams = streams(store.decorated(|_| faulty.store()), folder.path()).await;
    let found = nobody();
    let standing = |dataset: &str| standings(&streams.parts, &streams).remove(dataset);
    assert_eq!(standing("b"), None, "nothing was looked at");
    streams.discover(&found).await.expect("datasets are listed");
    assert!(streams.get("a").is_some() && streams.get("b").is_none());
    match standing("b") {
        Some(Standing::NotTakenUp(reason)) => assert!(reason.starts_with("stream: "), "{reason}"),
        other => panic!("{other:?}"),
    }
    streams.discover(&found).await.expect("datasets are listed");
    assert!(streams.get("b").is_some(), "it is tried again");
    // Its indexer, which runs by itself, may not have begun.
    assert_ne!(standing("b"), Some(Standing::Files));
    assert!(!format!("{:?}", standing("b")).contains("stream: "), "what it failed for is past");
}

fn record() -> Vec<bytes::Bytes> {
    vec![bytes::Bytes::from_static(b"{\"id\": \"x\"}")]
}

/// The stream of dataset `a`, taken up, and the position of a record of it that is read and not archived.
async fn with_a_record(streams: &Streams, found: &Found) -> (Arc<Stream>, LogPartition, u64) {
    streams.discover(found).await.expect("it is taken up");
    let stream = streams.get("a").expect("it is open");
    let taken = stream.append(record(), None, None).await.expect("it takes records");
    let (partition, offset) = taken.positions[0].clone();
    stream.archiver.step(partition.partition).await.expect("it reads");
    (stream, partition, offset)
}

/// No look at a dataset takes longer than its bound: the stream is still there, and the next look goes on with its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_stream_is_bounded_and_gone_on_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::local(&folder.path().join("store"), IfMissing::Create).expect("a store");
    registry::apply(&store, &sources("a", "a text")).await.expect("applied");
    let faulty = Faulty::new(store.objects(), vec![Rule::new(Call::Put, ".parquet", 0, Fault::Hangs)]);
    let streams = streams(store.decorated(|_| faulty.store()), folder.path()).await;
    let (old, partition, offset) = with_a_record(&streams, &nobody()).await;
    let log = Arc::clone(&streams.parts.log);
    log.delete_topic(&old.topic).await.expect("deleted");
    log.create_topic(&old.topic.name, old.topic.partitions).await.expect("made again");

    let late = old.end_within(Duration::from_millis(20)).await;
    assert!(matches!(late, Err(UpError::StillEnding { .. })), "{late:?}");
    assert!(old.stop.is_cancelled() && Arc::ptr_eq(&old, &streams.get("a").expect("it is still there")));
    streams.renew("a", &mut Kept::new(Duration::ZERO), &nobody()).await;
    assert_ne!(streams.get("a").expect("it is open").topic.id, old.topic.id);
    assert_eq!(old.archive.end(&partition, 0).await.expect("an archive"), Some(offset + 1));
}

/// What was read of the old incarnation is archived; the new one's offsets begin anew, as another source.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_again_is_a_new_source() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::local(&folder.path().join("store"), IfMissing::Create).expect("a store");
    registry::apply(&store, &sources("a", "a text")).await.expect("applied");
    let streams = streams(store, folder.path()).await;
    let begun = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&begun);
    let found: Found = Arc::new(move |_: Arc<Stream>| -> BoxFuture<'static, ()> {
        counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {})
    });
    let mut kept = Kept::new(Duration::ZERO);
    let (old, partition, offset) = with_a_record(&streams, &found).await;

    let log = Arc::clone(&streams.parts.log);
    log.delete_topic(&old.topic).await.expect("deleted");
    streams.renew("a", &mut kept, &found).await;
    assert!(Arc::ptr_eq(&old, &streams.get("a").expect("it waits")), "a topic that is deleted was made again");
    log.create_topic(&old.topic.name, old.topic.partitions).await.expect("made again");
    streams.renew("a", &mut kept, &found).await;
    let new = streams.get("a").expect("it is open");
    assert_ne!(new.topic.id, old.topic.id);
    assert_eq!((old.source.to_string(), new.source.to_string()), ("a".to_owned(), "a~2".to_owned()));
    assert_eq!(old.archive.end(&partition, 0).await.expect("an archive"), Some(offset + 1));
    assert!(old.stop.is_cancelled() && old.stop_batch.is_cancelled() && !new.stop.is_cancelled());
    let taken = new.append(record(), None, None).await.expect("it takes records");
    assert_eq!((&taken.positions[0].0.source, taken.positions[0].1), (&new.source, 0));
    streams.renew("a", &mut kept, &found).await;
    assert!(Arc::ptr_eq(&new, &streams.get("a").expect("it is open")));
    assert_eq!(begun.load(Ordering::Relaxed), 2, "one stream was begun, then another");
}

/// Views with faults of the tests' choice.
#[derive(Default)]
struct Faults {
    /// No view is pinned while one of these tasks runs.
    no_pin_beside: Option<Arc<Tasks>>,
    /// The dataset whose rows do not go: who asks for that waits for ever.
    stuck: Option<&'static str>,
    /// How often rows of a dataset went.
    drops: BTreeMap<String, u64>,
}

struct FaultyView {
    inner: Arc<dyn LiveView>,
    faults: Mutex<Faults>,
}

impl FaultyView {
    /// Puts one in the place of the views that `parts` has.
    fn before(parts: &mut Parts) -> Arc<Self> {
        let view = Arc::new(Self { inner: Arc::clone(&parts.live), faults: Mutex::default() });
        parts.live = Arc::clone(&view) as Arc<dyn LiveView>;
        view
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drops(&self, dataset: &str) -> u64 {
        self.faults().drops.get(dataset).copied().unwrap_or(0)
    }
}

impl std::fmt::Debug for FaultyView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultyView")
    }
}

#[async_trait]
impl LiveView for FaultyView {
    async fn open(&self, view: &ViewId, schema: &SchemaRef, floors: &Coverage) -> Result<(), LiveError> {
        self.inner.open(view, schema, floors).await
    }

    async fn apply(&self, view: &ViewId, batch: LiveBatch) -> Result<(), LiveError> {
        self.inner.apply(view, batch).await
    }

    async fn pin(&self, view: &ViewId) -> Result<Option<Arc<dyn LivePin>>, LiveError> {
        let fails = self.faults().no_pin_beside.as_ref().is_some_and(|tasks| !indexers(tasks).is_empty());
        if fails {
            return Err(LiveError::backend("pin a view", std::io::Error::other("the cluster is away")));
        }
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

    async fn close(&self, view: &ViewId) -> Result<(), LiveError> {
        self.inner.close(view).await
    }

    async fn views(&self) -> Result<Vec<ViewId>, LiveError> {
        self.inner.views().await
    }

    fn usage(&self) -> LiveUsage {
        self.inner.usage()
    }

    fn limit(&self) -> Option<LiveUsage> {
        self.inner.limit()
    }
}

/// The tasks that keep views up.
fn indexers(tasks: &Tasks) -> Vec<TaskName> {
    tasks.health().into_keys().filter(|name| name.kind == TaskKind::Indexer).collect()
}

/// What a stream that could not be opened had set to work ends: nobody would see it, and the next attempt has its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_works_on_a_stream_that_was_not_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::local(&folder.path().join("store"), IfMissing::Create).expect("a store");
    registry::apply(&store, &sources("a", "a text")).await.expect("applied");
    let mut parts = parts(store, folder.path()).await;
    let view = FaultyView::before(&mut parts);
    let tasks = Arc::clone(&parts.tasks);
    view.faults().no_pin_beside = Some(Arc::clone(&tasks));
    let streams = Streams::new(parts);
    streams.discover(&nobody()).await.expect("datasets are listed");
    assert!(streams.get("a").is_none());
    let failed = tasks.health().remove(&TaskName::of(TaskKind::Stream, "a")).and_then(|health| health.error);
    assert!(failed.as_ref().is_some_and(|error| error.contains("the cluster is away")), "{failed:?}");
    until("the end of its indexer", || indexers(&tasks).is_empty()).await;
    assert!(!streams.parts.stop_speed.is_cancelled());

    view.faults().no_pin_beside = None;
    streams.discover(&nobody()).await.expect("datasets are listed");
    let stream = streams.get("a").expect("it is open");
    assert!(!stream.stop.is_cancelled());
    assert_eq!((indexers(&tasks).len(), stream.all_indexers().len()), (1, 1));
}

/// A view has caught up once it is seen to have what the log had, not where nobody could tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_is_made_anew_until_it_is_seen_to_have_what_the_log_had() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::local(&folder.path().join("store"), IfMissing::Create).expect("a store");
    registry::apply(&store, &sources("a", "a text")).await.expect("applied");
    let mut parts = parts(store, folder.path()).await;
    let view = FaultyView::before(&mut parts);
    let before = Streams::new(parts.clone());
    let _record = with_a_record(&before, &nobody()).await;
    assert_eq!(made_anew(&before).await, BTreeMap::new(), "the log had nothing");

    let streams = Streams::new(parts);
    streams.discover(&nobody()).await.expect("it is taken up");
    let stream = streams.get("a").expect("it is open");
    assert_eq!(stream.ends_at_open.iter().map(|(_, end)| end).sum::<u64>(), 1);
    view.faults().no_pin_beside = Some(Arc::clone(&streams.parts.tasks));
    let told = made_anew(&streams).await;
    assert!(told.get("a").is_some_and(|told| told.contains("the cluster is away")), "{told:?}");
    assert!(!stream.has_caught_up.load(Ordering::Relaxed));
    view.faults().no_pin_beside = None;
    let seen = async {
        while !stream.has_caught_up.load(Ordering::Relaxed) {
            drop(made_anew(&streams).await);
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), seen).await.is_ok(), "it catches up");
    assert_eq!(made_anew(&streams).await, BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataset_that_does_not_get_on_delays_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::local(&folder.path().join("store"), IfMissing::Create).expect("a store");
    for name in ["a", "b"] {
        registry::apply(&store, &sources(name, "a text")).await.expect("applied");
    }
    let mut parts = parts(store.clone(), folder.path()).await;
    let view = FaultyView::before(&mut parts);
    let stop = parts.stop_speed.clone();
    let streams = Arc::new(Streams::new(parts));
    streams.discover(&nobody()).await.expect("datasets are listed");
    view.faults().stuck = Some("a");
    let (running, mut tasks) = (Arc::clone(&streams), tokio::task::JoinSet::new());
    tasks.spawn(async move { running.run(Duration::from_millis(10), &nobody()).await });
    let before = view.drops("b");
    until("rows of the other one go", || view.drops("b") >= before + 3).await;
    registry::apply(&store, &sources("c", "a text")).await.expect("applied");
    until("a new one is opened", || streams.get("c").is_some()).await;
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(60), tasks.join_next()).await;
    assert!(matches!(ended, Ok(Some(Ok(Ok(()))))), "the loop waits for the one that is stuck");
}
