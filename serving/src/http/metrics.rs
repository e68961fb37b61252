//! What the door counts, for `/metrics`.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds that divide the histogram of queries: from what an index answers to what a limit ends.
const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

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
    broken: Family<CodeLabels, Counter>,
    records: Counter<u64, AtomicU64>,
    queries: Gauge,
    query_seconds: Histogram,
}

impl Metrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            problems: Family::default(),
            broken: Family::default(),
            records: Counter::default(),
            queries: Gauge::default(),
            query_seconds: Histogram::new(SECONDS),
        };
        let of = registry.sub_registry_with_prefix("tidemark_http");
        of.register("requests", "Requests by route and status", metrics.requests.clone());
        of.register("problems", "Problem documents by code", metrics.problems.clone());
        of.register("answers_broken", "Answers that broke off, by the code of the reason", metrics.broken.clone());
        of.register("records", "Records accepted", metrics.records.clone());
        of.register("queries_running", "Queries before their first row", metrics.queries.clone());
        of.register("query_seconds", "Time from a query to its first row", metrics.query_seconds.clone());
        metrics
    }

    pub(super) fn request(&self, method: &str, route: &str, status: u16) {
        let labels = RequestLabels { method: method.to_owned(), route: route.to_owned(), status };
        let _before = self.requests.get_or_create(&labels).inc();
    }

    pub(super) fn problem(&self, code: &str) {
        let _before = self.problems.get_or_create(&CodeLabels { code: code.to_owned() }).inc();
    }

    pub(super) fn broken(&self, code: &str) {
        let _before = self.broken.get_or_create(&CodeLabels { code: code.to_owned() }).inc();
    }

    pub(super) fn records(&self, count: usize) {
        let _before = self.records.inc_by(count as u64);
    }

    /// Counts a query as running until it is dropped.
    pub(super) fn query(&self) -> RunningQuery {
        let _before = self.queries.inc();
        RunningQuery { metrics: self.clone(), begun: Instant::now() }
    }
}

/// A query before its first row.
pub(super) struct RunningQuery {
    metrics: Metrics,
    begun: Instant,
}

impl Drop for RunningQuery {
    fn drop(&mut self) {
        let _before = self.metrics.queries.dec();
        self.metrics.query_seconds.observe(self.begun.elapsed().as_secs_f64());
    }
}
