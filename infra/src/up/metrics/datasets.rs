//! How datasets with a stream stand: log, archive, real-time view and curated table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tidemark_shared::lock;

use super::{OfDataset, Seconds, from_ms, of};
use crate::up::status::{DatasetStatus, PartitionStatus};

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

type Offsets = Family<OfPartition, Gauge<u64, AtomicU64>>;

/// See the module's text.
#[derive(Debug, Default)]
pub(in crate::up) struct DatasetMetrics {
    measure_failures: Family<OfDataset, Counter>,
    assigned: Family<OfRole, Gauge<u64, AtomicU64>>,
    appended: Family<OfDataset, Counter>,
    log_end: Offsets,
    /// By dataset, the partitions whose ends are shown: one that the log has no more, is not.
    log_ends_known: Mutex<BTreeMap<String, BTreeSet<OfPartition>>>,
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
}

impl DatasetMetrics {
    pub(super) fn new(of: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Times that a dataset could not be measured: its positions below are older ones then";
        of.register("measure_failures", help, metrics.measure_failures.clone());
        let help = "Partitions that the process has as one of its roles; absent while it has no place among its kind";
        of.register("assigned_partitions", help, metrics.assigned.clone());
        of.register("log_appended_records", "Records that this process appended to the log", metrics.appended.clone());
        of.register("log_end_offset", "Where a partition of the log ends", metrics.log_end.clone());
        of.register("archive_end_offset", "Up to where a partition is in the raw zone", metrics.archived.clone());
        let help = "Up to where a partition's rows are in the real-time view";
        of.register("live_visible_offset", help, metrics.visible.clone());
        let help = "Up to where the curated table includes a partition: the tide mark";
        of.register("curated_end_offset", help, metrics.covered.clone());
        let help = "Offsets that retention took before they were archived, as far as this process met them";
        of.register("archive_lost_offsets", help, metrics.lost.clone());
        let help = "Partitions whose archiving or indexing in this process has stopped until a restart";
        of.register("partitions_stopped", help, metrics.stopped.clone());
        of.register("archive_segments_sealed", "Segments that this process put", metrics.segments.clone());
        let help = "Offsets between the end of the log and the visible position";
        of.register("live_lag_records", help, metrics.lag_records.clone());
        let help = "Age of the newest visible record while there is a lag, else 0";
        of.register_with_unit("live_lag", help, Unit::Seconds, metrics.lag.clone());
        let help = "Ages of records when they became visible, over the last minute";
        of.register_with_unit("live_freshness", help, Unit::Seconds, metrics.freshness.clone());
        let help =
            "What the records became that were made visible for the newest generation: accepted, filtered, rejected";
        of.register("live_records", help, metrics.indexed.clone());
        metrics
    }

    pub(in crate::up) fn appended(&self, dataset: &str, records: usize) {
        let _before = self.appended.get_or_create(&of(dataset)).inc_by(records as u64);
    }

    pub(in crate::up) fn measure_failed(&self, dataset: &str) {
        let _before = self.measure_failures.get_or_create(&of(dataset)).inc();
    }

    pub(super) fn show(&self, status: &DatasetStatus) {
        let dataset = &status.dataset;
        for counted in [&self.appended, &self.measure_failures] {
            drop(counted.get_or_create(&of(dataset)));
        }
        self.log_ends(dataset, &status.partitions);
        let mut segments = 0;
        for (partition, status) in &status.partitions {
            self.partition(&of_partition(dataset, partition), status);
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

    fn partition(&self, at: &OfPartition, status: &PartitionStatus) {
        let lost = status.lost.iter().map(|range| range.end - range.start).sum();
        let offsets = [
            (&self.archived, status.archived),
            (&self.visible, status.visible),
            (&self.covered, status.coverage),
            (&self.lost, status.archived.map(|_| lost)),
            (&self.lag_records, status.lag_records),
        ];
        for (gauge, offset) in offsets.into_iter().filter_map(|(gauge, offset)| Some((gauge, offset?))) {
            let _before = gauge.get_or_create(at).set(offset);
        }
        if let Some(lag_ms) = status.lag_ms {
            let _before = self.lag.get_or_create(at).set(from_ms(lag_ms));
        } else {
            // it is another process's now
            let _was = self.lag.remove(at);
        }
    }

    /// The ends of the partitions that the log has now. Those of a topic that was made again would look like partitions that
    /// nobody has.
    fn log_ends(&self, dataset: &str, partitions: &BTreeMap<String, PartitionStatus>) {
        let in_log = partitions.iter().filter_map(|(partition, status)| Some((partition, status.log_end?)));
        let ends: BTreeMap<OfPartition, u64> =
            in_log.map(|(partition, end)| (of_partition(dataset, partition), end)).collect();
        // Held to the end: two scrapes at once show one after the other.
        let mut known = lock(&self.log_ends_known);
        for gone in known.get(dataset).into_iter().flatten().filter(|at| !ends.contains_key(*at)) {
            let _was = self.log_end.remove(gone);
        }
        for (at, end) in &ends {
            let _before = self.log_end.get_or_create(at).set(*end);
        }
        known.insert(dataset.to_owned(), ends.into_keys().collect());
    }
}

fn of_partition(dataset: &str, partition: &str) -> OfPartition {
    OfPartition { dataset: dataset.to_owned(), partition: partition.to_owned() }
}

/// Shows what is counted elsewhere. Where that began anew, as with another generation's indexer, the counter does, too.
fn show(counter: &Counter<u64, AtomicU64>, count: u64) {
    counter.inner().store(count, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::testing::samples;

    #[test]
    fn a_partition_that_the_log_has_no_more_has_no_end_there() {
        let mut registry = Registry::default();
        let metrics = DatasetMetrics::new(&mut registry);
        let ends = |partitions: &[(&str, Option<u64>)]| -> BTreeMap<String, PartitionStatus> {
            let status = |(name, log_end): &(&str, Option<u64>)| {
                let status = PartitionStatus { log_end: *log_end, ..PartitionStatus::default() };
                ((*name).to_owned(), status)
            };
            partitions.iter().map(status).collect()
        };
        let shown = || samples(&registry, "log_end_offset");
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
}
