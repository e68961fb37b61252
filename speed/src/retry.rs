//! Attempts of background work that goes on for ever.

use tidemark_shared::ambient::Ambient;
use tidemark_shared::backoff::{Attempts, Backoff};
use tidemark_shared::error::Kind;
use tidemark_shared::log::LogError;

/// What to do where a log ends below what was read of it.
pub(crate) const LOG_BEHIND: &str = "give the log back what it lost and restart; or let it begin anew (with `embedded:`, stop and move \
     its folder away; with Kafka, delete the topic): it is another source then, and what was archived stays";
/// What to do once a partition has stopped.
pub(crate) const STOPPED: &str = "put right what it says, then restart `tidemark up`: it goes on where it stood";

/// Pauses between attempts; they grow until one succeeds.
#[derive(Debug)]
pub(crate) struct Retries(Attempts);

impl Default for Retries {
    fn default() -> Self {
        Self(Attempts::new(Backoff::BACKEND))
    }
}

impl Retries {
    pub(crate) fn succeeded(&mut self) {
        if self.0.failed() > 0 {
            *self = Self::default();
        }
    }

    pub(crate) async fn pause(&mut self, ambient: &dyn Ambient) {
        let _another = self.0.again(ambient.random()).await;
    }
}

/// True for failures of a log after which no partition of the topic can go on.
pub(crate) fn ends_all(error: &LogError) -> bool {
    matches!(error, LogError::Closed | LogError::Missing { .. } | LogError::Replaced { .. })
}

/// True for failures that time or somebody's hand may heal: the same is tried again. Others are for good.
pub(crate) fn may_heal(kind: Kind) -> bool {
    !matches!(kind, Kind::Corrupt | Kind::Internal | Kind::Unsupported)
}
