//! Which requests rows are read by: *blocks*, each of so few offsets of one index that one request yields all of its rows, and of
//! so few bytes that the cluster and this process have room for several. Offsets that nobody wants are in none, so that an index
//! without wanted ones is not asked at all.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Value, json};
use tidemark_shared::position::LogPartition;

use crate::counts::in_range;
use crate::filter::any;
use crate::pin::Piece;
use crate::state::IndexRef;

/// Most ranges of several offsets that are told apart in a request, which has room for some 1,000 conditions in all. Single
/// offsets are one condition together.
const RANGES_MAX: usize = 64;
/// How often rows are halved that there is no room for, however few bytes they are said to have.
const HALVED_MAX: u32 = 4;
/// Bytes of rows that a cluster has room for if it has any.
const FEW_BYTES: u64 = 1 << 20;

/// Wanted offsets of an index that one request reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// The offsets that are read by one request if all of them are wanted.
    pub(crate) of: Range<u64>,
    /// From the first of them to the last.
    pub(crate) piece: Piece,
    /// Themselves: in order, apart from one another.
    wanted: Vec<Range<u64>>,
}

impl Block {
    /// The query that keeps back what is not wanted in between. `None` if there is nothing, or if it is read along: because it
    /// is less than what is wanted, and of use to statements after this one, or because it is in too many places.
    pub(crate) fn between(&self) -> Option<Value> {
        let length = |range: &Range<u64>| range.end - range.start;
        let wanted: u64 = self.wanted.iter().map(length).sum();
        if length(&self.piece.range) - wanted <= wanted {
            return None;
        }
        let (single, longer): (Vec<_>, Vec<_>) = self.wanted.iter().partition(|range| range.end - range.start == 1);
        if longer.len() > RANGES_MAX {
            return None;
        }
        let mut each: Vec<Value> = longer.into_iter().map(in_range).collect();
        if !single.is_empty() {
            let offsets: Vec<u64> = single.into_iter().map(|range| range.start).collect();
            each.push(json!({"terms": {"offset": offsets}}));
        }
        Some(any(&each))
    }
}

/// The blocks of wanted pieces, which come in order of index and offset, apart from one another. `around` tells which offsets of a
/// partition are read together with one of them.
pub(crate) fn blocks(
    wanted: impl IntoIterator<Item = Piece>,
    around: impl Fn(&LogPartition, u64) -> Range<u64>,
) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (of, part) in wanted.into_iter().flat_map(|piece| cut(&piece, &around)) {
        match blocks.last_mut() {
            Some(last) if last.of == of && last.piece.index == part.index => {
                last.piece.range.end = part.range.end;
                last.wanted.push(part.range);
            }
            _ => blocks.push(Block { of, wanted: vec![part.range.clone()], piece: part }),
        }
    }
    blocks
}

/// Blocks in order, each with what it shares with all others of its index, as `make` makes it; `None` where there are no others. So it
/// goes with the last of them.
pub(crate) fn sharing<T>(blocks: &[Block], make: impl Fn(&IndexRef) -> T) -> Vec<(Block, Option<Arc<T>>)> {
    let mut all = Vec::with_capacity(blocks.len());
    for of_index in blocks.chunk_by(|one, next| one.piece.index == next.piece.index) {
        let shared = (of_index.len() > 1).then(|| Arc::new(make(&of_index[0].piece.index)));
        all.extend(of_index.iter().map(|block| (block.clone(), shared.clone())));
    }
    all
}

/// A piece in parts, each of offsets that are read together, with all that are.
pub(crate) fn cut(piece: &Piece, around: &impl Fn(&LogPartition, u64) -> Range<u64>) -> Vec<(Range<u64>, Piece)> {
    let (mut parts, mut start) = (Vec::new(), piece.range.start);
    while start < piece.range.end {
        let of = around(&piece.partition, start);
        let end = piece.range.end.min(of.end);
        parts.push((of, Piece { range: start..end, ..piece.clone() }));
        start = end;
    }
    parts
}

/// The part of `block` that the offset `at` is in: halved until it has at most `bytes_max`, or is that offset alone. So parts begin
/// where they did whatever is asked for, and what was read is found again.
pub(crate) fn part(block: Range<u64>, at: u64, bytes_max: u64, bytes_in: impl Fn(&Range<u64>) -> u64) -> Range<u64> {
    let mut part = block;
    while part.end - part.start > 1 && bytes_in(&part) > bytes_max {
        let middle = part.start + (part.end - part.start) / 2;
        if at < middle {
            part.end = middle;
        } else {
            part.start = middle;
        }
    }
    part
}

