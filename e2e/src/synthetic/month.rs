//! The text of one month's file, and what a correct reader finds in it.

use std::collections::BTreeMap;

use super::layout::Layout;
use super::trip::{Trip, date_of, days_of};
use crate::random::Random;

/// One month's file before it is stored.
#[derive(Debug, Default)]
pub(super) struct MonthText {
    pub(super) text: Vec<u8>,
    pub(super) records: u64,
    pub(super) accepted: u64,
    pub(super) rejected: BTreeMap<&'static str, u64>,
    pub(super) pickup_months: BTreeMap<String, u64>,
    pub(super) total_amount_cents: i64,
}

/// What is wrong with a record, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dirt {
    /// Nothing.
    Clean,
    /// The line breaks off in its third field.
    Cut,
    /// The line has two fields too many.
    Wide,
    /// The fare is no number.
    Fare,
    /// The pickup is in the hour that New York skips in March.
    SkippedHour,
}

impl Dirt {
    fn reason(self) -> Option<&'static str> {
        match self {
            Self::Clean => None,
            Self::Cut | Self::Wide => Some("width"),
            Self::Fare => Some("bad_value"),
            Self::SkippedHour => Some("nonexistent_time"),
        }
    }
}

impl MonthText {
    /// The month `index` months after January of `first_year`, with `records` records.
    pub(super) fn generate(seed: u64, first_year: i64, index: u32, records: u64, layout: Layout) -> Self {
        let mut random = Random::part(seed, u64::from(index));
        let (year, month) = (first_year + i64::from(index / 12), i64::from(index % 12 + 1));
        let start = days_of(year, month, 1) * 86_400;
        let next = if month == 12 { days_of(year + 1, 1, 1) } else { days_of(year, month + 1, 1) } * 86_400;
        let seconds = u64::try_from(next - start).expect("months have a length");
        let skipped = (month == 3).then(|| skipped_hour(year));

        let mut out = Self::default();
        out.text.reserve(usize::try_from(records).expect("a month fits memory") * 110 + 400);
        out.text.extend_from_slice(layout.header().as_bytes());
        out.text.extend_from_slice(layout.line_end().as_bytes());
        for record in 0..records {
            if layout.broken_lines && random.once_in(5_000) {
                out.text.extend_from_slice(layout.line_end().as_bytes());
            }
            let second = i64::try_from(random.below(seconds)).expect("a month has few seconds");
            let mut trip = Trip::random(&mut random, start + second, layout);
            if skipped.is_some_and(|gap| (gap..gap + 3_600).contains(&trip.pickup)) {
                // no clean record may fall into the hour that does not exist
                trip.pickup += 7_200;
                trip.dropoff += 7_200;
            }
            soil(&mut trip, &mut random, layout, start);
            let dirt = match skipped {
                Some(gap) if layout.broken_lines && record % 10_000 == 7 => {
                    trip.pickup = gap + 60 + second % 3_000;
                    trip.dropoff = gap + 7_200;
                    Dirt::SkippedHour
                }
                _ if layout.broken_lines => choose(&mut random),
                _ => Dirt::Clean,
            };
            out.add(&trip, dirt, layout);
        }
        out
    }

    fn add(&mut self, trip: &Trip, dirt: Dirt, layout: Layout) {
        let from = self.text.len();
        trip.write(&mut self.text, layout, (dirt == Dirt::Fare).then_some("8.x5"));
        match dirt {
            Dirt::Cut => self.text.truncate(from + 27),
            Dirt::Wide => self.text.extend_from_slice(b",surplus,7"),
            Dirt::Clean | Dirt::Fare | Dirt::SkippedHour => {}
        }
        self.text.extend_from_slice(layout.line_end().as_bytes());
        self.records += 1;
        match dirt.reason() {
            Some(reason) => *self.rejected.entry(reason).or_default() += 1,
            None => {
                self.accepted += 1;
                self.total_amount_cents += trip.total();
                let (year, month, _) = date_of(trip.pickup.div_euclid(86_400));
                *self.pickup_months.entry(format!("{year}-{month:02}")).or_default() += 1;
            }
        }
    }
}

/// Dirt that is part of the facts: strange, but accepted.
fn soil(trip: &mut Trip, random: &mut Random, layout: Layout, month_start: i64) {
    match random.below(2_000) {
        0 | 1 => trip.negate(),
        2..=9 => trip.distance = 0,
        10 | 11 => trip.dropoff = trip.pickup - 45,
        12 => {
            // the last minutes of the month before, as meters with a slow clock report them
            let early = trip.dropoff - trip.pickup;
            trip.pickup = month_start - 300;
            trip.dropoff = trip.pickup + early;
        }
        13 if random.once_in(20) => {
            trip.pickup = days_of(2008, 12, 31) * 86_400 + 23 * 3_600;
            trip.dropoff = trip.pickup + 600;
        }
        _ => {}
    }
    if layout.passengers_gaps && random.once_in(60) {
        trip.passengers = None;
    }
}

/// Dirt that makes a record of a broken file a reject: about one in 300.
fn choose(random: &mut Random) -> Dirt {
    match random.below(1_500) {
        0 | 1 => Dirt::Cut,
        2 => Dirt::Wide,
        3 | 4 => Dirt::Fare,
        _ => Dirt::Clean,
    }
}

/// First second (local, since 1970) of the hour that New York skips: 02:00 on the second Sunday of March.
fn skipped_hour(year: i64) -> i64 {
    let first = days_of(year, 3, 1);
    // 1970-01-01 was a Thursday, so that day 3 is a Sunday
    let first_sunday = first + (3 - first).rem_euclid(7);
    (first_sunday + 7) * 86_400 + 2 * 3_600
}

#[cfg(test)]
mod tests {
    use super::{date_of, days_of, skipped_hour};

    #[test]
    fn the_skipped_hour_is_that_of_new_york() {
        assert_eq!(skipped_hour(2018), days_of(2018, 3, 11) * 86_400 + 7_200);
        assert_eq!(skipped_hour(2019), days_of(2019, 3, 10) * 86_400 + 7_200);
    }

    #[test]
    fn dates_and_days_are_inverse() {
        for days in [-1, 0, 14_244, 17_956, 18_321, 18_322] {
            let (year, month, day) = date_of(days);
            assert_eq!(days_of(year, month, day), days);
        }
        assert_eq!(date_of(18_321), (2020, 2, 29));
    }
}
