//! What the roles of one process share.

use std::sync::Arc;
use std::time::Duration;

use tidemark_batch::Batch;
use tidemark_serving::merge::Versions;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::live::LiveView;
use tidemark_shared::log::Log;
use tidemark_shared::store::Store;
use tidemark_shared::telemetry::Traces;
use tidemark_speed::archiver::ArchiverSettings;
use tidemark_speed::pressure::Pressure;
use tokio_util::sync::CancellationToken;

use super::groups::Groups;
use super::metrics::Metrics;
use super::notify::Moves;
use super::tasks::Tasks;
use crate::config::Roles;

/// See the module's text. Cheap to clone.
#[derive(Clone)]
pub(super) struct Parts {
    /// What the process is.
    pub(super) roles: Roles,
    /// Where it shares work with others of its kind.
    pub(super) groups: Arc<Groups>,
    /// True if the real-time views are this process's alone: no other one moves their visible positions.
    pub(super) own_views: bool,
    /// True if the log is this process's alone.
    pub(super) own_log: bool,
    /// How long rows below the coverage stay, and views that answer no more.
    pub(super) grace: Duration,
    pub(super) store: Store,
    pub(super) batch: Batch,
    pub(super) log: Arc<dyn Log>,
    pub(super) live: Arc<dyn LiveView>,
    pub(super) versions: Arc<dyn Versions>,
    pub(super) pressure: Arc<Pressure>,
    pub(super) ambient: Arc<dyn Ambient>,
    pub(super) archiver: ArchiverSettings,
    pub(super) tasks: Arc<Tasks>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) traces: Arc<dyn Traces>,
    /// What may have moved visible positions or coverage.
    pub(super) moves: Moves,
    /// Stops the batch layer's loops.
    pub(super) stop_batch: CancellationToken,
    /// Stops archivers and indexers.
    pub(super) stop_speed: CancellationToken,
}
