//! Calls to the log, and to the cluster of real-time views.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Seconds that divide the histogram of calls to the log: from one in this process to one that gives up.
const LOG_SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0];

/// Seconds that divide the histogram of requests to the views' cluster: from a look at a document to the longest that is waited
/// for.
const LIVE_SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCall {
    call: &'static str,
    outcome: &'static str,
}

/// See the module's text.
#[derive(Debug)]
pub(in crate::up) struct CallMetrics {
    log: Family<OfCall, Histogram, fn() -> Histogram>,
    live: Family<OfCall, Histogram, fn() -> Histogram>,
}

impl CallMetrics {
    pub(super) fn new(of: &mut Registry) -> Self {
        let log_histogram: fn() -> Histogram = || Histogram::new(LOG_SECONDS);
        let live_histogram: fn() -> Histogram = || Histogram::new(LIVE_SECONDS);
        let metrics = Self {
            log: Family::new_with_constructor(log_histogram),
            live: Family::new_with_constructor(live_histogram),
        };
        let help = "Time that a call to the log took: append, read, bounds; ok or failed";
        of.register_with_unit("log_call_duration", help, Unit::Seconds, metrics.log.clone());
        let help = "Time that a request to the cluster of real-time views took: bulk, search, aggregate, refresh, index_made, \
                    index_dropped, other; ok, refused or failed";
        of.register_with_unit("live_call_duration", help, Unit::Seconds, metrics.live.clone());
        metrics
    }

    /// A call to the log has ended.
    pub(super) fn log_ended(&self, call: &'static str, well: bool, took: Duration) {
        let outcome = if well { "ok" } else { "failed" };
        self.log.get_or_create(&OfCall { call, outcome }).observe(took.as_secs_f64());
    }

    /// A request to the cluster of real-time views has ended.
    pub(in crate::up) fn live_ended(&self, call: &'static str, outcome: &'static str, took: Duration) {
        self.live.get_or_create(&OfCall { call, outcome }).observe(took.as_secs_f64());
    }
}
