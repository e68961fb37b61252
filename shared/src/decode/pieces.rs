//! Columnar files of groups of rows, which are Parquet's row groups and ORC's stripes: what reading them has in common.
//! Groups are decoded apart from each other, big ones in pieces.

use std::io;
use std::ops::Range;

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use super::Decoded;
use super::caught::caught;
use super::columnar::ColumnarPlan;
use super::input::Guarded;

/// Rows decoded at once.
pub(crate) const BATCH_ROWS: usize = super::BATCH_ROWS_MAX;

/// Some rows of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Index of the group.
    pub(crate) group: usize,
    /// Rows within the group; never empty.
    pub(crate) rows: Range<u64>,
    /// Row number within the file of the piece's first row.
    pub(crate) first_row: u64,
    /// About how many bytes of the file the rows take.
    pub(crate) bytes: u64,
}

impl Piece {
    fn end(&self) -> u64 {
        self.first_row + (self.rows.end - self.rows.start)
    }
}

/// A file of groups.
pub(crate) trait Groups {
    /// What its groups are called.
    const GROUP: &'static str;

    /// All rows, in order.
    fn pieces(&self) -> &[Piece];

    /// Reads a piece's rows with the columns that `plan` wants, in batches of at most [`BATCH_ROWS`]. May panic on
    /// damaged bytes, as may the iterator.
    fn batches(
        &self,
        source: &Guarded,
        plan: &ColumnarPlan,
        piece: &Piece,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>>, String>;
}

/// The rows of a piece; from the first batch that can't be read on, one reject.
pub(crate) fn decode<F: Groups>(
    file: &F,
    source: &Guarded,
    plan: &ColumnarPlan,
    piece: &Piece,
) -> io::Result<Vec<Decoded>> {
    let mut done = Vec::new();
    let mut row = piece.first_row;
    let read = caught(&format!("the {}", F::GROUP), || {
        let mut batches = file.batches(source, plan, piece)?;
        while row < piece.end() {
            done.push(next::<F>(&mut batches, plan, piece, row)?);
            row += done.last().map_or(0, Decoded::records);
        }
        Ok(())
    });
    source.check()?;
    if let Err(error) = read {
        done.push(plan.unreadable(row, unreadable::<F>(piece, row, &error)));
    }
    Ok(done)
}

/// Why not a single row of the file can be read; `None` if one can be, or there is none. Costs one batch of a file that
/// is not damaged.
pub(crate) fn nothing_readable<F: Groups>(
    file: &F,
    source: &Guarded,
    plan: &ColumnarPlan,
) -> io::Result<Option<String>> {
    let mut reason = None;
    for piece in file.pieces() {
        let read = caught(&format!("the {}", F::GROUP), || {
            next::<F>(&mut file.batches(source, plan, piece)?, plan, piece, piece.first_row).map(|_| ())
        });
        source.check()?;
        match read {
            Ok(()) => return Ok(None),
            Err(error) => reason = reason.or_else(|| Some(unreadable::<F>(piece, piece.first_row, &error))),
        }
    }
    Ok(reason)
}

fn unreadable<F: Groups>(piece: &Piece, row: u64, error: &str) -> String {
    let last = piece.end() - 1;
    format!("rows {row} to {last}, of {} {}, can't be read: {error}", F::GROUP, piece.group)
}

/// The next rows of a piece, the first of them row `row`. It has at least one left.
fn next<F: Groups>(
    batches: &mut impl Iterator<Item = Result<RecordBatch, ArrowError>>,
    plan: &ColumnarPlan,
    piece: &Piece,
    row: u64,
) -> Result<Decoded, String> {
    let batch = batches.next().transpose().map_err(|error| error.to_string())?;
    let batch = batch.filter(|batch| batch.num_rows() > 0);
    let batch = batch.ok_or_else(|| format!("the {} has fewer rows than it says", F::GROUP))?;
    if batch.num_rows() as u64 > piece.end() - row {
        return Err(format!("the {} has more rows than it says", F::GROUP));
    }
    plan.decode(&batch, row).map_err(|error| error.to_string())
}
