//! Rejects in the store: one Parquet object per generation and raw file, or range of a log partition, beside the curated
//! table.
//!
//! The object's key is the file's ledger number, its content follows from the raw bytes and the generation's
//! definition, and readers look only at files below the coverage. So a crash never shows rejects without their batch,
//! writing one twice is writing it once, and no position shows twice. Its footer carries the file's counts.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryBuilder, Int64Builder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use tempfile::{SpooledData, SpooledTempFile};
use tidemark_shared::decode::ReadAt;
use tidemark_shared::error::chain;
use tidemark_shared::layout;
use tidemark_shared::reject::{Reason, Reject};
use tidemark_shared::store::{Store, opened_file};

use crate::curated::read::{ObjectReader, open_parquet};
use crate::error::BatchError;
use crate::failpoint;
use crate::report::Counts;

/// Footer key of the counts, as JSON.
const COUNTS_KEY: &str = "tidemark.counts";
/// Encoded rejects that stay in memory; more go to a temporary file.
const SPOOL_BYTES: usize = 16 << 20;
/// Rejects that are gathered before they are encoded, in records and in bytes.
const GATHER_RECORDS: usize = 8_192;
const GATHER_BYTES: usize = 8 << 20;
/// Footers that are read side by side.
pub(crate) const FOOTERS_MAX: usize = 16;
/// Rejects that are taken out of a row group at once.
const READ_RECORDS: usize = 1_024;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("offset", DataType::Int64, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("column", DataType::Utf8, true),
        Field::new("message", DataType::Utf8, false),
        Field::new("bytes", DataType::Binary, false),
    ]))
}

/// Gathers one file's rejects, in bounded memory, until its number is known.
pub(crate) struct RejectSpool {
    writer: ArrowWriter<SpooledTempFile>,
    waiting: Vec<Reject>,
    waiting_bytes: usize,
}

impl RejectSpool {
    pub(crate) fn new() -> Result<Self, BatchError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GATHER_RECORDS))
            .build();
        let writer = ArrowWriter::try_new(SpooledTempFile::new(SPOOL_BYTES), schema(), Some(properties))?;
        Ok(Self { writer, waiting: Vec::new(), waiting_bytes: 0 })
    }

    /// Takes rejects in order of offset.
    pub(crate) fn push(&mut self, rejects: impl IntoIterator<Item = Reject>) -> Result<(), BatchError> {
        for reject in rejects {
            self.waiting_bytes += reject.bytes.len() + reject.message.len();
            self.waiting.push(reject);
            if self.waiting.len() >= GATHER_RECORDS || self.waiting_bytes >= GATHER_BYTES {
                self.encode()?;
            }
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<(), BatchError> {
        self.waiting_bytes = 0;
        let batch = to_batch(&std::mem::take(&mut self.waiting))?;
        self.writer.write(&batch).and_then(|()| self.writer.flush()).map_err(|error| not_spooled(&error))
    }

    /// Ends the gathering; what is left only needs a number.
    pub(crate) fn finish(mut self, counts: &Counts) -> Result<SpooledRejects, BatchError> {
        if !self.waiting.is_empty() {
            self.encode()?;
        }
        let json = serde_json::to_string(counts).expect("counts are plain data");
        self.writer.append_key_value_metadata(KeyValue::new(COUNTS_KEY.to_owned(), json));
        Ok(SpooledRejects { file: self.writer.into_inner().map_err(|error| not_spooled(&error))? })
    }
}

fn not_spooled(error: &ParquetError) -> BatchError {
    let folder = std::env::temp_dir();
    BatchError::Write { path: format!("rejects to a temporary file in {}", folder.display()), reason: chain(error) }
}

/// One file's encoded rejects and counts.
pub(crate) struct SpooledRejects {
    file: SpooledTempFile,
}

impl SpooledRejects {
    /// Puts them at `key`: where a generation keeps those of a file, or of a range of a log partition.
    pub(crate) async fn publish(self, store: &Store, key: &Path) -> Result<(), BatchError> {
        let read = |source| BatchError::Read { path: "temporary file of rejects".to_owned(), source };
        let source: Arc<dyn ReadAt> = match self.file.into_inner() {
            SpooledData::InMemory(bytes) => Arc::new(Bytes::from(bytes.into_inner())),
            SpooledData::OnDisk(file) => opened_file(file).map_err(read)?,
        };
        store.upload(key, source, &|_| {}).await?;
        failpoint::pass("rejects.after_put");
        Ok(())
    }
}

fn to_batch(rejects: &[Reject]) -> Result<RecordBatch, BatchError> {
    let mut offsets = Int64Builder::with_capacity(rejects.len());
    let (mut reasons, mut columns, mut messages) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let mut bytes = BinaryBuilder::new();
    for reject in rejects {
        offsets.append_value(i64::try_from(reject.offset).expect("offsets stay below 2^63"));
        reasons.append_value(reject.reason.code());
        columns.append_option(reject.column.as_deref());
        messages.append_value(&reject.message);
        bytes.append_value(&reject.bytes);
    }
    let arrays: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(offsets.finish()),
        Arc::new(reasons.finish()),
        Arc::new(columns.finish()),
        Arc::new(messages.finish()),
        Arc::new(bytes.finish()),
    ];
    Ok(RecordBatch::try_new(schema(), arrays)?)
}

