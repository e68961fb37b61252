//! Which segments one commit takes in: a pure decision over what the archive lists.

use std::collections::BTreeMap;

use tidemark_shared::position::{Coverage, LogPartition};
use tidemark_shared::segment::SegmentRef;

/// The segments of a partition that follow each other from an offset on; the first one may begin before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) from: u64,
    pub(crate) segments: Vec<SegmentRef>,
}

impl Chain {
    /// An offset that a table which takes in the whole chain covers: where the end is not listed, only the segment itself
    /// tells it.
    pub(crate) fn least_end(&self) -> u64 {
        self.segments.last().map_or(self.from, |last| last.end.unwrap_or(last.start + 1).max(self.from))
    }
}

/// What a commit takes in of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picked {
    pub(crate) partition: LogPartition,
    /// Records below are covered already.
    pub(crate) from: u64,
    /// Whole segments, in order.
    pub(crate) segments: Vec<SegmentRef>,
}

/// The next commit's segments, towards `targets`, in order of partition and offset; nothing if the targets are reached.
///
/// The partition of which least was picked is next, so that none starves; `bytes_max` bounds the sum, but for one segment
/// that has more.
pub(crate) fn next_piece(chains: &BTreeMap<LogPartition, Chain>, targets: &Coverage, bytes_max: u64) -> Vec<Picked> {
    let wanted = |partition: &LogPartition, segment: &SegmentRef| segment.start < targets.end(partition);
    let mut picked: BTreeMap<&LogPartition, (u64, usize)> = BTreeMap::new();
    let mut total = 0u64;
    loop {
        let next = chains
            .iter()
            .filter(|(partition, chain)| chain.from < targets.end(partition))
            .filter_map(|(partition, chain)| {
                let (bytes, count) = picked.get(partition).copied().unwrap_or_default();
                let segment = chain.segments.get(count).filter(|segment| wanted(partition, segment))?;
                Some((bytes, partition, segment.bytes))
            })
            .min();
        let Some((_, partition, bytes)) = next else { break };
        if total > 0 && total.saturating_add(bytes) > bytes_max {
            break;
        }
        total = total.saturating_add(bytes.max(1));
        let entry = picked.entry(partition).or_default();
        *entry = (entry.0.saturating_add(bytes.max(1)), entry.1 + 1);
    }
    let taken = picked.into_iter().map(|(partition, (_, count))| {
        let chain = &chains[partition];
        Picked { partition: partition.clone(), from: chain.from, segments: chain.segments[..count].to_vec() }
    });
    taken.collect()
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;
    use proptest::prelude::*;

    use super::*;

    fn partition(number: u32) -> LogPartition {
        format!("t/{number}").parse().expect("a partition")
    }

    /// Segments of ten offsets each; the last one's end is not listed.
    fn chain(first: u64, sizes: &[u64]) -> Chain {
        let segment = |(n, bytes): (u64, &u64)| SegmentRef {
            key: Path::from(format!("{n}")),
            start: first + n * 10,
            end: (n + 1 < sizes.len() as u64).then_some(first + (n + 1) * 10),
            bytes: *bytes,
            packed: false,
        };
        Chain { from: first, segments: (0..).zip(sizes).map(segment).collect() }
    }

    fn counts(chains: &[(u32, Chain)], targets: &[(u32, u64)], bytes_max: u64) -> Vec<(u32, usize)> {
        let chains = chains.iter().map(|(number, chain)| (partition(*number), chain.clone())).collect();
        let targets = targets.iter().map(|(number, end)| (partition(*number), *end)).collect();
        let piece = next_piece(&chains, &targets, bytes_max);
        piece.iter().map(|taken| (taken.partition.partition, taken.segments.len())).collect()
    }

    #[test]
    fn a_piece_is_fair_and_bounded() {
        let (even, large) = (chain(0, &[5, 5, 5, 5]), chain(0, &[100, 5]));
        for (chains, targets, bytes_max, wanted) in [
            (vec![(0, even.clone())], vec![(0, 40)], 10, vec![(0, 2)]),
            (vec![(0, even.clone())], vec![(0, 31)], 99, vec![(0, 4)]),
            (vec![(0, even.clone())], vec![(0, 11)], 99, vec![(0, 2)]),
            (vec![(0, even.clone())], vec![(0, 0)], 99, vec![]),
            (vec![(0, even.clone())], vec![], 99, vec![]),
            // One segment goes in any case, and no other with it.
            (vec![(0, large.clone())], vec![(0, 20)], 10, vec![(0, 1)]),
            (vec![(0, even.clone()), (1, even.clone())], vec![(0, 40), (1, 40)], 20, vec![(0, 2), (1, 2)]),
            (vec![(0, large), (1, even)], vec![(0, 20), (1, 40)], 115, vec![(0, 1), (1, 3)]),
        ] {
            assert_eq!(counts(&chains, &targets, bytes_max), wanted, "{chains:?} to {targets:?} in {bytes_max}");
        }
    }

    proptest! {
        /// Pieces, one after the other, take every wanted segment once and in order, within the bound.
        #[test]
        fn pieces_take_every_segment_once(
            sizes in proptest::collection::vec(proptest::collection::vec(0u64..30, 0..6), 1..4),
            bytes_max in 1u64..60,
        ) {
            let mut chains: BTreeMap<LogPartition, Chain> =
                (0u32..).zip(&sizes).map(|(number, sizes)| (partition(number), chain(7, sizes))).collect();
            let all = chains.clone();
            let targets: Coverage = chains.iter().map(|(p, chain)| (p.clone(), chain.least_end())).collect();
            let mut seen: BTreeMap<LogPartition, Vec<SegmentRef>> = BTreeMap::new();
            loop {
                let piece = next_piece(&chains, &targets, bytes_max);
                if piece.is_empty() {
                    break;
                }
                let taken: Vec<&SegmentRef> = piece.iter().flat_map(|taken| &taken.segments).collect();
                prop_assert!(taken.len() == 1 || taken.iter().map(|s| s.bytes).sum::<u64>() <= bytes_max);
                for taken in piece {
                    let chain = chains.get_mut(&taken.partition).expect("a known one");
                    prop_assert_eq!(chain.from, taken.from);
                    let last = taken.segments.last().expect("no empty part");
                    chain.from = last.start + 10;
                    chain.segments.drain(..taken.segments.len());
                    seen.entry(taken.partition).or_default().extend(taken.segments);
                }
            }
            for (partition, chain) in all {
                prop_assert_eq!(seen.remove(&partition).unwrap_or_default(), chain.segments);
            }
        }
    }
}
