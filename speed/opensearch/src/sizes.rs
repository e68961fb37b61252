//! How many bytes the rows of a partition take, by offset: so whoever reads them asks for no more at once than he and the cluster
//! have room for, and asks nobody first. They stand in the document of the visible position up to which they are known.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Bytes of rows that are one place.
const PLACE_BYTES: u64 = 4 << 20;
/// Most places that are told apart: each position is written with them, and each pin reads them. Of more than that, those with the
/// fewest bytes become one.
const PLACES_MAX: usize = 128;
/// What an offset is taken for of which nothing is known.
const UNKNOWN_BYTES: u64 = 16 << 10;

/// Where the bytes of all rows are between `from` and the visible position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sizes {
    from: u64,
    /// Places that follow one another from `from` on: where each ends, and the bytes of its rows. Behind the last there is no row.
    places: Vec<(u64, u64)>,
}

impl Sizes {
    /// Where nothing is known of what is below `visible`.
    pub(crate) fn beginning(visible: u64) -> Self {
        Self { from: visible, places: Vec::new() }
    }

    /// Takes in rows from the visible position on, offsets and bytes, in order of offset; and forgets what lies below a floor.
    pub(crate) fn take_in(&mut self, rows: impl IntoIterator<Item = (u64, u64)>, floor: u64) {
        for (offset, bytes) in rows {
            match self.places.last_mut() {
                Some((end, held)) if *held + bytes <= PLACE_BYTES => (*end, *held) = (offset + 1, *held + bytes),
                _ => self.places.push((offset + 1, bytes)),
            }
        }
        self.drop_below(floor);
        while self.places.len() > PLACES_MAX {
            self.unite_least();
        }
    }

    fn unite_least(&mut self) {
        let sums = self.places.windows(2).map(|two| two[0].1 + two[1].1).enumerate();
        if let Some((at, sum)) = sums.min_by_key(|(_, sum)| *sum) {
            self.places[at + 1].1 = sum;
            self.places.remove(at);
        }
    }

    /// Forgets what lies below a floor. Which bytes of a place that is for is not known, and so it keeps them.
    pub(crate) fn drop_below(&mut self, floor: u64) {
        self.from = self.from.max(floor);
        let from = self.from;
        self.places.retain(|(end, _)| *end > from);
    }

    /// The visible position steps back: what lies above it is indexed again, and told again then.
    pub(crate) fn step_back(&mut self, visible: u64) {
        self.from = self.from.min(visible);
        let from = self.from;
        if let Some(last) = self.places.iter().position(|(end, _)| *end >= visible) {
            self.places.truncate(last + 1);
            self.places[last].0 = visible;
        }
        self.places.retain(|(end, _)| *end > from);
    }

    /// About how many bytes the rows at offsets of `range` have: of places that lie in it, all; of others, their share.
    pub(crate) fn bytes_in(&self, range: &Range<u64>) -> u64 {
        let unknown = range.end.min(self.from).saturating_sub(range.start);
        let (mut bytes, mut start) = (unknown.saturating_mul(UNKNOWN_BYTES), self.from);
        for (end, of_place) in &self.places {
            let within = range.end.min(*end).saturating_sub(range.start.max(start));
            let share = u128::from(*of_place) * u128::from(within) / u128::from((end - start).max(1));
            bytes = bytes.saturating_add(u64::try_from(share).unwrap_or(u64::MAX));
            start = *end;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn bytes_are_told_where_they_are() {
        let mut sizes = Sizes::beginning(100);
        // Few bytes at first, then as many as a place has in each row.
        sizes.take_in((100..200).map(|offset| (offset, 1_000)), 100);
        sizes.take_in((210..220).map(|offset| (offset, 4 * MIB)), 100);
        for ((start, end), wanted) in [
            ((100, 200), 100_000),
            ((100, 150), 50_000),
            ((215, 220), 20 * MIB),
            ((100, 220), 100_000 + 40 * MIB),
            ((220, 900), 0),
            ((90, 100), 10 * UNKNOWN_BYTES),
            ((90, 200), 10 * UNKNOWN_BYTES + 100_000),
            ((40, 40), 0),
        ] {
            assert_eq!(sizes.bytes_in(&(start..end)), wanted, "{start} to {end}");
        }
        sizes.drop_below(150);
        assert_eq!(sizes.bytes_in(&(150..200)), 100_000, "it is not known which of them went");
        sizes.step_back(212);
        assert_eq!((sizes.bytes_in(&(150..212)), sizes.bytes_in(&(212..900))), (100_000 + 8 * MIB, 0));
        sizes.take_in([(212, 7)], 150);
        assert_eq!(sizes.bytes_in(&(212..900)), 7);
        sizes.step_back(120);
        assert_eq!((sizes.bytes_in(&(120..900)), sizes.places.len()), (0, 0));
    }

    #[test]
    fn a_text_says_what_was_written() {
        let mut sizes = Sizes::beginning(2);
        sizes.take_in((2..30).map(|offset| (offset, offset * MIB)), 2);
        let text = serde_json::to_string(&sizes).unwrap();
        assert_eq!(serde_json::from_str::<Sizes>(&text).unwrap(), sizes);
    }

    /// What happens to a partition.
    #[derive(Debug, Clone)]
    enum Step {
        /// Rows of so many bytes each.
        Rows(Vec<u64>),
        /// The floor goes up by so much.
        Drop(u64),
        /// The position steps back by so much.
        Back(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let bytes = prop_oneof![4 => 0..2_000_u64, 1 => 0..9 * MIB];
        prop_oneof![
            4 => prop::collection::vec(bytes, 0..60).prop_map(Step::Rows),
            1 => (0..40_u64).prop_map(Step::Drop),
            1 => (0..40_u64).prop_map(Step::Back),
        ]
    }

    proptest! {
        #[test]
        fn no_row_above_the_floor_is_left_out(begin in 0..50_u64, steps in prop::collection::vec(step(), 0..60)) {
            let (mut sizes, mut floor, mut rows) = (Sizes::beginning(begin), begin, Vec::<u64>::new());
            for step in steps {
                // `rows` are those from `begin` on, whatever the floor is.
                let visible = begin + rows.len() as u64;
                match step {
                    Step::Rows(more) => {
                        sizes.take_in((visible..).zip(more.iter().copied()), floor);
                        rows.extend(more);
                    }
                    Step::Drop(by) => {
                        floor = (floor + by).min(visible);
                        sizes.drop_below(floor);
                    }
                    Step::Back(by) => {
                        let visible = visible.saturating_sub(by).max(floor);
                        sizes.step_back(visible);
                        rows.truncate((visible - begin) as usize);
                    }
                }
                prop_assert!(sizes.places.len() <= PLACES_MAX);
                let held: u64 = rows[(floor - begin) as usize..].iter().sum();
                let told = sizes.bytes_in(&(floor..begin + rows.len() as u64));
                prop_assert!(told >= held, "{} of {} bytes from {} on", told, held, floor);
                prop_assert!(sizes.places.windows(2).all(|two| two[0].0 < two[1].0), "{:?}", sizes.places);
            }
        }
    }
}
