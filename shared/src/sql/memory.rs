//! The memory that the statements of an engine share.
//!
//! A sort that gets no more memory merges what it holds, and spills that. Its merge holds of every batch what rows are compared
//! by beside the rows themselves; where rows are short and keys several, that is more than the batch took while it waited.
//! DataFusion lets a sort fill its whole share and then finds nothing left for the merge, so that it fails although there is
//! room to spill to. Here a sort waits with a third of its share: the merge, and what it has put out, have the other two.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size,
};

/// How DataFusion calls the batches that a sort holds; their merge has another name.
const SORT: &str = "ExternalSorter[";
/// Of the memory that sorts may have, their batches may take one of so many parts.
const SORT_PARTS: usize = 3;

/// The memory of an engine: `bytes_max` for all its statements together, shared fairly among what can spill. Where
/// nothing `spills`, a sort may as well take all that it gets.
pub(super) fn shared_memory(bytes_max: usize, spills: bool) -> Arc<dyn MemoryPool> {
    let fair = FairSpillPool::new(bytes_max);
    if spills { Arc::new(Shared { fair, bytes_max, sorts: AtomicUsize::new(0) }) } else { Arc::new(fair) }
}

/// True if one of `sorts` sorts that holds `held` bytes may take `more`. A batch that is alone is not merged.
fn may_hold(held: usize, more: usize, sorts: usize, bytes_max: usize) -> bool {
    held == 0 || held.saturating_add(more) <= bytes_max / (SORT_PARTS * sorts.max(1))
}

#[derive(Debug)]
struct Shared {
    fair: FairSpillPool,
    bytes_max: usize,
    /// Sorts that are under way.
    sorts: AtomicUsize,
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.fair, f)
    }
}

impl MemoryPool for Shared {
    fn name(&self) -> &str {
        self.fair.name()
    }

    fn register(&self, consumer: &MemoryConsumer) {
        if is_sort(consumer) {
            self.sorts.fetch_add(1, Ordering::Relaxed);
        }
        self.fair.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if is_sort(consumer) {
            self.sorts.fetch_sub(1, Ordering::Relaxed);
        }
        self.fair.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.fair.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.fair.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let (consumer, held) = (reservation.consumer(), reservation.size());
        if is_sort(consumer) && !may_hold(held, additional, self.sorts.load(Ordering::Relaxed), self.bytes_max) {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{} holds {} and needs the rest to merge that: it gets no {} more of {self}",
                consumer.name(),
                human_readable_size(held),
                human_readable_size(additional)
            )));
        }
        self.fair.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.fair.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.fair.memory_limit()
    }
}

fn is_sort(consumer: &MemoryConsumer) -> bool {
    consumer.can_spill() && consumer.name().starts_with(SORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_hold_a_third_of_the_memory_together() {
        for (held, more, sorts, holds) in [
            (0, 900, 1, true),
            (200, 100, 1, true),
            (200, 101, 1, false),
            (100, 50, 2, true),
            (100, 51, 2, false),
            // One that is not known yet counts as one.
            (200, 100, 0, true),
            (1, usize::MAX, 1, false),
        ] {
            assert_eq!(may_hold(held, more, sorts, 900), holds, "{held} {more} {sorts}");
        }
    }

    #[test]
    fn a_sort_leaves_its_merge_what_it_needs_and_others_take_what_there_is() {
        let pool = shared_memory(900, true);
        let of = |name: &str, can_spill: bool| MemoryConsumer::new(name).with_can_spill(can_spill).register(&pool);
        let (sort, merge) = (of("ExternalSorter[0]", true), of("ExternalSorterMerge[0]", false));
        sort.try_grow(200).expect("a part of the third");
        sort.try_grow(100).expect("the rest of it");
        let refused = sort.try_grow(1).expect_err("it is the merge's");
        assert!(matches!(refused, DataFusionError::ResourcesExhausted(_)), "{refused:?}");
        merge.try_grow(600).expect("the other two thirds");
        assert_eq!(pool.reserved(), 900);
        drop((sort, merge));
        assert_eq!(pool.reserved(), 0);
        let sorts = [of("ExternalSorter[0]", true), of("ExternalSorter[1]", true)];
        sorts[0].try_grow(100).expect("a part of its half of the third");
        assert!(sorts[0].try_grow(51).is_err());
        sorts[0].try_grow(50).expect("the rest of it");
        drop(sorts);
        of("aggregate", true).try_grow(900).expect("all of it");
    }

    #[test]
    fn where_nothing_spills_a_sort_takes_all() {
        let sort = MemoryConsumer::new("ExternalSorter[0]").with_can_spill(true);
        let sort = sort.register(&shared_memory(900, false));
        sort.try_grow(1).expect("a little");
        sort.try_grow(899).expect("the rest");
    }
}
