//! The transform: one per-record, deterministic `SELECT … FROM input`, compiled once and run on batches by both layers.

use arrow::record_batch::RecordBatch;

use crate::reject::Reject;

/// What the transform made of one [`crate::decode::Decoded`].
/// `decoded.batch.num_rows() = batch.num_rows() + filtered + rejects.len()` (H8).
#[derive(Debug, Clone)]
pub struct Transformed {
    /// Accepted rows, with the output schema, in order of position.
    pub batch: RecordBatch,
    /// Position of each row of `batch`.
    pub offsets: Vec<u64>,
    /// Records for which the `WHERE` yields no row.
    pub filtered: u64,
    /// Records on which the transform failed, a `reject` rule held, or the event time does not exist, with the
    /// record's original bytes.
    pub rejects: Vec<Reject>,
}
