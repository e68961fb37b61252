//! Batch runs of this process.

use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{OfDataset, Seconds, from_ms, of};

/// Seconds that divide the histogram of batch runs: from one that finds nothing to a large backlog.
const RUN_SECONDS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// See the module's text.
#[derive(Debug)]
pub(in crate::up) struct RunMetrics {
    ended: Family<OfDataset, Counter>,
    failures: Family<OfDataset, Counter>,
    duration: Family<OfDataset, Histogram, fn() -> Histogram>,
    success: Family<OfDataset, Seconds>,
}

impl RunMetrics {
    pub(super) fn new(of: &mut Registry) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(RUN_SECONDS);
        let metrics = Self {
            ended: Family::default(),
            failures: Family::default(),
            duration: Family::new_with_constructor(histogram),
            success: Family::default(),
        };
        of.register("batch_runs", "Batch runs of this process that ended", metrics.ended.clone());
        of.register("batch_run_failures", "Batch runs of this process that failed", metrics.failures.clone());
        let help = "Time that a batch run took, with sealing before it and tidying after it";
        of.register_with_unit("batch_run_duration", help, Unit::Seconds, metrics.duration.clone());
        let help = "When the last batch run ended well, in seconds since 1970";
        of.register_with_unit("batch_last_success_timestamp", help, Unit::Seconds, metrics.success.clone());
        metrics
    }

    /// Shows a dataset's counts from the start.
    pub(super) fn begin(&self, dataset: &str) {
        for counted in [&self.ended, &self.failures] {
            drop(counted.get_or_create(&of(dataset)));
        }
    }

    /// A batch run has ended.
    pub(in crate::up) fn ended(&self, dataset: &str, took: Duration, well_at: Option<DateTime<Utc>>) {
        let dataset = of(dataset);
        let _before = self.ended.get_or_create(&dataset).inc();
        self.duration.get_or_create(&dataset).observe(took.as_secs_f64());
        if let Some(at) = well_at {
            let _before = self.success.get_or_create(&dataset).set(seconds(at.timestamp_millis()));
        } else {
            let _before = self.failures.get_or_create(&dataset).inc();
        }
    }
}

fn seconds(ms: i64) -> f64 {
    u64::try_from(ms).map_or(0.0, from_ms)
}
