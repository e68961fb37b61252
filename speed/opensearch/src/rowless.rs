//! Which offsets of a partition have no row: a record was refused or filtered, or there is none. With them a pin knows how many rows
//! lie between two offsets, and asks nobody. They stand in the document of the visible position up to which they are known, and
//! so are of the very rows that it counts on.

use std::ops::Range;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use serde::{Deserialize, Serialize};
use tidemark_shared::live::{LiveBatch, rows_in};
use tidemark_shared::position::{OFFSET_COLUMN, united};

/// Most places that are remembered: each position is written with them, and each pin reads them.
const PLACES_MAX: usize = 128;

/// All offsets without a row between `from` and the visible position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rowless {
    from: u64,
    /// In order, apart from one another.
    places: Vec<Range<u64>>,
}

impl Rowless {
    /// Where nothing is known of what is below `visible`.
    pub(crate) fn beginning(visible: u64) -> Self {
        Self { from: visible, places: Vec::new() }
    }

    /// Takes in what a batch has from the visible position on. Of too many places the first are forgotten.
    pub(crate) fn take_in(&mut self, batch: &LiveBatch, visible: u64) {
        let known = std::mem::take(&mut self.places);
        self.places = united(known.into_iter().chain(without_rows(&batch.rows, &(visible..batch.range.end))));
        let beyond = self.places.len().saturating_sub(PLACES_MAX);
        if let Some(last) = self.places.drain(..beyond).next_back() {
            self.from = self.from.max(last.end);
        }
    }

    /// Forgets what lies below a floor.
    pub(crate) fn drop_below(&mut self, floor: u64) {
        self.from = self.from.max(floor);
        self.places.retain(|place| place.end > floor);
    }

    /// The visible position steps back: what lies above it is indexed again, and told again then.
    pub(crate) fn step_back(&mut self, visible: u64) {
        self.from = self.from.min(visible);
        self.places.retain(|place| place.start < visible);
        if let Some(last) = self.places.last_mut() {
            last.end = last.end.min(visible);
        }
    }

    /// How many rows have offsets in `range`, which ends at the visible position or below; `None` if that is not known.
    pub(crate) fn rows_in(&self, range: &Range<u64>) -> Option<u64> {
        if range.is_empty() {
            return Some(0);
        }
        let within = |place: &Range<u64>| place.end.min(range.end).saturating_sub(place.start.max(range.start));
        let without: u64 = self.places.iter().map(within).sum();
        (self.from <= range.start).then(|| range.end - range.start - without)
    }
}

/// The offsets of `range` at which rows that come in order of offset have none, in order.
fn without_rows(rows: &[RecordBatch], range: &Range<u64>) -> Vec<Range<u64>> {
    let (mut next, mut places) = (range.start, Vec::new());
    for rows in rows {
        let rows = rows_in(rows, range);
        let offsets = rows.column_by_name(OFFSET_COLUMN).expect("every view's rows have their position");
        for offset in offsets.as_primitive::<Int64Type>().values().iter() {
            let offset = u64::try_from(*offset).expect("rows of a range of offsets were cut out");
            if next < offset {
                places.push(next..offset);
            }
            next = offset + 1;
        }
    }
    if next < range.end {
        places.push(next..range.end);
    }
    places
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidemark_testing::contract::live::{Fate, batch, fate, partition};

    use super::*;

    fn batch_of(range: Range<u64>) -> LiveBatch {
        batch(&partition(0), range)
    }

    #[test]
    fn rows_are_counted_where_all_offsets_without_one_are_known() {
        let mut rowless = Rowless::beginning(7);
        // Of 7 to 20 all are rows but 9, 10, 14, 17 and 19.
        rowless.take_in(&batch_of(5..20), 7);
        for ((start, end), wanted) in [
            ((7, 20), Some(8)),
            ((7, 9), Some(2)),
            ((9, 11), Some(0)),
            ((10, 15), Some(3)),
            ((12, 12), Some(0)),
            ((3, 3), Some(0)),
            ((6, 20), None),
        ] {
            assert_eq!(rowless.rows_in(&(start..end)), wanted, "{start} to {end}");
        }
        rowless.drop_below(10);
        assert_eq!((rowless.rows_in(&(9..20)), rowless.rows_in(&(10..20))), (None, Some(6)));
        rowless.step_back(15);
        assert_eq!(rowless.rows_in(&(10..15)), Some(3));
        rowless.take_in(&batch_of(15..20), 15);
        assert_eq!(rowless.rows_in(&(10..20)), Some(6));
    }

    #[test]
    fn of_too_many_places_the_last_are_known() {
        let mut rowless = Rowless::beginning(0);
        rowless.take_in(&batch_of(0..5_000), 0);
        assert_eq!(rowless.places.len(), PLACES_MAX);
        let known = rowless.from;
        assert!((1..5_000).contains(&known) && fate(known) == Fate::Row, "{known}");
        let rows = |from: u64| (from..5_000).filter(|offset| fate(*offset) == Fate::Row).count() as u64;
        assert_eq!((rowless.rows_in(&(known - 1..5_000)), rowless.rows_in(&(known..5_000))), (None, Some(rows(known))));
    }

    #[test]
    fn a_text_says_what_was_written() {
        let mut rowless = Rowless::beginning(2);
        rowless.take_in(&batch_of(0..30), 2);
        let text = serde_json::to_string(&rowless).unwrap();
        assert_eq!(serde_json::from_str::<Rowless>(&text).unwrap(), rowless);
    }

    /// What happens to a partition.
    #[derive(Debug, Clone)]
    enum Step {
        /// A batch of so many offsets, the first of which are visible already.
        Batch(u64, u64),
        /// The floor goes up by so much.
        Drop(u64),
        /// The position steps back by so much.
        Back(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1..40_u64, 0..9_u64).prop_map(|(offsets, before)| Step::Batch(offsets, before)),
            1 => (0..60_u64).prop_map(Step::Drop),
            1 => (0..50_u64).prop_map(Step::Back),
        ]
    }

    proptest! {
        #[test]
        fn what_is_known_is_what_is_there(begin in 0..50_u64, steps in prop::collection::vec(step(), 0..30)) {
            let (mut rowless, mut floor, mut visible) = (Rowless::beginning(begin), begin, begin);
            let mut may_have_forgotten = false;
            for step in steps {
                match step {
                    Step::Batch(offsets, before) => {
                        let range = visible.saturating_sub(before)..visible + offsets;
                        rowless.take_in(&batch_of(range.clone()), visible);
                        visible = range.end;
                    }
                    Step::Drop(more) => {
                        floor += more;
                        visible = visible.max(floor);
                        rowless.drop_below(floor);
                    }
                    Step::Back(by) => {
                        visible = visible.saturating_sub(by).max(floor);
                        rowless.step_back(visible);
                    }
                }
                prop_assert!(rowless.places.len() <= PLACES_MAX);
                may_have_forgotten |= rowless.places.len() == PLACES_MAX;
                for start in [floor, floor + (visible - floor) / 3, visible - (visible - floor) / 4, visible] {
                    let rows = (start..visible).filter(|offset| fate(*offset) == Fate::Row).count() as u64;
                    match rowless.rows_in(&(start..visible)) {
                        Some(known) => prop_assert_eq!(known, rows),
                        None => prop_assert!(may_have_forgotten, "rows from {} on are not known", start),
                    }
                }
            }
        }
    }
}
