//! `tidemark up`: all roles in one process, on embedded parts.
//!
//! | | starts | stops |
//! | --- | --- | --- |
//! | 1 | store, catalog | last |
//! | 2 | log (its folder is locked: a second process ends here) | after what reads and writes it |
//! | 3 | streams: topics, archivers; generations: indexers and views | with the batch runs; then archivers seal what the log has |
//! | 4 | batch runs | after the door; a run under way is abandoned, and the next one finishes it |
//! | 5 | the door; `endpoints.json`, ready line | first: no new requests, those under way may end |
//!
//! A second Ctrl-C ends the process at once: what was acknowledged is in the log, the rest is made again from it.

mod facts;
mod live;
mod log;
mod measured;
mod metrics;
mod notify;
mod parts;
mod runs;
mod status;
mod stream;
mod streams;
mod tasks;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use prometheus_client::registry::Registry;
use tidemark_batch::Batch;
use tidemark_serving::http::{
    ConnectionLimits, Door, Drained, RequestLimits, Tokens, TokensError, Unguarded, check_address, listen, serve,
};
use tidemark_serving::merge::{ServedTables, VersionCache, VersionError, Versions};
use tidemark_shared::ambient::{Ambient, System};
use tidemark_shared::curated::CuratedError;
use tidemark_shared::dataset::registry::RegistryError;
use tidemark_shared::error::{ErrorKind, Kind, chain};
use tidemark_shared::live::LiveError;
use tidemark_shared::log::{Log, LogError};
use tidemark_shared::rows::StreamRowsError;
use tidemark_shared::sql::{DatasetTables, SqlEngine, SqlError};
use tidemark_shared::store::Store;
use tidemark_speed::archiver::{ArchiverError, ArchiverSettings};
use tidemark_speed::indexer::IndexerError;
use tidemark_speed::pressure::Pressure;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::ServerConfig;
use crate::endpoints::{Endpoints, directory_id};
use facts::Facts;
pub use log::LogSettingsError;
use measured::Measured;
use metrics::Metrics;
use notify::Notifying;
use parts::Parts;
use runs::{Intervals, Runs};
use stream::Stream;
use streams::Streams;
use tasks::Tasks;

