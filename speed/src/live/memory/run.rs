//! A run: all that became of one contiguous range of a partition's offsets. Runs never change; neighbours are merged into
//! new ones and split at a floor, so that a pin keeps what it has.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;
use tidemark_shared::live::{LiveBatch, as_schema, rows_in};
use tidemark_shared::reject::{Reason, Reject};

use super::size::{batch_bytes, compacted};

/// Rows, rejects and filtered records at which a run is not merged any more.
pub(super) const RUN_RECORDS_MAX: usize = 64 << 10;
/// Bytes at which a run is not merged any more.
pub(super) const RUN_BYTES_MAX: u64 = 64 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) range: Range<u64>,
    /// At least one row, if there is a batch.
    pub(super) rows: Option<RecordBatch>,
    pub(super) rejects: Vec<Reject>,
    pub(super) filtered: Vec<u64>,
    pub(super) bytes: u64,
}

impl Run {
    fn new(range: Range<u64>, rows: Option<RecordBatch>, rejects: Vec<Reject>, filtered: Vec<u64>) -> Self {
        let lists = filtered.capacity() * size_of::<u64>() + rejects.capacity() * size_of::<Reject>();
        let bytes = rows.as_ref().map_or(0, batch_bytes) + lists as u64 + rejects.iter().map(reject_bytes).sum::<u64>();
        Self { range, rows, rejects, filtered, bytes }
    }

    /// A run of what `batch` has from offset `from` on, in memory of its own.
    pub(super) fn of(batch: &LiveBatch, from: u64, schema: &SchemaRef) -> Result<Self, ArrowError> {
        let mut parts = Vec::with_capacity(batch.rows.len());
        for rows in &batch.rows {
            parts.push(as_schema(&rows_in(rows, &(from..u64::MAX)), schema)?);
        }
        parts.retain(|rows| rows.num_rows() > 0);
        let rows = match parts.as_slice() {
            [] => None,
            [one] => Some(compacted(one)?),
            several => Some(compacted(&concat_batches(schema, several)?)?),
        };
        let mut rejects: Vec<Reject> =
            batch.rejects.iter().filter(|reject| reject.offset >= from).map(own_reject).collect();
        // Nobody knew how many they would be.
        rejects.shrink_to_fit();
        let filtered = batch.filtered.iter().copied().filter(|offset| *offset >= from).collect();
        Ok(Self::new(from..batch.range.end, rows, rejects, filtered))
    }

    /// Neighbours as one.
    pub(super) fn merged(runs: &[Arc<Self>], schema: &SchemaRef) -> Result<Self, ArrowError> {
        let range = runs[0].range.start..runs[runs.len() - 1].range.end;
        let rows: Vec<&RecordBatch> = runs.iter().filter_map(|run| run.rows.as_ref()).collect();
        let rows = match rows.as_slice() {
            [] => None,
            [one] => Some((*one).clone()),
            several => Some(compacted(&concat_batches(schema, several.iter().copied())?)?),
        };
        let mut rejects = Vec::with_capacity(runs.iter().map(|run| run.rejects.len()).sum());
        rejects.extend(runs.iter().flat_map(|run| run.rejects.iter().cloned()));
        let mut filtered = Vec::with_capacity(runs.iter().map(|run| run.filtered.len()).sum());
        filtered.extend(runs.iter().flat_map(|run| run.filtered.iter().copied()));
        Ok(Self::new(range, rows, rejects, filtered))
    }

    /// What is left of it from `floor` on, in memory of its own.
    pub(super) fn above(&self, floor: u64) -> Result<Self, ArrowError> {
        let rows = self.rows_in(&(floor..u64::MAX));
        let rows = rows.as_ref().map(compacted).transpose()?;
        let rejects = self.rejects_from(floor).to_vec();
        let filtered = self.filtered_from(floor).to_vec();
        Ok(Self::new(floor..self.range.end, rows, rejects, filtered))
    }

