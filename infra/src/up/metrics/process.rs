//! Whether the process is ready, how its tasks are, and what its real-time views take.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tidemark_shared::live::LiveUsage;
use tidemark_shared::lock;

use crate::up::task_name::TaskName;
use crate::up::tasks::Health;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct OfTask {
    task: &'static str,
    dataset: String,
}

/// Of the process: no labels. A family of it shows nothing where it has no value.
type OfProcess = [(&'static str, &'static str); 0];

/// See the module's text.
#[derive(Debug, Default)]
pub(in crate::up) struct ProcessMetrics {
    ready: Gauge,
    tasks_failing: Family<OfTask, Gauge>,
    /// Tasks that were ever shown: one that works again is shown as that.
    tasks_known: Mutex<BTreeSet<OfTask>>,
    live_rows: Gauge<u64, AtomicU64>,
    live_rejects: Gauge<u64, AtomicU64>,
    live_bytes: Gauge<u64, AtomicU64>,
    live_limit: Family<OfProcess, Gauge<u64, AtomicU64>>,
}

impl ProcessMetrics {
    pub(super) fn new(of: &mut Registry) -> Self {
        let metrics = Self::default();
        of.register("ready", "1 if the process can answer and takes records, as /readyz says", metrics.ready.clone());
        let help = "Background tasks whose last attempt failed";
        of.register("tasks_failing", help, metrics.tasks_failing.clone());
        of.register("live_rows", "Rows in all real-time views", metrics.live_rows.clone());
        let help = "Rejects in all real-time views; they take room as rows do";
        of.register("live_rejects", help, metrics.live_rejects.clone());
        let help = "What all real-time views take: memory, or in OpenSearch room on disk, without replicas";
        of.register_with_unit("live", help, Unit::Bytes, metrics.live_bytes.clone());
        let help =
            "Memory that all real-time views may take; near it intake slows down. Absent for views in OpenSearch";
        of.register_with_unit("live_limit", help, Unit::Bytes, metrics.live_limit.clone());
        metrics
    }

    pub(in crate::up) fn show(&self, ready: bool, usage: LiveUsage, limit: Option<LiveUsage>) {
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
    pub(in crate::up) fn tasks(&self, health: &BTreeMap<TaskName, Health>) {
        let mut failing: BTreeMap<OfTask, i64> = BTreeMap::new();
        for (name, health) in health {
            let of = OfTask { task: name.kind.name(), dataset: name.dataset.clone().unwrap_or_default() };
            *failing.entry(of).or_default() += i64::from(health.error.is_some());
        }
        let mut known = lock(&self.tasks_known);
        known.extend(failing.keys().cloned());
        for task in &*known {
            let _before = self.tasks_failing.get_or_create(task).set(failing.get(task).copied().unwrap_or(0));
        }
    }
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
        let metrics = ProcessMetrics::new(&mut registry);
        let used = |bytes| LiveUsage { bytes, ..LiveUsage::default() };
        metrics.show(true, used(7), None);
        assert_eq!(samples(&registry, "live_bytes"), [" 7"]);
        assert_eq!(samples(&registry, "live_limit_bytes"), [""; 0]);
        metrics.show(true, used(7), Some(used(9)));
        assert_eq!(samples(&registry, "live_limit_bytes"), [" 9"]);
    }

    #[test]
    fn tasks_have_the_dataset_that_they_are_of_whatever_its_name() {
        let mut registry = Registry::default();
        let metrics = ProcessMetrics::new(&mut registry);
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
