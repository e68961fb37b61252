//! The port behind which the speed layer tells what it knows. Implemented where both layers are seen.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tidemark_shared::error::AnyError;
use tidemark_shared::position::{Coverage, LogPartition};
use tokio::sync::watch;

/// What the speed layer knows of the datasets' streams.
#[async_trait]
pub trait SpeedStatus: fmt::Debug + Send + Sync {
    /// True if the dataset has a stream. One without is answered by its curated table alone.
    fn has_stream(&self, dataset: &str) -> bool;

    /// Looks at a dataset of which nothing was curated: one that was applied a moment ago has its first generation once its
    /// stream is open, which is waited for within a bound. False if there is nothing to wait for, or it does not open.
    async fn opens(&self, _dataset: &str) -> bool {
        false
    }

    /// Exclusive end of each partition of the log.
    ///
    /// # Errors
    /// Whatever the log reports.
    async fn log_ends(&self, dataset: &str) -> Result<Coverage, AnyError>;

    /// When the oldest record at or above `positions` was appended; `None` if there is none.
    ///
    /// # Errors
    /// Whatever the log reports.
    async fn oldest_beyond(&self, dataset: &str, positions: &Coverage) -> Result<Option<DateTime<Utc>>, AnyError>;

    /// Counts what may have moved visible positions or coverage. Who waits takes it before he looks, and waits for a change
    /// after: nothing that came in between is missed, and nothing else wakes him.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Offsets that retention took before they were archived, by partition, as far as this process met them: records that a
    /// view read before they were lost are in its answers, and go with it.
    ///
    /// # Errors
    /// Whatever the archive reports.
    async fn lost(&self, dataset: &str) -> Result<BTreeMap<LogPartition, Vec<Range<u64>>>, AnyError>;
}
