//! Spans of taking a cut, and of fetching its real-time rows: docs/traces.md.

use std::collections::BTreeMap;
use std::ops::Range;

use tidemark_shared::position::{Coverage, LogPartition};
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
            span.record("tidemark.rows.live", number(live.rows));
        }
        Some(Err(error)) => failed(span, error.code().unwrap_or("failed")),
        None => {}
    }
}

/// The span of the real-time rows of a cut: how they are got is made out here. A view that is elsewhere is asked later, and
/// the requests to it are within this one all the same.
pub(super) fn live(dataset: &str, ranges: &BTreeMap<LogPartition, Range<u64>>) -> Span {
    let span = info_span!(
        target: SPANS,
        "query.live",
        tidemark.dataset = dataset,
        tidemark.offsets = Empty,
        tidemark.positions = Empty,
    );
    if !span.is_disabled() {
        let ends: Coverage = ranges.iter().map(|(partition, range)| (partition.clone(), range.end)).collect();
        span.record("tidemark.offsets", number(ranges.values().map(|range| range.end - range.start).sum::<u64>()));
        span.record("tidemark.positions", positions(&ends));
    }
    span
}
