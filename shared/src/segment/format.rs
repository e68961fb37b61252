//! A segment as Parquet: columns `offset, timestamp, key, value, headers`, Zstandard; what it covers stands in the footer.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int64Builder, ListArray, RecordBatch, StringBuilder,
    StructArray, TimestampMillisecondBuilder,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::{Segment, SegmentError, SegmentHeader};
use crate::log::{Header, OffsetRecord, Record};

const RANGE_KEY: &str = "tidemark.range";
const LOST_KEY: &str = "tidemark.lost";
/// Zstandard level: archiving keeps up with the log at it.
const LEVEL: i32 = 1;
const ROWS_AT_ONCE: usize = 8_192;

fn header_fields() -> Fields {
    Fields::from(vec![Field::new("name", DataType::Utf8, false), Field::new("value", DataType::Binary, true)])
}

fn schema() -> SchemaRef {
    let header = Field::new("item", DataType::Struct(header_fields()), false);
    Arc::new(Schema::new(vec![
        Field::new("offset", DataType::Int64, false),
        Field::new("timestamp", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        Field::new("headers", DataType::List(Arc::new(header)), false),
    ]))
}

/// Encodes a segment. The bytes follow from the segment alone, so that two writers of one segment agree.
///
/// # Errors
/// [`SegmentError::Encode`]: a defect of ours.
pub fn write_segment(segment: &Segment) -> Result<Bytes, SegmentError> {
    let failed = |error: parquet::errors::ParquetError| SegmentError::Encode { reason: error.to_string() };
    let Range { start, end } = &segment.header.range;
    let lost = segment.header.lost.iter().map(|range| format!("{}-{}", range.start, range.end));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(LEVEL).map_err(failed)?))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_encoding(ColumnPath::from("offset"), Encoding::DELTA_BINARY_PACKED)
        .set_column_encoding(ColumnPath::from("timestamp"), Encoding::DELTA_BINARY_PACKED)
        .set_created_by("tidemark".to_owned())
        .set_key_value_metadata(Some(vec![
            KeyValue::new(RANGE_KEY.to_owned(), format!("{start}-{end}")),
            KeyValue::new(LOST_KEY.to_owned(), lost.collect::<Vec<_>>().join(",")),
        ]))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema(), Some(properties)).map_err(failed)?;
    for records in segment.records.chunks(ROWS_AT_ONCE) {
        let batch = to_batch(records).map_err(|error| SegmentError::Encode { reason: error.to_string() })?;
        writer.write(&batch).map_err(failed)?;
    }
    Ok(writer.into_inner().map_err(failed)?.into())
}

fn to_batch(records: &[OffsetRecord]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let mut offsets = Int64Builder::with_capacity(records.len());
    let mut timestamps = TimestampMillisecondBuilder::with_capacity(records.len()).with_timezone("UTC");
    let (mut keys, mut values) = (BinaryBuilder::new(), BinaryBuilder::new());
    let (mut names, mut header_values) = (StringBuilder::new(), BinaryBuilder::new());
    let mut lengths = Vec::with_capacity(records.len());
    for OffsetRecord { offset, record } in records {
        offsets.append_value(i64::try_from(*offset).expect("offsets stay below 2^63"));
        timestamps.append_value(record.timestamp_ms);
        keys.append_option(record.key.as_deref());
        values.append_option(record.value.as_deref());
        for header in &record.headers {
            names.append_value(&header.name);
            header_values.append_option(header.value.as_deref());
        }
        lengths.push(record.headers.len());
    }
    let headers: Vec<ArrayRef> = vec![Arc::new(names.finish()), Arc::new(header_values.finish())];
    let headers = StructArray::try_new(header_fields(), headers, None::<NullBuffer>)?;
    let DataType::List(item) = schema().field(4).data_type().clone() else { unreachable!("headers are a list") };
    let headers = ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), Arc::new(headers), None)?;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(offsets.finish()),
        Arc::new(timestamps.finish()),
        Arc::new(keys.finish()),
        Arc::new(values.finish()),
        Arc::new(headers),
    ];
    RecordBatch::try_new(schema(), columns)
}

