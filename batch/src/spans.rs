//! Spans of a run of the batch layer: docs/traces.md.

use tidemark_shared::position::Coverage;
use tidemark_shared::telemetry::{SPANS, failed, number, positions};
use tracing::field::Empty;
use tracing::{Span, info_span};

use crate::curated::table::{Change, TableHead};
use crate::error::BatchError;

/// The span of all that a command or a loop asks of one dataset. `kind` says what: `run`, `ingest`, `recompute`.
pub(crate) fn run(dataset: &str, kind: &'static str) -> Span {
    info_span!(
        target: SPANS,
        "batch.run",
        tidemark.dataset = dataset,
        tidemark.kind = kind,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// Writes into a run's span whether it failed.
pub(crate) fn ended<T>(span: &Span, outcome: Result<T, BatchError>) -> Result<T, BatchError> {
    outcome.inspect_err(|_| failed(span, "failed"))
}

/// The span of finding out which segments are above the coverage.
pub(crate) fn plan(table: &TableHead) -> Span {
    info_span!(
        target: SPANS,
        "batch.plan",
        tidemark.generation = table.generation,
        tidemark.version = number(table.version()),
        tidemark.coverage = Empty,
        tidemark.segments = Empty,
    )
}

/// Writes into it from where on, and how many segments come next.
pub(crate) fn planned(span: &Span, coverage: &Coverage, segments: usize) {
    if !span.is_disabled() {
        span.record("tidemark.coverage", positions(coverage));
        span.record("tidemark.segments", number(segments));
    }
}

/// The span of reading raw bytes, making rows of them and writing data files.
pub(crate) fn read() -> Span {
    info_span!(target: SPANS, "batch.read", tidemark.bytes = Empty, tidemark.files = Empty)
}

/// Writes into it how many raw bytes were read, and how many data files were written.
pub(crate) fn was_read(span: &Span, bytes: u64, files: usize) {
    span.record("tidemark.bytes", number(bytes));
    span.record("tidemark.files", number(files));
}

/// The span of a commit of `change` onto `table`; with the positions that the table covers once it is made.
pub(crate) fn commit(table: &TableHead, change: &Change) -> Span {
    let span = info_span!(
        target: SPANS,
        "batch.commit",
        tidemark.dataset = table.dataset,
        tidemark.generation = table.generation,
        tidemark.files = number(change.adds.len()),
        tidemark.version = Empty,
        tidemark.coverage = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    );
    if !span.is_disabled() {
        let mut coverage = table.coverage();
        for (partition, end) in &change.coverage {
            coverage.set(partition.clone(), *end);
        }
        span.record("tidemark.coverage", positions(&coverage));
    }
    span
}

/// Writes into it which version it made; none, if somebody else was first.
pub(crate) fn committed(span: &Span, version: &Result<Option<u64>, BatchError>) {
    match version {
        Ok(Some(version)) => {
            span.record("tidemark.version", number(*version));
        }
        Ok(None) => failed(span, "lost_race"),
        Err(_) => failed(span, "failed"),
    }
}
