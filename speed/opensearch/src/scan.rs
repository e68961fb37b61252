//! Rows into a plan: several streams side by side, each a few requests ahead of its reader, block by block.
//!
//! More than one block ([`crate::blocks`]) of an index are read from a [`PointInTime`], whose index is compared once, after it was
//! opened; a single one is read as it is and compared then (H6). Conditions and limits:
//!
//! - Conditions keep rows back where the cluster takes them as queries ([`crate::filter`]). Where it does not, whatever its settings
//!   say, all rows are read: the engine looks at every row again.
//! - A limit counts only where there are no conditions. With them nobody knows here which rows pass, and so which are enough.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tidemark_shared::live::{narrowed, rows_in};
use tidemark_shared::position::LogPartition;
use tidemark_shared::telemetry::{SPANS, number};
use tracing::{Instrument as _, Span, info_span};

use crate::blocks::{Block, blocks, cut, less_helps, part, sharing};
use crate::cache::BlockKey;
use crate::calls::Call;
use crate::client::{Answer, NoRoom};
use crate::counts::in_range;
use crate::failure::{Failure, failed};
use crate::filter::Prefilter;
use crate::pin::{Piece, Pinned};
use crate::point_in_time::PointInTime;
use crate::state::IndexRef;

#[cfg(test)]
mod tests;

/// Values of a binary field come without the `=` that they were written with.
const UNPADDED: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Requests of a stream that are under way at once.
const AHEAD: usize = 2;
/// Most hits of a search that the cluster allows.
const HITS_MAX: u64 = 10_000;
/// Bytes of rows, about, that are asked for at once. The cluster makes a whole answer in its memory, and there are several at a time.
const BLOCK_BYTES: u64 = 8 << 20;

/// A plan that yields the rows in `ranges`.
pub(crate) fn plan(
    pinned: &Arc<Pinned>,
    ranges: &BTreeMap<LogPartition, Range<u64>>,
    projection: Option<&Vec<usize>>,
    filters: &[Expr],
    limit: Option<usize>,
) -> PlanResult<Arc<dyn ExecutionPlan>> {
    let read = pinned.handle.exact.read();
    let schema = match projection {
        Some(columns) => Arc::new(read.project(columns)?),
        None => Arc::clone(read),
    };
    let ranges = narrowed(ranges, filters);
    let limit = limit.filter(|_| filters.is_empty());
    let each = ranges.iter().flat_map(|(partition, ranges)| ranges.iter().map(move |range| (partition, range)));
    let blocks = blocks(each.flat_map(|(partition, range)| pinned.pieces(partition, range)), around(pinned));
    let parts = if limit.is_some() { 1 } else { pinned.cluster.settings.scan_parts.clamp(1, blocks.len().max(1)) };
    let prefilter = Arc::new(Prefilter::new(filters, &pinned.handle.mapping));
    let span = Span::current();
    let part = |blocks: &[Block]| -> Arc<dyn PartitionStream> {
        Arc::new(Part {
            pinned: Arc::clone(pinned),
            blocks: blocks.to_vec(),
            projection: projection.cloned(),
            schema: Arc::clone(&schema),
            prefilter: Arc::clone(&prefilter),
            limit,
            span: span.clone(),
        })
    };
    let mut all: Vec<_> = blocks.chunks(blocks.len().div_ceil(parts).max(1)).map(part).collect();
    if all.is_empty() {
        all.push(part(&[]));
    }
    Ok(Arc::new(StreamingTableExec::try_new(Arc::clone(&schema), all, None, [], false, limit)?))
}

/// Offsets of a piece whose rows are not in memory.
pub(crate) fn missing(pinned: &Pinned, piece: &Piece) -> u64 {
    let missing = |(of, part): (Range<u64>, Piece)| {
        let held = pinned.cluster.cache.held(&key(&part.index, of.start));
        let held = held.filter(|held| held.start <= part.range.start).map_or(part.range.start, |held| held.end);
        part.range.end.saturating_sub(held.max(part.range.start))
    };
    cut(piece, &around(pinned)).into_iter().map(missing).sum()
}

/// Which offsets of a partition are read together with one of them: few, where their rows are large.
fn around(pinned: &Pinned) -> impl Fn(&LogPartition, u64) -> Range<u64> {
    let size = pinned.cluster.settings.block_offsets.clamp(1, HITS_MAX);
    move |partition, at| {
        let start = at - at % size;
        part(start..start.saturating_add(size), at, BLOCK_BYTES, |range| bytes_in(pinned, partition, range))
    }
}

/// About how many bytes the rows at offsets of a partition have.
fn bytes_in(pinned: &Pinned, partition: &LogPartition, range: &Range<u64>) -> u64 {
    pinned.states.get(partition).map_or(0, |state| state.bytes_in(range))
}

