//! Which part of a pinned view an answer takes (H5, H6), and whether one view can stand for another (H9): pure decisions.

use std::collections::BTreeMap;
use std::ops::Range;

use super::LiveRange;
use crate::position::LogPartition;

/// What of a partition an answer reads from the real-time view, if the curated version covers it up to `coverage` and
/// the view holds `live`: an empty range if the view has nothing above the coverage.
///
/// # Errors
/// The offsets that neither side holds, if the view's floor is above the coverage (H6). A view that has not come as far
/// as the coverage yet is no hole: as-of is the higher of the two (H5).
pub fn live_range(coverage: u64, live: LiveRange) -> Result<Range<u64>, Range<u64>> {
    if live.visible <= coverage {
        return Ok(coverage..coverage);
    }
    if live.floor > coverage {
        return Err(coverage..live.floor);
    }
    Ok(coverage..live.visible)
}

/// True if `view` is visible less far than `old` in any partition: who has read the one must not go on with the other (H9).
#[must_use]
pub fn is_behind(view: &BTreeMap<LogPartition, LiveRange>, old: &BTreeMap<LogPartition, LiveRange>) -> bool {
    let visible = |partition| view.get(partition).map_or(0, |range| range.visible);
    old.iter().any(|(partition, range)| visible(partition) < range.visible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_behind_if_it_is_in_any_partition() {
        let view = |ends: &[(&str, u64)]| -> BTreeMap<LogPartition, LiveRange> {
            let range = |visible| LiveRange { floor: 0, visible };
            ends.iter().map(|(name, end)| (name.parse().expect("a partition"), range(*end))).collect()
        };
        let old = view(&[("t/0", 9), ("t/1", 4)]);
        for (new, wanted) in [
            (&[("t/0", 9), ("t/1", 4)][..], false),
            (&[("t/0", 12), ("t/1", 4), ("t/2", 0)], false),
            (&[("t/0", 12), ("t/1", 3)], true),
            (&[("t/0", 12)], true),
        ] {
            assert_eq!(is_behind(&view(new), &old), wanted, "{new:?}");
        }
        assert!(!is_behind(&view(&[]), &view(&[("t/0", 0)])), "nothing is visible in either");
    }

    #[test]
    fn the_mark_divides_the_log_without_gap_or_overlap() {
        let live = |floor, visible| LiveRange { floor, visible };
        let cases = [
            (5, live(0, 9), Ok(5..9)),
            (5, live(5, 9), Ok(5..9)),
            (5, live(6, 9), Err(5..6)),
            (5, live(0, 5), Ok(5..5)),
            (5, live(0, 3), Ok(5..5)),
            (5, live(7, 7), Err(5..7)),
            (7, live(7, 7), Ok(7..7)),
        ];
        for (coverage, live, wanted) in cases {
            assert_eq!(live_range(coverage, live), wanted, "coverage {coverage}, {live:?}");
        }
    }
}