/// True if less than `range` is worth asking for where the cluster has no room for it: it was halved a few times only, or its rows
/// have many bytes still. Else something else takes the room. That there are few bytes does not tell by itself: the cluster needs
/// some for each row besides.
pub(crate) fn less_helps(range: &Range<u64>, halved: u32, bytes: u64) -> bool {
    range.end - range.start > 1 && (halved < HALVED_MAX || bytes > FEW_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(index: &str, start: u64, end: u64) -> Piece {
        Piece { partition: "t/3".parse().unwrap(), index: IndexRef::named(index), range: start..end }
    }

    /// So many offsets together.
    fn each(size: u64) -> impl Fn(&LogPartition, u64) -> Range<u64> {
        move |_, at| at - at % size..at - at % size + size
    }

    /// Index, from the first wanted offset to the last, and where they are.
    fn shown(block: &Block) -> String {
        let text = |range: &Range<u64>| format!("{}-{}", range.start, range.end);
        let wanted: Vec<String> = block.wanted.iter().map(text).collect();
        format!("{} {}: {}", block.piece.index.name, text(&block.piece.range), wanted.join(","))
    }

    #[test]
    fn wanted_offsets_of_a_block_are_one_request_and_what_nobody_wants_is_none() {
        for (pieces, wanted) in [
            (&[("a", 0, 10)][..], &["a 0-10: 0-10"][..]),
            (&[], &[]),
            (&[("a", 3, 25)], &["a 3-10: 3-10", "a 10-20: 10-20", "a 20-25: 20-25"]),
            (&[("a", 2, 3), ("a", 5, 6), ("a", 9, 12)], &["a 2-10: 2-3,5-6,9-10", "a 10-12: 10-12"]),
            (&[("a", 2, 3), ("a", 990, 991)], &["a 2-3: 2-3", "a 990-991: 990-991"]),
            (&[("a", 18, 20), ("b", 20, 21), ("b", 22, 23)], &["a 18-20: 18-20", "b 20-23: 20-21,22-23"]),
            // an index may end within a block
            (&[("a", 22, 24), ("b", 24, 26)], &["a 22-24: 22-24", "b 24-26: 24-26"]),
        ] {
            let found = blocks(pieces.iter().map(|(index, start, end)| piece(index, *start, *end)), each(10));
            assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), wanted, "{pieces:?}");
        }
    }

    #[test]
    fn a_block_has_few_bytes_or_one_offset() {
        // Of a hundred offsets, those from 40 to 48 have a thousand bytes, and the others one.
        let bytes_in = |range: &Range<u64>| {
            let large = range.end.min(48).saturating_sub(range.start.max(40));
            large * 1_000 + (range.end - range.start - large)
        };
        let found = |bytes_max: u64| {
            let around = |_: &LogPartition, at: u64| part(0..100, at, bytes_max, bytes_in);
            let found = blocks([piece("a", 0, 100)], around);
            found.iter().map(|block| (block.of.start, block.of.end)).collect::<Vec<_>>()
        };
        assert_eq!(found(9_000), [(0, 100)]);
        assert_eq!(found(8_050), [(0, 50), (50, 100)]);
        assert_eq!(found(4_100), [(0, 25), (25, 37), (37, 43), (43, 46), (46, 50), (50, 100)]);
        assert_eq!(found(0).len(), 100, "no offset can be divided");
        // Wanted offsets on both sides of a border are two blocks, wherever they begin.
        let around = |_: &LogPartition, at: u64| part(0..100, at, 8_050, bytes_in);
        let found = blocks([piece("a", 30, 41), piece("a", 45, 60)], around);
        assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), ["a 30-50: 30-41,45-50", "a 50-60: 50-60"]);
    }

    #[test]
    fn what_blocks_of_an_index_share_goes_with_the_last_of_them() {
        let wanted = [piece("a", 0, 30), piece("b", 30, 35), piece("c", 35, 60)];
        let blocks = blocks(wanted, each(10));
        let mut all = sharing(&blocks, |index| index.name.clone());
        assert_eq!(all.iter().map(|(block, _)| block.clone()).collect::<Vec<_>>(), blocks);
        let shared = |(_, shared): &(Block, Option<Arc<String>>)| shared.as_deref().cloned().unwrap_or_default();
        assert_eq!(all.iter().map(shared).collect::<Vec<_>>(), ["a", "a", "a", "", "c", "c", "c"]);
        let first = Arc::downgrade(all[0].1.as_ref().unwrap());
        drop(all.drain(..2));
        assert!(first.upgrade().is_some(), "the third one needs it");
        drop(all.remove(0));
        assert!(first.upgrade().is_none(), "it stays for as long as other indices are read");
    }

    #[test]
    fn less_is_asked_for_until_it_is_little() {
        const MIB: u64 = 1 << 20;
        for (offsets, halved, bytes, helps) in [
            (8_192, 0, 8 * MIB, true),
            (8_192, 0, 100_000, true),
            (1_024, 3, MIB, true),
            (512, 4, MIB, false),
            (512, 4, MIB + 1, true),
            (2, 12, 16 * MIB, true),
            (1, 0, 16 * MIB, false),
            (1, 4, 0, false),
        ] {
            let found = less_helps(&(40..40 + offsets), halved, bytes);
            assert_eq!(found, helps, "{offsets} offsets of {bytes} bytes, halved {halved} times");
        }
    }

    #[test]
    fn what_is_between_wanted_offsets_is_kept_back_where_it_is_more_than_they() {
        let between = |wanted: &[(u64, u64)]| {
            let mut found = blocks(wanted.iter().map(|(start, end)| piece("a", *start, *end)), each(10_000));
            assert_eq!(found.len(), 1);
            found.remove(0).between()
        };
        let range = |start: u64, end: u64| json!({"range": {"offset": {"gte": start, "lt": end}}});
        let any = |of: &[Value]| Some(json!({"bool": {"should": of, "minimum_should_match": 1}}));
        assert_eq!(between(&[(5, 900)]), None, "there is nothing");
        assert_eq!(between(&[(5, 50), (51, 90)]), None, "it is less");
        assert_eq!(between(&[(5, 6), (9, 10), (700, 701)]), any(&[json!({"terms": {"offset": [5, 9, 700]}})]));
        assert_eq!(between(&[(5, 7), (90, 93)]), any(&[range(5, 7), range(90, 93)]));
        let both = [range(5, 7), json!({"terms": {"offset": [40, 93]}})];
        assert_eq!(between(&[(5, 7), (40, 41), (93, 94)]), any(&both));
        let many = |count: u64| (0..count).map(|n| (n * 100, n * 100 + 2)).collect::<Vec<_>>();
        assert!(between(&many(64)).is_some());
        assert_eq!(between(&many(65)), None, "it is in too many places");
    }
}
