//! How old things are when they arrive: a histogram of ages over the last minute, in fixed buckets.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// Buckets for each doubling: a percentile is at most an eighth too high.
const PER_DOUBLING: u32 = 8;
/// Ages from a millisecond to two weeks.
const DOUBLINGS: u32 = 30;
const BUCKETS: usize = (PER_DOUBLING * DOUBLINGS) as usize + 1;
/// The window, in slots.
const SLOTS: usize = 12;
const SLOT_SECONDS: i64 = 5;

/// Ages of the last minute. Takes about 24 kB, however much is recorded.
#[derive(Debug)]
pub struct Ages {
    slots: Vec<Slot>,
}

#[derive(Debug, Clone)]
struct Slot {
    /// Which span of [`SLOT_SECONDS`] since 1970 it counts.
    span: i64,
    counts: Vec<u64>,
}

/// Percentiles of the ages of the last minute, in milliseconds; rounded up to a bucket's end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Freshness {
    /// How many ages were recorded.
    pub count: u64,
    /// Half of them were at most so high.
    pub p50_ms: u64,
    /// 99 of 100 were at most so high.
    pub p99_ms: u64,
}

impl Default for Ages {
    fn default() -> Self {
        Self { slots: vec![Slot { span: i64::MIN, counts: vec![0; BUCKETS] }; SLOTS] }
    }
}

impl Ages {
    /// Records an age. A negative one (a producer's clock that is ahead) counts as none.
    pub fn record(&mut self, now: DateTime<Utc>, age_ms: i64) {
        let span = now.timestamp().div_euclid(SLOT_SECONDS);
        let slot = &mut self.slots[usize::try_from(span.rem_euclid(SLOTS as i64)).unwrap_or(0)];
        if slot.span != span {
            slot.span = span;
            slot.counts.fill(0);
        }
        slot.counts[bucket(u64::try_from(age_ms).unwrap_or(0))] += 1;
    }

    /// The percentiles of what was recorded in the minute before `now`.
    #[must_use]
    pub fn freshness(&self, now: DateTime<Utc>) -> Freshness {
        let last = now.timestamp().div_euclid(SLOT_SECONDS);
        let first = last - SLOTS as i64 + 1;
        let mut counts = vec![0; BUCKETS];
        for slot in &self.slots {
            if (first..=last).contains(&slot.span) {
                counts.iter_mut().zip(&slot.counts).for_each(|(sum, count)| *sum += count);
            }
        }
        let count: u64 = counts.iter().sum();
        let percentile = |percent: u64| {
            let rank = (count * percent).div_ceil(100).max(1);
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            found.map_or(0, end_of)
        };
        Freshness { count, p50_ms: percentile(50), p99_ms: percentile(99) }
    }
}

/// The bucket of an age. The first ones are of a millisecond each.
fn bucket(age_ms: u64) -> usize {
    let exact = u64::from(PER_DOUBLING);
    if age_ms < exact {
        return usize::try_from(age_ms).unwrap_or(0);
    }
    let doubling = age_ms.ilog2() - PER_DOUBLING.ilog2();
    let within = (age_ms >> doubling) - exact;
    let number = u64::from(doubling + 1) * exact + within;
    usize::try_from(number).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The highest age of a bucket.
fn end_of(bucket: usize) -> u64 {
    let (bucket, exact) = (bucket as u64, u64::from(PER_DOUBLING));
    if bucket < exact {
        return bucket;
    }
    let doubling = bucket / exact - 1;
    ((exact + bucket % exact + 1) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn every_age_lies_in_its_bucket() {
        for age in (0..5_000).chain([1 << 20, (1 << 30) + 12_345]) {
            let number = bucket(age);
            let below = if number == 0 { 0 } else { end_of(number - 1) + 1 };
            assert!((below..=end_of(number)).contains(&age), "{age}: {below} to {}", end_of(number));
            assert!(end_of(number) <= age + age / 8, "{age}: up to {}", end_of(number));
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_of_the_last_minute() {
        let mut ages = Ages::default();
        assert_eq!(ages.freshness(at(0)), Freshness::default());
        (1..=100).for_each(|_| ages.record(at(1_000), 5));
        ages.record(at(1_001), 1_000);
        (1..=3).for_each(|_| ages.record(at(1_030), -7));
        assert_eq!(ages.freshness(at(1_030)), Freshness { count: 104, p50_ms: 5, p99_ms: 5 });
        (1..=5).for_each(|_| ages.record(at(1_031), 1_000));
        let fresh = ages.freshness(at(1_031));
        assert!(fresh.p99_ms >= 1_000 && fresh.p99_ms < 1_125, "{fresh:?}");
        assert_eq!(ages.freshness(at(1_070)).count, 8, "what is older than a minute still counts");
        assert_eq!(ages.freshness(at(2_000)), Freshness::default());
    }
}
