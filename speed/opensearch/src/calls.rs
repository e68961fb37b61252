//! What is told of requests to a cluster: of which kind each was, how it ended, and how long it took.

use std::fmt;
use std::time::Duration;

use crate::client::Answer;
use crate::failure::Failure;

/// A kind of request, as whoever sends it names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Documents of records are written.
    Bulk,
    /// Documents are looked for, or only how many there are of those that would be read.
    Search,
    /// Documents are counted and added up, and none is wanted.
    Aggregate,
    /// What was written is made searchable.
    Refresh,
    /// An index is made.
    IndexMade,
    /// An index is removed.
    IndexDropped,
    /// All else: positions and floors, looks at indices, points in time.
    Other,
}

impl Call {
    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Search => "search",
            Self::Aggregate => "aggregate",
            Self::Refresh => "refresh",
            Self::IndexMade => "index_made",
            Self::IndexDropped => "index_dropped",
            Self::Other => "other",
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallOutcome {
    /// The cluster did what it was asked for. Of documents in bulk some may be refused even so, and an answer may be larger
    /// than is taken.
    Done,
    /// It answered that it does not. For some requests that is an answer like any other: that an index is there already, or
    /// not there; that somebody else was first.
    Refused,
    /// There was no answer.
    Failed,
}

impl CallOutcome {
    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// The outcome of a request that was sent once.
    pub(crate) fn of(answer: &Result<Answer, Failure>) -> Self {
        match answer {
            Ok(answer) if answer.is_refusal() => Self::Refused,
            Ok(_) | Err(Failure::TooLarge { .. }) => Self::Done,
            Err(_) => Self::Failed,
        }
    }
}

/// Is told of each request to a cluster that has ended; not of one that was dropped before, as when a statement is given up.
/// Called between requests: it must be quick.
pub trait Calls: fmt::Debug + Send + Sync {
    /// A request, one attempt of it, has ended.
    fn ended(&self, call: Call, outcome: CallOutcome, took: Duration);
}

/// Nobody wants to know.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCalls;

impl Calls for NoCalls {
    fn ended(&self, _: Call, _: CallOutcome, _: Duration) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_done_or_refused_or_has_failed() {
        let answer = |status| Ok(Answer { request: "GET /i".to_owned(), status, body: "{}".to_owned() });
        let large = Err(Failure::TooLarge { request: "GET /i".to_owned(), bytes: 2, max: 1 });
        let lost = Err(Failure::Incomplete { request: "GET /i".to_owned(), reason: "cut off".to_owned() });
        let cases = [
            (answer(200), CallOutcome::Done),
            (answer(201), CallOutcome::Done),
            (answer(400), CallOutcome::Refused),
            (answer(404), CallOutcome::Refused),
            (answer(409), CallOutcome::Refused),
            (answer(429), CallOutcome::Refused),
            (answer(503), CallOutcome::Refused),
            (large, CallOutcome::Done),
            (lost, CallOutcome::Failed),
        ];
        for (answer, wanted) in cases {
            assert_eq!(CallOutcome::of(&answer), wanted, "{answer:?}");
        }
    }

    #[test]
    fn names_are_each_ones_own() {
        let calls = [
            Call::Bulk,
            Call::Search,
            Call::Aggregate,
            Call::Refresh,
            Call::IndexMade,
            Call::IndexDropped,
            Call::Other,
        ];
        let names: std::collections::BTreeSet<&str> = calls.map(Call::name).into();
        assert_eq!(names.len(), calls.len());
    }
}
