//! The process's door: all of it where the process serves, else a small one that tells how it is.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tidemark_kafka::Stats;
use tidemark_serving::http::{Door, Drained, RequestLimits, Tokens, check_address, listen};
use tidemark_serving::merge::ServedTables;
use tidemark_shared::log::{Log, LogError};
use tidemark_shared::sql::DatasetTables;
use tokio::net::TcpListener;

use super::facts::Facts;
use super::log;
use super::{LogSettingsError, MakeEngine, UpError};
use crate::config::{Role, ServerConfig};
use crate::endpoints::Endpoints;

/// A door that nobody answers at yet.
#[derive(Debug)]
pub struct BoundDoor {
    /// Who may come in; `None`: programs of this machine.
    pub(super) tokens: Option<Tokens>,
    pub(super) listener: TcpListener,
    /// Where it really is: a port of 0 was any free one.
    pub(super) address: SocketAddr,
}

/// Takes the door's address, unless it would be open to everybody. Changes nothing of what is stored.
///
/// # Errors
/// [`UpError::Tokens`], [`UpError::Unguarded`], [`UpError::Address`]; [`UpError::Running`] where the process that has the address
/// runs on the same data.
pub async fn bind_door(data_dir: &Path, config: &ServerConfig) -> Result<BoundDoor, UpError> {
    let tokens = config.tokens_file.as_deref().map(Tokens::read).transpose()?;
    check_address(config.http, tokens.as_ref())?;
    let taken = |source: io::Error| match Endpoints::find(data_dir) {
        Some(running) if source.kind() == io::ErrorKind::AddrInUse => already_runs(data_dir, running),
        _ => UpError::Address { address: config.http, source },
    };
    let listener = listen(config.http).await.map_err(taken)?;
    let address = listener.local_addr().map_err(|source| UpError::Address { address: config.http, source })?;
    Ok(BoundDoor { tokens, listener, address })
}

fn already_runs(data_dir: &Path, running: Endpoints) -> UpError {
    let (data_dir, Endpoints { pid, http, .. }) = (data_dir.to_owned(), running);
    UpError::Running { source: LogError::Locked { path: data_dir.clone() }, data_dir, pid, http }
}

/// What else a door needs.
pub(super) struct DoorParts {
    pub(super) engine: MakeEngine,
    pub(super) tokens: Option<Tokens>,
    pub(super) registry: Registry,
    pub(super) query_timeout: Duration,
    pub(super) bytes_read_max: Option<u64>,
}

/// The door that leads to the process.
pub(super) fn door(facts: &Arc<Facts>, parts: DoorParts, config: &ServerConfig) -> Result<Door, UpError> {
    let DoorParts { engine, tokens, registry, query_timeout, bytes_read_max } = parts;
    let of = &facts.parts;
    let served = ServedTables::new(
        of.store.clone(),
        Arc::clone(&of.versions),
        Arc::clone(&of.live),
        Arc::clone(facts) as _,
        Arc::clone(&of.ambient),
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
    Ok(Door {
        engine: Arc::new(engine(Arc::clone(&datasets))?),
        datasets,
        store: of.store.clone(),
        backend: Arc::clone(facts) as _,
        tokens,
        limits,
        registry,
        traces: Arc::clone(&of.traces),
        serves: of.roles.has(Role::Serving),
    })
}

/// Says so where the door did not close as it should.
pub(super) fn closed(ended: Option<Result<Drained, tokio::task::JoinError>>) {
    match ended {
        Some(Ok(drained)) if drained.cut_off > 0 => {
            tracing::warn!(connections = drained.cut_off, "requests were cut off");
        }
        Some(Err(error)) => tracing::error!(%error, "the door failed"),
        Some(Ok(_)) | None => {}
    }
}

/// Opens the log. Where its lock does not keep a second process from the same data, the first one's endpoints do.
pub(super) async fn open_log(
    data_dir: &Path,
    config: &ServerConfig,
    stats: Arc<dyn Stats>,
) -> Result<Arc<dyn Log>, UpError> {
    if !config.own_log()
        && let Some(running) = Endpoints::find(data_dir)
    {
        return Err(already_runs(data_dir, running));
    }
    let opened = log::open(config, stats).await.map_err(|error| match error {
        LogSettingsError::Log(error) => UpError::from(error),
        error => error.into(),
    });
    opened.map_err(|error| named(data_dir, error))
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
