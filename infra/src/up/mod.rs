//! `tidemark up`: all roles in one process, or those that it is to have.
//!
//! In which order its parts start and stop, `ARCHITECTURE.md` says ("Start and stop"): [`run`] and `roles` keep to it. A process
//! leaves out what is of no role of its own; its door is a small one then.

mod ages;
mod door;
mod error;
mod facts;
mod groups;
mod kafka_metrics;
mod live;
mod log;
mod measured;
mod metrics;
mod notify;
mod parts;
mod ready;
mod roles;
mod runs;
mod status;
mod stream;
mod streams;
mod task_name;
mod tasks;
#[cfg(test)]
mod testing;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::registry::Registry;
use tidemark_batch::Batch;
use tidemark_serving::http::{ConnectionLimits, serve};
use tidemark_serving::merge::{VersionCache, Versions};
use tidemark_shared::ambient::{Ambient, System};
use tidemark_shared::log::Log;
use tidemark_shared::secrets::shown_url;
use tidemark_shared::sql::{DatasetTables, SqlEngine};
use tidemark_shared::store::Store;
use tidemark_shared::telemetry::Traces;
use tidemark_speed::archiver::ArchiverSettings;
use tidemark_speed::pressure::Pressure;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::ServerConfig;
use crate::endpoints::{Endpoints, directory_id};
use crate::telemetry::SpanCounts;
use ages::Ages;
pub use door::{BoundDoor, bind_door};
use door::{DoorParts, closed, door, open_log};
pub use error::UpError;
use facts::Facts;
use groups::Groups;
use kafka_metrics::KafkaMetrics;
pub use log::LogSettingsError;
use measured::Measured;
use metrics::{Metrics, register_spans};
use notify::{Moves, Notifying};
use parts::Parts;
use streams::Streams;
use tasks::Tasks;

/// Makes the engine that answers for these datasets.
pub type MakeEngine = Box<dyn FnOnce(Arc<dyn DatasetTables>) -> Result<SqlEngine, UpError> + Send>;

/// What `tidemark up` is given.
pub struct UpRequest {
    /// The door's address, which is taken before anything else is made.
    pub door: BoundDoor,
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
    /// What can be done with spans.
    pub traces: Arc<dyn Traces>,
    /// What became of them.
    pub span_counts: SpanCounts,
    /// Told once it answers.
    pub ready: Box<dyn FnOnce(&Endpoints) + Send>,
}

/// Runs the process's roles until `stop`.
///
/// # Errors
/// [`UpError`] if it can't start.
pub async fn run(request: UpRequest, stop: &CancellationToken) -> Result<(), UpError> {
    let UpRequest { data_dir, store, batch, engine, config, query_timeout, bytes_read_max, .. } = request;
    let UpRequest { traces, span_counts, ready, .. } = request;
    let BoundDoor { tokens, listener, address } = request.door;
    let unwritten = |source| UpError::Endpoints { path: data_dir.clone(), source };
    let directory = directory_id(&data_dir).map_err(unwritten)?;
    let mut registry = Registry::default();
    let log = open_log(&data_dir, &config, Arc::new(KafkaMetrics::new(&mut registry))).await?;
    let metrics = Arc::new(Metrics::new(&mut registry));
    register_spans(&mut registry, &span_counts);
    let log: Arc<dyn Log> = Arc::new(Measured::new(log, Arc::clone(&metrics)));
    let parts = parts(store, batch, log, metrics, traces, &config)?;
    let streams = Arc::new(Streams::new(parts.clone()));
    let facts = Facts {
        parts: parts.clone(),
        streams: Arc::clone(&streams),
        up_since: Mutex::default(),
        was_ready: AtomicBool::new(false),
        ages: Ages::default(),
    };
    let facts = Arc::new(facts);
    let of_door = DoorParts { engine, tokens, registry, query_timeout, bytes_read_max };
    let door = door(&facts, of_door, &config)?;
    let stop_door = CancellationToken::new();
    let mut serving = JoinSet::new();
    let _handle = serving.spawn(serve(listener, door.router(), ConnectionLimits::default(), stop_door.clone()));
    // Whoever stops it meanwhile waits for no store or log that does not answer.
    let started = Box::pin(stop.run_until_cancelled(roles::start(&parts, &streams, &config))).await.unwrap_or(Ok(()));
    let endpoints = Endpoints { pid: std::process::id(), http: format!("http://{address}"), directory };
    let write = || endpoints.write(&data_dir).map_err(unwritten);
    let mut ended = started.and_then(|()| write());
    if ended.is_ok() && !stop.is_cancelled() {
        facts.started();
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
    facts.stops();
    endpoints.remove(&data_dir);
    stop_door.cancel();
    closed(serving.join_next().await);
    roles::shut_down(&parts, &streams).await;
    ended
}

fn parts(
    store: Store,
    batch: Batch,
    log: Arc<dyn Log>,
    metrics: Arc<Metrics>,
    traces: Arc<dyn Traces>,
    config: &ServerConfig,
) -> Result<Parts, UpError> {
    let ambient: Arc<dyn Ambient> = Arc::new(System);
    let moves = Moves::new();
    let live = live::open(config, &ambient, &metrics.calls)?;
    let versions: Arc<dyn Versions> = Arc::new(VersionCache::new(store.objects()));
    let live_url = shown_url(&config.live_url);
    Ok(Parts {
        roles: config.roles.clone(),
        groups: Arc::new(Groups::new(&store.url().to_string(), &live_url, config.own_views())),
        own_views: config.own_views(),
        own_log: config.own_log(),
        grace: config.live_grace,
        store,
        batch,
        log,
        live: Arc::new(Notifying::new(live, moves.clone())),
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
        traces,
        moves,
        stop_batch: CancellationToken::new(),
        stop_speed: CancellationToken::new(),
    })
}
