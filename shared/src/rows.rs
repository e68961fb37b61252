//! Stream records → rows of a curated table: the one way from a log's bytes to rows and rejects, taken by the indexer, the
//! batch layer and the audit alike.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;

use crate::counts::Counts;
use crate::dataset::Definition;
use crate::decode::{OpenError, RecordDecoder};
use crate::error::{ErrorKind, Kind};
use crate::log::OffsetRecord;
use crate::position::{LogPartition, OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN};
use crate::reject::Reject;
use crate::transform::{Transform, TransformError, Transformed};

/// All columns of a curated table and of a real-time view: the transform's output, then the position.
#[must_use]
pub fn table_schema(output: &Schema) -> SchemaRef {
    let position = [
        Field::new(SOURCE_COLUMN, DataType::Utf8, false),
        Field::new(PARTITION_COLUMN, DataType::Int64, false),
        Field::new(OFFSET_COLUMN, DataType::Int64, false),
    ];
    let fields = output.fields().iter().map(|f| f.as_ref().clone()).chain(position);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Adds the position columns to transformed rows. `schema` is [`table_schema`]; `partition` is the topic's partition, or
/// the file's ledger number.
///
/// # Errors
/// Defects of ours: columns that are not the schema's.
pub fn with_position(
    schema: &SchemaRef,
    rows: &Transformed,
    source: &str,
    partition: u64,
) -> Result<RecordBatch, ArrowError> {
    let count = rows.batch.num_rows();
    let partition = i64::try_from(partition).expect("partitions and ledger numbers stay below 2^63");
    let offsets = rows.offsets.iter().map(|o| i64::try_from(*o).expect("offsets stay below 2^63"));
    let position: [ArrayRef; 3] = [
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(source, count))),
        Arc::new(Int64Array::from_value(partition, count)),
        Arc::new(Int64Array::from_iter_values(offsets)),
    ];
    let columns = rows.batch.columns().iter().cloned().chain(position).collect();
    RecordBatch::try_new(Arc::clone(schema), columns)
}

/// Makes rows of a dataset's stream records, by one definition version. Cheap to share between threads.
#[derive(Debug)]
pub struct StreamRows {
    decoder: RecordDecoder,
    transform: Arc<Transform>,
    schema: SchemaRef,
}

/// What some records of one partition became. `counts.records` = rows + filtered + rejects (H8).
#[derive(Debug, Clone)]
pub struct MadeRows {
    /// Accepted rows with their positions, in order of offset; the schema is [`StreamRows::schema`].
    pub batches: Vec<RecordBatch>,
    /// Refused records, in order of offset.
    pub rejects: Vec<Reject>,
    /// Offsets of the records that the transform's `WHERE` dropped, in order.
    pub filtered: Vec<u64>,
    /// How many became what.
    pub counts: Counts,
}

/// Why a definition makes no rows of a stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamRowsError {
    /// The dataset has no stream.
    #[error("dataset `{dataset}` has no stream")]
    NoStream {
        /// The dataset.
        dataset: String,
    },
    /// The stream's format can't be decoded to the columns.
    #[error("the stream of dataset `{dataset}` can't be decoded")]
    Decoder {
        /// The dataset.
        dataset: String,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// The transform can't be compiled.
    #[error(transparent)]
    Transform(#[from] TransformError),
}

impl ErrorKind for StreamRowsError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoStream { .. } => Kind::Invalid,
            Self::Decoder { source, .. } => source.kind(),
            Self::Transform(source) => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoStream { .. } => Some("add a `[stream]` section to its dataset.toml and apply it".to_owned()),
            _ => None,
        }
    }
}

impl StreamRows {
    /// Compiles a definition's stream.
    ///
    /// # Errors
    /// [`StreamRowsError`].
    pub fn compile(definition: &Definition) -> Result<Self, StreamRowsError> {
        Self::with_transform(definition, Arc::new(Transform::compile(definition)?))
    }

    /// The same with the definition's transform as compiled before.
    ///
    /// # Errors
    /// [`StreamRowsError`].
    pub fn with_transform(definition: &Definition, transform: Arc<Transform>) -> Result<Self, StreamRowsError> {
        let dataset = || definition.name.clone();
        let spec = definition.stream_input().ok_or_else(|| StreamRowsError::NoStream { dataset: dataset() })?;
        let decoder =
            RecordDecoder::new(&spec).map_err(|source| StreamRowsError::Decoder { dataset: dataset(), source })?;
        let schema = table_schema(&transform.output_schema());
        Ok(Self { decoder, transform, schema })
    }

    /// Schema of the rows: the transform's output, then the position.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows and rejects of `records`, which are of `partition` and in order of offset. A record without a value is one
    /// with an empty value. Computes only; blocks for as long as that takes.
    ///
    /// # Errors
    /// Defects of ours; never anything about a record.
    pub fn make(&self, partition: &LogPartition, records: &[OffsetRecord]) -> Result<MadeRows, ArrowError> {
        let value = |record: &OffsetRecord| record.record.value.clone().unwrap_or_default();
        let values: Vec<(u64, Bytes)> = records.iter().map(|record| (record.offset, value(record))).collect();
        let mut made =
            MadeRows { batches: Vec::new(), rejects: Vec::new(), filtered: Vec::new(), counts: Counts::default() };
        for run in self.decoder.decode(&values)? {
            made.counts.records += run.records();
            let mut transformed = self.transform.apply(&run);
            made.counts.filtered += transformed.filtered;
            made.counts.accepted += transformed.batch.num_rows() as u64;
            if transformed.filtered > 0 {
                made.filtered.extend(filtered_offsets(&run.offsets, &transformed));
            }
            made.rejects.extend(run.rejects);
            made.rejects.append(&mut transformed.rejects);
            if transformed.batch.num_rows() > 0 {
                let (source, number) = (partition.source.as_str(), u64::from(partition.partition));
                made.batches.push(with_position(&self.schema, &transformed, source, number)?);
            }
        }
        made.rejects.sort_by_key(|reject| reject.offset);
        for reject in &made.rejects {
            *made.counts.rejected.entry(reject.reason.code()).or_default() += 1;
        }
        Ok(made)
    }
}

/// The offsets of decoded records that are neither rows nor rejects.
fn filtered_offsets(decoded: &[u64], transformed: &Transformed) -> Vec<u64> {
    let mut rejected: Vec<u64> = transformed.rejects.iter().map(|reject| reject.offset).collect();
    rejected.sort_unstable();
    let accepted = &transformed.offsets;
    let kept = |offset: &u64| accepted.binary_search(offset).is_ok() || rejected.binary_search(offset).is_ok();
    decoded.iter().copied().filter(|offset| !kept(offset)).collect()
}
