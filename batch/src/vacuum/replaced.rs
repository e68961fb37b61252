//! When a generation stopped answering: for a dataset with a stream not when the pointer moved, but when a process noted
//! that it answers from the next one (H9). Until then queries go on reading the one before.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use object_store::ObjectMeta;
use tidemark_shared::curated;
use tidemark_shared::layout;

use crate::error::BatchError;
use crate::service::Batch;

/// A switch that no process notes counts as over so long after the pointer moved: of a dataset that nobody asks, or whose
/// views stand still, generations would otherwise be kept for ever. As long as a weekend with both of its neighbours, so
/// that somebody sees to a partition that is stopped; whoever still answers from the old generation then moves on.
const SWITCH_MAX: TimeDelta = TimeDelta::days(7);

/// When a dataset's pointers and notes were made, by the pointers' numbers.
#[derive(Debug, Default)]
struct Switches {
    pointers: BTreeMap<u64, DateTime<Utc>>,
    notes: BTreeMap<u64, DateTime<Utc>>,
}

impl Switches {
    fn of(listed: &[ObjectMeta]) -> Self {
        let mut all = Self::default();
        for object in listed {
            let at = object.last_modified;
            if let Some(n) = layout::number_of(&object.location) {
                all.pointers.insert(n, at);
            } else if let Some(n) = layout::note_number(&object.location) {
                all.notes.insert(n, at);
            }
        }
        all
    }

    /// Until when the generation of pointer `n` answered, at most; `None` if it is the newest. `by_notes` if queries move
    /// by notes, rather than by pointers.
    fn left(&self, n: u64, by_notes: bool) -> Option<DateTime<Utc>> {
        let (_, moved) = self.pointers.range(n + 1..).next()?;
        if !by_notes {
            return Some(*moved);
        }
        let noted = self.notes.range(n + 1..).map(|(_, at)| *at).min();
        let latest = || moved.checked_add_signed(SWITCH_MAX).unwrap_or(DateTime::<Utc>::MAX_UTC);
        Some(noted.unwrap_or_else(latest))
    }
}

impl Batch {
    /// Generations before pointer `number` that answered at or after `since`, and until when.
    pub(super) async fn replaced_since(
        &self,
        dataset: &str,
        number: u64,
        by_notes: bool,
        since: DateTime<Utc>,
    ) -> Result<HashMap<String, DateTime<Utc>>, BatchError> {
        let switches = Switches::of(&self.store.list(&layout::currents(dataset)).await?);
        let mut replaced = HashMap::new();
        for n in switches.pointers.keys().copied().filter(|n| *n < number) {
            let Some(left) = switches.left(n, by_notes).filter(|left| *left >= since) else { continue };
            if let Some(pointer) = curated::pointer(self.store.objects().as_ref(), dataset, n).await? {
                replaced.insert(pointer.generation, left);
            }
        }
        Ok(replaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_answers_until_one_after_it_is_noted_or_nobody_seems_to_ask() {
        let day = |day: i64| DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(day);
        let object = |location, at| ObjectMeta { location, last_modified: at, size: 1, e_tag: None, version: None };
        // Of each pointer: when it was made, and when its note was.
        let listed = |made: &[(i64, Option<i64>)]| {
            let mut all = Vec::new();
            for (n, (pointer, note)) in (0..).zip(made) {
                all.push(object(layout::current("d", n), day(*pointer)));
                all.extend(note.map(|note| object(layout::note("d", n), day(note))));
            }
            all
        };
        type Made = &'static [(i64, Option<i64>)];
        type Case = (&'static str, Made, u64, Option<i64>, Option<i64>);
        let cases: [Case; 7] = [
            ("the newest", &[(0, None), (1, Some(1))], 1, None, None),
            ("its successor is noted", &[(0, None), (1, Some(3))], 0, Some(1), Some(3)),
            ("its own note ends nothing", &[(0, Some(0)), (1, None)], 0, Some(1), Some(8)),
            ("the switch is not over", &[(0, None), (1, None)], 0, Some(1), Some(8)),
            ("one was passed over", &[(0, None), (1, None), (2, Some(5))], 0, Some(1), Some(5)),
            ("both", &[(0, None), (1, Some(4)), (2, Some(6))], 0, Some(1), Some(4)),
            ("long after", &[(0, None), (1, Some(30))], 0, Some(1), Some(30)),
        ];
        for (case, made, n, by_pointers, by_notes) in cases {
            let switches = Switches::of(&listed(made));
            assert_eq!(switches.left(n, false), by_pointers.map(day), "{case}");
            assert_eq!(switches.left(n, true), by_notes.map(day), "{case}");
        }
    }
}
