//! Errors as programs see them: RFC 9457 problem documents with a code that never changes.

use axum::body::Body;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidemark_shared::dataset::is_name;
use tidemark_shared::error::{ErrorKind, Kind, chain};
use tidemark_shared::log::LogError;
use tidemark_shared::output::OutputError;
use tidemark_shared::sql::{CutError, SqlError};
use utoipa::ToSchema;

use super::backend::IntakeError;
use crate::merge::failure_of_view;

/// All codes with their statuses; each keeps its meaning for ever.
pub(super) const CODES: &[(&str, u16)] = &[
    ("bad_idempotency_key", 400),
    ("bad_parameter", 400),
    ("bad_path", 400),
    ("broken_body", 400),
    ("invalid", 400),
    ("invalid_query", 400),
    ("malformed", 400),
    ("no_host", 400),
    ("no_records", 400),
    ("not_one_statement", 400),
    ("not_read", 400),
    ("not_utf8", 400),
    ("read_only", 400),
    ("same_name", 400),
    ("syntax_error", 400),
    ("too_complex", 400),
    ("too_deep", 400),
    ("unknown_column", 400),
    ("unknown_partition", 400),
    ("unauthorized", 401),
    ("files_closed", 403),
    ("host_not_allowed", 403),
    ("origin_not_allowed", 403),
    ("no_route", 404),
    ("not_found", 404),
    ("not_served", 404),
    ("unknown_dataset", 404),
    ("unknown_table", 404),
    ("wrong_method", 405),
    ("not_acceptable", 406),
    ("slow_body", 408),
    ("conflict", 409),
    ("no_stream", 409),
    ("positions_gone", 410),
    ("too_stale", 412),
    ("too_large", 413),
    ("unsupported_encoding", 415),
    ("unsupported_media_type", 415),
    ("bytes_read_limit", 422),
    ("format", 422),
    ("idempotency_key_reused", 422),
    ("memory_limit", 422),
    ("query_failed", 422),
    ("spill_limit", 422),
    ("time_limit", 422),
    ("busy", 429),
    ("too_many_queries", 429),
    ("corrupt", 500),
    ("internal", 500),
    ("unsupported", 501),
    ("exhausted", 503),
    ("not_ready", 503),
    ("realtime_gap", 503),
    ("realtime_unavailable", 503),
    ("unavailable", 503),
    ("positions_not_reached", 504),
];

/// Media type of problem documents.
pub(super) const PROBLEM: &str = "application/problem+json";

/// A problem document.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem: `urn:tidemark:problem:<code>`.
    pub r#type: String,
    /// The kind of problem in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// A name for programs. It never changes its meaning.
    pub code: &'static str,
    /// What happened here.
    pub detail: String,
    /// What to do about it, where there is something to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Seconds after which the same request may succeed.
    #[serde(skip)]
    pub retry_after_s: Option<u32>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        debug_assert!(CODES.contains(&(code, status.as_u16())), "`{code}` with status {status} is not listed");
        Self {
            r#type: format!("urn:tidemark:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            hint: None,
            retry_after_s: None,
        }
    }

    pub(super) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds.max(1));
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let text = serde_json::to_vec(&self).expect("plain data");
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // What is left of the body is not read, so nothing can come behind it.
        if [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::REQUEST_TIMEOUT].iter().any(|left| self.status == left.as_u16())
        {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.status == StatusCode::UNAUTHORIZED.as_u16() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(Code(self.code));
        response
    }
}

