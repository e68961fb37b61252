//! The decisions of a cut: pure functions over what was observed.

use std::collections::BTreeMap;
use std::ops::Range;

use tidemark_shared::live::{LiveRange, live_range};
use tidemark_shared::position::{Coverage, FILES_SOURCE, LogPartition, united};
use tidemark_shared::sql::CutError;

/// Lost offsets, by partition.
pub(super) type LostRanges = BTreeMap<LogPartition, Vec<Range<u64>>>;

/// Floors and visible positions of a view.
pub(super) type Ranges = BTreeMap<LogPartition, LiveRange>;

/// How a cut divides the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Split {
    /// What is read from the view; partitions without such a part are left out.
    pub(super) live: BTreeMap<LogPartition, Range<u64>>,
    /// What both parts cover together: `max(C, V)` (H5).
    pub(super) positions: Coverage,
}

/// Divides the log between a curated version that covers `coverage` and a view that holds `view`.
///
/// # Errors
/// [`CutError::RealtimeGap`] for the first partition of which neither side holds some offsets (H6).
pub(super) fn split(coverage: &Coverage, view: &Ranges) -> Result<Split, CutError> {
    let mut split = Split { positions: coverage.clone(), ..Split::default() };
    for (partition, held) in view {
        let covered = coverage.end(partition);
        let range = live_range(covered, *held)
            .map_err(|missing| CutError::RealtimeGap { partition: partition.clone(), missing })?;
        split.positions.set(partition.clone(), range.end.max(covered));
        if !range.is_empty() {
            split.live.insert(partition.clone(), range);
        }
    }
    Ok(split)
}

/// Ranges that either side knows to be lost: what the curated version covers, what the view has read past, and what an
/// archiver of this process met since it runs.
#[must_use]
pub(super) fn together(curated: LostRanges, met: LostRanges) -> LostRanges {
    let mut all = curated;
    for (partition, ranges) in met {
        let known = all.entry(partition).or_default();
        *known = united(std::mem::take(known).into_iter().chain(ranges));
    }
    all
}

/// Lost offsets that lie below `positions`.
#[must_use]
pub(super) fn lost_below(lost: LostRanges, positions: &Coverage) -> LostRanges {
    let below = |(partition, ranges): (LogPartition, Vec<Range<u64>>)| {
        let end = positions.end(&partition);
        let ranges: Vec<_> = ranges.into_iter().filter(|lost| lost.start < end).collect();
        (partition.source.as_str() != FILES_SOURCE && !ranges.is_empty()).then_some((partition, ranges))
    };
    lost.into_iter().filter_map(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(entries: &[(&str, u64, u64)]) -> Ranges {
        let range = |(name, floor, visible): &(&str, u64, u64)| {
            (name.parse().expect("a partition"), LiveRange { floor: *floor, visible: *visible })
        };
        entries.iter().map(range).collect()
    }

    fn coverage(entries: &[(&str, u64)]) -> Coverage {
        entries.iter().map(|(name, end)| (name.parse().expect("a partition"), *end)).collect()
    }

    #[test]
    fn a_lost_range_is_told_once_whoever_knows_it() {
        let partition: LogPartition = "t/0".parse().expect("a partition");
        let lost = |ranges: &[Range<u64>]| LostRanges::from([(partition.clone(), ranges.to_vec())]);
        let both = together(lost(std::slice::from_ref(&(3..5))), lost(&[3..4, 9..10, 10..12]));
        assert_eq!(both, lost(&[3..5, 9..12]));
        let below = lost_below(both, &coverage(&[("t/0", 7)]));
        assert_eq!(below, LostRanges::from([(partition.clone(), vec![Range { start: 3, end: 5 }])]));
    }

    #[test]
    fn h5_the_mark_divides_each_partition_and_the_higher_end_counts() {
        let view = ranges(&[("t/0", 3, 9), ("t/1", 0, 4), ("t/2", 0, 0)]);
        let split = split(&coverage(&[("files", 2), ("t/0", 5), ("t/1", 7), ("u/0", 1)]), &view).expect("no gap");
        let live: Vec<_> = split.live.iter().map(|(partition, range)| (partition.to_string(), range.clone())).collect();
        assert_eq!(live, [("t/0".to_owned(), 5..9)]);
        let wanted = coverage(&[("files", 2), ("t/0", 9), ("t/1", 7), ("t/2", 0), ("u/0", 1)]);
        assert_eq!(split.positions, wanted);
    }

    #[test]
    fn h6_a_floor_above_the_coverage_is_a_gap_with_its_offsets() {
        let found = split(&coverage(&[("t/0", 5)]), &ranges(&[("t/0", 7, 9)]));
        match found {
            Err(CutError::RealtimeGap { partition, missing }) => {
                assert_eq!((partition.to_string().as_str(), missing), ("t/0", 5..7));
            }
            other => panic!("{other:?}"),
        }
        let beyond = split(&coverage(&[("t/0", 9)]), &ranges(&[("t/0", 7, 9)])).expect("all is curated");
        assert_eq!(beyond.live, BTreeMap::new());
    }

    #[test]
    fn only_what_was_lost_below_the_positions_concerns_an_answer() {
        let lost: BTreeMap<LogPartition, Vec<Range<u64>>> = [
            ("t/0".parse().expect("a partition"), vec![1..3, 5..6, 8..9]),
            ("t/1".parse().expect("a partition"), vec![4..5, 6..7]),
        ]
        .into();
        let found = lost_below(lost, &coverage(&[("t/0", 8), ("t/1", 4)]));
        assert_eq!(found.into_values().collect::<Vec<_>>(), [vec![1..3, 5..6]]);
    }
}
