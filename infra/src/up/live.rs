//! The real-time views' adapter, by its URL.

use std::sync::Arc;
use std::time::Duration;

use tidemark_opensearch::{Call, CallOutcome, Calls, OpenSearchUrl, OpenSearchView, OpenSearchViewSettings};
use tidemark_shared::ambient::Ambient;
use tidemark_shared::live::LiveView;
use tidemark_shared::secrets::shown_url;
use tidemark_speed::live::memory::{MemoryView, MemoryViewSettings};

use super::UpError;
use super::metrics::CallMetrics;
use crate::config::ServerConfig;

impl Calls for CallMetrics {
    fn ended(&self, call: Call, outcome: CallOutcome, took: Duration) {
        self.live_ended(call.name(), outcome.name(), took);
    }
}

/// The views that `live.url` names; what is asked of a cluster, `calls` shows. Asks nothing of it yet: one that is away at
/// the start is waited for.
pub(super) fn open(
    config: &ServerConfig,
    ambient: &Arc<dyn Ambient>,
    calls: &Arc<CallMetrics>,
) -> Result<Arc<dyn LiveView>, UpError> {
    let (url, ambient, bytes) = (&config.live_url, Arc::clone(ambient), config.live_bytes_max);
    if config.own_views() {
        let settings = MemoryViewSettings { bytes_max: bytes, ..MemoryViewSettings::default() };
        return Ok(Arc::new(MemoryView::new(settings)));
    }
    if !url.starts_with("opensearch+") {
        return Err(UpError::UnknownLive { url: shown_url(url) });
    }
    let url: OpenSearchUrl = url.parse().map_err(UpError::LiveUrl)?;
    let settings = OpenSearchViewSettings {
        index_offsets: config.live_index_offsets,
        cache_bytes_max: bytes,
        aggregate_pushdown: config.live_aggregate_pushdown,
        ..OpenSearchViewSettings::default()
    };
    let calls = Arc::clone(calls) as Arc<dyn Calls>;
    Ok(Arc::new(OpenSearchView::with_calls(&url, ambient, settings, calls)?))
}
