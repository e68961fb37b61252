//! Ends of segments.

use super::*;

fn segment(start: u64, end: Option<u64>) -> SegmentRef {
    SegmentRef { key: Path::from(format!("{start}")), start, end, bytes: 1, packed: end.is_some() }
}

#[test]
fn a_plain_segment_ends_where_the_next_one_begins_packed_or_not() {
    for (plain, packed, wanted) in [
        (vec![0, 10, 50], vec![], vec![Some(10), Some(50), None]),
        // Those that the packed one stands for are gone: the first one does not reach over them.
        (vec![0, 50], vec![(10, 50)], vec![Some(10), None]),
        (vec![0], vec![(10, 50)], vec![Some(10)]),
        // Or are there still.
        (vec![0, 10, 20, 50], vec![(10, 50)], vec![Some(10), Some(20), Some(50), None]),
        (vec![50], vec![(0, 50)], vec![None]),
    ] {
        let mut found: Vec<SegmentRef> = plain.iter().map(|start| segment(*start, None)).collect();
        let packed: Vec<SegmentRef> = packed.iter().map(|(start, end)| segment(*start, Some(*end))).collect();
        close(&mut found, &packed);
        assert_eq!(found.iter().map(|s| s.end).collect::<Vec<_>>(), wanted, "{plain:?} with {packed:?}");
    }
}
