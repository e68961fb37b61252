//! Spans of a batch on its way into the view: docs/traces.md.

use std::time::Duration;

use tidemark_shared::live::LiveError;
use tidemark_shared::log::Fetched;
use tidemark_shared::position::LogPartition;
use tidemark_shared::rows::MadeRows;
use tidemark_shared::telemetry::{SPANS, TRACEPARENT, failed, number, origins};
use tracing::field::Empty;
use tracing::{Span, info_span};

use super::Indexer;

impl Indexer {
    /// The span of a batch that was `read` from offset `from` on, within so much time. It begins a trace: whoever sent the
    /// records has had its answer. It names the spans that they came from, where their headers do.
    pub(super) fn batch_span(&self, name: &LogPartition, from: u64, read: &Fetched, reading: Duration) -> Span {
        let span = info_span!(
            target: SPANS,
            parent: None,
            "index.batch",
            tidemark.dataset = self.parts.view.dataset,
            tidemark.generation = self.parts.view.generation,
            tidemark.partition = %name,
            tidemark.offset.start = number(from),
            tidemark.offset.end = number(read.next),
            tidemark.records = number(read.records.len()),
            tidemark.read_ms = number(reading.as_millis()),
            tidemark.visible = Empty,
        );
        if !span.is_disabled() {
            let headers = read.records.iter().filter_map(|read| read.record.header(TRACEPARENT));
            for origin in origins(headers.map(|value| &value[..])) {
                self.parts.traces.link(&span, origin);
            }
        }
        span
    }
}

/// The span of decoding and transforming a batch.
pub(super) fn make_span(batch: &Span, bytes: usize) -> Span {
    info_span!(
        target: SPANS,
        parent: batch,
        "index.make",
        tidemark.bytes = number(bytes),
        tidemark.accepted = Empty,
        tidemark.filtered = Empty,
        tidemark.rejected = Empty,
    )
}

/// Writes into a span what its records became.
pub(super) fn made(span: &Span, made: &MadeRows) {
    span.record("tidemark.accepted", number(made.counts.accepted));
    span.record("tidemark.filtered", number(made.counts.filtered));
    span.record("tidemark.rejected", number(made.counts.rejected_total()));
}

/// The span of writing a batch to the view, once for each attempt.
pub(super) fn apply_span(batch: &Span) -> Span {
    info_span!(target: SPANS, parent: batch, "index.apply", error.type = Empty, otel.status_code = Empty)
}

/// Writes into a span why the view did not take the batch.
pub(super) fn not_applied(span: &Span, error: &LiveError) {
    let error_type = match error {
        LiveError::Full { .. } => "full",
        LiveError::Gap { .. } => "gap",
        LiveError::Missing { .. } => "missing",
        LiveError::Refused { .. } => "refused",
        _ => "failed",
    };
    failed(span, error_type);
}
