//! The real-time views' adapter, by its URL.

use std::sync::Arc;

use tidemark_opensearch::{OpenSearchUrl, OpenSearchView, OpenSearchViewSettings};
use tidemark_shared::ambient::Ambient;
use tidemark_shared::live::LiveView;
use tidemark_speed::live::memory::{MemoryView, MemoryViewSettings};

use super::UpError;
use crate::config::{ServerConfig, masked};

/// The views that `live.url` names. Asks nothing of a cluster yet: one that is away at the start is waited for.
pub(super) fn open(config: &ServerConfig, ambient: &Arc<dyn Ambient>) -> Result<Arc<dyn LiveView>, UpError> {
    let (url, ambient, bytes) = (&config.live_url, Arc::clone(ambient), config.live_bytes_max);
    if url == "memory:" {
        let settings = MemoryViewSettings { bytes_max: bytes, ..MemoryViewSettings::default() };
        return Ok(Arc::new(MemoryView::new(ambient, settings)));
    }
    if !url.starts_with("opensearch+") {
        return Err(UpError::UnknownLive { url: masked(url) });
    }
    let url: OpenSearchUrl = url.parse().map_err(UpError::LiveUrl)?;
    let settings = OpenSearchViewSettings {
        index_offsets: config.live_index_offsets,
        cache_bytes_max: bytes,
        aggregate_pushdown: config.live_aggregate_pushdown,
        ..OpenSearchViewSettings::default()
    };
    Ok(Arc::new(OpenSearchView::new(&url, ambient, settings)?))
}
