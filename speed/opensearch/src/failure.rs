//! What an OpenSearch cluster refused, or failed in.

use serde_json::Value;
use tidemark_shared::error::{ErrorKind, Kind};
use tidemark_shared::live::LiveError;
use tidemark_shared::position::LogPartition;

/// What to do about what stands in an index of ours and must not: whatever is in them can be made again.
const MADE_AGAIN: &str = "remove the view's indices and restart: views are made again from log and archive";

/// A failure of a request.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No answer.
    #[error("no answer to `{request}`")]
    Unreachable {
        /// The request.
        request: String,
        /// Why.
        #[source]
        source: opensearch::Error,
    },
    /// An answer that says no.
    #[error("`{request}` was answered with status {status}: {reason}")]
    Refused {
        /// The request.
        request: String,
        /// The HTTP status.
        status: u16,
        /// The kind of the error, in OpenSearch's words.
        kind: String,
        /// The cluster's explanation.
        reason: String,
    },
    /// An answer that is not what was asked for.
    #[error("the answer to `{request}` can't be read")]
    Unreadable {
        /// The request.
        request: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An answer without some of what was asked for.
    #[error("the answer to `{request}` is incomplete: {reason}")]
    Incomplete {
        /// The request.
        request: String,
        /// What is missing.
        reason: String,
    },
    /// More bytes than this process holds at once.
    #[error("the answer to `{request}` has {bytes} bytes or more; at most {max} are taken")]
    TooLarge {
        /// The request.
        request: String,
        /// Its size, as far as it is known.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// An index of a view is gone, or another one has its name.
    #[error("the index `{index}` is gone; its rows are indexed again from log and archive")]
    IndexGone {
        /// The index.
        index: String,
    },
    /// The cluster answered for a document as if all were well, and did not write it.
    #[error("the document of offset {offset} was not written to `{index}`: {reason}")]
    Dropped {
        /// The index.
        index: String,
        /// The record's offset.
        offset: u64,
        /// What the cluster did instead.
        reason: String,
    },
    /// An index of a view is there, and closed.
    #[error("the index `{index}` is closed")]
    IndexClosed {
        /// The index.
        index: String,
    },
    /// An index takes no writes until there is room on a disk, and none is tried for a while.
    #[error("the index `{index}` takes no writes: {reason}")]
    ReadOnly {
        /// The index.
        index: String,
        /// What the cluster said of the last one.
        reason: String,
    },
    /// Another index bears the alias of one: what is read or written by it is of both.
    #[error("the alias `{alias}` is that of the index `{index}` alone, and `{other}` has it, too")]
    AliasShared {
        /// The index that the alias was made with.
        index: String,
        /// The alias.
        alias: String,
        /// The other index.
        other: String,
    },
    /// An index bears a name of ours and was not made by us.
    #[error("the index `{index}` was not made for this view: {reason}")]
    Foreign {
        /// The index.
        index: String,
        /// What differs.
        reason: String,
    },
    /// Documents that were not taken after some attempts.
    #[error("{count} documents were not taken by `{index}`: {reason}")]
    NotTaken {
        /// How many.
        count: usize,
        /// The index.
        index: String,
        /// What was said of one of them.
        reason: String,
    },
    /// A document that is not what this build writes.
    #[error("a document of `{index}` can't be read: {reason}")]
    Corrupt {
        /// The index.
        index: String,
        /// What is wrong.
        reason: String,
    },
    /// Documents that could not be made: a defect of ours.
    #[error("no documents could be made of offsets {start} to {end} of `{partition}`: {reason}")]
    Unmade {
        /// The partition.
        partition: LogPartition,
        /// The first offset.
        start: u64,
        /// The offset after the last.
        end: u64,
        /// What went wrong.
        reason: String,
    },
    /// A number that has no place in a version.
    #[error("{what} can't be kept: the number is too large")]
    TooFar {
        /// Which.
        what: String,
    },
    /// Another process changes the same thing again and again.
    #[error("`{index}` is changed by others without end")]
    Contended {
        /// The index.
        index: String,
    },
}

impl Failure {
    /// From the body of an answer that says no.
    pub(crate) fn refused(request: &str, status: u16, body: &str) -> Self {
        let body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        let error = &body["error"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (mut kind, mut reason) = (text(&error["type"]), text(&error["reason"]));
        if reason.is_empty() {
            reason = if error.is_null() { "no reason given".to_owned() } else { error.to_string() };
        }
        // What a search failed for stands one level below.
        let cause = &error["root_cause"][0];
        let (cause, kind_of_cause) = (text(&cause["reason"]), text(&cause["type"]));
        if !cause.is_empty() && cause != reason {
            reason = format!("{reason}: {cause}");
        }
        if kind == "search_phase_execution_exception" && !kind_of_cause.is_empty() {
            kind = kind_of_cause;
        }
        Self::Refused { request: request.to_owned(), status, kind, reason }
    }

    /// True if an index that was asked for is not there.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::IndexGone { .. } => true,
            Self::Refused { kind, status, .. } => *status == 404 && is_missing_index(kind),
            _ => false,
        }
    }

    /// The failure of a request that was about one index of ours: if that is not there, its name says more than the request.
    pub(crate) fn about(self, index: &str) -> Self {
        if self.is_missing() { Self::IndexGone { index: index.to_owned() } } else { self }
    }

    /// True if there is no room for so much at once, here or in the cluster, and there may be for less.
    pub(crate) fn is_too_much(&self) -> bool {
        match self {
            Self::TooLarge { .. } | Self::Refused { status: 413, .. } => true,
            _ => self.is_breaker(),
        }
    }

    /// True if the cluster has no room in its memory: for what was asked for, or because of what others ask for.
    pub(crate) fn is_breaker(&self) -> bool {
        matches!(self, Self::Refused { kind, .. } if kind == "circuit_breaking_exception")
    }

    /// True if the same request may succeed in a moment.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Refused { status: 429 | 502..=504, .. }) && !self.is_read_only()
    }

    /// True if an index takes no writes until somebody sees to it, or room is made: above all where the disk is nearly full.
    /// Then it may be removed all the same.
    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self, Self::Refused { status: 403 | 429, kind, .. } if kind == "cluster_block_exception")
    }
}

