//! How far one commit goes, and what it takes in: pure decisions over the ledger.

use std::collections::BTreeSet;

use tidemark_shared::ledger::{LedgerFile, LedgerState, Step};

/// One commit's work on a curated table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Coverage after the commit.
    pub(crate) end: u64,
    /// Files whose rows come in and have to be read from the raw zone.
    pub(crate) read: Vec<u64>,
    /// Files whose rows come in and are staged already.
    pub(crate) staged: Vec<u64>,
    /// Files whose rows go.
    pub(crate) exclude: Vec<u64>,
    /// Files that come in this piece but are held, to the last entry that is known: no row of theirs counts, but their
    /// rejects are to be seen.
    pub(crate) held: Vec<u64>,
    /// True if the staged rows can't be used any more: somebody else took in some of these files, or they do not
    /// count any more. They are read from the raw zone like all others.
    pub(crate) discard_staged: bool,
}

/// How far a piece may go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Raw bytes that it may read, about; but one entry at least.
    pub(crate) raw_bytes_max: u64,
    /// It does not end before this entry.
    pub(crate) least_end: u64,
}

/// Plans the next commit of a table at coverage `from`, towards ledger end `to`, which `state` has reached.
pub(crate) fn next_piece(state: &LedgerState, from: u64, to: u64, staged: &BTreeSet<u64>, bounds: Bounds) -> Piece {
    let end = piece_end(state, from, to, staged, bounds.raw_bytes_max).max(bounds.least_end).min(to);
    let Step { include, exclude } = state.step(from, end);
    let usable = staged.iter().all(|n| include.binary_search(n).is_ok());
    let coming = state.step(end, to).include;
    let later = staged.iter().all(|n| coming.binary_search(n).is_ok());
    let (staged_now, read) = include.into_iter().partition(|n| usable && staged.contains(n));
    let held = state.files().filter(|file| (from..end).contains(&file.number) && file.held_at(to));
    Piece {
        end,
        read,
        staged: staged_now,
        exclude,
        held: held.map(|file| file.number).collect(),
        discard_staged: !usable && !later,
    }
}

/// Where the next piece must end so that it goes without the bytes of file `lost`: behind the entry that takes the
/// file out. `None` if its rows count to the end `to`, or if a piece up to `end` did not need it in vain.
pub(crate) fn end_without(state: &LedgerState, lost: u64, end: u64, to: u64) -> Option<u64> {
    let gone_at = state.gone_at(lost)?;
    (end..to).contains(&gone_at).then_some(gone_at + 1)
}

fn piece_end(state: &LedgerState, from: u64, to: u64, staged: &BTreeSet<u64>, raw_bytes_max: u64) -> u64 {
    let files = state.files().filter(|file| !staged.contains(&file.number));
    let reads = files.filter_map(|file| Some((read_at(file, to)?, file.file.bytes)));
    let mut reads: Vec<(u64, u64)> = reads.filter(|(entry, _)| (from..to).contains(entry)).collect();
    reads.sort_unstable();
    let mut bytes = 0u64;
    for (entry, more) in reads {
        bytes = bytes.saturating_add(more);
        if bytes > raw_bytes_max && entry > from {
            return entry;
        }
    }
    to
}