/// Something of stored rejects, read as it is asked for.
pub(crate) type Reading<T> = BoxStream<'static, Result<T, BatchError>>;

/// A stored reject, without its source and partition, which are the object's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredReject {
    pub(crate) offset: u64,
    pub(crate) reason: String,
    pub(crate) column: Option<String>,
    pub(crate) message: String,
    pub(crate) bytes: Vec<u8>,
}

impl StoredReject {
    /// As it was before it was stored; `None` if this release does not know its reason.
    pub(crate) fn known(self) -> Option<Reject> {
        let Self { offset, reason, column, message, bytes } = self;
        Some(Reject { offset, reason: Reason::from_code(&reason)?, column, message, bytes: bytes.into() })
    }
}

/// One object's rejects and counts, as read back: the counts at once, the rejects on demand.
pub(crate) struct FileRejects {
    builder: ParquetRecordBatchStreamBuilder<ObjectReader>,
    key: Path,
    dataset: String,
    /// The counts of the file, or of the range, under this generation's definition.
    pub(crate) counts: Counts,
}

impl FileRejects {
    /// Opens those of file `number`, reading only the footer; `None` where the generation has none.
    pub(crate) async fn open(
        store: &Store,
        dataset: &str,
        generation: &str,
        number: u64,
    ) -> Result<Option<Self>, BatchError> {
        Self::open_at(store, dataset, layout::file_rejects(dataset, generation, number)).await
    }

    /// Opens those at `key`.
    pub(crate) async fn open_at(store: &Store, dataset: &str, key: Path) -> Result<Option<Self>, BatchError> {
        let Some(size) = store.size(&key).await? else { return Ok(None) };
        let damaged = |what: &str| BatchError::Damaged { dataset: dataset.to_owned(), what: format!("{key}: {what}") };
        let builder = open_parquet(&store.objects(), key.clone(), size).await?;
        let metadata = builder.metadata().file_metadata().key_value_metadata();
        let json = metadata.and_then(|all| all.iter().find(|kv| kv.key == COUNTS_KEY)?.value.as_deref());
        let json = json.ok_or_else(|| damaged("no counts in its footer"))?;
        let counts = serde_json::from_str(json).map_err(|_| damaged("its counts are unreadable"))?;
        Ok(Some(Self { builder, key, dataset: dataset.to_owned(), counts }))
    }

    /// The rejects, in order of offset. They are read as they are asked for, a row group at a time.
    pub(crate) fn rejects(self) -> Result<Reading<StoredReject>, BatchError> {
        self.stream(ProjectionMask::all(), from_batch)
    }

    /// Their offsets and reasons alone, in order.
    pub(crate) fn reasons(self) -> Result<Reading<(u64, String)>, BatchError> {
        let columns = ProjectionMask::columns(self.builder.parquet_schema(), ["offset", "reason"]);
        self.stream(columns, |batch| {
            let offsets = batch.column_by_name("offset")?.as_primitive_opt::<Int64Type>()?;
            let reasons = batch.column_by_name("reason")?.as_string_opt::<i32>()?;
            let row = |i: usize| Some((u64::try_from(offsets.value(i)).ok()?, reasons.value(i).to_owned()));
            (0..batch.num_rows()).map(row).collect()
        })
    }

    /// Their offsets alone, in order.
    pub(crate) fn offsets(self) -> Result<Reading<u64>, BatchError> {
        let offset = ProjectionMask::columns(self.builder.parquet_schema(), ["offset"]);
        self.stream(offset, |batch| {
            let offsets = batch.column_by_name("offset")?.as_primitive_opt::<Int64Type>()?;
            offsets.values().iter().map(|offset| u64::try_from(*offset).ok()).collect()
        })
    }