/// Under what the block that begins at `start` is kept in memory: where an index lost what it held and has it again, what was read
/// in between is not found any more.
fn key(index: &IndexRef, start: u64) -> BlockKey {
    let history = index.history.as_deref().unwrap_or_default();
    (format!("{} {history}", index.uuid).into(), start)
}

/// One stream of a plan.
#[derive(Debug)]
struct Part {
    pinned: Arc<Pinned>,
    blocks: Vec<Block>,
    projection: Option<Vec<usize>>,
    schema: SchemaRef,
    prefilter: Arc<Prefilter>,
    limit: Option<usize>,
    /// What it was planned in. It is read elsewhere, where nobody knows that any more.
    span: Span,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let reader = Arc::new(Reader {
            pinned: Arc::clone(&self.pinned),
            projection: self.projection.clone(),
            prefilter: Arc::clone(&self.prefilter),
            limit: self.limit,
            span: self.span.clone(),
        });
        let cluster = &self.pinned.cluster;
        let point = |index: &IndexRef| PointInTime::new(Arc::clone(cluster), index.clone());
        let read = move |(block, point): (Block, Option<Arc<PointInTime>>)| {
            let reader = Arc::clone(&reader);
            async move { reader.read(&block, point.as_deref()).await.map_err(told) }
        };
        let ahead = if self.limit.is_some() { 1 } else { AHEAD };
        let batches = futures::stream::iter(sharing(&self.blocks, point)).map(read).buffered(ahead);
        let mut left = self.limit.unwrap_or(usize::MAX);
        let batches = batches.try_take_while(move |batch| {
            let goes_on = left > 0;
            left = left.saturating_sub(batch.num_rows());
            std::future::ready(Ok(goes_on))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

fn told(failure: Failure) -> DataFusionError {
    DataFusionError::External(Box::new(failed("read rows")(failure)))
}

/// What a stream's requests share.
struct Reader {
    pinned: Arc<Pinned>,
    projection: Option<Vec<usize>>,
    prefilter: Arc<Prefilter>,
    limit: Option<usize>,
    span: Span,
}

#[derive(Debug, Deserialize)]
struct Found<'a> {
    #[serde(borrow)]
    hits: Hits<'a>,
}

#[derive(Debug, Deserialize)]
struct Hits<'a> {
    #[serde(borrow, default)]
    hits: Vec<Hit<'a>>,
}

#[derive(Debug, Deserialize)]
struct Hit<'a> {
    sort: [i64; 1],
    #[serde(borrow, default)]
    fields: Fields<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    exact: Vec<&'a str>,
}

impl Reader {
    /// The rows of a block, with the columns that are wanted; from `point`, if there is one.
    async fn read(&self, block: &Block, point: Option<&PointInTime>) -> Result<RecordBatch, Failure> {
        let piece = &block.piece;
        let cache = &self.pinned.cluster.cache;
        let key = key(&piece.index, block.of.start);
        let known = cache.get(&key).filter(|(known, _)| known.start <= piece.range.start);
        if let Some((known, rows)) = &known
            && known.end >= piece.range.end
        {
            return self.projected(&rows_in(rows, &piece.range), piece);
        }
        if self.limit.is_some() {
            let rows = self.fetch(piece, point, &piece.range, &[]).await?;
            return self.projected(&rows, piece);
        }
        let filters = self.prefilter.with(block.between());
        if !filters.is_empty() {
            match self.fetch(piece, point, &piece.range, &filters).await {
                // All rows are asked for, as where there are no conditions.
                Err(failure) if self.prefilter.is_refused_by(&failure) => {}
                rows => return self.projected(&rows?, piece),
            }
        }
        if self.projection.as_ref().is_some_and(Vec::is_empty) {
            let count = self.count(piece, point).await?;
            return self.empty(count, piece);
        }
        let (range, rows) = match known {
            // Only what is new.
            Some((known, rows)) if known.end > piece.range.start => {
                let more = self.fetch(piece, point, &(known.end..piece.range.end), &[]).await?;
                let rows = concat_batches(self.pinned.handle.exact.read(), [&rows, &more]);
                (known.start..piece.range.end, rows.map_err(|error| corrupt(&piece.index, error))?)
            }
            _ => (piece.range.clone(), self.fetch(piece, point, &piece.range, &[]).await?),
        };
        cache.put(key, range, rows.clone());
        self.projected(&rows_in(&rows, &piece.range), piece)
    }

    fn projected(&self, rows: &RecordBatch, piece: &Piece) -> Result<RecordBatch, Failure> {
        match &self.projection {
            Some(columns) if columns.is_empty() => self.empty(rows.num_rows(), piece),
            Some(columns) => rows.project(columns).map_err(|error| corrupt(&piece.index, error)),
            None => Ok(rows.clone()),
        }
    }

    /// Rows without columns.
    fn empty(&self, count: usize, piece: &Piece) -> Result<RecordBatch, Failure> {
        let schema = self.pinned.handle.exact.read().project(&[]);
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        schema
            .and_then(|schema| RecordBatch::try_new_with_options(Arc::new(schema), Vec::new(), &options))
            .map_err(|error| corrupt(&piece.index, error))
    }

