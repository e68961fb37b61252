//! ORC: stripes are decoded apart. Positions are row numbers.

use std::io::{self, BufReader};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use orc_rust::projection::ProjectionMask;
use orc_rust::reader::ChunkReader;
use orc_rust::reader::metadata::FileMetadata;
use orc_rust::{ArrowReaderBuilder, TimestampPrecision};

use super::Decoded;
use super::columnar::ColumnarPlan;
use super::input::{Guarded, GuardedReader};

const BATCH_ROWS: usize = 65_536;

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

/// One stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stripe {
    index: usize,
    range: Range<usize>,
    first_row: u64,
    rows: u64,
    pub(crate) bytes: u64,
}

/// An opened ORC file.
#[derive(Debug)]
pub(crate) struct OrcFile {
    pub(crate) schema: SchemaRef,
    metadata: Arc<FileMetadata>,
    pub(crate) stripes: Vec<Stripe>,
}

impl OrcFile {
    /// Reads the footer. The message says why the file is no ORC file.
    pub(crate) fn open(source: &Guarded) -> io::Result<Result<Self, String>> {
        let opened = catch_unwind(AssertUnwindSafe(|| -> Result<Self, String> {
            let mut reader = source.clone();
            let metadata = orc_rust::reader::metadata::read_metadata(&mut reader).map_err(|error| error.to_string())?;
            let metadata = Arc::new(metadata);
            let builder = ArrowReaderBuilder::try_new(reader).map_err(|error| error.to_string())?;
            let schema = builder.with_timestamp_precision(TimestampPrecision::Microsecond).schema();
            let mut first_row = 0;
            let mut stripes = Vec::new();
            for (index, stripe) in metadata.stripe_metadatas().iter().enumerate() {
                let start = usize::try_from(stripe.offset()).map_err(|error| error.to_string())?;
                let bytes = stripe.index_length().saturating_add(stripe.data_length());
                let (range, rows) = (start..start.saturating_add(1), stripe.number_of_rows());
                stripes.push(Stripe { index, range, first_row, rows, bytes });
                first_row = rows.saturating_add(first_row);
            }
            Ok(Self { schema, metadata, stripes })
        }));
        source.check()?;
        Ok(opened.unwrap_or_else(|_| Err("the footer is damaged".to_owned())))
    }

    /// Rows of a stripe; what can't be read is one reject at the first row that is lost.
    pub(crate) fn decode(&self, source: &Guarded, plan: &ColumnarPlan, stripe: &Stripe) -> io::Result<Vec<Decoded>> {
        let mut done = Vec::new();
        let mut row = stripe.first_row;
        let end = stripe.first_row.saturating_add(stripe.rows);
        let read = catch_unwind(AssertUnwindSafe(|| -> Result<(), String> {
            let projection = ProjectionMask::roots(self.metadata.root_data_type(), self.column_indices(plan));
            let reader = ArrowReaderBuilder::try_new(source.clone())
                .map_err(|error| error.to_string())?
                .with_projection(projection)
                .with_timestamp_precision(TimestampPrecision::Microsecond)
                .with_batch_size(BATCH_ROWS)
                .with_file_byte_range(stripe.range.clone())
                .build();
            for batch in reader {
                let batch = batch.map_err(|error| error.to_string())?;
                done.push(plan.decode(&batch, row).map_err(|error| error.to_string())?);
                row += batch.num_rows() as u64;
            }
            Ok(())
        }));
        source.check()?;
        let damage = match read {
            Ok(Ok(())) if row == end => None,
            Ok(Ok(())) => Some("the stripe has fewer rows than it says".to_owned()),
            Ok(Err(error)) => Some(error),
            Err(_) => Some("the stripe is damaged".to_owned()),
        };
        if let Some(error) = damage {
            let message =
                format!("rows {row} to {} of stripe {} can't be read: {error}", end.saturating_sub(1), stripe.index);
            done.push(plan.unreadable(row, message));
        }
        Ok(done)
    }

    /// ORC numbers columns over all levels; the plan counts top-level ones.
    fn column_indices(&self, plan: &ColumnarPlan) -> Vec<usize> {
        let children = self.metadata.root_data_type().children();
        plan.roots.iter().filter_map(|root| children.get(*root)).map(|c| c.data_type().column_index()).collect()
    }
}
