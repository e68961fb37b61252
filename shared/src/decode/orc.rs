//! ORC: what is its own about reading it. Positions are row numbers.

use std::io::{self, BufReader};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use orc_rust::projection::ProjectionMask;
use orc_rust::reader::ChunkReader;
use orc_rust::reader::metadata::{FileMetadata, read_metadata};
use orc_rust::{ArrowReaderBuilder, TimestampPrecision};

use super::caught::caught;
use super::columnar::ColumnarPlan;
use super::input::{Guarded, GuardedReader};
use super::orc_footer;
use super::pieces::{BATCH_ROWS, Groups, Piece};

impl ChunkReader for Guarded {
    type T = BufReader<GuardedReader>;

    fn len(&self) -> u64 {
        Self::len(self)
    }

    fn get_read(&self, offset_from_start: u64) -> io::Result<Self::T> {
        Ok(BufReader::new(self.reader(offset_from_start)))
    }

    fn get_bytes(&self, offset_from_start: u64, length: u64) -> io::Result<Bytes> {
        self.read(offset_from_start, usize::try_from(length).map_err(io::Error::other)?)
    }
}

/// An opened ORC file.
#[derive(Debug)]
pub(crate) struct OrcFile {
    pub(crate) schema: SchemaRef,
    metadata: Arc<FileMetadata>,
    /// One a stripe.
    pieces: Vec<Piece>,
}

impl OrcFile {
    /// Reads the footer. The message says why the file is no ORC file.
    pub(crate) fn open(source: &Guarded) -> io::Result<Result<Self, String>> {
        let opened = caught("the footer", || {
            orc_footer::check(source)?;
            let mut reader = source.clone();
            let metadata = Arc::new(read_metadata(&mut reader).map_err(|error| error.to_string())?);
            let builder = ArrowReaderBuilder::try_new(reader).map_err(|error| error.to_string())?;
            let schema = builder.with_timestamp_precision(TimestampPrecision::Microsecond).schema();
            let pieces = pieces(&metadata)?;
            Ok(Self { schema, metadata, pieces })
        });
        source.check()?;
        Ok(opened)
    }

    /// ORC numbers columns over all levels; the plan counts top-level ones.
    fn column_indices(&self, plan: &ColumnarPlan) -> Vec<usize> {
        let children = self.metadata.root_data_type().children();
        plan.roots.iter().filter_map(|root| children.get(*root)).map(|c| c.data_type().column_index()).collect()
    }
}

fn pieces(metadata: &FileMetadata) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut first_row: u64 = 0;
    let mut start = 0;
    for (group, stripe) in metadata.stripe_metadatas().iter().enumerate() {
        let rows = stripe.number_of_rows();
        // Stripes are found by where they start, so a wrong start would read another stripe's rows a second time.
        if stripe.offset() < start {
            return Err("the footer is damaged: its stripes overlap".to_owned());
        }
        start = stripe.offset().saturating_add(stripe.index_length()).saturating_add(stripe.data_length());
        if rows > 0 {
            let bytes = stripe.index_length().saturating_add(stripe.data_length());
            pieces.push(Piece { group, rows: 0..rows, first_row, bytes });
        }
        first_row = first_row.checked_add(rows).ok_or("the footer is damaged: too many rows")?;
    }
    let told = metadata.number_of_rows();
    if told != first_row {
        return Err(format!("the footer is damaged: it tells of {told} rows, its stripes of {first_row}"));
    }
    Ok(pieces)
}

impl Groups for OrcFile {
    const GROUP: &'static str = "stripe";

    fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    fn batches(
        &self,
        source: &Guarded,
        plan: &ColumnarPlan,
        piece: &Piece,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>>, String> {
        let projection = ProjectionMask::roots(self.metadata.root_data_type(), self.column_indices(plan));
        // The reader takes the stripes that start within a range of the file's bytes.
        let start = self.metadata.stripe_metadatas()[piece.group].offset();
        let start = usize::try_from(start).map_err(|error| error.to_string())?;
        let builder = ArrowReaderBuilder::try_new(source.clone()).map_err(|error| error.to_string())?;
        Ok(builder
            .with_projection(projection)
            .with_timestamp_precision(TimestampPrecision::Microsecond)
            .with_batch_size(BATCH_ROWS)
            .with_file_byte_range(start..start.saturating_add(1))
            .build())
    }
}
