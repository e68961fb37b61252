//! Spans of taking a cut: docs/traces.md.

use tidemark_shared::sql::{CutError, Layer};
use tidemark_shared::telemetry::{SPANS, failed, number, positions};
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span};

use super::cut::Cut;

/// Takes a cut within a span that tells which moment it is of.
pub(super) async fn traced(
    dataset: &str,
    layer: Layer,
    taking: impl Future<Output = Result<Option<Cut>, CutError>>,
) -> Result<Option<Cut>, CutError> {
    let span = info_span!(
        target: SPANS,
        "query.cut",
        tidemark.dataset = Empty,
        tidemark.layer = layer.name(),
        tidemark.generation = Empty,
        tidemark.version = Empty,
        tidemark.coverage = Empty,
        tidemark.positions = Empty,
        tidemark.rows.live = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    );
    let taken = taking.instrument(span.clone()).await;
    // What is no dataset is any text that a statement has.
    if !matches!(taken, Ok(None)) {
        span.record("tidemark.dataset", dataset);
    }
    match &taken {
        Ok(Some(cut)) if !span.is_disabled() => describe(&span, cut),
        Ok(_) => {}
        Err(error) => failed(&span, error.code().unwrap_or("failed")),
    }
    taken
}

fn describe(span: &Span, cut: &Cut) {
    let version = cut.curated.version();
    span.record("tidemark.generation", version.generation.generation.as_str());
    span.record("tidemark.version", number(version.table_version));
    span.record("tidemark.coverage", positions(&version.coverage));
    span.record("tidemark.positions", positions(cut.positions()));
    match &cut.live {
        Some(Ok(live)) => {
            if let Some(rows) = live.rows() {
                span.record("tidemark.rows.live", number(rows));
            }
        }
        Some(Err(error)) => failed(span, error.code().unwrap_or("failed")),
        None => {}
    }
}