/// The entry for which a file's bytes are read: where its rows begin to count, or, for the rejects of one that is held
/// to the end, where it came.
fn read_at(file: &LedgerFile, to: u64) -> Option<u64> {
    file.counts_from.filter(|entry| *entry < to).or_else(|| file.held_at(to).then_some(file.number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidemark_shared::ledger::{AddedFile, Entry, Location, Verdict};

    use super::*;

    fn add(bytes: u64) -> Entry {
        let name = format!("f{bytes}");
        let location = Location::RawZone { key: name.clone() };
        let file = AddedFile {
            name,
            sha256: String::new(),
            bytes,
            file_format: "csv".to_owned(),
            location,
            verdict: Verdict::Passed,
        };
        Entry::Add { file }
    }

    fn held(bytes: u64) -> Entry {
        let Entry::Add { file } = add(bytes) else { unreachable!("add makes an Add") };
        Entry::Add { file: AddedFile { verdict: Verdict::Held { breaches: Vec::new() }, ..file } }
    }

    fn up_to(raw_bytes_max: u64) -> Bounds {
        Bounds { raw_bytes_max, least_end: 0 }
    }

    #[test]
    fn a_piece_ends_before_the_bytes_exceed_the_limit() {
        let state = LedgerState::replay(&[add(5), add(5), add(5)]);
        let none = BTreeSet::new();
        assert_eq!(next_piece(&state, 0, 3, &none, up_to(10)).end, 2);
        assert_eq!(next_piece(&state, 0, 3, &none, up_to(1)).end, 1);
        assert_eq!(next_piece(&state, 2, 3, &none, up_to(1)).end, 3);
        assert_eq!(next_piece(&state, 0, 3, &BTreeSet::from([0, 1, 2]), up_to(1)).end, 3);
    }

    #[test]
    fn an_accepted_file_is_read_where_it_is_accepted() {
        let accept = |file| Entry::Accept { file };
        let state =
            LedgerState::replay(&[held(8), held(8), held(8), accept(0), accept(1), Entry::Withdraw { file: 2 }]);
        let none = BTreeSet::new();
        let ends = |from| next_piece(&state, from, 6, &none, up_to(10)).end;
        assert_eq!([0, 3, 4].map(ends), [4, 4, 6]);
        assert_eq!(next_piece(&state, 0, 6, &BTreeSet::from([0, 1]), up_to(10)).end, 6, "what is staged is not read");
        // Of those that are held to the end, the rejects are read where they come.
        assert_eq!(next_piece(&state, 0, 3, &none, up_to(10)).end, 1);
    }

    #[test]
    fn staged_rows_are_dropped_when_one_file_of_them_was_taken_in_by_another() {
        let state = LedgerState::replay(&[add(1), add(1), add(1)]);
        let staged = BTreeSet::from([1, 2]);
        let piece = next_piece(&state, 1, 3, &staged, up_to(100));
        assert_eq!((piece.staged, piece.read, piece.discard_staged), (vec![1, 2], vec![], false));
        let piece = next_piece(&state, 2, 3, &staged, up_to(100));
        assert_eq!((piece.staged, piece.read, piece.discard_staged), (vec![], vec![2], true));
    }

    #[test]
    fn a_withdrawn_file_never_comes_in_and_a_covered_one_goes() {
        let state = LedgerState::replay(&[add(1), Entry::Withdraw { file: 0 }, add(1), Entry::Withdraw { file: 2 }]);
        let none = BTreeSet::new();
        let piece = next_piece(&state, 1, 4, &none, up_to(100));
        assert_eq!((piece.read, piece.exclude), (vec![], vec![0]));
    }

    #[test]
    fn a_lost_file_that_goes_later_is_passed_over_by_a_longer_piece() {
        let state = LedgerState::replay(&[add(5), add(5), add(5), Entry::Withdraw { file: 0 }, add(5)]);
        let none = BTreeSet::new();
        let piece = next_piece(&state, 0, 5, &none, up_to(5));
        assert_eq!((piece.end, &piece.read), (1, &vec![0]));
        let least_end = end_without(&state, 0, piece.end, 5).expect("it is withdrawn later");
        let piece = next_piece(&state, 0, 5, &none, Bounds { raw_bytes_max: 5, least_end });
        assert_eq!((piece.end, piece.read), (4, vec![1, 2]));
        assert_eq!(end_without(&state, 1, 1, 5), None, "its rows count");
        assert_eq!(end_without(&state, 0, 1, 3), None, "its rows count there");
    }

    #[test]
    fn a_held_file_is_seen_where_it_comes_and_staged_rows_wait_for_their_accept() {
        let entries = [add(1), held(1), held(1), Entry::Accept { file: 2 }];
        let state = LedgerState::replay(&entries);
        let piece = next_piece(&state, 0, 4, &BTreeSet::new(), up_to(100));
        assert_eq!((piece.read, piece.held), (vec![0, 2], vec![1]));
        let staged = BTreeSet::from([2]);
        let piece = next_piece(&state, 1, 4, &staged, up_to(100));
        assert_eq!((piece.staged, piece.read, piece.discard_staged), (vec![2], vec![], false));
        // A piece that ends before the accept leaves them waiting.
        let piece = next_piece(&state, 0, 4, &staged, up_to(1));
        assert_eq!((piece.end, piece.staged, piece.discard_staged), (1, vec![], false));
        let piece = next_piece(&LedgerState::replay(&entries[..3]), 1, 3, &staged, up_to(100));
        assert!(piece.discard_staged, "nobody accepted it");
    }

    fn any_entry(files: u64) -> impl Strategy<Value = Entry> {
        prop_oneof![
            (1u64..20).prop_map(add),
            (0..files).prop_map(|file| Entry::Withdraw { file }),
            (0..files).prop_map(|file| Entry::Accept { file }),
        ]
    }

    proptest! {
        // However the way to the end is cut into commits, the rows that count there are those of one replay.
        #[test]
        fn pieces_lead_to_the_replayed_state(
            entries in proptest::collection::vec(any_entry(12), 0..24), limit in 1u64..60
        ) {
            let (state, to) = (LedgerState::replay(&entries), entries.len() as u64);
            let (mut at, mut included) = (0, BTreeSet::new());
            while at < to {
                let piece = next_piece(&state, at, to, &BTreeSet::new(), up_to(limit));
                prop_assert!(piece.end > at);
                included.extend(piece.read);
                for n in piece.exclude {
                    prop_assert!(included.remove(&n));
                }
                at = piece.end;
            }
            let wanted: BTreeSet<u64> = state.files().map(|f| f.number).filter(|n| state.includes(*n)).collect();
            prop_assert_eq!(included, wanted);
        }
    }
}
