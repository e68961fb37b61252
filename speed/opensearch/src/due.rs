//! How many rows an answer must have, by what the position's document says of them ([`crate::rowless`]): a second net, behind
//! the comparison of identities ([`crate::identity`]), for rows that are gone from an index that is there, or that a copy of it does
//! not show. An answer with fewer is none.
//!
//! Every row that is counted was found on every copy before the position moved past it, stays for as long as its index does, and a
//! pin asks for nothing below its floor or above its position: so fewer are always too few, whatever is written or curated
//! meanwhile. What is not looked at:
//!
//! - Offsets of which it is not known where there are rows: a release before this one did not write it down, and of very many places
//!   without rows the first are forgotten.
//! - Rows that meet conditions: how many do is not known. Those on positions are conditions, too.
//! - More rows than there must be. A writer may end after it wrote rows and before it moved the position; if their records are lost
//!   until another reads them again, the rows are there, and nobody counts on them.

use std::collections::BTreeMap;

use tidemark_shared::position::LogPartition;

use crate::client::Answer;
use crate::failure::Failure;
use crate::pin::{Piece, Pinned};
use crate::state::PartitionState;

/// How many rows pieces must have together; `None` if that is not known.
fn due(states: &BTreeMap<LogPartition, PartitionState>, pieces: &[Piece]) -> Option<u64> {
    pieces.iter().map(|piece| states.get(&piece.partition)?.rows_in(&piece.range)).sum()
}

/// What people need to know of pieces to find them.
fn named(pieces: &[Piece]) -> String {
    let one = |Piece { partition, index, range }: &Piece| {
        format!("`{}` (offsets {} to {} of `{partition}`)", index.name, range.start, range.end)
    };
    pieces.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Pinned {
    /// Checks the number of rows that were `found` of all that pieces have, or of the first `limit` of them.
    ///
    /// # Errors
    /// [`Failure::Incomplete`] with the pieces if there must be more.
    pub(crate) fn check_due(
        &self,
        answer: &Answer,
        pieces: &[Piece],
        limit: Option<usize>,
        found: u64,
    ) -> Result<(), Failure> {
        let due = due(&self.states, pieces).map(|due| limit.map_or(due, |limit| due.min(limit as u64)));
        match due {
            Some(due) if found < due => Err(answer.incomplete(format!(
                "{due} rows must be in {}, and {found} are; if that stays so, delete the index: its rows are indexed again",
                named(pieces)
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemark_testing::contract::live::{Fate, batch, fate, partition};

    use super::*;
    use crate::state::IndexRef;

    fn piece(number: u32, start: u64, end: u64) -> Piece {
        Piece { partition: partition(number), index: IndexRef::named("i"), range: start..end }
    }

    #[test]
    fn rows_are_due_where_all_that_lies_between_is_known() {
        let state = |known_from: u64| {
            let mut state = PartitionState::beginning(known_from);
            state.rowless.take_in(&batch(&partition(0), known_from..100), known_from);
            (state.floor, state.visible) = (10, 100);
            state
        };
        // Of the second one, a release before this one wrote what is below 50.
        let states = BTreeMap::from([(partition(0), state(10)), (partition(1), state(50))]);
        let rows = |start: u64, end: u64| (start..end).filter(|offset| fate(*offset) == Fate::Row).count() as u64;
        for (pieces, wanted) in [
            (vec![], Some(0)),
            (vec![piece(0, 10, 100)], Some(rows(10, 100))),
            (vec![piece(0, 20, 30), piece(1, 60, 90)], Some(rows(20, 30) + rows(60, 90))),
            (vec![piece(0, 20, 30), piece(1, 49, 90)], None),
            (vec![piece(7, 20, 30)], None),
        ] {
            assert_eq!(due(&states, &pieces), wanted, "{pieces:?}");
        }
        assert_eq!(named(&[piece(0, 10, 34)]), "`i` (offsets 10 to 34 of `contract/0`)");
    }
}
