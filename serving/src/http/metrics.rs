//! What the door counts, for `/metrics`: docs/metrics.md.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tidemark_shared::telemetry::failed;
use tracing::Span;

/// Seconds that divide the histograms of queries: from what an index answers to what a limit ends.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];
/// The code of an answer that nobody read to its end.
pub(super) const READER_GONE: &str = "reader_gone";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: String,
}

/// The door's metrics.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    problems: Family<CodeLabels, Counter>,
    queries: Counter,
    query_errors: Family<CodeLabels, Counter>,
    queries_running: Gauge,
    query_duration: Histogram,
    query_first_row: Histogram,
}

impl Metrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            problems: Family::default(),
            queries: Counter::default(),
            query_errors: Family::default(),
            queries_running: Gauge::default(),
            query_duration: Histogram::new(SECONDS),
            query_first_row: Histogram::new(SECONDS),
        };
        let of = registry.sub_registry_with_prefix("tidemark");
        of.register("http_requests", "HTTP requests by method, route and status", metrics.requests.clone());
        of.register("http_problems", "Problem documents by code, whatever the route", metrics.problems.clone());
        of.register("queries", "Queries that were begun, refused ones included", metrics.queries.clone());
        let help = "Queries that were refused or broke off, by code";
        of.register("query_errors", help, metrics.query_errors.clone());
        let help = "Queries that wait, run, or are read by who asked";
        of.register("queries_running", help, metrics.queries_running.clone());
        let help = "Time from a query to the end of its answer, waiting for its turn included";
        of.register_with_unit("query_duration", help, Unit::Seconds, metrics.query_duration.clone());
        let help = "Time from a query to the first row of its answer";
        of.register_with_unit("query_first_row", help, Unit::Seconds, metrics.query_first_row.clone());
        metrics
    }

    pub(super) fn request(&self, method: &str, route: &str, status: u16) {
        let labels = RequestLabels { method: method.to_owned(), route: route.to_owned(), status };
        let _before = self.requests.get_or_create(&labels).inc();
    }

    pub(super) fn problem(&self, code: &str) {
        let _before = self.problems.get_or_create(&CodeLabels { code: code.to_owned() }).inc();
    }

    /// Counts a query, as running until all have dropped it; its span is told how it ends.
    pub(super) fn query(&self, span: Span) -> Arc<RunningQuery> {
        let _before = self.queries.inc();
        let _before = self.queries_running.inc();
        Arc::new(RunningQuery { metrics: self.clone(), span, begun: Instant::now(), ended: AtomicBool::new(false) })
    }
}

/// A query before the end of its answer.
pub(super) struct RunningQuery {
    metrics: Metrics,
    span: Span,
    begun: Instant,
    /// Whether it is known how it ended. One that is dropped before had nobody who read on.
    ended: AtomicBool,
}

impl RunningQuery {
    pub(super) fn has_first_row(&self) {
        self.metrics.query_first_row.observe(self.begun.elapsed().as_secs_f64());
    }

    pub(super) fn answered(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, code: &str) {
        self.ended.store(true, Ordering::Relaxed);
        failed(&self.span, code);
        let _before = self.metrics.query_errors.get_or_create(&CodeLabels { code: code.to_owned() }).inc();
    }
}

impl Drop for RunningQuery {
    fn drop(&mut self) {
        if !self.ended.load(Ordering::Relaxed) {
            self.failed(READER_GONE);
        }
        let _before = self.metrics.queries_running.dec();
        self.metrics.query_duration.observe(self.begun.elapsed().as_secs_f64());
    }
}