impl ErrorKind for Failure {
    fn kind(&self) -> Kind {
        match self {
            // The cluster is not as it should be, and may be in a moment, or once somebody has seen to it: a full disk, too
            // many shards, a password. An index that is gone is made again.
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::Unreadable { .. }
            | Self::Incomplete { .. }
            | Self::IndexGone { .. }
            | Self::Dropped { .. }
            | Self::IndexClosed { .. }
            | Self::ReadOnly { .. }
            | Self::AliasShared { .. }
            | Self::NotTaken { .. }
            | Self::Contended { .. } => Kind::Retryable,
            Self::TooLarge { .. } => Kind::Exhausted,
            Self::Foreign { .. } | Self::Corrupt { .. } => Kind::Corrupt,
            Self::TooFar { .. } => Kind::Unsupported,
            Self::Unmade { .. } => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Refused { status: 401, .. } => "check user and password in `live.url`",
            Self::AliasShared { .. } => {
                "remove that alias from the other index, or the other index; then it goes on by itself"
            }
            Self::Dropped { .. } => {
                "set `index.default_pipeline` and `index.final_pipeline` of that index to `_none`; then it goes on by itself"
            }
            Self::IndexClosed { .. } => "open that index (`POST /<index>/_open`); then it goes on by itself",
            Self::ReadOnly { .. } => {
                "make room on the cluster's disks, or remove the block from that index; then it goes on by itself"
            }
            Self::Foreign { .. } => {
                "remove that index, or give this installation a prefix of its own at the end of `live.url`; then restart"
            }
            Self::Corrupt { .. } | Self::TooFar { .. } => MADE_AGAIN,
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// True for the kinds of error that say that an index, or its alias, is not there. One that is closed is there: nothing of it
/// is lost.
pub(crate) fn is_missing_index(kind: &str) -> bool {
    matches!(kind, "index_not_found_exception" | "aliases_not_found_exception")
}

/// As a failure of the port.
pub(crate) fn failed(operation: &'static str) -> impl Fn(Failure) -> LiveError {
    move |failure| LiveError::of(operation, failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> Failure {
        Failure::refused("PUT /i", status, r#"{"error": {"type": "a", "reason": "b"}}"#)
    }

    #[test]
    fn a_failure_of_the_port_says_what_can_be_done_about_it() {
        let (index, reason, request) = (|| "i".to_owned(), || "no".to_owned(), || "GET /i".to_owned());
        let unreadable = serde_json::from_str::<u64>("x").unwrap_err();
        for (failure, kind, hint) in [
            (refused(400), Kind::Retryable, ""),
            (refused(401), Kind::Retryable, "password"),
            (refused(429), Kind::Retryable, ""),
            (Failure::Unreadable { request: request(), source: unreadable }, Kind::Retryable, ""),
            (Failure::Incomplete { request: request(), reason: reason() }, Kind::Retryable, ""),
            (Failure::IndexGone { index: index() }, Kind::Retryable, ""),
            (Failure::Dropped { index: index(), offset: 1, reason: reason() }, Kind::Retryable, "final_pipeline"),
            (Failure::IndexClosed { index: index() }, Kind::Retryable, "_open"),
            (Failure::ReadOnly { index: index(), reason: reason() }, Kind::Retryable, "make room"),
            (
                Failure::AliasShared { index: index(), alias: "i.1".to_owned(), other: "c".to_owned() },
                Kind::Retryable,
                "remove that alias",
            ),
            (Failure::NotTaken { count: 1, index: index(), reason: reason() }, Kind::Retryable, ""),
            (Failure::Contended { index: index() }, Kind::Retryable, ""),
            (Failure::TooLarge { request: request(), bytes: 2, max: 1 }, Kind::Exhausted, ""),
            (Failure::Foreign { index: index(), reason: reason() }, Kind::Corrupt, "prefix"),
            (Failure::Corrupt { index: index(), reason: reason() }, Kind::Corrupt, "made again"),
            (Failure::TooFar { what: "offset 1 of `t/0`".to_owned() }, Kind::Unsupported, "made again"),
            (
                Failure::Unmade { partition: "t/0".parse().unwrap(), start: 1, end: 2, reason: reason() },
                Kind::Internal,
                "",
            ),
        ] {
            let error = failed("take rows in")(failure);
            let told = error.hint();
            assert_eq!((error.kind(), told.is_some()), (kind, !hint.is_empty()), "{error:?}: {told:?}");
            assert!(told.unwrap_or_default().contains(hint), "{error:?}");
        }
    }

    #[test]
    fn an_index_that_is_missing_is_gone_by_its_name() {
        let missing = |status: u16, kind: &str| {
            Failure::refused("GET /i.1", status, &format!(r#"{{"error": {{"type": "{kind}", "reason": "b"}}}}"#))
        };
        for (failure, wanted) in [
            (missing(404, "index_not_found_exception"), Some("i")),
            (missing(404, "aliases_not_found_exception"), Some("i")),
            (Failure::IndexGone { index: "i.1".to_owned() }, Some("i")),
            // A document or a search that is not there, and an index that is.
            (missing(404, "search_context_missing_exception"), None),
            (missing(400, "index_closed_exception"), None),
            (missing(503, "index_not_found_exception"), None),
            (Failure::Contended { index: "i.1".to_owned() }, None),
        ] {
            let before = failure.to_string();
            match (failure.about("i"), wanted) {
                (Failure::IndexGone { index }, Some(wanted)) => assert_eq!(index, wanted),
                (other, None) => assert_eq!(other.to_string(), before),
                (other, wanted) => panic!("{other:?}, not {wanted:?}"),
            }
        }
    }

    #[test]
    fn of_what_there_is_no_room_for_less_is_asked() {
        let refused = |status: u16, body: &str| Failure::refused("POST /i/_search", status, body);
        let breaker = r#"{"type": "circuit_breaking_exception", "reason": "Data too large"}"#;
        let search = |cause: &str| {
            let failed = r#""type": "search_phase_execution_exception", "reason": "all shards failed""#;
            format!(r#"{{"error": {{"root_cause": [{cause}], {failed}}}}}"#)
        };
        let full = r#"{"type": "rejected_execution_exception", "reason": "the queue is full"}"#;
        let ended = r#"{"type": "search_context_missing_exception", "reason": "No search context found"}"#;
        for (failure, too_much, by_breaker) in [
            (Failure::TooLarge { request: "POST /i/_search".to_owned(), bytes: 2, max: 1 }, true, false),
            (refused(413, ""), true, false),
            (refused(429, &format!(r#"{{"error": {breaker}}}"#)), true, true),
            (refused(429, &search(breaker)), true, true),
            (refused(429, &search(full)), false, false),
            (refused(404, &search(ended)), false, false),
            (refused(503, &search("")), false, false),
            (Failure::IndexGone { index: "i".to_owned() }, false, false),
        ] {
            assert_eq!((failure.is_too_much(), failure.is_breaker()), (too_much, by_breaker), "{failure:?}");
            assert!(!failure.is_too_much() || !failure.is_missing(), "{failure:?}");
        }
    }

    #[test]
    fn what_is_read_only_is_no_more_writable_in_a_moment() {
        for (status, kind, passes, read_only) in [
            (429, "rejected_execution_exception", true, false),
            (429, "cluster_block_exception", false, true),
            (403, "cluster_block_exception", false, true),
            // Nobody leads the cluster at this moment.
            (503, "cluster_block_exception", true, false),
            (503, "unavailable_shards_exception", true, false),
            (403, "security_exception", false, false),
            (400, "index_closed_exception", false, false),
        ] {
            let failure = Failure::refused("PUT /i", status, &format!(r#"{{"error": {{"type": "{kind}"}}}}"#));
            let found = (failure.is_passing(), failure.is_read_only(), failure.is_missing());
            assert_eq!(found, (passes, read_only, false), "{status} {kind}");
        }
    }
}
