//! What an OpenSearch cluster refused, or failed in.

use serde_json::Value;
use tidemark_shared::live::LiveError;

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
    #[error("the answer to `{request}` has {bytes} bytes; at most {max} are taken")]
    TooLarge {
        /// The request.
        request: String,
        /// Its size.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// An index of a view is gone, or another one has its name.
    #[error("the index `{index}` is gone; its rows are indexed again from log and archive")]
    Lost {
        /// The index.
        index: String,
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
        let (kind, mut reason) = (text(&error["type"]), text(&error["reason"]));
        if reason.is_empty() {
            reason = if error.is_null() { "no reason given".to_owned() } else { error.to_string() };
        }
        // What a search failed for stands one level below.
        let cause = text(&error["root_cause"][0]["reason"]);
        if !cause.is_empty() && cause != reason {
            reason = format!("{reason}: {cause}");
        }
        Self::Refused { request: request.to_owned(), status, kind, reason }
    }

    /// True if an index that was asked for is not there.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::Lost { .. } => true,
            Self::Refused { kind, status, .. } => *status == 404 && is_missing_index(kind),
            _ => false,
        }
    }

    /// True if the same request may succeed in a moment.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Refused { status: 429 | 502..=504, .. })
    }
}

/// True for the kinds of error that say that an index, or its alias, is not there.
pub(crate) fn is_missing_index(kind: &str) -> bool {
    matches!(kind, "index_not_found_exception" | "aliases_not_found_exception" | "index_closed_exception")
}

/// As a failure of the port.
pub(crate) fn failed(operation: &'static str) -> impl Fn(Failure) -> LiveError {
    move |failure| LiveError::backend(operation, failure)
}
