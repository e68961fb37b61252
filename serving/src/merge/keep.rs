//! Which views are kept up, what leaves them and when one goes: the decisions of whoever keeps views in step with curated
//! tables. Pure: time and observations come in, and what is done about them is the caller's.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tidemark_shared::position::Coverage;

use super::versions::Pointer;

/// The newest generation, and those before that still have an indexer: until the newest's view is not behind theirs, one of
/// them answers, and need not be the last but one. After a start none has one: then only the newest is built.
pub fn wanted(pointers: &[Pointer], has_indexer: impl Fn(&str) -> bool) -> Vec<&Pointer> {
    let newest = pointers.first().into_iter();
    newest.chain(pointers.iter().skip(1).filter(|(_, before)| has_indexer(&before.generation))).collect()
}

/// What is remembered of one dataset's generations from look to look.
#[derive(Debug)]
pub struct Kept {
    grace: TimeDelta,
    /// Coverages with the time from which on they were known; rows below the newest that is old enough may go.
    coverages: BTreeMap<String, Vec<(DateTime<Utc>, Coverage)>>,
    /// Generations that answer no more, since when.
    retired: BTreeMap<String, DateTime<Utc>>,
}

impl Kept {
    /// Nothing was seen yet. Rows below the coverage stay for `grace`, and so does a view whose generation answers no more:
    /// a query that read an older version before finds them, and needs no second try (H7; which rows an answer has does
    /// not depend on it).
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        let grace = TimeDelta::from_std(grace).unwrap_or(TimeDelta::MAX);
        Self { grace, coverages: BTreeMap::new(), retired: BTreeMap::new() }
    }

    /// Takes note of a generation's coverage; true if it is another than before.
    pub fn covers(&mut self, generation: &str, coverage: &Coverage, now: DateTime<Utc>) -> bool {
        let known = self.coverages.entry(generation.to_owned()).or_default();
        let moved = known.last().is_none_or(|(_, last)| last != coverage);
        if moved {
            known.push((now, coverage.clone()));
        }
        moved
    }

    /// The coverage below which rows of a generation's view may go: the newest that was known for the grace time.
    pub fn drop_below(&mut self, generation: &str, now: DateTime<Utc>) -> Option<Coverage> {
        let known = self.coverages.get_mut(generation)?;
        let count = known.iter().take_while(|(since, _)| now - *since >= self.grace).count();
        // The newest stays, so that it is known again.
        let dropped = count.checked_sub(1)?;
        let coverage = known[dropped].1.clone();
        let keep_from = if count == known.len() { dropped } else { count };
        known.drain(..keep_from);
        Some(coverage)
    }

    /// True if the view of a generation that answers no more may go: it has been so for the grace time. To be asked only
    /// while the newest generation's view is not behind it.
    pub fn may_go(&mut self, generation: &str, now: DateTime<Utc>) -> bool {
        now - *self.retired.entry(generation.to_owned()).or_insert(now) >= self.grace
    }

    /// Its view has gone.
    pub fn gone(&mut self, generation: &str) {
        self.retired.remove(generation);
        self.coverages.remove(generation);
    }
}

#[cfg(test)]
mod tests {
    use tidemark_shared::curated::CurrentGeneration;
    use tidemark_shared::position::LogPartition;

    use super::*;

    fn coverage(end: u64) -> Coverage {
        [(LogPartition::files(), end)].into_iter().collect()
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn rows_go_when_a_higher_coverage_has_been_known_for_the_grace() {
        let mut kept = Kept::new(Duration::from_secs(2));
        assert_eq!(kept.drop_below("g", at(0)), None, "nothing is known of it");
        for (seconds, end) in [(0, 1), (1, 2), (5, 3)] {
            assert!(kept.covers("g", &coverage(end), at(seconds)));
            assert!(!kept.covers("g", &coverage(end), at(seconds)), "it is known");
        }
        for (seconds, wanted) in [(1, None), (4, Some(2)), (5, None), (9, Some(3)), (10, Some(3))] {
            assert_eq!(kept.drop_below("g", at(seconds)), wanted.map(coverage), "after {seconds} s");
        }
        assert!(!kept.covers("g", &coverage(3), at(11)), "the newest stays known");
        assert!(kept.covers("other", &coverage(3), at(11)));
    }

    #[test]
    fn a_view_goes_when_its_generation_has_not_answered_for_the_grace() {
        let mut kept = Kept::new(Duration::from_secs(2));
        assert!(!kept.may_go("old", at(0)));
        assert!(!kept.may_go("old", at(1)));
        assert!(kept.may_go("old", at(2)));
        kept.gone("old");
        assert!(!kept.may_go("old", at(3)));
    }

    #[test]
    fn a_generation_before_is_kept_up_only_while_it_has_an_indexer() {
        let pointer = |n, name: &str| (n, CurrentGeneration::new(name, "d", 1));
        let pointers = [pointer(3, "new"), pointer(2, "skipped"), pointer(1, "old")];
        let names = |has: &[&str]| -> Vec<String> {
            let has = |name: &str| has.contains(&name);
            wanted(&pointers, has).into_iter().map(|(_, generation)| generation.generation.clone()).collect()
        };
        assert_eq!(names(&[]), ["new"]);
        assert_eq!(names(&["old"]), ["new", "old"]);
    }
}
