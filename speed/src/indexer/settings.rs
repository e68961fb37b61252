//! How an indexer behaves: how much a batch takes in, and how much is made side by side.

use std::thread::available_parallelism;
use std::time::Duration;

use tidemark_shared::live::LiveView;
use tidemark_shared::log::ReadLimits;

/// Bytes of records of a batch once a partition has caught up, whatever is taken in when it is behind.
const FRESH_BYTES_MAX: usize = 4 << 20;
/// Records of a batch for a view in a cluster, while the partition is behind.
const CLUSTER_RECORDS_MAX: usize = 60_000;
/// Bytes of them.
const CLUSTER_BYTES_MAX: usize = 16 << 20;
/// Bytes of the records of all batches that are made side by side for such a view, unless those would be smaller than other ones.
const CLUSTER_BYTES_MAX_OF_ALL: usize = 64 << 20;

/// How an [`Indexer`](super::Indexer) behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexerSettings {
    /// Bounds of a batch while the partition is behind.
    pub behind: ReadLimits,
    /// Most records of a batch once it has caught up: the first of them waits for the last.
    pub fresh_records_max: usize,
    /// Bytes of records from which on decoding leaves the runtime's threads.
    pub inline_bytes_max: usize,
    /// Batches that are made at the same time, of different partitions.
    pub parallel: usize,
    /// Longest time between two looks at how many partitions the topic has.
    pub partitions_refresh: Duration,
}

impl Default for IndexerSettings {
    /// 20,000 records or 4 MiB when behind, 2,000 records when not; as many side by side as there are processors.
    fn default() -> Self {
        Self {
            behind: ReadLimits { records_max: 20_000, bytes_max: 4 << 20 },
            fresh_records_max: 2_000,
            inline_bytes_max: 64 << 10,
            parallel: available_parallelism().map_or(1, usize::from),
            partitions_refresh: Duration::from_secs(10),
        }
    }
}

impl IndexerSettings {
    /// Those for a view. One that lies in a cluster, which sees to its own limits, makes a batch's rows searchable and writes a
    /// position for each batch: it gets larger ones while a partition is behind. A view in memory has a limit, and a batch must
    /// fit into what is left of it.
    #[must_use]
    pub fn of(live: &dyn LiveView) -> Self {
        let settings = Self::default();
        if live.limit().is_some() {
            return settings;
        }
        Self { behind: behind_in_a_cluster(settings.parallel, settings.behind), ..settings }
    }

    /// Bounds of the next read of a partition that lags by so many offsets.
    #[must_use]
    pub fn limits(&self, lag: u64) -> ReadLimits {
        if self.is_behind(lag) {
            return self.behind;
        }
        let bytes_max = self.behind.bytes_max.min(FRESH_BYTES_MAX);
        ReadLimits { records_max: self.fresh_records_max, bytes_max }
    }

    /// True if a partition that lags by so many offsets is behind: then how much gets visible counts for more than how soon.
    pub(super) fn is_behind(&self, lag: u64) -> bool {
        lag > (self.fresh_records_max as u64).saturating_mul(2)
    }
}

/// Bounds of a batch for a view in a cluster, if so many are made side by side: never less than `least`.
fn behind_in_a_cluster(parallel: usize, least: ReadLimits) -> ReadLimits {
    let bytes_max = (CLUSTER_BYTES_MAX_OF_ALL / parallel.max(1)).min(CLUSTER_BYTES_MAX);
    ReadLimits { records_max: CLUSTER_RECORDS_MAX.max(least.records_max), bytes_max: bytes_max.max(least.bytes_max) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_small_unless_a_partition_is_behind() {
        let behind = ReadLimits { records_max: 60_000, bytes_max: 16 << 20 };
        let settings = IndexerSettings { behind, ..IndexerSettings::default() };
        let fresh = ReadLimits { records_max: 2_000, bytes_max: 4 << 20 };
        for (lag, wanted) in [(0, fresh), (4_000, fresh), (4_001, behind), (u64::MAX, behind)] {
            assert_eq!(settings.limits(lag), wanted, "a lag of {lag}");
        }
        let small = ReadLimits { records_max: 9, bytes_max: 100 };
        let settings = IndexerSettings { behind: small, ..settings };
        assert_eq!(settings.limits(0).bytes_max, 100, "who bounds batches bounds all of them");
    }

    #[test]
    fn batches_side_by_side_have_a_bound_together() {
        let least = IndexerSettings::default().behind;
        let mib = |parallel| behind_in_a_cluster(parallel, least).bytes_max >> 20;
        for (parallel, wanted) in [(0, 16), (1, 16), (2, 16), (4, 16), (5, 12), (8, 8), (16, 4), (64, 4)] {
            assert_eq!(mib(parallel), wanted, "{parallel} side by side");
        }
        assert_eq!(behind_in_a_cluster(2, least).records_max, 60_000);
    }
}
