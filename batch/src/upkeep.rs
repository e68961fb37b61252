//! What goes on beside the runs of a dataset, so that objects grow with bytes and not with time: which upkeep is due after
//! which run.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::error::BatchError;
use crate::report::VacuumReport;
use crate::service::{Batch, VacuumRequest};

/// A compaction is tried after so many runs that committed, packing after so many compactions.
const RUNS_PER_COMPACTION: u64 = 10;
const COMPACTIONS_PER_PACKING: u64 = 4;
/// What nothing names is removed at this age. Longer than any run takes, which may be about to name it.
pub const VACUUM_AGE: Duration = Duration::from_secs(24 * 3_600);

/// A piece of upkeep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpkeepTask {
    /// Small data files into large ones.
    Compact,
    /// Small segments and rejects into large ones.
    Pack,
    /// What nothing names goes.
    Vacuum,
}

/// Decides what is due; one for each loop of runs.
#[derive(Debug, Default)]
pub struct Upkeep {
    committed: u64,
    vacuumed_at: Option<DateTime<Utc>>,
}

impl Upkeep {
    /// What is due after one more run that committed, in order. Vacuums come every `vacuums`, the first one at once; with
    /// `None` they never do.
    pub fn after_commit(&mut self, now: DateTime<Utc>, vacuums: Option<Duration>) -> Vec<UpkeepTask> {
        self.committed += 1;
        let mut due = Vec::new();
        if self.committed.is_multiple_of(RUNS_PER_COMPACTION) {
            due.push(UpkeepTask::Compact);
        }
        if self.committed.is_multiple_of(RUNS_PER_COMPACTION * COMPACTIONS_PER_PACKING) {
            due.push(UpkeepTask::Pack);
        }
        let since = self.vacuumed_at.map(|at| (now - at).to_std().unwrap_or_default());
        if vacuums.is_some_and(|interval| since.is_none_or(|since| since >= interval)) {
            self.vacuumed_at = Some(now);
            due.push(UpkeepTask::Vacuum);
        }
        due
    }
}

impl Batch {
    /// Does a piece of upkeep; what a vacuum removed.
    ///
    /// # Errors
    /// [`BatchError`]; what is left undone, the next one does.
    pub async fn keep_up(&self, dataset: &str, task: UpkeepTask) -> Result<Option<VacuumReport>, BatchError> {
        match task {
            UpkeepTask::Compact => self.compact(dataset).await.map(|_| None),
            UpkeepTask::Pack => self.pack(dataset).await.map(|_| None),
            UpkeepTask::Vacuum => {
                let request = VacuumRequest { older_than: VACUUM_AGE, ..VacuumRequest::default() };
                self.vacuum(dataset, &request).await.map(Some)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upkeep_is_due_by_commits_and_by_time() {
        let begin = DateTime::<Utc>::UNIX_EPOCH;
        let hour = Duration::from_secs(3_600);
        let mut upkeep = Upkeep::default();
        let mut at = |commit: u32| upkeep.after_commit(begin + Duration::from_secs(60) * commit, Some(hour));
        let due: Vec<(u32, Vec<UpkeepTask>)> =
            (1..=80).map(|commit| (commit, at(commit))).filter(|(_, due)| !due.is_empty()).collect();
        use UpkeepTask::{Compact, Pack, Vacuum};
        let wanted = [
            (1, vec![Vacuum]),
            (10, vec![Compact]),
            (20, vec![Compact]),
            (30, vec![Compact]),
            (40, vec![Compact, Pack]),
            (50, vec![Compact]),
            (60, vec![Compact]),
            (61, vec![Vacuum]),
            (70, vec![Compact]),
            (80, vec![Compact, Pack]),
        ];
        assert_eq!(due, wanted);
        assert_eq!(Upkeep::default().after_commit(begin, None), []);
    }
}
