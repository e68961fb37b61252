//! The real-time view port: the rows of a generation that lie above its coverage. In memory, or an index of a search engine.
//!
//! A *view* is one dataset's generation. Of each log partition it holds the rows of `[floor, visible)`; what is below the
//! floor was dropped, what is at or above the visible position has not come yet. What holds for every adapter, and what
//! its contract suite checks:
//!
//! - Writing a row twice is writing it once: a row is known by its position (H3).
//! - The visible position only moves forward, and every row below it is found (H4). Where rows are lost, it steps back before
//!   the first of them; a view that was let go begins anew.
//! - A [`LivePin`] is a moment: floors, visible positions and rows of it belong together, whatever happens meanwhile (H6). Rows
//!   that were lost since, or made again, are an error for who reads by it, or still there for him; never others in their place.
//! - Rows go only by [`LiveView::drop_below`] and [`LiveView::close`], never by age or for want of memory (H7): a view
//!   that is full refuses new ones.

mod aggregate;
mod error;
mod layer;
mod narrow;
mod rows;
mod select;
mod table;

pub use aggregate::{AggregateRequest, LiveAggregation, LiveState};
pub use error::LiveError;
pub use layer::LiveLayer;
pub use narrow::narrowed;
pub use rows::{as_schema, rows_in};
pub use select::{is_behind, live_range};
pub use table::{LiveScanExec, LiveTable};

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use serde::Serialize;

use crate::counts::Counts;
use crate::position::{Coverage, LogPartition, united};
use crate::reject::Reject;

/// Which view: a dataset's generation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ViewId {
    /// The dataset.
    pub dataset: String,
    /// The generation.
    pub generation: String,
}

impl fmt::Display for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (generation {})", self.dataset, self.generation)
    }
}

/// What the records of an offset range of one partition became.
#[derive(Debug, Clone)]
pub struct LiveBatch {
    /// The partition.
    pub partition: LogPartition,
    /// The offsets that were read past, with or without records.
    pub range: Range<u64>,
    /// Accepted rows in order of offset, with the view's schema; offsets within `range`.
    pub rows: Vec<RecordBatch>,
    /// Refused records, in order of offset.
    pub rejects: Vec<Reject>,
    /// Offsets of the records that the transform's `WHERE` dropped, in order. With them the counts of any range are
    /// exact (H8): a coverage ends where a segment does, not where a batch does.
    pub filtered: Vec<u64>,
    /// Offsets of the range whose records are lost (H1), in order: an answer that covers them says so.
    pub lost: Vec<Range<u64>>,
}

/// How far a view holds a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LiveRange {
    /// The first offset whose row may be there.
    pub floor: u64,
    /// The exclusive end of what is found.
    pub visible: u64,
}

/// What a view takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LiveUsage {
    /// Rows.
    pub rows: u64,
    /// Rejects: they are kept with their bytes, for as long as rows are, and take room as those do.
    pub rejects: u64,
    /// Bytes of all that is kept, as the adapter counts them.
    pub bytes: u64,
}

impl LiveUsage {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, rejects: self.rejects + other.rejects, bytes: self.bytes + other.bytes }
    }

    /// What is left without `part` of it.
    #[must_use]
    pub fn without(self, part: Self) -> Self {
        Self { rows: self.rows - part.rows, rejects: self.rejects - part.rejects, bytes: self.bytes - part.bytes }
    }
}

/// Lost offsets of a partition after `more` of them were met, without those below `floor`: in order, each once.
#[must_use]
pub fn lost_with(known: &[Range<u64>], more: &[Range<u64>], floor: u64) -> Vec<Range<u64>> {
    // Some may have been met in parts, or once more after a step back.
    united(known.iter().chain(more).filter(|lost| lost.end > floor).cloned())
}

/// Real-time views. All calls may be made from many tasks at once; one writer a view and partition.
#[async_trait]
pub trait LiveView: Send + Sync + fmt::Debug {
    /// Makes a view, or opens the one that is there. Partitions that it does not know yet begin at their offset of
    /// `floors`: floor and visible position. The file ledger is none of its partitions. `schema` is that of a curated
    /// table; rows come out as a curated read yields them ([`crate::curated::with_string_views`]). A view that is there
    /// keeps its rows.
    ///
    /// # Errors
    /// [`LiveError::Schema`] if it is there with another schema; [`LiveError::Format`]; [`LiveError::Backend`].
    async fn open(&self, view: &ViewId, schema: &SchemaRef, floors: &Coverage) -> Result<(), LiveError>;

