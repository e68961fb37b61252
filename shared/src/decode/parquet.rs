//! Parquet: row groups are decoded apart, big ones in pieces. Positions are row numbers.

use std::io::{self, BufReader};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::Decoded;
use super::columnar::ColumnarPlan;
use super::input::{Guarded, GuardedReader};

/// Rows decoded at once: what bounds memory where a file is one big row group.
const PIECE_ROWS: usize = 4 * BATCH_ROWS;
const BATCH_ROWS: usize = 65_536;

impl Length for Guarded {
    fn len(&self) -> u64 {
        Self::len(self)
    }
}

impl ChunkReader for Guarded {
    type T = BufReader<GuardedReader>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(self.reader(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.read(start, length).map_err(|error| ParquetError::External(Box::new(error)))
    }
}

/// Rows of one row group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    row_group: usize,
    /// Rows within the row group.
    rows: Range<usize>,
    first_row: u64,
    /// Compressed bytes, by share of the rows.
    pub(crate) bytes: u64,
}

/// An opened Parquet file.
#[derive(Debug)]
pub(crate) struct ParquetFile {
    pub(crate) metadata: ArrowReaderMetadata,
    pub(crate) pieces: Vec<Piece>,
}

impl ParquetFile {
    /// Reads the footer. The message says why the file is no Parquet file.
    pub(crate) fn open(source: &Guarded) -> io::Result<Result<Self, String>> {
        let loaded = catch_unwind(AssertUnwindSafe(|| ArrowReaderMetadata::load(source, ArrowReaderOptions::new())));
        source.check()?;
        let metadata = match loaded {
            Ok(Ok(metadata)) => metadata,
            Ok(Err(error)) => return Ok(Err(error.to_string())),
            Err(_) => return Ok(Err("the footer is damaged".to_owned())),
        };
        let mut pieces = Vec::new();
        let mut first_row = 0;
        for (row_group, group) in metadata.metadata().row_groups().iter().enumerate() {
            let Ok(rows) = usize::try_from(group.num_rows()) else {
                return Ok(Err("a row group has a negative number of rows".to_owned()));
            };
            let bytes = u64::try_from(group.compressed_size()).unwrap_or(0);
            for start in (0..rows).step_by(PIECE_ROWS) {
                let end = rows.min(start + PIECE_ROWS);
                let bytes = bytes * (end - start) as u64 / rows as u64;
                pieces.push(Piece { row_group, rows: start..end, first_row: first_row + start as u64, bytes });
            }
            first_row += rows as u64;
        }
        Ok(Ok(Self { metadata, pieces }))
    }

    /// Rows of a piece; what can't be read is one reject at the first row that is lost.
    pub(crate) fn decode(&self, source: &Guarded, plan: &ColumnarPlan, piece: &Piece) -> io::Result<Vec<Decoded>> {
        let mut done = Vec::new();
        let mut row = piece.first_row;
        let end = piece.first_row + piece.rows.len() as u64;
        let read = catch_unwind(AssertUnwindSafe(|| -> Result<(), String> {
            for batch in self.reader(source, plan, piece).map_err(|error| error.to_string())? {
                let batch = batch.map_err(|error| error.to_string())?;
                done.push(plan.decode(&batch, row).map_err(|error| error.to_string())?);
                row += batch.num_rows() as u64;
            }
            Ok(())
        }));
        source.check()?;
        let damage = match read {
            Ok(Ok(())) if row == end => None,
            Ok(Ok(())) => Some("the row group has fewer rows than it says".to_owned()),
            Ok(Err(error)) => Some(error),
            Err(_) => Some("the row group is damaged".to_owned()),
        };
        if let Some(error) = damage {
            let group = piece.row_group;
            let message =
                format!("rows {row} to {} of row group {group} can't be read: {error}", end.saturating_sub(1));
            done.push(plan.unreadable(row, message));
        }
        Ok(done)
    }

    fn reader(
        &self,
        source: &Guarded,
        plan: &ColumnarPlan,
        piece: &Piece,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), plan.roots.iter().copied());
        ParquetRecordBatchReaderBuilder::new_with_metadata(source.clone(), self.metadata.clone())
            .with_row_groups(vec![piece.row_group])
            .with_projection(mask)
            .with_offset(piece.rows.start)
            .with_limit(piece.rows.len())
            .with_batch_size(BATCH_ROWS)
            .build()
    }
}
