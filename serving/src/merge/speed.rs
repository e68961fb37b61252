//! The port behind which the speed layer tells what it knows. Implemented where both layers are seen.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tidemark_shared::error::AnyError;
use tidemark_shared::position::{Coverage, LogPartition};

/// What the speed layer knows of the datasets' streams.
#[async_trait]
pub trait SpeedStatus: fmt::Debug + Send + Sync {
    /// True if the dataset has a stream. One without is answered by its curated table alone.
    fn has_stream(&self, dataset: &str) -> bool;

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

    /// Returns when visible positions and coverage of the dataset together may have come to include `wanted`, or
    /// `at_most` has passed. Must not return at once over and over while nothing changes.
    ///
    /// # Errors
    /// Whatever the speed layer reports.
    async fn wait_visible(&self, dataset: &str, wanted: &Coverage, at_most: Duration) -> Result<(), AnyError>;

    /// Offsets that retention took before they were archived, by partition.
    ///
    /// # Errors
    /// Whatever the archive reports.
    async fn lost(&self, dataset: &str) -> Result<BTreeMap<LogPartition, Vec<Range<u64>>>, AnyError>;
}

/// No speed layer: no dataset has a stream here.
#[derive(Debug, Clone, Copy)]
pub struct NoSpeed;

#[async_trait]
impl SpeedStatus for NoSpeed {
    fn has_stream(&self, _: &str) -> bool {
        false
    }

    async fn log_ends(&self, _: &str) -> Result<Coverage, AnyError> {
        Ok(Coverage::new())
    }

    async fn oldest_beyond(&self, _: &str, _: &Coverage) -> Result<Option<DateTime<Utc>>, AnyError> {
        Ok(None)
    }

    async fn wait_visible(&self, _: &str, _: &Coverage, at_most: Duration) -> Result<(), AnyError> {
        // Only a batch run moves anything here, and nobody tells.
        drop(tokio::time::timeout(at_most, std::future::pending::<()>()).await);
        Ok(())
    }

    async fn lost(&self, _: &str) -> Result<BTreeMap<LogPartition, Vec<Range<u64>>>, AnyError> {
        Ok(BTreeMap::new())
    }
}
