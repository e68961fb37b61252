//! What the process counts and measures beside its door, for `/metrics`: docs/metrics.md. Each part has its own: `process`,
//! `calls` to what lies outside, `datasets` with their streams, `runs` of the batch layer.

mod calls;
mod datasets;
mod process;
mod runs;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::status::DatasetStatus;
use crate::telemetry::SpanCounts;
pub(super) use calls::CallMetrics;
use datasets::DatasetMetrics;
use process::ProcessMetrics;
use runs::RunMetrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDataset {
    dataset: String,
}

type Seconds = Gauge<f64, AtomicU64>;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) process: ProcessMetrics,
    /// Shared with the adapters that make the calls.
    pub(super) calls: Arc<CallMetrics>,
    pub(super) datasets: DatasetMetrics,
    pub(super) runs: RunMetrics,
}

/// Shows what became of spans.
pub(super) fn register_spans(registry: &mut Registry, counts: &SpanCounts) {
    let of = registry.sub_registry_with_prefix("tidemark");
    of.register("spans_sent", "Spans of traces that a receiver has taken", counts.sent.clone());
    of.register(
        "spans_lost",
        "Spans of traces that no receiver took, or that more of came than can wait",
        counts.lost.clone(),
    );
}

impl Metrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let of = registry.sub_registry_with_prefix("tidemark");
        Self {
            process: ProcessMetrics::new(of),
            calls: Arc::new(CallMetrics::new(of)),
            datasets: DatasetMetrics::new(of),
            runs: RunMetrics::new(of),
        }
    }

    /// A call to the log has ended.
    pub(super) fn log_called(&self, call: &'static str, well: bool, took: Duration) {
        self.calls.log_ended(call, well, took);
    }

    /// Shows how a dataset stands, all that is counted of it from the start: what is 0 is not unknown.
    pub(super) fn dataset(&self, status: &DatasetStatus) {
        self.runs.begin(&status.dataset);
        self.datasets.show(status);
    }
}

fn of(dataset: &str) -> OfDataset {
    OfDataset { dataset: dataset.to_owned() }
}

fn from_ms(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}
