//! What the process counts and measures beside its door, for `/metrics`: docs/metrics.md.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tidemark_shared::live::LiveUsage;

use super::status::{DatasetStatus, PartitionStatus};
use super::task_name::TaskName;
use super::tasks::Health;
use crate::telemetry::SpanCounts;

/// Seconds that divide the histogram of batch runs: from one that finds nothing to a large backlog.
const RUN_SECONDS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// Seconds that divide the histogram of calls to the log: from one in this process to one that gives up.
const CALL_SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0];

/// Seconds that divide the histogram of requests to the views' cluster: from a look at a document to the longest that is waited
/// for.
const LIVE_CALL_SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCall {
    call: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDataset {
    dataset: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct OfPartition {
    dataset: String,
    partition: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRole {
    dataset: String,
    role: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    dataset: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQuantile {
    dataset: String,
    quantile: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct OfTask {
    task: &'static str,
    dataset: String,
}

/// Of the process: no labels. A family of it shows nothing where it has no value.
type OfProcess = [(&'static str, &'static str); 0];
type Offsets = Family<OfPartition, Gauge<u64, AtomicU64>>;
type Seconds = Gauge<f64, AtomicU64>;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Metrics {
    ready: Gauge,
    tasks_failing: Family<OfTask, Gauge>,
    /// Tasks that were ever shown: one that works again is shown as that.
    tasks_known: Mutex<BTreeSet<OfTask>>,
    measure_failures: Family<OfDataset, Counter>,
    assigned: Family<OfRole, Gauge<u64, AtomicU64>>,
    appended: Family<OfDataset, Counter>,
    log_calls: Family<OfCall, Histogram, fn() -> Histogram>,
    live_calls: Family<OfCall, Histogram, fn() -> Histogram>,
    log_end: Offsets,
    /// Partitions whose ends are shown: one that the log has no more, is not.
    log_ends_known: Mutex<BTreeSet<OfPartition>>,
    archived: Offsets,
    visible: Offsets,
    covered: Offsets,
    lost: Offsets,
    stopped: Family<OfDataset, Gauge<u64, AtomicU64>>,
    segments: Family<OfDataset, Counter<u64, AtomicU64>>,
    lag_records: Offsets,
    lag: Family<OfPartition, Seconds>,
    freshness: Family<OfQuantile, Seconds>,
    indexed: Family<OfOutcome, Counter<u64, AtomicU64>>,
    live_rows: Gauge<u64, AtomicU64>,
    live_rejects: Gauge<u64, AtomicU64>,
    live_bytes: Gauge<u64, AtomicU64>,
    live_limit: Family<OfProcess, Gauge<u64, AtomicU64>>,
    runs: Family<OfDataset, Counter>,
    run_failures: Family<OfDataset, Counter>,
    run_duration: Family<OfDataset, Histogram, fn() -> Histogram>,
    run_success: Family<OfDataset, Seconds>,
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
        let run_histogram: fn() -> Histogram = || Histogram::new(RUN_SECONDS);
        let call_histogram: fn() -> Histogram = || Histogram::new(CALL_SECONDS);
        let live_call_histogram: fn() -> Histogram = || Histogram::new(LIVE_CALL_SECONDS);
        let metrics = Self {
            ready: Gauge::default(),
            tasks_failing: Family::default(),
            tasks_known: Mutex::default(),
            measure_failures: Family::default(),
            assigned: Family::default(),
            appended: Family::default(),
            log_calls: Family::new_with_constructor(call_histogram),
            live_calls: Family::new_with_constructor(live_call_histogram),
            log_end: Family::default(),
            log_ends_known: Mutex::default(),
            archived: Family::default(),
            visible: Family::default(),
            covered: Family::default(),
            lost: Family::default(),
            stopped: Family::default(),
            segments: Family::default(),
            lag_records: Family::default(),
            lag: Family::default(),
            freshness: Family::default(),
            indexed: Family::default(),
            live_rows: Gauge::default(),
            live_rejects: Gauge::default(),
            live_bytes: Gauge::default(),
            live_limit: Family::default(),
            runs: Family::default(),
            run_failures: Family::default(),
            run_duration: Family::new_with_constructor(run_histogram),
            run_success: Family::default(),
        };
        let of = registry.sub_registry_with_prefix("tidemark");
        metrics.register_process(of);
        metrics.register_stream(of);
        metrics.register_runs(of);
        metrics
    }

    fn register_process(&self, of: &mut Registry) {
        of.register("ready", "1 if the process can answer and takes records, as /readyz says", self.ready.clone());
        let help = "Background tasks whose last attempt failed";
        of.register("tasks_failing", help, self.tasks_failing.clone());
        let help = "Times that a dataset could not be measured: its positions below are older ones then";
        of.register("measure_failures", help, self.measure_failures.clone());
        let help = "Partitions that the process has as one of its roles; absent while it has no place among its kind";
        of.register("assigned_partitions", help, self.assigned.clone());
        of.register("live_rows", "Rows in all real-time views", self.live_rows.clone());
        let help = "Rejects in all real-time views; they take room as rows do";
        of.register("live_rejects", help, self.live_rejects.clone());
        let help = "What all real-time views take: memory, or in OpenSearch room on disk, without replicas";
        of.register_with_unit("live", help, Unit::Bytes, self.live_bytes.clone());
        let help =
            "Memory that all real-time views may take; near it intake slows down. Absent for views in OpenSearch";
        of.register_with_unit("live_limit", help, Unit::Bytes, self.live_limit.clone());
    }

    fn register_stream(&self, of: &mut Registry) {
        of.register("log_appended_records", "Records that this process appended to the log", self.appended.clone());
        let help = "Time that a call to the log took: append, read, bounds; ok or failed";
        of.register_with_unit("log_call_duration", help, Unit::Seconds, self.log_calls.clone());
        let help = "Time that a request to the cluster of real-time views took: bulk, search, aggregate, refresh, index_made, \
                    index_dropped, other; ok, refused or failed";
        of.register_with_unit("live_call_duration", help, Unit::Seconds, self.live_calls.clone());
        of.register("log_end_offset", "Where a partition of the log ends", self.log_end.clone());
        of.register("archive_end_offset", "Up to where a partition is in the raw zone", self.archived.clone());
        let help = "Up to where a partition's rows are in the real-time view";
        of.register("live_visible_offset", help, self.visible.clone());
        let help = "Up to where the curated table includes a partition: the tide mark";
        of.register("curated_end_offset", help, self.covered.clone());
        let help = "Offsets that retention took before they were archived, as far as this process met them";
        of.register("archive_lost_offsets", help, self.lost.clone());
        let help = "Partitions whose archiving or indexing in this process has stopped until a restart";
        of.register("partitions_stopped", help, self.stopped.clone());
        of.register("archive_segments_sealed", "Segments that this process put", self.segments.clone());
        let help = "Offsets between the end of the log and the visible position";
        of.register("live_lag_records", help, self.lag_records.clone());
        let help = "Age of the newest visible record while there is a lag, else 0";
        of.register_with_unit("live_lag", help, Unit::Seconds, self.lag.clone());
        let help = "Ages of records when they became visible, over the last minute";
        of.register_with_unit("live_freshness", help, Unit::Seconds, self.freshness.clone());
        let help =
            "What the records became that were made visible for the newest generation: accepted, filtered, rejected";
        of.register("live_records", help, self.indexed.clone());
    }

    fn register_runs(&self, of: &mut Registry) {
        of.register("batch_runs", "Batch runs of this process that ended", self.runs.clone());
        of.register("batch_run_failures", "Batch runs of this process that failed", self.run_failures.clone());
        let help = "Time that a batch run took, with sealing before it and tidying after it";
        of.register_with_unit("batch_run_duration", help, Unit::Seconds, self.run_duration.clone());
        let help = "When the last batch run ended well, in seconds since 1970";
        of.register_with_unit("batch_last_success_timestamp", help, Unit::Seconds, self.run_success.clone());
    }

    pub(super) fn appended(&self, dataset: &str, records: usize) {
        let _before = self.appended.get_or_create(&of(dataset)).inc_by(records as u64);
    }

    /// A call to the log has ended.
    pub(super) fn log_called(&self, call: &'static str, well: bool, took: Duration) {
        let outcome = if well { "ok" } else { "failed" };
        self.log_calls.get_or_create(&OfCall { call, outcome }).observe(took.as_secs_f64());
    }

    /// A request to the cluster of real-time views has ended.
    pub(super) fn live_called(&self, call: &'static str, outcome: &'static str, took: Duration) {
        self.live_calls.get_or_create(&OfCall { call, outcome }).observe(took.as_secs_f64());
    }

    /// A batch run has ended.
    pub(super) fn ran(&self, dataset: &str, took: Duration, well_at: Option<DateTime<Utc>>) {
        let dataset = of(dataset);
        let _before = self.runs.get_or_create(&dataset).inc();
        self.run_duration.get_or_create(&dataset).observe(took.as_secs_f64());
        if let Some(at) = well_at {
            let _before = self.run_success.get_or_create(&dataset).set(seconds(at.timestamp_millis()));
        } else {
            let _before = self.run_failures.get_or_create(&dataset).inc();
        }
    }

    pub(super) fn measure_failed(&self, dataset: &str) {
        let _before = self.measure_failures.get_or_create(&of(dataset)).inc();
    }

    pub(super) fn process(&self, ready: bool, usage: LiveUsage, limit: Option<LiveUsage>) {
        let _before = self.ready.set(i64::from(ready));
        let _before = self.live_rows.set(usage.rows);
        let _before = self.live_rejects.set(usage.rejects);
        let _before = self.live_bytes.set(usage.bytes);
        if let Some(limit) = limit {
            let _before = self.live_limit.get_or_create(&[]).set(limit.bytes);
        } else {
            // 0 would be a limit that is always reached
            let _was = self.live_limit.remove(&[]);
        }
    }

    /// Those of one kind that a dataset has count together, as the indexers of its generations.
    pub(super) fn tasks(&self, health: &BTreeMap<TaskName, Health>) {
        let mut failing: BTreeMap<OfTask, i64> = BTreeMap::new();
        for (name, health) in health {
            let of = OfTask { task: name.kind.name(), dataset: name.dataset.clone().unwrap_or_default() };
            *failing.entry(of).or_default() += i64::from(health.error.is_some());
        }
        let mut known = self.tasks_known.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(failing.keys().cloned());
        for task in &*known {
            let _before = self.tasks_failing.get_or_create(task).set(failing.get(task).copied().unwrap_or(0));
        }
    }

    pub(super) fn dataset(&self, status: &DatasetStatus) {
        let dataset = &status.dataset;
        // There from the start: what is 0 is not unknown.
        for counted in [&self.appended, &self.measure_failures, &self.runs, &self.run_failures] {
            drop(counted.get_or_create(&of(dataset)));
        }
        self.log_ends(dataset, &status.partitions);
        let mut segments = 0;
        for (partition, status) in &status.partitions {
            let at = of_partition(dataset, partition);
            let lost = status.lost.iter().map(|range| range.end - range.start).sum();
            let offsets = [
                (&self.archived, status.archived),
                (&self.visible, status.visible),
                (&self.covered, status.coverage),
                (&self.lost, status.archived.map(|_| lost)),
                (&self.lag_records, status.lag_records),
            ];
            for (gauge, offset) in offsets.into_iter().filter_map(|(gauge, offset)| Some((gauge, offset?))) {
                let _before = gauge.get_or_create(&at).set(offset);
            }
            if let Some(lag_ms) = status.lag_ms {
                let _before = self.lag.get_or_create(&at).set(from_ms(lag_ms));
            } else {
                // it is another process's now
                let _was = self.lag.remove(&at);
            }
            segments += status.segments;
        }
        for (role, assigned) in [("archiver", status.assigned.archiver), ("indexer", status.assigned.indexer)] {
            let of = OfRole { dataset: dataset.clone(), role };
            if let Some(assigned) = assigned {
                let _before = self.assigned.get_or_create(&of).set(assigned);
            } else {
                let _was = self.assigned.remove(&of);
            }
        }
        show(&self.segments.get_or_create(&of(dataset)), segments);
        let stopped = status.partitions.values().filter(|status| status.troubles.stopped()).count();
        let _before = self.stopped.get_or_create(&of(dataset)).set(stopped as u64);
        let fresh = status.freshness.map(|fresh| [("0.5", fresh.p50_ms), ("0.99", fresh.p99_ms)]);
        for (quantile, age_ms) in fresh.into_iter().flatten() {
            let of = OfQuantile { dataset: dataset.clone(), quantile };
            let _before = self.freshness.get_or_create(&of).set(from_ms(age_ms));
        }
        let Some(totals) = status.totals else { return };
        let outcomes = [("accepted", totals.accepted), ("filtered", totals.filtered), ("rejected", totals.rejected)];
        for (outcome, count) in outcomes {
            show(&self.indexed.get_or_create(&OfOutcome { dataset: dataset.clone(), outcome }), count);
        }
    }

    /// The ends of the partitions that the log has now. Those of a topic that was made again would look like partitions that
    /// nobody has.
    fn log_ends(&self, dataset: &str, partitions: &BTreeMap<String, PartitionStatus>) {
        let mut known = self.log_ends_known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|at| {
            let in_log = partitions.get(&at.partition).is_some_and(|status| status.log_end.is_some());
            let stays = at.dataset != dataset || in_log;
            if !stays {
                let _was = self.log_end.remove(at);
            }
            stays
        });
        let in_log = partitions.iter().filter_map(|(partition, status)| Some((partition, status.log_end?)));
        for (partition, log_end) in in_log {
            let at = of_partition(dataset, partition);
            let _before = self.log_end.get_or_create(&at).set(log_end);
            known.insert(at);
        }
    }
}

fn of_partition(dataset: &str, partition: &str) -> OfPartition {
    OfPartition { dataset: dataset.to_owned(), partition: partition.to_owned() }
}

fn of(dataset: &str) -> OfDataset {
    OfDataset { dataset: dataset.to_owned() }
}

/// Shows what is counted elsewhere. Where that began anew, as with another generation's indexer, the counter does, too.
fn show(counter: &Counter<u64, AtomicU64>, count: u64) {
    counter.inner().store(count, std::sync::atomic::Ordering::Relaxed);
}

fn from_ms(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

fn seconds(ms: i64) -> f64 {
    u64::try_from(ms).map_or(0.0, from_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::task_name::TaskKind;
    use crate::up::testing::samples;

    /// `> 0.8 * tidemark_live_limit_bytes` would hold for ever where the limit were 0.
    #[test]
    fn views_that_others_see_to_have_no_limit() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let used = |bytes| LiveUsage { bytes, ..LiveUsage::default() };
        metrics.process(true, used(7), None);
        assert_eq!(samples(&registry, "tidemark_live_bytes"), [" 7"]);
        assert_eq!(samples(&registry, "tidemark_live_limit_bytes"), [""; 0]);
        metrics.process(true, used(7), Some(used(9)));
        assert_eq!(samples(&registry, "tidemark_live_limit_bytes"), [" 9"]);
    }

    #[test]
    fn a_partition_that_the_log_has_no_more_has_no_end_there() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let ends = |partitions: &[(&str, Option<u64>)]| -> BTreeMap<String, PartitionStatus> {
            let status = |(name, log_end): &(&str, Option<u64>)| {
                let status = PartitionStatus { log_end: *log_end, ..PartitionStatus::default() };
                ((*name).to_owned(), status)
            };
            partitions.iter().map(status).collect()
        };
        let shown = || samples(&registry, "tidemark_log_end_offset");
        metrics.log_ends("b", &ends(&[("b/0", Some(1))]));
        metrics.log_ends("a", &ends(&[("a/0", Some(7)), ("a/1", Some(0))]));
        let all = [
            r#"{dataset="a",partition="a/0"} 7"#,
            r#"{dataset="a",partition="a/1"} 0"#,
            r#"{dataset="b",partition="b/0"} 1"#,
        ];
        assert_eq!(shown(), all);
        // The topic was made again; the view has rows of the earlier one still.
        metrics.log_ends("a", &ends(&[("a/0", None), ("a~2/0", Some(3))]));
        assert_eq!(shown(), [r#"{dataset="a",partition="a~2/0"} 3"#, all[2]]);
    }

    #[test]
    fn tasks_have_the_dataset_that_they_are_of_whatever_its_name() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let failed = || Health { restarts: 0, error: Some("no".to_owned()) };
        metrics.tasks(&BTreeMap::from([
            (TaskName::of(TaskKind::Catalog, "of"), failed()),
            (TaskName::of_indexer("orders", "g1"), failed()),
            (TaskName::of_indexer("orders", "g2"), failed()),
            (TaskName::of_process(TaskKind::Keeper), Health::default()),
        ]));
        let shown = |task: &'static str, dataset: &str| {
            metrics.tasks_failing.get_or_create(&OfTask { task, dataset: dataset.to_owned() }).get()
        };
        assert_eq!((shown("catalog", "of"), shown("indexer", "orders"), shown("keeper", "")), (1, 2, 0));
        metrics.tasks(&BTreeMap::new());
        assert_eq!((shown("catalog", "of"), shown("indexer", "orders")), (0, 0), "they work again");
    }
}
