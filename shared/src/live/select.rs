//! Which part of a pinned view an answer takes: a pure decision (H5, H6).

use std::ops::Range;

use super::LiveRange;

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

#[cfg(test)]
mod tests {
    use super::*;

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