    /// Rows, rejects and filtered records; at least 1, so that empty runs are merged, too.
    pub(super) fn weight(&self) -> usize {
        (self.row_count() + self.rejects.len() + self.filtered.len()).max(1)
    }

    pub(super) fn row_count(&self) -> usize {
        self.rows.as_ref().map_or(0, RecordBatch::num_rows)
    }

    /// The rows with offsets in `range`; shares memory.
    pub(super) fn rows_in(&self, range: &Range<u64>) -> Option<RecordBatch> {
        let rows = rows_in(self.rows.as_ref()?, range);
        (rows.num_rows() > 0).then_some(rows)
    }

    /// How many rows have offsets in `range`.
    pub(super) fn row_count_in(&self, range: &Range<u64>) -> usize {
        if range.start <= self.range.start && self.range.end <= range.end {
            return self.row_count();
        }
        self.rows_in(range).map_or(0, |rows| rows.num_rows())
    }

    pub(super) fn rejects_from(&self, from: u64) -> &[Reject] {
        &self.rejects[self.rejects.partition_point(|reject| reject.offset < from)..]
    }

    pub(super) fn filtered_from(&self, from: u64) -> &[u64] {
        &self.filtered[self.filtered.partition_point(|offset| *offset < from)..]
    }
}

/// How many of the last runs are to be merged into one, by weight and bytes; fewer than 2 if none are. Neighbours of
/// similar size are, so that a row is copied as often as its run has doubled, and runs stay few.
pub(super) fn to_merge(runs: &[(usize, u64)]) -> usize {
    let mut newest_first = runs.iter().rev();
    let Some(&(mut weight, mut bytes)) = newest_first.next() else { return 0 };
    let mut count = 1;
    for (older_weight, older_bytes) in newest_first {
        let fits = weight + older_weight <= RUN_RECORDS_MAX && bytes + older_bytes <= RUN_BYTES_MAX;
        if !fits || *older_weight > 2 * weight {
            break;
        }
        (weight, bytes, count) = (weight + older_weight, bytes + older_bytes, count + 1);
    }
    count
}

/// A reject that does not keep the memory alive that its bytes were read into.
fn own_reject(reject: &Reject) -> Reject {
    Reject { bytes: Bytes::copy_from_slice(&reject.bytes), ..reject.clone() }
}

/// What a reject takes beside its place in a list.
fn reject_bytes(reject: &Reject) -> u64 {
    let column = reject.column.as_ref().map_or(0, String::len);
    let rule = if let Reason::Rule(name) = &reject.reason { name.len() } else { 0 };
    (reject.bytes.len() + reject.message.len() + column + rule) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_similar_size_are_merged() {
        for (weights, wanted) in [
            (vec![], 0),
            (vec![5], 1),
            (vec![5, 5], 2),
            (vec![11, 5], 1),
            (vec![40, 20, 10, 10], 4),
            (vec![100, 20, 10, 10], 3),
            (vec![RUN_RECORDS_MAX, 1, 1], 2),
            (vec![RUN_RECORDS_MAX / 2, RUN_RECORDS_MAX / 2 + 1], 1),
        ] {
            let runs: Vec<(usize, u64)> = weights.iter().map(|weight| (*weight, 8)).collect();
            assert_eq!(to_merge(&runs), wanted, "{weights:?}");
        }
        assert_eq!(to_merge(&[(5, RUN_BYTES_MAX), (5, 1)]), 1, "a run of many bytes was merged");
    }

    #[test]
    fn runs_stay_few_and_rows_are_copied_seldom() {
        let (mut runs, mut copied) = (Vec::<(usize, u64)>::new(), 0);
        let total = 200_000;
        for _ in 0..total {
            runs.push((1, 1));
            let count = to_merge(&runs);
            if count > 1 {
                let tail = runs.split_off(runs.len() - count);
                let weight = tail.iter().map(|run| run.0).sum();
                copied += weight;
                runs.push((weight, 1));
            }
        }
        assert!(runs.len() < 40, "{} runs", runs.len());
        assert!(copied < 20 * total, "every row was copied {} times", copied / total);
    }
}