    /// Takes a batch in and moves the partition's visible position to the end of its range, when all its rows are found.
    /// The part of the range below the visible position was taken in before and counts for nothing.
    ///
    /// # Errors
    /// [`LiveError::Missing`] for a view or partition that was not opened, [`LiveError::Gap`] if the range begins above
    /// the visible position, [`LiveError::Full`] if there is no room: nothing was taken in. [`LiveError::Refused`]: what is
    /// behind the view takes a row in no form, and the visible position stays before it. [`LiveError::Backend`]: if its kind
    /// says that it may pass, call again.
    async fn apply(&self, view: &ViewId, batch: LiveBatch) -> Result<(), LiveError>;

    /// A moment of a view; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`LiveError::Backend`].
    async fn pin(&self, view: &ViewId) -> Result<Option<Arc<dyn LivePin>>, LiveError>;

    /// Lets rows go that lie below `coverage`, and raises the floors. A partition whose visible position is lower begins
    /// anew at the coverage. Pins keep what they have.
    ///
    /// # Errors
    /// [`LiveError::Missing`], [`LiveError::Backend`].
    async fn drop_below(&self, view: &ViewId, coverage: &Coverage) -> Result<(), LiveError>;

    /// Lets a whole view go. One that is not there counts as gone.
    ///
    /// # Errors
    /// [`LiveError::Backend`].
    async fn close(&self, view: &ViewId) -> Result<(), LiveError>;

    /// The views that there are.
    ///
    /// # Errors
    /// [`LiveError::Backend`].
    async fn views(&self) -> Result<Vec<ViewId>, LiveError>;

    /// What all views take together.
    fn usage(&self) -> LiveUsage;

    /// Rows, rejects and bytes that all views together may take; `None` if others see to that.
    fn limit(&self) -> Option<LiveUsage>;
}

/// A moment of a view. Dropping it lets go of what only it holds.
#[async_trait]
pub trait LivePin: Send + Sync + fmt::Debug {
    /// Schema of the rows.
    fn schema(&self) -> SchemaRef;

    /// Floors and visible positions.
    fn ranges(&self) -> &BTreeMap<LogPartition, LiveRange>;

    /// Lost offsets between floor and visible position, of the partitions that have some, in order.
    fn lost(&self) -> BTreeMap<LogPartition, Vec<Range<u64>>>;

    /// How many rows have positions in `ranges`, which lie within the view's, where that is known without a look at them; `None`
    /// where it is not. Asks nobody.
    fn rows(&self, ranges: &BTreeMap<LogPartition, Range<u64>>) -> Option<u64> {
        let _unknown = ranges;
        None
    }

    /// What became of the records from `from` on in each partition (from the floor, where it is absent): each is counted where
    /// it is. For whoever checks that all of them are accounted for (H8); a statement does not wait for it.
    ///
    /// # Errors
    /// [`LiveError::Backend`].
    async fn counts(&self, from: &Coverage) -> Result<Counts, LiveError>;

    /// The rejects from `from` on, in order of partition and offset, at most `limit`.
    ///
    /// # Errors
    /// [`LiveError::Backend`].
    async fn rejects(&self, from: &Coverage, limit: usize) -> Result<Vec<(LogPartition, Reject)>, LiveError>;

    /// A plan that yields the rows with positions in `ranges`, which lie within the view's, and only the columns of
    /// `projection` (all, if `None`). `filters` are hints: rows that they exclude may come all the same; what conditions
    /// on positions exclude need not even be asked for ([`narrowed`]). With `limit`, any so many rows do.
    ///
    /// # Errors
    /// [`LiveError::Backend`].
    fn scan(
        &self,
        ranges: &BTreeMap<LogPartition, Range<u64>>,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, LiveError>;

    /// A way to have rows added up where they are, if what is behind the view may do that exactly; `None`, which is what a
    /// view in memory says, if it surely can't. Asks nothing of anybody yet.
    fn aggregation(&self, request: &AggregateRequest) -> Option<Arc<dyn LiveAggregation>> {
        let _cannot = request;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_offsets_are_told_once() {
        let with = |known: &[(u64, u64)], more: &[(u64, u64)], floor| {
            let ranges = |all: &[(u64, u64)]| all.iter().map(|(start, end)| *start..*end).collect::<Vec<_>>();
            let found = lost_with(&ranges(known), &ranges(more), floor);
            found.into_iter().map(|lost| (lost.start, lost.end)).collect::<Vec<_>>()
        };
        assert_eq!(with(&[], &[], 0), []);
        assert_eq!(with(&[(4, 6)], &[(6, 9), (12, 13)], 0), [(4, 9), (12, 13)]);
        assert_eq!(with(&[(4, 9)], &[(5, 7), (4, 9)], 0), [(4, 9)]);
        assert_eq!(with(&[(4, 9), (12, 13)], &[], 9), [(12, 13)]);
    }
}
