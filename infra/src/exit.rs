//! What the process's exit code says. One place decides it.

use std::process::ExitCode;

use tidemark_batch::report::{FileOutcome, IngestReport};
use tidemark_shared::error::Kind;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All that was asked for is done.
    Done,
    /// The work failed, or a file was held or refused.
    Failed,
    /// The request was wrong and nothing was touched.
    Usage,
    /// Done, but a whole file was rejected; with `--strict`, any record.
    Partly,
    /// Stopped by Ctrl-C or a termination signal.
    Interrupted,
}

impl Exit {
    /// The process's exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partly => 3,
            Self::Interrupted => 130,
        }
    }

    /// How a command ends that failed with an error of this kind.
    #[must_use]
    pub fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::Invalid | Kind::NotFound => Self::Usage,
            Kind::Conflict
            | Kind::Retryable
            | Kind::Unprocessable
            | Kind::Corrupt
            | Kind::Unsupported
            | Kind::Exhausted
            | Kind::Internal => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// How an ingest or a batch run ended. A held or refused file, figures that do not add up, or a catalog that could not be
/// told outweigh a bad one.
#[must_use]
pub fn exit_of(report: &IngestReport, strict: bool) -> Exit {
    let stopped = report.files.iter().any(|file| {
        matches!(
            file.outcome,
            FileOutcome::Held { .. } | FileOutcome::Refused { .. } | FileOutcome::AlreadyThere { held: true }
        )
    });
    if stopped || !report.counts.adds_up() || report.catalog_error.is_some() {
        return Exit::Failed;
    }
    let bad_file = |outcome: &FileOutcome| matches!(outcome, FileOutcome::Added { bad_file: true, .. });
    if report.files.iter().any(|file| bad_file(&file.outcome)) || (strict && report.counts.rejected_total() > 0) {
        return Exit::Partly;
    }
    Exit::Done
}

#[cfg(test)]
mod tests {
    use tidemark_batch::report::{Counts, FileReport};

    use super::*;

    fn report(outcomes: Vec<FileOutcome>, counts: Counts) -> IngestReport {
        let file = |outcome| FileReport {
            name: "a.csv".to_owned(),
            number: None,
            bytes: 0,
            outcome,
            counts: Counts::default(),
            notes: Vec::new(),
        };
        IngestReport { files: outcomes.into_iter().map(file).collect(), counts, ..IngestReport::default() }
    }

    fn counts(records: u64, accepted: u64, rejected: u64) -> Counts {
        let rejected = [("bad_value".to_owned(), rejected)].into_iter().collect();
        Counts { records, accepted, filtered: 0, rejected }
    }

    #[test]
    fn the_exit_code_follows_from_the_report() {
        let added = || FileOutcome::Added { bad_file: false, replaced: None };
        let bad = || FileOutcome::Added { bad_file: true, replaced: None };
        let held = || FileOutcome::Held { breaches: Vec::new() };
        let refused = || FileOutcome::Refused { code: String::new(), message: String::new() };
        let known = |held| FileOutcome::AlreadyThere { held };
        let some = || counts(3, 2, 1);
        let table = [
            (vec![], counts(0, 0, 0), [Exit::Done, Exit::Done]),
            (vec![added()], counts(2, 2, 0), [Exit::Done, Exit::Done]),
            (vec![added()], some(), [Exit::Done, Exit::Partly]),
            (vec![FileOutcome::Accepted], some(), [Exit::Done, Exit::Partly]),
            (vec![FileOutcome::Withdrawn], counts(0, 0, 0), [Exit::Done, Exit::Done]),
            (vec![known(false)], counts(0, 0, 0), [Exit::Done, Exit::Done]),
            (vec![known(true)], counts(0, 0, 0), [Exit::Failed, Exit::Failed]),
            (vec![added(), bad()], some(), [Exit::Partly, Exit::Partly]),
            (vec![held(), bad()], some(), [Exit::Failed, Exit::Failed]),
            (vec![added(), refused()], some(), [Exit::Failed, Exit::Failed]),
            (vec![added()], counts(3, 2, 0), [Exit::Failed, Exit::Failed]),
        ];
        for (outcomes, counts, [plain, strict]) in table {
            let report = report(outcomes, counts);
            assert_eq!(exit_of(&report, false), plain, "{report:?}");
            assert_eq!(exit_of(&report, true), strict, "strict {report:?}");
        }
    }

    #[test]
    fn a_catalog_that_was_not_told_is_a_failure_though_the_rows_are_in() {
        let done = report(vec![FileOutcome::Added { bad_file: false, replaced: None }], counts(2, 2, 0));
        assert_eq!(exit_of(&done, false), Exit::Done);
        let untold = IngestReport { catalog_error: Some("the catalog is away".to_owned()), ..done };
        assert_eq!(exit_of(&untold, false), Exit::Failed);
    }

    #[test]
    fn a_wrong_request_is_told_from_failed_work() {
        for (kind, code) in [
            (Kind::Invalid, 2),
            (Kind::NotFound, 2),
            (Kind::Conflict, 1),
            (Kind::Retryable, 1),
            (Kind::Unprocessable, 1),
            (Kind::Corrupt, 1),
            (Kind::Unsupported, 1),
            (Kind::Exhausted, 1),
            (Kind::Internal, 1),
        ] {
            assert_eq!(Exit::of_kind(kind).code(), code, "{kind:?}");
        }
    }
}
