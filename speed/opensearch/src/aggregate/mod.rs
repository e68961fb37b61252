//! Partial aggregates of a view's rows, made by the cluster: composite aggregations, page by page.
//!
//! An answer is of rows that are there, or there is none. Whether the cluster can be exact is decided thrice: over the
//! mapping, before anything is asked ([`asked`], [`conditions`]); by counts, in the same request, of the rows in which a
//! column that is asked about is not indexed as it is, and of all rows, which the groups must have together; and over the
//! bounds of what was added up ([`answer`]). Rows below a visible position never change, so pages need no point in time; the
//! indices' ids are compared after each of them (H6).

mod answer;
mod asked;
mod conditions;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde_json::Value;
use tidemark_shared::error::chain;
use tidemark_shared::live::{AggregateRequest, LiveAggregation, LiveError};
use tidemark_shared::telemetry::{SPANS, number};
use tracing::{Instrument as _, Span, info_span};

use self::answer::{NoPage, Page, each_row_is_in_a_group, page};
use self::asked::{Asked, asked};
use crate::calls::Call;
use crate::client::{Answer, NoRoom};
use crate::counts::of_pieces;
use crate::failure::{Failure, failed};
use crate::indices::portions;
use crate::pin::{Piece, Pinned};
use crate::scan;
use crate::state::IndexRef;

/// Most pages of groups. Each of them is a pass over all rows that are asked about.
const PAGES_MAX: u64 = 12;
/// A row that is read costs as much as so many that the cluster adds up: 15 to 30 microseconds, against 0.2 to 0.4.
const READ_COSTS: u64 = 64;

/// See the port.
#[derive(Debug)]
pub(crate) struct Aggregation {
    pinned: Arc<Pinned>,
    asked: Asked,
    pieces: Vec<Piece>,
    span: Span,
}

impl Aggregation {
    /// `None` if rows have to be read.
    pub(crate) fn new(pinned: &Arc<Pinned>, request: &AggregateRequest) -> Option<Self> {
        if !pinned.cluster.settings.aggregate_pushdown {
            return None;
        }
        let handle = &pinned.handle;
        let asked = asked(request, &handle.mapping, handle.exact.read())?;
        let pieces = request.ranges.iter().flat_map(|(partition, range)| pinned.pieces(partition, range));
        Some(Self { pieces: pieces.collect(), asked, pinned: Arc::clone(pinned), span: Span::current() })
    }

    async fn states(&self) -> Result<Option<Vec<RecordBatch>>, Failure> {
        let total = offsets(&self.pieces);
        let missing: u64 = self.pieces.iter().map(|piece| scan::missing(&self.pinned, piece)).sum();
        if rows_are_nearer(missing, total) {
            return Ok(None);
        }
        let mut batches = Vec::new();
        for pieces in portions(&self.pieces) {
            if !self.portion(pieces, &mut batches).await? {
                return Ok(None);
            }
        }
        Ok(Some(batches))
    }

    /// Adds the states of some pieces; false if they are not exact, or too many.
    async fn portion(&self, pieces: &[Piece], batches: &mut Vec<RecordBatch>) -> Result<bool, Failure> {
        let size = self.pinned.cluster.settings.page_groups.max(1);
        let (mut after, mut counts) = (None, Vec::new());
        for nth in 1..=PAGES_MAX {
            let body = self.asked.body(of_pieces(pieces), size, after.as_ref());
            let answer = match self.ask(pieces, nth, &body).await {
                // More than this process takes at once is more than rows in blocks.
                Err(Failure::TooLarge { .. }) => return Ok(false),
                // Too many conditions for one request, or too much at once: rows are asked for with less.
                Err(failure @ Failure::Refused { .. }) if !failure.is_missing() => {
                    tracing::debug!(error = %chain(&failure), "partial aggregates are refused, and rows are read");
                    return Ok(false);
                }
                answer => answer?,
            };
            let page = match page(&self.asked, &answer.body, size) {
                Ok(page) => page,
                Err(NoPage::Unindexed) => return Ok(false),
                Err(NoPage::Nameless) => {
                    tracing::warn!(
                        request = answer.request,
                        "a group has no key that was asked for, and rows are read"
                    );
                    return Ok(false);
                }
                Err(NoPage::Incomplete(reason)) => return Err(answer.incomplete(reason)),
            };
            if self.asked.filters.is_empty() {
                self.pinned.check_due(&answer, pieces, None, page.rows)?;
            }
            if nth == 1 && page.after.is_some() && !ends_in_time(&page) {
                return Ok(false);
            }
            let unreadable = |error: arrow::error::ArrowError| answer.incomplete(error.to_string());
            let Some(batch) = page.batch(&self.asked).map_err(unreadable)? else { return Ok(false) };
            batches.push(batch);
            counts.push(page.counts());
            after = page.after;
            if after.is_none() {
                let adds_up = each_row_is_in_a_group(&counts);
                if !adds_up {
                    tracing::warn!(
                        request = answer.request,
                        ?counts,
                        "groups don't have each row once, and rows are read"
                    );
                }
                return Ok(adds_up);
            }
        }
        Ok(false)
    }

    /// Asks for the `nth` page of the groups of some pieces' rows.
    async fn ask(&self, pieces: &[Piece], nth: u64, body: &Value) -> Result<Answer, Failure> {
        let indices: Vec<IndexRef> = pieces.iter().map(|piece| piece.index.clone()).collect();
        let span = info_span!(
            target: SPANS,
            parent: &self.span,
            "opensearch.aggregate",
            otel.kind = "client",
            tidemark.indices = number(indices.len()),
            tidemark.offsets = number(offsets(pieces)),
            tidemark.page = number(nth),
        );
        self.pinned.cluster.search(Call::Aggregate, &indices, body, NoRoom::Waits).instrument(span).await
    }
}

#[async_trait]
impl LiveAggregation for Aggregation {
    async fn answer(&self) -> Result<Option<Vec<RecordBatch>>, LiveError> {
        let answer = self.states().instrument(self.span.clone()).await.map_err(failed("aggregate rows"))?;
        tracing::debug!(pieces = self.pieces.len(), exact = answer.is_some(), "asked for partial aggregates");
        Ok(answer)
    }
}

fn offsets(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| piece.range.end - piece.range.start).sum()
}

/// True if the rows of `total` offsets are sooner read than added up elsewhere, where those of `missing` are not in memory.
fn rows_are_nearer(missing: u64, total: u64) -> bool {
    total > 0 && missing.saturating_mul(READ_COSTS) <= total
}

/// True if, by the rows of the groups on the first page, all groups will be had in the pages that there may be.
fn ends_in_time(first: &Page) -> bool {
    first.rows <= first.counts().of_groups.saturating_mul(PAGES_MAX)
}
