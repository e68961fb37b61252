//! Which objects of a chain, segments or rejects, are packed into one: a pure decision over what is listed.

use std::ops::Range;

use tidemark_shared::segment::SegmentRef;

/// An object of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    /// The exclusive end of its offsets, where its name tells.
    pub(crate) end: Option<u64>,
    pub(crate) bytes: u64,
}

impl From<&SegmentRef> for Link {
    fn from(segment: &SegmentRef) -> Self {
        Self { end: segment.end, bytes: segment.bytes }
    }
}

/// Size of a packed object that is not packed again, in bytes, about.
pub(crate) const PACKED_BYTES: u64 = 64 << 20;
/// Fewer are not worth a new object, unless they fill one.
const SEGMENTS_MIN: usize = 8;
/// Below this share of the size, writing a segment again costs next to nothing.
const TINY_SHARE: u64 = 64;

/// Runs of objects of `chain`, by index, each of which becomes one of at most `full` bytes. All of them end at or below
/// `covered`.
///
/// Those of half the size and more stay as they are. A run begins behind those that are larger than all that follow in it
/// together, so that a record is written again about once per doubling, however often small ones come.
pub(crate) fn runs(chain: &[Link], covered: u64, full: u64) -> Vec<Range<usize>> {
    let (mut found, mut first, mut bytes) = (Vec::new(), 0, 0u64);
    for (at, segment) in chain.iter().enumerate() {
        let usable = segment.end.is_some_and(|end| end <= covered) && segment.bytes < full / 2;
        if !usable || bytes + segment.bytes > full {
            found.extend(worth(chain, first..at, full));
            (first, bytes) = (at, 0);
        }
        if usable {
            bytes += segment.bytes;
        } else {
            first = at + 1;
        }
    }
    found.extend(worth(chain, first..chain.len(), full));
    found
}

fn worth(chain: &[Link], run: Range<usize>, full: u64) -> Option<Range<usize>> {
    let mut run = run;
    let mut rest: u64 = chain[run.clone()].iter().map(|segment| segment.bytes).sum();
    while let Some(segment) = chain[run.clone()].first() {
        rest -= segment.bytes;
        if segment.bytes <= rest.max(full / TINY_SHARE) {
            break;
        }
        run.start += 1;
    }
    let filled = chain[run.clone()].iter().map(|segment| segment.bytes).sum::<u64>() >= full / 2;
    (run.len() >= SEGMENTS_MIN || (filled && run.len() > 1)).then_some(run)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chain(sizes: &[u64]) -> Vec<Link> {
        let segment =
            |(n, bytes): (u64, &u64)| Link { end: (n + 1 < sizes.len() as u64).then_some((n + 1) * 10), bytes: *bytes };
        (0..).zip(sizes).map(segment).collect()
    }

    #[test]
    fn runs_are_of_small_neighbours_below_the_coverage() {
        for (sizes, covered, wanted) in [
            (vec![], 0, vec![]),
            (vec![1; 8], 80, vec![]),
            (vec![1; 9], 90, vec![(0, 8)]),
            (vec![1; 20], 85, vec![(0, 8)]),
            (vec![1; 20], 95, vec![(0, 9)]),
            // A large one in between stays, and divides.
            ([vec![1; 8], vec![500], vec![1; 9]].concat(), 999, vec![(0, 8), (9, 17)]),
            // One that was packed before waits until the others are as large.
            ([vec![100], vec![1; 9]].concat(), 999, vec![(1, 9)]),
            ([vec![100], vec![12; 10]].concat(), 999, vec![(0, 10)]),
            // Few that fill one are worth it.
            (vec![400, 400, 1], 999, vec![(0, 2)]),
            (vec![400, 400, 400, 400, 1], 999, vec![(0, 2), (2, 4)]),
        ] {
            let found = runs(&chain(&sizes), covered, 1_000).into_iter().map(|run| (run.start, run.end));
            assert_eq!(found.collect::<Vec<_>>(), wanted, "{sizes:?} below {covered}");
        }
    }

    proptest! {
        /// Packing again and again ends, keeps within the size and the coverage, and leaves few small segments.
        #[test]
        fn packing_comes_to_an_end(sizes in proptest::collection::vec(0u64..700, 0..60), covered in 0u64..700) {
            let (full, mut chain) = (1_000, chain(&sizes));
            for _ in 0..200 {
                let found = runs(&chain, covered, full);
                if found.is_empty() {
                    return Ok(());
                }
                for run in found.into_iter().rev() {
                    prop_assert!(run.len() > 1);
                    let old: Vec<Link> = chain[run.clone()].to_vec();
                    let packed =
                        Link { end: old[old.len() - 1].end, bytes: old.iter().map(|link| link.bytes).sum() };
                    prop_assert!(packed.bytes <= full && packed.end.is_some_and(|end| end <= covered));
                    chain.splice(run, [packed]);
                }
            }
            prop_assert!(false, "it goes on and on");
        }
    }
}
