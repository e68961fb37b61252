//! Spans of requests: docs/traces.md.

use axum::http::{HeaderMap, Method};
use sha2::{Digest as _, Sha256};
use tidemark_shared::hex;
use tidemark_shared::position::Coverage;
use tidemark_shared::telemetry::{SPANS, TRACEPARENT, TraceParent, Traces, failed, number, positions};
use tracing::field::Empty;
use tracing::{Span, info_span};

use super::backend::Taken;
use super::problem::Problem;

/// Routes that are asked every few seconds by those who watch over a process: nobody looks for them among traces.
const UNTRACED: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/v1/status"];
/// First words of statements that are told; any other is nobody's business.
const OPERATIONS: [&str; 8] = ["SELECT", "WITH", "VALUES", "TABLE", "SHOW", "DESCRIBE", "EXPLAIN", "CREATE"];
/// Bytes of a statement's digest that are told.
const DIGEST_BYTES: usize = 8;

/// The span of a request, in the trace of its caller, if that names one.
pub(super) fn request(traces: &dyn Traces, method: &str, route: &str, headers: &HeaderMap) -> Span {
    if UNTRACED.contains(&route) {
        return Span::none();
    }
    let span = info_span!(
        target: SPANS,
        parent: None,
        "http.request",
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    );
    if let Some(caller) = caller(headers) {
        traces.continue_from(&span, caller);
    }
    span
}

/// The span that a request comes from; two of them name none.
pub(super) fn caller(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    TraceParent::parse(value.as_bytes())
}

/// Writes into a request's span how it was answered. What is wrong with a request is no failure of ours.
pub(super) fn answered(span: &Span, status: u16, code: Option<&'static str>) {
    span.record("http.response.status_code", number(status));
    if let Some(code) = code {
        span.record("error.type", code);
    }
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// The span of a statement, until its answer is read to its end. Its text is not told: its literals may say anything.
pub(super) fn query(sql: &str) -> Span {
    let span = info_span!(
        target: SPANS,
        "query",
        db.operation.name = operation(sql),
        tidemark.statement.digest = Empty,
        tidemark.rows = Empty,
        tidemark.bytes = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    );
    if !span.is_disabled() {
        span.record("tidemark.statement.digest", hex(&Sha256::digest(sql.as_bytes())[..DIGEST_BYTES]));
    }
    span
}

/// The span of waiting for leave to run.
pub(super) fn wait() -> Span {
    info_span!(target: SPANS, "query.wait")
}

/// The span of an append, until the log has the records.
pub(super) fn append(dataset: &str, records: usize) -> Span {
    info_span!(
        target: SPANS,
        "records.append",
        tidemark.dataset = dataset,
        tidemark.records = number(records),
        tidemark.positions = Empty,
        tidemark.repeated = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// Writes into it where the records are.
pub(super) fn appended(span: &Span, outcome: &Result<Taken, Problem>) {
    match outcome {
        Ok(taken) => {
            if !span.is_disabled() {
                span.record("tidemark.positions", positions(&ends(taken)));
                span.record("tidemark.repeated", taken.repeated);
            }
        }
        Err(problem) => failed(span, problem.code),
    }
}

/// The exclusive end of what was taken, by partition.
pub(super) fn ends(taken: &Taken) -> Coverage {
    let mut ends = Coverage::new();
    for (partition, offset) in &taken.positions {
        if ends.end(partition) <= *offset {
            ends.set(partition.clone(), offset + 1);
        }
    }
    ends
}

/// What a statement does, by its first word.
fn operation(sql: &str) -> &'static str {
    let mut rest = sql.trim_start();
    loop {
        let after = match rest.get(..2) {
            Some("--") => rest.split_once('\n').map(|(_, after)| after),
            Some("/*") => rest.split_once("*/").map(|(_, after)| after),
            _ => rest.strip_prefix('('),
        };
        match after {
            Some(after) => rest = after.trim_start(),
            None => break,
        }
    }
    let word = rest.split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default();
    OPERATIONS.into_iter().find(|known| known.eq_ignore_ascii_case(word)).unwrap_or("OTHER")
}

/// A method as it is counted and told: who comes with one of his own making adds no name.
pub(super) fn method_name(method: &Method) -> &str {
    let known = [Method::GET, Method::POST, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH];
    if known.contains(method) { method.as_str() } else { "other" }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_statement_is_known_by_its_first_word_alone() {
        for (sql, wanted) in [
            ("SELECT 1", "SELECT"),
            ("  select*from t", "SELECT"),
            ("-- of the day\n/* a */ ((WITH a AS (SELECT 1) SELECT 1))", "WITH"),
            ("EXPLAIN SELECT 'secret'", "EXPLAIN"),
            ("secret", "OTHER"),
            ("selected", "OTHER"),
            ("-- secret", "OTHER"),
            ("/* secret", "OTHER"),
            ("'secret'", "OTHER"),
            ("ä", "OTHER"),
            ("", "OTHER"),
        ] {
            assert_eq!(operation(sql), wanted, "{sql}");
        }
    }

    #[test]
    fn a_request_comes_from_one_span_or_none() {
        let one = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRACEPARENT, HeaderValue::from_static(value));
            }
            caller(&headers).map(|caller| caller.to_string())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["nonsense"]), None);
        assert_eq!(of(&[one]), Some(one.to_owned()));
        assert_eq!(of(&[one, one]), None);
    }
}
