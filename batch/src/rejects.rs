//! Rejects in the store: one Parquet object per raw file and generation, beside the curated table.
//!
//! The object's key is the file's ledger number, its content follows from the raw bytes and the generation's
//! definition, and readers look only at files below the coverage. So a crash never shows rejects without their batch,
//! writing one twice is writing it once, and no position shows twice. Its footer carries the file's counts.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryBuilder, Int64Builder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use tempfile::SpooledTempFile;
use tidemark_shared::layout;
use tidemark_shared::reject::Reject;
use tidemark_shared::store::{Operation, Store};

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
        self.writer.write(&batch)?;
        self.writer.flush()?;
        Ok(())
    }

    /// Ends the gathering; what is left only needs a number.
    pub(crate) fn finish(mut self, counts: &Counts) -> Result<SpooledRejects, BatchError> {
        if !self.waiting.is_empty() {
            self.encode()?;
        }
        let json = serde_json::to_string(counts).expect("counts are plain data");
        self.writer.append_key_value_metadata(KeyValue::new(COUNTS_KEY.to_owned(), json));
        Ok(SpooledRejects { file: self.writer.into_inner()? })
    }
}

/// One file's encoded rejects and counts.
pub(crate) struct SpooledRejects {
    file: SpooledTempFile,
}

impl SpooledRejects {
    /// Puts them where a generation keeps those of file `number`.
    pub(crate) async fn publish(
        mut self,
        store: &Store,
        dataset: &str,
        generation: &str,
        number: u64,
    ) -> Result<(), BatchError> {
        let key = layout::file_rejects(dataset, generation, number);
        let read = |source| BatchError::Read { path: "temporary file of rejects".to_owned(), source };
        self.file.seek(SeekFrom::Start(0)).map_err(read)?;
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes).map_err(read)?;
        let put = store.objects().put(&key, PutPayload::from(bytes)).await;
        put.map_err(|error| BatchError::store(Operation::Put, &key, error))?;
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

/// A stored reject, without its source and partition, which are the object's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredReject {
    pub(crate) offset: u64,
    pub(crate) reason: String,
    pub(crate) column: Option<String>,
    pub(crate) message: String,
    pub(crate) bytes: Vec<u8>,
}

/// One file's rejects and counts, as read back.
pub(crate) struct FileRejects {
    bytes: Bytes,
    key: Path,
    dataset: String,
    /// The file's counts under this generation's definition.
    pub(crate) counts: Counts,
}

impl FileRejects {
    /// Reads those of file `number`; `None` where the generation has none.
    pub(crate) async fn read(
        store: &Store,
        dataset: &str,
        generation: &str,
        number: u64,
    ) -> Result<Option<Self>, BatchError> {
        let key = layout::file_rejects(dataset, generation, number);
        let Some(bytes) = store.get(&key).await? else { return Ok(None) };
        let damaged = |what: &str| BatchError::Damaged { dataset: dataset.to_owned(), what: format!("{key}: {what}") };
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())?;
        let metadata = builder.metadata().file_metadata().key_value_metadata();
        let json = metadata.and_then(|all| all.iter().find(|kv| kv.key == COUNTS_KEY)?.value.as_deref());
        let json = json.ok_or_else(|| damaged("no counts in its footer"))?;
        let counts = serde_json::from_str(json).map_err(|_| damaged("its counts are unreadable"))?;
        Ok(Some(Self { bytes, key, dataset: dataset.to_owned(), counts }))
    }

    /// The rejects, in order of offset, batch by batch.
    pub(crate) fn rejects(&self) -> Result<impl Iterator<Item = Result<StoredReject, BatchError>>, BatchError> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(self.bytes.clone())?.build()?;
        let (dataset, key) = (self.dataset.clone(), self.key.clone());
        Ok(reader.flat_map(move |batch| {
            let what = || BatchError::Damaged { dataset: dataset.clone(), what: format!("{key}: unexpected columns") };
            let rows = batch.map_err(BatchError::from).and_then(|batch| from_batch(&batch).ok_or_else(what));
            match rows {
                Ok(rows) => rows.into_iter().map(Ok).collect::<Vec<_>>(),
                Err(error) => vec![Err(error)],
            }
        }))
    }
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
