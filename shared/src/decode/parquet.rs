//! Parquet: what is its own about reading it. Positions are row numbers.

use std::io::{self, BufReader};

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::FOOTER_SIZE;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::caught::caught;
use super::columnar::ColumnarPlan;
use super::input::{Guarded, GuardedReader};
use super::pieces::{BATCH_ROWS, Groups, Piece};
use super::thrift::{is_odd_footer, is_odd_page_header};

/// Rows decoded by one thread: what bounds memory where a file is one big row group.
const PIECE_ROWS: u64 = 4 * BATCH_ROWS as u64;
/// Most rows of a row group; writers make them of a million or so.
const GROUP_ROWS_MAX: u64 = u32::MAX as u64;

impl Length for Guarded {
    fn len(&self) -> u64 {
        Self::len(self)
    }
}

impl ChunkReader for Guarded {
    type T = BufReader<GuardedReader>;

    /// Asked for the header of a page, and for the file's last bytes, which say how long the footer is.
    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let reader = self.reader(start).filled()?;
        if start != end_of_footer(self) {
            refuse(is_odd_page_header(&mut BufReader::new(reader.clone())), "a page header")?;
        }
        Ok(BufReader::new(reader))
    }

    /// Asked for a page, and for the footer.
    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.read(start, length).map_err(|error| ParquetError::External(Box::new(error)))?;
        if start + length as u64 == end_of_footer(self) {
            refuse(is_odd_footer(&mut bytes.as_ref()), "the footer")?;
        }
        Ok(bytes)
    }
}

/// Where the footer's structure ends: its length and the format's mark follow.
fn end_of_footer(file: &Guarded) -> u64 {
    file.len().saturating_sub(FOOTER_SIZE as u64)
}

fn refuse(is_odd: bool, what: &str) -> Result<(), ParquetError> {
    if is_odd {
        return Err(ParquetError::General(format!(
            "{what} is damaged: it has a list or another value where none can be"
        )));
    }
    Ok(())
}

/// An opened Parquet file.
#[derive(Debug)]
pub(crate) struct ParquetFile {
    pub(crate) metadata: ArrowReaderMetadata,
    pieces: Vec<Piece>,
}

impl ParquetFile {
    /// Reads the footer. The message says why the file is no Parquet file.
    pub(crate) fn open(source: &Guarded) -> io::Result<Result<Self, String>> {
        let opened = caught("the footer", || {
            let options = ArrowReaderOptions::new();
            let metadata = ArrowReaderMetadata::load(source, options).map_err(|error| error.to_string())?;
            let pieces = pieces(&metadata)?;
            Ok(Self { metadata, pieces })
        });
        source.check()?;
        Ok(opened)
    }
}

/// Rows of a row group, if its columns may hold as many: every row has at least one value or null in each of them.
fn plausible_rows(group: &RowGroupMetaData) -> Option<u64> {
    let rows = u64::try_from(group.num_rows()).ok().filter(|rows| *rows <= GROUP_ROWS_MAX)?;
    group.columns().iter().all(|column| column.num_values() >= group.num_rows()).then_some(rows)
}

fn pieces(metadata: &ArrowReaderMetadata) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut first_row = 0;
    for (index, group) in metadata.metadata().row_groups().iter().enumerate() {
        let rows = plausible_rows(group).ok_or("the footer is damaged: a row group's number of rows can't be right")?;
        let bytes = u64::try_from(group.compressed_size()).unwrap_or(0);
        let mut start = 0;
        while start < rows {
            let end = rows.min(start + PIECE_ROWS);
            let share = u128::from(bytes) * u128::from(end - start) / u128::from(rows);
            let bytes = u64::try_from(share).expect("a share is not more than the whole");
            pieces.push(Piece { group: index, rows: start..end, first_row: first_row + start, bytes });
            start = end;
        }
        first_row += rows;
    }
    let told = metadata.metadata().file_metadata().num_rows();
    if u64::try_from(told) != Ok(first_row) {
        return Err(format!("the footer is damaged: it tells of {told} rows, its row groups of {first_row}"));
    }
    Ok(pieces)
}

impl Groups for ParquetFile {
    const GROUP: &'static str = "row group";

    fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    fn batches(
        &self,
        source: &Guarded,
        plan: &ColumnarPlan,
        piece: &Piece,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>>, String> {
        let row = |row: u64| usize::try_from(row).map_err(|error| error.to_string());
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), plan.roots.iter().copied());
        ParquetRecordBatchReaderBuilder::new_with_metadata(source.clone(), self.metadata.clone())
            .with_row_groups(vec![piece.group])
            .with_projection(mask)
            .with_offset(row(piece.rows.start)?)
            .with_limit(row(piece.rows.end - piece.rows.start)?)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|error| error.to_string())
    }
}
