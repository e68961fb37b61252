//! Answers at the positions of an earlier one: every row carries its position, so the rows are still told apart; unless
//! what made them is gone. The curated table keeps every row that a newer one of its key supersedes, compacted or not, so
//! that a dataset with a key is no exception.

use std::collections::BTreeSet;

use datafusion::common::Column;
use datafusion::logical_expr::{Expr, lit};
use tidemark_shared::ledger::LedgerState;
use tidemark_shared::position::{Coverage, FILES_SOURCE, LogPartition, OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN};

/// Files below `earlier` whose rows are in the table at `covered` but did not count at `earlier`.
///
/// # Errors
/// The number of a file whose rows counted at `earlier` and are gone.
pub(super) fn files_not_counted(ledger: &LedgerState, earlier: u64, covered: u64) -> Result<BTreeSet<u64>, u64> {
    let mut others = BTreeSet::new();
    for file in ledger.files().take_while(|file| file.number < earlier) {
        match (file.counts_at(earlier), file.counts_at(covered)) {
            (true, false) => return Err(file.number),
            (false, true) => drop(others.insert(file.number)),
            _ => {}
        }
    }
    Ok(others)
}

/// The condition that a row's position lies below `earlier`, and its file is none of `others`.
pub(super) fn below(earlier: &Coverage, others: &BTreeSet<u64>) -> Expr {
    let column = |name: &str| Expr::Column(Column::from_name(name));
    let signed = |number: u64| lit(i64::try_from(number).unwrap_or(i64::MAX));
    let of = |partition: &LogPartition, end: u64| {
        let source = column(SOURCE_COLUMN).eq(lit(partition.source.as_str()));
        if partition.source.as_str() == FILES_SOURCE {
            let files = source.and(column(PARTITION_COLUMN).lt(signed(end)));
            return match others.is_empty() {
                true => files,
                false => files.and(column(PARTITION_COLUMN).in_list(others.iter().map(|n| signed(*n)).collect(), true)),
            };
        }
        let number = column(PARTITION_COLUMN).eq(lit(i64::from(partition.partition)));
        source.and(number).and(column(OFFSET_COLUMN).lt(signed(end)))
    };
    let all = earlier.iter().filter(|(_, end)| *end > 0).map(|(partition, end)| of(partition, end));
    all.reduce(Expr::or).unwrap_or_else(|| lit(false))
}

#[cfg(test)]
mod tests {
    use tidemark_shared::ledger::{AddedFile, Entry, Location, Verdict};

    use super::*;

    fn add(held: bool) -> Entry {
        let verdict = if held { Verdict::Held { breaches: Vec::new() } } else { Verdict::Passed };
        let file = AddedFile {
            name: "a.csv".to_owned(),
            sha256: "00".to_owned(),
            bytes: 1,
            file_format: "csv".to_owned(),
            location: Location::RawZone { key: "k".to_owned() },
            verdict,
        };
        Entry::Add { file }
    }

    #[test]
    fn a_shorter_prefix_of_the_ledger_is_told_from_a_longer_one_or_gone() {
        let withdraw = |file| Entry::Withdraw { file };
        let cases = [
            ("nothing happened since", vec![add(false), add(false)], 1, 2, Ok(vec![])),
            ("accepted since", vec![add(true), add(false), Entry::Accept { file: 0 }], 2, 3, Ok(vec![0])),
            ("accepted, but not curated yet", vec![add(true), Entry::Accept { file: 0 }], 1, 1, Ok(vec![])),
            ("withdrawn since", vec![add(false), withdraw(0)], 1, 2, Err(0)),
            ("withdrawn, but not curated yet", vec![add(false), withdraw(0)], 1, 1, Ok(vec![])),
            ("withdrawn before", vec![add(false), withdraw(0), add(false)], 2, 3, Ok(vec![])),
            ("a later file is withdrawn", vec![add(false), add(false), withdraw(1)], 1, 3, Ok(vec![])),
        ];
        for (case, entries, earlier, covered, wanted) in cases {
            let found = files_not_counted(&LedgerState::replay(&entries), earlier, covered);
            assert_eq!(found, wanted.map(BTreeSet::from_iter), "{case}");
        }
    }

    #[test]
    fn rows_below_positions_are_those_of_its_partitions() {
        let earlier: Coverage = [("files", 3), ("t/0", 9), ("t/1", 0)]
            .iter()
            .map(|(p, end)| (p.parse().expect("a partition"), *end))
            .collect();
        let text = below(&earlier, &BTreeSet::from([1])).to_string();
        assert!(text.contains("_partition < Int64(3)") && text.contains("NOT IN ([Int64(1)])"), "{text}");
        assert!(text.contains("_offset < Int64(9)") && !text.contains("Int64(0) AND _offset < Int64(0)"), "{text}");
        assert_eq!(below(&Coverage::new(), &BTreeSet::new()), lit(false));
    }
}