/// The code of a problem, for the metrics.
#[derive(Debug, Clone)]
pub(super) struct Code(pub(super) &'static str);

/// Status and code of failures that have no code of their own.
fn by_kind(kind: Kind) -> (StatusCode, &'static str) {
    match kind {
        Kind::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
        Kind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        Kind::Conflict => (StatusCode::CONFLICT, "conflict"),
        Kind::Retryable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Kind::Unprocessable => (StatusCode::UNPROCESSABLE_ENTITY, "query_failed"),
        Kind::Corrupt => (StatusCode::INTERNAL_SERVER_ERROR, "corrupt"),
        Kind::Unsupported => (StatusCode::NOT_IMPLEMENTED, "unsupported"),
        Kind::Exhausted => (StatusCode::SERVICE_UNAVAILABLE, "exhausted"),
        Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}

/// The part of a path that names a dataset. What no dataset can be called never reaches the store's keys.
pub(super) fn dataset_of(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let Path(name) = path.map_err(|error| Problem::bad_request("bad_path", error.body_text()))?;
    if is_name(&name) { Ok(name) } else { Err(unknown_dataset(&name)) }
}

/// There is no such dataset.
pub(super) fn unknown_dataset(name: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_dataset", format!("there is no dataset `{name}`"))
        .with_hint("`GET /v1/datasets` lists them")
}

/// Any error of the workspace. The chain of causes of a failure that is ours goes to the log; the caller is told what
/// failed.
pub(super) fn of_error<E: ErrorKind>(error: &E) -> Problem {
    let (status, code) = by_kind(error.kind());
    told(status, code, error)
}

fn told<E: ErrorKind>(status: StatusCode, code: &'static str, error: &E) -> Problem {
    // Causes of a failure that is ours name keys and paths: they are for the log.
    let text = match status.is_server_error() {
        true => {
            tracing::warn!(code, error = chain(error), "request failed");
            error.to_string()
        }
        false => chain(error),
    };
    let mut problem = Problem::new(status, code, text);
    problem.hint = error.hint();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        problem.retry_after_s = Some(1);
    }
    problem
}

/// Status and code of a statement's failure.
pub(super) fn sql_code(error: &SqlError) -> (StatusCode, &'static str) {
    match error {
        SqlError::Syntax { .. } => (StatusCode::BAD_REQUEST, "syntax_error"),
        SqlError::Statements { .. } => (StatusCode::BAD_REQUEST, "not_one_statement"),
        SqlError::TooDeep { .. } => (StatusCode::BAD_REQUEST, "too_deep"),
        SqlError::TooComplex { .. } => (StatusCode::BAD_REQUEST, "too_complex"),
        SqlError::UnknownTable { .. } => (StatusCode::NOT_FOUND, "unknown_table"),
        SqlError::UnknownColumn { .. } => (StatusCode::BAD_REQUEST, "unknown_column"),
        SqlError::ReadOnly { .. } => (StatusCode::BAD_REQUEST, "read_only"),
        SqlError::NoTableYet { .. } => (StatusCode::NOT_FOUND, "unknown_table"),
        SqlError::FilesClosed { .. } => (StatusCode::FORBIDDEN, "files_closed"),
        SqlError::Parameter { .. } => (StatusCode::BAD_REQUEST, "bad_parameter"),
        SqlError::Plan { .. } => (StatusCode::BAD_REQUEST, "invalid_query"),
        SqlError::TimedOut { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "time_limit"),
        SqlError::OutOfMemory { .. } | SqlError::TooLarge { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "memory_limit"),
        SqlError::OutOfSpillSpace { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "spill_limit"),
        SqlError::TooManyBytes { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "bytes_read_limit"),
        SqlError::Cut { source, .. } => cut_code(source),
        other => by_kind(other.kind()),
    }
}

fn cut_code(error: &CutError) -> (StatusCode, &'static str) {
    let status = match error {
        CutError::RealtimeGap { .. } | CutError::NoView { .. } | CutError::ViewBehind { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        CutError::UnknownPartition { .. } => StatusCode::BAD_REQUEST,
        CutError::NotReached { .. } => StatusCode::GATEWAY_TIMEOUT,
        CutError::TooStale { .. } => StatusCode::PRECONDITION_FAILED,
        CutError::PositionsGone { .. } => StatusCode::GONE,
        // One that answers again later; what can't pass by itself is told as what it is.
        CutError::Failed(_) if failure_of_view(error).is_some_and(|view| view.kind() == Kind::Retryable) => {
            return (StatusCode::SERVICE_UNAVAILABLE, "realtime_unavailable");
        }
        CutError::Failed(source) => return by_kind(source.kind()),
    };
    (status, error.code().unwrap_or("internal"))
}

impl From<SqlError> for Problem {
    fn from(error: SqlError) -> Self {
        let (status, code) = sql_code(&error);
        let mut problem = told(status, code, &error);
        // Why there is no moment to answer at is the caller's to know: how far it got, which offsets are missing, what the
        // real-time view said.
        if let SqlError::Cut { dataset, source } = &error {
            let is_view = failure_of_view(source).is_some();
            if is_view || !matches!(source, CutError::Failed(_)) {
                problem.detail = chain(&error);
            }
            if is_view && problem.hint.is_none() {
                problem.hint = Some(format!("`batch.{dataset}` answers for what is curated"));
            }
        }
        // The engine's hints are about the flags of `tidemark sql`.
        let of_flags = |hint: &String| hint.contains("`--");
        if problem.hint.as_ref().is_some_and(of_flags) {
            problem.hint = None;
        }
        problem
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        match &error {
            IntakeError::UnknownDataset { .. } => told(StatusCode::NOT_FOUND, "unknown_dataset", &error),
            IntakeError::NoStream { .. } => told(StatusCode::CONFLICT, "no_stream", &error),
            IntakeError::Busy { retry_after, .. } => told(StatusCode::TOO_MANY_REQUESTS, "busy", &error)
                .retry_after(u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX)),
            IntakeError::Log(LogError::TooLarge { .. }) => told(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &error),
            IntakeError::Log(LogError::KeyReused { .. }) => {
                told(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", &error)
            }
            // Between its end and the next look: a topic that was made again is taken up, and then they are taken.
            IntakeError::Log(LogError::Missing { .. } | LogError::Replaced { .. }) => {
                told(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &error)
            }
            IntakeError::Log(_) | IntakeError::Failed(_) => of_error(&error),
        }
    }
}

impl From<OutputError> for Problem {
    fn from(error: OutputError) -> Self {
        let detail = chain(&error);
        match error {
            OutputError::SameName { .. } => Self::bad_request("same_name", detail)
                .with_hint("give one of them another name: `SELECT a.id, b.id AS b_id`"),
            OutputError::Format(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "format", detail),
            OutputError::Io(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemark_shared::live::LiveError;
    use tidemark_shared::log::{TopicId, TopicName};

    use super::*;
    use crate::merge::view_failed;

    #[derive(Debug, thiserror::Error)]
    #[error("a document can't be read")]
    struct Failure(Kind);

    impl ErrorKind for Failure {
        fn kind(&self) -> Kind {
            self.0
        }

        fn hint(&self) -> Option<String> {
            (self.0 == Kind::Corrupt).then(|| "remove it".to_owned())
        }
    }

    #[test]
    fn who_sends_to_a_topic_that_is_gone_or_another_comes_again() {
        let topic = || TopicName::new("orders").expect("a name");
        let id = |id: &str| TopicId::new(id);
        for error in [
            LogError::Missing { topic: topic() },
            LogError::Replaced { topic: topic(), expected: id("a"), found: id("b") },
        ] {
            let told = error.to_string();
            let problem = Problem::from(IntakeError::Log(error));
            assert_eq!((problem.status, problem.code), (503, "unavailable"), "{told}");
            assert_eq!((problem.detail, problem.retry_after_s), (told, Some(1)));
        }
    }

    #[test]
    fn a_view_that_fails_for_good_is_no_invitation_to_come_again() {
        let batch = "`batch.orders` answers for what is curated";
        for (kind, status, code, hint, retry_after_s) in [
            (Kind::Retryable, 503, "realtime_unavailable", batch, Some(1)),
            (Kind::Corrupt, 500, "corrupt", "remove it", None),
            (Kind::Unsupported, 501, "unsupported", batch, None),
            (Kind::Internal, 500, "internal", batch, None),
        ] {
            let source = view_failed(LiveError::of("pin a view", Failure(kind)));
            let problem = Problem::from(SqlError::Cut { dataset: "orders".to_owned(), source });
            let told = (problem.status, problem.code, problem.hint.as_deref(), problem.retry_after_s);
            assert_eq!(told, (status, code, Some(hint), retry_after_s), "{kind:?}");
            let said = "dataset `orders` has no answer: its real-time part can't be read: \
                        the real-time view failed to pin a view: a document can't be read";
            assert_eq!(problem.detail, said, "{kind:?}");
        }
    }

    /// What a store said names keys and paths: that is for the log.
    #[test]
    fn what_others_behind_a_cut_said_is_for_the_log() {
        let source = CutError::failed(LogError::backend("tell its ends", std::io::Error::other("s3://key")));
        let problem = Problem::from(SqlError::Cut { dataset: "orders".to_owned(), source });
        let told = (problem.status, problem.code, problem.detail.as_str(), problem.hint);
        assert_eq!(told, (503, "unavailable", "dataset `orders` has no answer", None));
    }
}