    /// The rows of `range` that pass `filters`, all columns; of few offsets at a time where they are large.
    async fn fetch(
        &self,
        piece: &Piece,
        point: Option<&PointInTime>,
        range: &Range<u64>,
        filters: &[Value],
    ) -> Result<RecordBatch, Failure> {
        let exact = &self.pinned.handle.exact;
        let (mut todo, mut parts) = (vec![(range.clone(), 0)], Vec::new());
        while let Some((range, halved)) = todo.pop() {
            let (length, bytes) = (range.end - range.start, bytes_in(&self.pinned, &piece.partition, &range));
            let helps = less_helps(&range, halved, bytes);
            let no_room = if helps { NoRoom::Told } else { NoRoom::Waits };
            let answer = match self.search(piece, point, self.query(piece, &range, filters), no_room).await {
                // What is too large by itself is halved down to a single row.
                Err(failure) if failure.is_too_much() && length > 1 && (helps || !failure.is_breaker()) => {
                    let middle = range.start + length / 2;
                    todo.extend([(middle..range.end, halved + 1), (range.start..middle, halved + 1)]);
                    continue;
                }
                answer => answer?,
            };
            let found: Found<'_> = serde_json::from_str(&answer.body)
                .map_err(|source| Failure::Unreadable { request: answer.request.clone(), source })?;
            if filters.is_empty() {
                let part = Piece { range, ..piece.clone() };
                self.pinned.check_due(&answer, &[part], self.limit, found.hits.hits.len() as u64)?;
            }
            let mut offsets = Vec::with_capacity(found.hits.hits.len());
            let mut rows = Vec::with_capacity(found.hits.hits.len());
            for Hit { sort: [offset], fields } in &found.hits.hits {
                let [text] = fields.exact.as_slice() else {
                    return Err(corrupt(&piece.index, format!("the row at offset {offset} is not there")));
                };
                offsets.push(*offset);
                rows.push(UNPADDED.decode(text).map_err(|error| corrupt(&piece.index, error))?);
            }
            let decoded = exact.decode(&piece.partition, offsets, &rows);
            parts.push(decoded.map_err(|error| corrupt(&piece.index, error))?);
        }
        match parts.as_slice() {
            [one] => Ok(one.clone()),
            several => concat_batches(exact.read(), several).map_err(|error| corrupt(&piece.index, error)),
        }
    }

    fn query(&self, piece: &Piece, range: &Range<u64>, filters: &[Value]) -> Value {
        let hits = range.end - range.start;
        let size = self.limit.map_or(hits, |limit| hits.min(limit as u64));
        json!({
            "size": size,
            "query": matching(&piece.index, range, filters),
            "sort": [{"offset": "asc"}],
            "_source": false,
            "docvalue_fields": ["exact"],
            "track_total_hits": false,
        })
    }

    /// How many rows a block has.
    async fn count(&self, piece: &Piece, point: Option<&PointInTime>) -> Result<usize, Failure> {
        let body = json!({"size": 0, "track_total_hits": true, "query": matching(&piece.index, &piece.range, &[])});
        let answer = self.search(piece, point, body, NoRoom::Waits).await?;
        let found: Value = answer.parsed()?;
        let count = found["hits"]["total"]["value"].as_u64();
        let count = count.ok_or_else(|| answer.incomplete("there is no count"))?;
        self.pinned.check_due(&answer, std::slice::from_ref(piece), None, count)?;
        usize::try_from(count).map_err(|_| answer.incomplete("the count is too large"))
    }

    async fn search(
        &self,
        piece: &Piece,
        point: Option<&PointInTime>,
        body: Value,
        no_room: NoRoom,
    ) -> Result<Answer, Failure> {
        let span = info_span!(
            target: SPANS,
            parent: &self.span,
            "opensearch.search",
            otel.kind = "client",
            tidemark.index = piece.index.name,
            tidemark.offset.start = number(piece.range.start),
            tidemark.offset.end = number(piece.range.end),
        );
        let searching = async {
            let Some(point) = point else {
                let index = std::slice::from_ref(&piece.index);
                return self.pinned.cluster.search(Call::Search, index, &body, no_room).await;
            };
            point.search(body, no_room).await
        };
        searching.instrument(span).await
    }
}

/// The query for the rows of an index in a range that pass `filters`; of no other index, whatever has the alias.
fn matching(index: &IndexRef, range: &Range<u64>, filters: &[Value]) -> Value {
    let mut all = vec![json!({"term": {"kind": "row"}}), json!({"term": {"_index": index.name}}), in_range(range)];
    all.extend(filters.iter().cloned());
    json!({"bool": {"filter": all}})
}

fn corrupt(index: &IndexRef, reason: impl ToString) -> Failure {
    Failure::Corrupt { index: index.name.clone(), reason: reason.to_string() }
}
