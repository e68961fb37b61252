//! What is told of requests to a cluster: of which kind each was, how it ended, and how long it took.

use std::fmt;
use std::time::Duration;

use opensearch::http::Method;
use serde_json::Value;

use crate::client::Answer;
use crate::failure::Failure;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Documents of records are written.
    Bulk,
    /// Documents are looked for.
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

    /// The kind of a request with this path, `?` and all, and body.
    pub(crate) fn of(method: Method, path: &str, body: Option<&Value>) -> Self {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let (of, last) = path.rsplit_once('/').unwrap_or(("", path));
        match (method, last) {
            (Method::Post, "_bulk") => Self::Bulk,
            (Method::Post, "_search") if body.is_some_and(|body| body["size"] == 0) => Self::Aggregate,
            (Method::Post, "_search") => Self::Search,
            (Method::Post, "_refresh") => Self::Refresh,
            // An index by itself; what is in one lies below `_doc` or the like.
            (Method::Put, index) if of.is_empty() && !index.starts_with('_') => Self::IndexMade,
            (Method::Delete, index) if of.is_empty() && !index.starts_with('_') => Self::IndexDropped,
            _ => Self::Other,
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
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_of_a_kind() {
        let (rows, none) = (json!({"size": 100, "query": {}}), json!({"size": 0, "query": {}}));
        let cases = [
            (Method::Post, "i.1/_bulk?require_alias=true&filter_path=errors", None, Call::Bulk),
            (Method::Post, "i.1,i.2/_search?allow_partial_search_results=false", Some(&rows), Call::Search),
            (Method::Post, "_search?allow_partial_search_results=false", Some(&rows), Call::Search),
            (Method::Post, "_search", None, Call::Search),
            (Method::Post, "i.1/_search?allow_partial_search_results=false", Some(&none), Call::Aggregate),
            (Method::Post, "_search", Some(&none), Call::Aggregate),
            (Method::Post, "i.1/_refresh", None, Call::Refresh),
            (Method::Put, "i", Some(&rows), Call::IndexMade),
            (Method::Delete, "i", None, Call::IndexDropped),
            (Method::Put, "i.1/_doc/position.t.0?version=3&version_type=external", Some(&rows), Call::Other),
            (Method::Put, "i.1/_create/partitions?require_alias=true", Some(&rows), Call::Other),
            (Method::Post, "i.1/_mget", Some(&rows), Call::Other),
            (Method::Get, "i?filter_path=*.aliases", None, Call::Other),
            (Method::Get, "_cluster/health/i?timeout=10s", None, Call::Other),
            (Method::Post, "i.1/_search/point_in_time?keep_alive=2m", None, Call::Other),
            (Method::Delete, "_search/point_in_time", Some(&rows), Call::Other),
            (Method::Delete, "_all", None, Call::Other),
        ];
        for (method, path, body, wanted) in cases {
            assert_eq!(Call::of(method, path, body), wanted, "{method:?} {path}");
        }
    }

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
