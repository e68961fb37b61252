//! One trip, and how it is written as a line.

use std::io::Write;

use super::layout::Layout;
use crate::random::Random;

/// A trip. Money in cents, distance in hundredths of a mile, times in local seconds since 1970.
#[derive(Debug, Clone)]
pub(super) struct Trip {
    pub(super) vendor: u64,
    pub(super) pickup: i64,
    pub(super) dropoff: i64,
    pub(super) passengers: Option<u64>,
    pub(super) distance: i64,
    pub(super) rate_code: u64,
    pub(super) forwarded: bool,
    pub(super) pickup_zone: u64,
    pub(super) dropoff_zone: u64,
    pub(super) payment: u64,
    pub(super) fare: i64,
    pub(super) extra: i64,
    pub(super) mta_tax: i64,
    pub(super) tip: i64,
    pub(super) tolls: i64,
    pub(super) improvement: i64,
    pub(super) congestion: Option<i64>,
}

impl Trip {
    /// A clean trip that begins `start` local seconds since 1970.
    pub(super) fn random(random: &mut Random, start: i64, layout: Layout) -> Self {
        // the product of two even numbers: many short trips, few long ones
        let distance = 30 + number(random.below(50) * random.below(40));
        let duration = 120 + distance * 4 + number(random.below(600));
        let payment = 1 + u64::from(random.below(10) >= 7) + u64::from(random.once_in(90)) * 2;
        let fare = (250 + distance * 250 / 100).next_multiple_of_50();
        let congestion = (!layout.congestion_empty).then(|| if random.once_in(9) { 0 } else { 250 });
        let paid_by_card = payment == 1;
        Self {
            vendor: 1 + random.below(2),
            pickup: start,
            dropoff: start + duration,
            passengers: Some(1 + random.below(6) * u64::from(random.once_in(3))),
            distance,
            rate_code: if random.once_in(40) { 2 } else { 1 },
            forwarded: random.once_in(150),
            pickup_zone: zone(random),
            dropoff_zone: zone(random),
            payment,
            fare,
            extra: 50 * number(random.below(3)),
            mta_tax: 50,
            tip: if paid_by_card { fare * number(random.below(30)) / 100 } else { 0 },
            tolls: if random.once_in(25) { 576 } else { 0 },
            improvement: if layout.old_header { 0 } else { 30 },
            congestion,
        }
    }

    /// What the passenger pays, in cents.
    pub(super) fn total(&self) -> i64 {
        let fixed = self.fare + self.extra + self.mta_tax + self.tip + self.tolls + self.improvement;
        fixed + self.congestion.unwrap_or(0)
    }

    /// Turns the trip into a refund: every amount is negative.
    pub(super) fn negate(&mut self) {
        for amount in
            [&mut self.fare, &mut self.extra, &mut self.mta_tax, &mut self.tip, &mut self.tolls, &mut self.improvement]
        {
            *amount = -*amount;
        }
        self.congestion = self.congestion.map(|amount| -amount);
    }

    /// Appends the trip's line without its end. `fare` stands in for the fare's text where it is given.
    pub(super) fn write(&self, text: &mut Vec<u8>, layout: Layout, fare: Option<&str>) {
        if layout.old_header {
            self.write_old(text, fare);
        } else {
            self.write_new(text, fare);
        }
    }

    fn write_new(&self, text: &mut Vec<u8>, fare: Option<&str>) {
        push(text, self.vendor);
        self.write_times(text);
        let flag: &[u8] = if self.forwarded { b"Y" } else { b"N" };
        comma_push(text, self.rate_code);
        text.push(b',');
        text.extend_from_slice(flag);
        for code in [self.pickup_zone, self.dropoff_zone, self.payment] {
            comma_push(text, code);
        }
        self.write_amounts(text, fare);
        cents(text, self.improvement);
        cents(text, self.total());
        match self.congestion {
            Some(amount) => cents(text, amount),
            None => text.push(b','),
        }
    }

    fn write_old(&self, text: &mut Vec<u8>, fare: Option<&str>) {
        text.extend_from_slice(if self.vendor == 1 { b"CMT" } else { b"VTS" });
        self.write_times(text);
        place(text, self.pickup_zone);
        comma_push(text, self.rate_code);
        text.extend_from_slice(if self.forwarded { b",Y" } else { b",N" });
        place(text, self.dropoff_zone);
        text.extend_from_slice(match self.payment {
            1 => b",CRD",
            2 => b",CSH",
            3 => b",NOC",
            _ => b",DIS",
        });
        self.write_amounts(text, fare);
        cents(text, self.total());
    }

    /// Times, passengers and distance, which stand side by side in every layout.
    fn write_times(&self, text: &mut Vec<u8>) {
        text.push(b',');
        time(text, self.pickup);
        text.push(b',');
        time(text, self.dropoff);
        match self.passengers {
            Some(count) => comma_push(text, count),
            None => text.push(b','),
        }
        cents(text, self.distance);
    }

    /// Fare to tolls, which stand side by side in every layout.
    fn write_amounts(&self, text: &mut Vec<u8>, fare: Option<&str>) {
        match fare {
            Some(other) => {
                text.push(b',');
                text.extend_from_slice(other.as_bytes());
            }
            None => cents(text, self.fare),
        }
        for amount in [self.extra, self.mta_tax, self.tip, self.tolls] {
            cents(text, amount);
        }
    }
}

/// Days since 1970 of a date of the Gregorian calendar (Howard Hinnant's `days_from_civil`).
pub(super) fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a day since 1970; the inverse of [`days_of`].
pub(super) fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * day_of_year + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day_of_year - (153 * mp + 2) / 5 + 1)
}

trait Rounded {
    /// The next multiple of fifty cents: meters count in half dollars.
    fn next_multiple_of_50(self) -> Self;
}

impl Rounded for i64 {
    fn next_multiple_of_50(self) -> Self {
        (self + 49) / 50 * 50
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).expect("generated numbers are small")
}

/// A zone from 1 to 263; the low ones are busier.
fn zone(random: &mut Random) -> u64 {
    1 + random.below(16) * random.below(16) + random.below(38)
}

/// A point somewhere in Manhattan that stands for a zone in the old layout.
fn place(text: &mut Vec<u8>, zone: u64) {
    let written = write!(text, ",-73.{:06},40.{:06}", 940_000 + zone * 150, 700_000 + zone * 350);
    written.expect("writing to memory does not fail");
}

fn push(text: &mut Vec<u8>, value: u64) {
    if value >= 10 {
        push(text, value / 10);
    }
    text.push(b'0' + u8::try_from(value % 10).expect("a digit"));
}

fn comma_push(text: &mut Vec<u8>, value: u64) {
    text.push(b',');
    push(text, value);
}

fn two(text: &mut Vec<u8>, value: i64) {
    let value = u8::try_from(value).expect("two digits");
    text.extend_from_slice(&[b'0' + value / 10, b'0' + value % 10]);
}

/// Appends `,` and hundredths as a decimal number with two digits.
fn cents(text: &mut Vec<u8>, value: i64) {
    text.push(b',');
    if value < 0 {
        text.push(b'-');
    }
    push(text, value.unsigned_abs() / 100);
    text.push(b'.');
    two(text, number(value.unsigned_abs() % 100));
}

fn time(text: &mut Vec<u8>, seconds: i64) {
    let (year, month, day) = date_of(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    push(text, u64::try_from(year).expect("years are positive"));
    for (mark, part) in
        [(b'-', month), (b'-', day), (b' ', of_day / 3_600), (b':', of_day / 60 % 60), (b':', of_day % 60)]
    {
        text.push(mark);
        two(text, part);
    }
}