    fn stream<T: Send + 'static>(
        self,
        columns: ProjectionMask,
        rows_of: fn(&RecordBatch) -> Option<Vec<T>>,
    ) -> Result<Reading<T>, BatchError> {
        let Self { builder, key, dataset, .. } = self;
        let batches = builder.with_projection(columns).with_batch_size(READ_RECORDS).build();
        let batches = batches.map_err(|error| BatchError::object(&key, error))?;
        let rows = batches.map(move |batch| {
            let what = || BatchError::Damaged { dataset: dataset.clone(), what: format!("{key}: unexpected columns") };
            let batch = batch.map_err(|error| BatchError::object(&key, error))?;
            let rows = rows_of(&batch).ok_or_else(what)?;
            Ok::<_, BatchError>(stream::iter(rows.into_iter().map(Ok)))
        });
        Ok(rows.try_flatten().boxed())
    }
}

/// How many of the ascending numbers `before` are not among the ascending numbers `after`.
pub(crate) async fn absent(
    mut before: impl Stream<Item = Result<u64, BatchError>> + Unpin,
    mut after: impl Stream<Item = Result<u64, BatchError>> + Unpin,
) -> Result<u64, BatchError> {
    let mut next = after.try_next().await?;
    let mut absent = 0;
    while let Some(number) = before.try_next().await? {
        while next.is_some_and(|next| next < number) {
            next = after.try_next().await?;
        }
        absent += u64::from(next != Some(number));
    }
    Ok(absent)
}

fn from_batch(batch: &RecordBatch) -> Option<Vec<StoredReject>> {
    let offsets = batch.column_by_name("offset")?.as_primitive_opt::<Int64Type>()?;
    let text = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>();
    let (reasons, columns, messages) = (text("reason")?, text("column")?, text("message")?);
    let bytes = batch.column_by_name("bytes")?.as_binary_opt::<i32>()?;
    let row = |i: usize| {
        Some(StoredReject {
            offset: u64::try_from(offsets.value(i)).ok()?,
            reason: reasons.value(i).to_owned(),
            column: (!columns.is_null(i)).then(|| columns.value(i).to_owned()),
            message: messages.value(i).to_owned(),
            bytes: bytes.value(i).to_vec(),
        })
    };
    (0..batch.num_rows()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use tidemark_shared::store::IfMissing;

    use super::*;

    fn numbers(numbers: &[u64]) -> impl Stream<Item = Result<u64, BatchError>> + Unpin + use<> {
        stream::iter(numbers.iter().copied().map(Ok).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn what_is_absent_is_counted_in_one_walk() {
        for (before, after, wanted) in [
            (vec![], vec![1], 0),
            (vec![1, 2], vec![], 2),
            (vec![1, 2, 3], vec![1, 2, 3], 0),
            (vec![0, 5, 9], vec![1, 5, 8, 10], 2),
            (vec![7, 8], vec![1, 2, 3, 7], 1),
        ] {
            let found = absent(numbers(&before), numbers(&after)).await.expect("reads");
            assert_eq!(found, wanted, "{before:?} {after:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn more_rejects_than_fit_in_memory_are_published_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::local(folder.path(), IfMissing::Fail).expect("a store");
        let mut spool = RejectSpool::new().expect("a spool");
        // Bytes that do not compress, so that the spool leaves memory and the upload goes in parts.
        let (count, mut state) = (6_000u64, 1u32);
        let mut noise = || {
            let bytes = std::iter::repeat_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            });
            bytes.take(4_000).collect::<Vec<u8>>()
        };
        let mut first = Vec::new();
        for offset in 0..count {
            let bytes = noise();
            if offset == 0 {
                first.clone_from(&bytes);
            }
            let message = String::new();
            let reject = Reject { offset, reason: Reason::Width, column: None, message, bytes: bytes.into() };
            spool.push([reject]).expect("takes it");
        }
        let rejected = [("width".to_owned(), count)].into_iter().collect();
        let counts = Counts { records: count, rejected, ..Counts::default() };
        let key = layout::file_rejects("d", "g", 3);
        spool.finish(&counts).expect("ends").publish(&store, &key).await.expect("publishes");
        assert!(FileRejects::open(&store, "d", "g", 4).await.expect("looks").is_none());
        let open = || async { FileRejects::open(&store, "d", "g", 3).await.expect("opens").expect("there is one") };
        assert_eq!(open().await.counts, counts);
        let offsets: Vec<u64> = open().await.offsets().expect("reads").try_collect().await.expect("reads");
        assert!(offsets.into_iter().eq(0..count));
        let head: Vec<_> = open().await.rejects().expect("reads").take(2).try_collect().await.expect("reads");
        assert_eq!((head.len(), &head[0].bytes), (2, &first));
    }
}