/// Decodes a segment. `key` is for messages.
///
/// # Errors
/// [`SegmentError::Corrupt`].
pub fn read_segment(key: &str, bytes: Bytes) -> Result<Segment, SegmentError> {
    let corrupt = |reason: String| SegmentError::Corrupt { key: key.to_owned(), reason };
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| corrupt(error.to_string()))?;
    let header = read_header(key, builder.metadata())?;
    let reader = builder.with_batch_size(ROWS_AT_ONCE).build().map_err(|error| corrupt(error.to_string()))?;
    let mut records = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| corrupt(error.to_string()))?;
        from_batch(&batch, &mut records).ok_or_else(|| corrupt("its columns are not a segment's".to_owned()))?;
    }
    let inside = |record: &OffsetRecord| header.range.contains(&record.offset);
    let ordered = records.windows(2).all(|pair| pair[0].offset < pair[1].offset);
    if !ordered || !records.iter().all(inside) {
        return Err(corrupt("its offsets are not in order, or outside its range".to_owned()));
    }
    Ok(Segment { header, records })
}

/// What a segment covers, from its footer.
///
/// # Errors
/// [`SegmentError::Corrupt`].
pub fn read_header(key: &str, metadata: &ParquetMetaData) -> Result<SegmentHeader, SegmentError> {
    let corrupt = |reason: &str| SegmentError::Corrupt { key: key.to_owned(), reason: reason.to_owned() };
    let entries = metadata.file_metadata().key_value_metadata();
    let value = |name: &str| entries.and_then(|all| all.iter().find(|entry| entry.key == name)?.value.as_deref());
    let range = value(RANGE_KEY).and_then(parse_range).ok_or_else(|| corrupt("its footer names no range"))?;
    let lost = value(LOST_KEY).unwrap_or_default().split(',').filter(|text| !text.is_empty()).map(parse_range);
    let lost = lost.collect::<Option<Vec<_>>>().ok_or_else(|| corrupt("its footer's lost ranges are none"))?;
    Ok(SegmentHeader { range, lost })
}

fn parse_range(text: &str) -> Option<Range<u64>> {
    let (start, end) = text.split_once('-')?;
    Some(start.parse().ok()?..end.parse().ok()?)
}

fn from_batch(batch: &RecordBatch, records: &mut Vec<OffsetRecord>) -> Option<()> {
    let offsets = batch.column_by_name("offset")?.as_primitive_opt::<Int64Type>()?;
    let timestamps = batch.column_by_name("timestamp")?.as_primitive_opt::<TimestampMillisecondType>()?;
    let keys = Blobs::of(batch.column_by_name("key")?)?;
    let values = Blobs::of(batch.column_by_name("value")?)?;
    let headers = batch.column_by_name("headers")?.as_list_opt::<i32>()?;
    let entries = headers.values().as_struct_opt()?;
    let names = entries.column_by_name("name")?.as_string_opt::<i32>()?;
    let header_values = Blobs::of(entries.column_by_name("value")?)?;
    for row in 0..batch.num_rows() {
        let (first, last) = (headers.value_offsets()[row], headers.value_offsets()[row + 1]);
        let range = usize::try_from(first).ok()?..usize::try_from(last).ok()?;
        let header = |at: usize| Header { name: names.value(at).to_owned(), value: header_values.get(at) };
        records.push(OffsetRecord {
            offset: u64::try_from(offsets.value(row)).ok()?,
            record: Record {
                key: keys.get(row),
                value: values.get(row),
                headers: range.map(header).collect(),
                timestamp_ms: timestamps.value(row),
            },
        });
    }
    Some(())
}

/// Arrow's memory as an owner of bytes.
struct Owned(Buffer);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A column of bytes whose values share its memory.
struct Blobs {
    array: BinaryArray,
    bytes: Bytes,
}

impl Blobs {
    fn of(column: &ArrayRef) -> Option<Self> {
        let array = column.as_binary_opt::<i32>()?.clone();
        let bytes = Bytes::from_owner(Owned(array.values().clone()));
        Some(Self { array, bytes })
    }

    fn get(&self, row: usize) -> Option<Bytes> {
        if self.array.is_null(row) {
            return None;
        }
        let offsets = self.array.value_offsets();
        let range = usize::try_from(offsets[row]).ok()?..usize::try_from(offsets[row + 1]).ok()?;
        Some(self.bytes.slice(range))
    }
}