/// How long each part of stopping may take.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Why the process can't start, or a part of it can't go on.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The log can't be opened by its settings.
    #[error(transparent)]
    LogSettings(#[from] LogSettingsError),
    /// The real-time view's URL names no adapter of this build.
    #[error("`live.url` is {url}: this build has `memory:` and `opensearch+http://host:9200`")]
    UnknownLive {
        /// The URL.
        url: String,
    },
    /// The real-time view's URL is none of a cluster.
    #[error("`live.url` names no OpenSearch cluster")]
    LiveUrl(#[source] tidemark_opensearch::UrlError),
    /// The door's address can't be had.
    #[error("the HTTP door can't open at {address}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The door would be open to everybody.
    #[error(transparent)]
    Unguarded(#[from] Unguarded),
    /// The tokens can't be had.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// Another process runs on the same data.
    #[error("`tidemark up` already runs on {} (pid {pid}, {http})", data_dir.display())]
    Running {
        /// The data directory.
        data_dir: PathBuf,
        /// The other process.
        pid: u32,
        /// Its door.
        http: String,
        /// What is taken.
        #[source]
        source: LogError,
    },
    /// The endpoints file can't be written.
    #[error("can't write to {}", path.display())]
    Endpoints {
        /// The data directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A dataset's stream is not open yet.
    #[error("the stream of dataset `{dataset}` is not open yet")]
    Opening {
        /// The dataset.
        dataset: String,
    },
    /// A definition that a generation names is gone.
    #[error("dataset `{dataset}` has no definition {version}, which made its generation")]
    NoDefinition {
        /// The dataset.
        dataset: String,
        /// The version.
        version: String,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Definitions can't be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Curated versions can't be read.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A pointer can't be read.
    #[error(transparent)]
    Curated(#[from] CuratedError),
    /// The archiver failed.
    #[error(transparent)]
    Archiver(#[from] ArchiverError),
    /// The indexer failed.
    #[error(transparent)]
    Indexer(#[from] IndexerError),
    /// The view failed.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// A stream's definition makes no rows.
    #[error(transparent)]
    Rows(#[from] StreamRowsError),
    /// The engine can't be made.
    #[error(transparent)]
    Engine(Box<SqlError>),
    /// The door ended while it was to be open.
    #[error("the HTTP door failed")]
    Door,
    /// The batch layer failed.
    #[error(transparent)]
    Batch(Box<tidemark_batch::BatchError>),
}

impl From<tidemark_batch::BatchError> for UpError {
    fn from(error: tidemark_batch::BatchError) -> Self {
        Self::Batch(Box::new(error))
    }
}

impl ErrorKind for UpError {
    fn kind(&self) -> Kind {
        match self {
            Self::UnknownLive { .. } | Self::LiveUrl(_) | Self::Unguarded(_) | Self::Tokens(_) => Kind::Invalid,
            Self::LogSettings(error) => error.kind(),
            Self::Address { .. } | Self::Endpoints { .. } | Self::Opening { .. } => Kind::Retryable,
            Self::NoDefinition { .. } => Kind::Corrupt,
            Self::Door => Kind::Internal,
            Self::Log(error) | Self::Running { source: error, .. } => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Version(error) => error.kind(),
            Self::Curated(error) => error.kind(),
            Self::Archiver(error) => error.kind(),
            Self::Indexer(error) => error.kind(),
            Self::Live(error) => error.kind(),
            Self::Rows(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Batch(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Address { .. } => Some("give another one with --http; port 0 takes any free one".to_owned()),
            Self::Unguarded(_) => Some("name a file of tokens with --tokens-file, or bind to 127.0.0.1".to_owned()),
            Self::Log(error) | Self::Running { source: error, .. } => error.hint(),
            Self::LogSettings(error) => error.hint(),
            Self::Batch(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Version(error) => error.hint(),
            Self::Curated(error) => error.hint(),
            Self::Archiver(error) => error.hint(),
            Self::Indexer(error) => error.hint(),
            Self::Live(error) => error.hint(),
            Self::Rows(error) => error.hint(),
            Self::Engine(error) => error.hint(),
            Self::Endpoints { .. } => Some("check that the data directory can be written".to_owned()),
            Self::UnknownLive { .. }
            | Self::LiveUrl(_)
            | Self::Tokens(_)
            | Self::Opening { .. }
            | Self::NoDefinition { .. }
            | Self::Door => None,
        }
    }
}

/// Makes the engine that answers for these datasets.
pub type MakeEngine = Box<dyn FnOnce(Arc<dyn DatasetTables>) -> Result<SqlEngine, UpError> + Send>;

/// What `tidemark up` is given.
pub struct UpRequest {
    /// Folder of `endpoints.json`.
    pub data_dir: PathBuf,
    /// The object store.
    pub store: Store,
    /// The batch layer on it.
    pub batch: Batch,
    /// Answers statements; made anew with the datasets as this process serves them.
    pub engine: MakeEngine,
    /// Settings.
    pub config: ServerConfig,
    /// Longest time that a query can ask for, and gets without asking.
    pub query_timeout: Duration,
    /// Most bytes that a query may read.
    pub bytes_read_max: Option<u64>,
    /// Told once it answers.
    pub ready: Box<dyn FnOnce(&Endpoints) + Send>,
}

/// Runs all roles until `stop`.
///
/// # Errors
/// [`UpError`] if it can't start.
pub async fn run(request: UpRequest, stop: &CancellationToken) -> Result<(), UpError> {
    let UpRequest { data_dir, store, batch, engine, config, query_timeout, bytes_read_max, ready } = request;
    let tokens = config.tokens_file.as_deref().map(Tokens::read).transpose()?;
    check_address(config.http, tokens.as_ref())?;
    let unwritten = |source| UpError::Endpoints { path: data_dir.clone(), source };
    let directory = directory_id(&data_dir).map_err(unwritten)?;
    let log = open_log(&data_dir, &config).await.map_err(|error| named(&data_dir, error))?;
    let listener = listen(config.http).await;
    let listener = listener.map_err(|source| UpError::Address { address: config.http, source })?;
    let address = listener.local_addr().map_err(|source| UpError::Address { address: config.http, source })?;
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::new(&mut registry));
    let log: Arc<dyn Log> = Arc::new(Measured::new(log, Arc::clone(&metrics)));
    let parts = parts(store.clone(), batch, log, metrics, &config)?;
    let streams = Arc::new(Streams::new(parts.clone()));
    let facts = Facts { parts: parts.clone(), streams: Arc::clone(&streams), ready: AtomicBool::new(false) };
    let facts = Arc::new(facts);
    let served = ServedTables::new(
        store.clone(),
        Arc::clone(&parts.versions),
        Arc::clone(&parts.live),
        Arc::clone(&facts) as _,
        Arc::clone(&parts.ambient),
    );
    let datasets: Arc<dyn DatasetTables> = Arc::new(served);
    let limits = RequestLimits {
        records_bytes_max: usize::try_from(config.body_bytes_max).unwrap_or(usize::MAX),
        body_timeout: config.body_timeout,
        query_timeout,
        query_timeout_max: query_timeout,
        bytes_read_max,
        queries_max: config.queries_max,
        ..RequestLimits::default()
    };
    let door = Door {
        engine: Arc::new(engine(Arc::clone(&datasets))?),
        datasets,
        store,
        backend: Arc::clone(&facts) as _,
        tokens,
        limits,
        registry,
    };
    let stop_door = CancellationToken::new();
    let mut serving = JoinSet::new();
    let _handle = serving.spawn(serve(listener, door.router(), ConnectionLimits::default(), stop_door.clone()));
    let started = start(&parts, &streams, &config).await;
    let endpoints = Endpoints { pid: std::process::id(), http: format!("http://{address}"), directory };
    let write = || endpoints.write(&data_dir).map_err(unwritten);
    let mut ended = started.and_then(|()| write());
    if ended.is_ok() {
        facts.ready.store(true, Ordering::Relaxed);
        ready(&endpoints);
        tokio::select! {
            () = stop.cancelled() => tracing::info!("stopping"),
            // It ends before it is told to only if it failed.
            failed = serving.join_next() => {
                closed(failed);
                ended = Err(UpError::Door);
            }
        }
    }
    facts.ready.store(false, Ordering::Relaxed);
    endpoints.remove(&data_dir);
    stop_door.cancel();
    closed(serving.join_next().await);
    shut_down(&parts, &streams).await;
    ended
}

/// Says so where the door did not close as it should.
fn closed(ended: Option<Result<Drained, tokio::task::JoinError>>) {
    match ended {
        Some(Ok(drained)) if drained.cut_off > 0 => {
            tracing::warn!(connections = drained.cut_off, "requests were cut off");
        }
        Some(Err(error)) => tracing::error!(%error, "the door failed"),
        Some(Ok(_)) | None => {}
    }
}

/// Opens streams and views, and sets everything going that is not a door.
async fn start(parts: &Parts, streams: &Arc<Streams>, config: &ServerConfig) -> Result<(), UpError> {
    let intervals = Intervals { runs: config.batch_interval, vacuums: config.vacuum_interval };
    let definitions_interval = config.definitions_interval;
    let found = {
        let (parts, streams) = (parts.clone(), Arc::clone(streams));
        move |stream: Arc<Stream>| -> BoxFuture<'static, ()> {
            let (parts, streams) = (parts.clone(), Arc::clone(&streams));
            Box::pin(async move { start_stream(&parts, &streams, intervals, stream).await })
        }
    };
    streams.discover(&found).await?;
    let (streams, found) = (Arc::clone(streams), Arc::new(found));
    let keeper = move || {
        let (streams, found) = (Arc::clone(&streams), Arc::clone(&found));
        async move { streams.run(definitions_interval, found.as_ref()).await.map_err(|error| chain(&error)) }
    };
    parts.tasks.spawn("keeper".to_owned(), parts.stop_speed.clone(), keeper).await;
    Ok(())
}

/// Sets archiver and batch runs of a stream going.
async fn start_stream(parts: &Parts, streams: &Arc<Streams>, intervals: Intervals, stream: Arc<Stream>) {
    let (archiver, stop) = (Arc::clone(&stream.archiver), stream.stop.clone());
    let archive = move || {
        let (archiver, stop) = (Arc::clone(&archiver), stop.clone());
        async move { archiver.run(&stop).await.map_err(|error| chain(&error)) }
    };
    parts.tasks.spawn(format!("archiver {}", stream.dataset), stream.stop.clone(), archive).await;
    let (name, stop_batch) = (format!("batch {}", stream.dataset), stream.stop_batch.clone());
    let runs = Arc::new(Runs { parts: parts.clone(), stream, streams: Arc::clone(streams), intervals });
    let run = move || {
        let runs = Arc::clone(&runs);
        async move { runs.run().await.map_err(|error| chain(&error)) }
    };
    parts.tasks.spawn(name, stop_batch, run).await;
}

/// Opens the log. Where its lock does not keep a second process from the same data, the first one's endpoints do.
async fn open_log(data_dir: &Path, config: &ServerConfig) -> Result<Arc<dyn Log>, UpError> {
    if !log::is_exclusive(config)
        && let Some(Endpoints { pid, http, .. }) = Endpoints::find(data_dir)
    {
        let source = LogError::Locked { path: data_dir.to_owned() };
        return Err(UpError::Running { data_dir: data_dir.to_owned(), pid, http, source });
    }
    match log::open(config).await {
        Ok(log) => Ok(log),
        Err(LogSettingsError::Log(error)) => Err(error.into()),
        Err(error) => Err(error.into()),
    }
}

/// Names the process that has the log open, where it can be found.
fn named(data_dir: &Path, error: UpError) -> UpError {
    match (error, Endpoints::find(data_dir)) {
        (UpError::Log(source @ LogError::Locked { .. }), Some(Endpoints { pid, http, .. })) => {
            UpError::Running { data_dir: data_dir.to_owned(), pid, http, source }
        }
        (error, _) => error,
    }
}

fn parts(
    store: Store,
    batch: Batch,
    log: Arc<dyn Log>,
    metrics: Arc<Metrics>,
    config: &ServerConfig,
) -> Result<Parts, UpError> {
    let ambient: Arc<dyn Ambient> = Arc::new(System);
    let moved = watch::Sender::new(0);
    let live = live::open(config, &ambient)?;
    let versions: Arc<dyn Versions> = Arc::new(VersionCache::new(store.objects()));
    Ok(Parts {
        store,
        batch,
        log,
        live: Arc::new(Notifying::new(live, moved.clone())),
        versions,
        pressure: Arc::new(Pressure::default()),
        ambient,
        archiver: ArchiverSettings {
            segment_bytes_max: usize::try_from(config.segment_bytes_max).unwrap_or(usize::MAX),
            segment_age_max: config.segment_age_max,
            retention: config.retention,
            ..ArchiverSettings::default()
        },
        tasks: Arc::new(Tasks::new()),
        metrics,
        moved,
        stop_batch: CancellationToken::new(),
        stop_speed: CancellationToken::new(),
    })
}

/// In the order that the module's text gives.
async fn shut_down(parts: &Parts, streams: &Streams) {
    parts.stop_batch.cancel();
    parts.stop_speed.cancel();
    if !parts.tasks.join(STOP_MAX).await {
        tracing::warn!("tasks were cut off");
    }
    let all = streams.all();
    let flushes = all.iter().map(|stream| async {
        if let Err(error) = stream.archiver.flush().await {
            tracing::warn!(dataset = stream.dataset, error = %chain(&error), "not all is archived");
        }
    });
    if tokio::time::timeout(STOP_MAX, join_all(flushes)).await.is_err() {
        tracing::warn!("not all is archived in time; the log still has it");
    }
    match tokio::time::timeout(STOP_MAX, parts.log.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = %chain(&error), "the log was not closed"),
        Err(_) => tracing::warn!("the log did not close in time"),
    }
}
