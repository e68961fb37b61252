use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, ListArray, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::*;

pub(super) fn spec(format: Format, types: &[(&str, DataType)]) -> InputSpec {
    InputSpec { columns: columns(types), format }
}

pub(super) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

pub(super) fn parquet(batch: &RecordBatch, row_group: usize) -> Vec<u8> {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(row_group)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

pub(super) fn orc(batches: &[RecordBatch]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = orc_rust::ArrowWriterBuilder::new(&mut bytes, batches[0].schema());
    let mut writer = builder.try_build().unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
        writer.flush_stripe().unwrap();
    }
    writer.close().unwrap();
    bytes
}

pub(super) fn avro(batches: &[RecordBatch]) -> Vec<u8> {
    let schema = batches[0].schema().as_ref().clone();
    let mut writer = arrow_avro::writer::AvroWriter::new(Vec::new(), schema).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    writer.into_inner()
}

pub(super) fn ids(range: std::ops::Range<i64>) -> RecordBatch {
    let names = StringArray::from_iter_values(range.clone().map(|id| format!("n{id}")));
    batch(vec![("ID", Arc::new(Int64Array::from_iter_values(range))), ("name", Arc::new(names))])
}

pub(super) const TYPES: [(&str, DataType); 2] = [("id!", DataType::Int32), ("name", DataType::Utf8)];

#[test]
fn rows_have_their_number_as_position() {
    let parts = [ids(0..3), ids(3..5)];
    let all = ids(0..5);
    let files = [(Format::Parquet, parquet(&all, 3)), (Format::Orc, orc(&parts)), (Format::Avro, avro(&parts))];
    for (format, bytes) in files {
        let spec = spec(format.clone(), &TYPES);
        let outcome = decode(&spec, &bytes);
        assert_eq!(outcome.rows.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0, 1, 2, 3, 4], "{format:?}");
        assert_eq!(outcome.json()[4], r#"{"id":4,"name":"n4"}"#);
        assert_eq!(outcome.rejects, []);
        assert_eq!(try_decode(&spec, &bytes, 1).unwrap(), outcome, "small chunks");
    }
}

#[test]
fn values_that_do_not_fit_are_rejects_and_the_rest_goes_on() {
    let file = batch(vec![
        ("id", Arc::new(Float64Array::from(vec![Some(1.0), Some(2.5), None, Some(3e10), Some(5.0)]))),
        ("at", Arc::new(StringArray::from(vec![Some("2020-01-01 00:00"), None, None, None, Some("later")]))),
        ("extra", Arc::new(Int32Array::from(vec![1, 2, 3, 4, 5]))),
    ]);
    let types = [("id!", DataType::Int32), ("at", naive()), ("gone", DataType::Decimal128(9, 2))];
    let spec = spec(Format::Parquet, &types);
    let outcome = decode(&spec, parquet(&file, 100));
    assert_eq!(outcome.rows, [(0, r#"{"id":1,"at":"2020-01-01T00:00:00"}"#.to_owned())]);
    let expected = [
        (1, Reason::BadValue, Some("id")),
        (2, Reason::Missing, Some("id")),
        (3, Reason::BadValue, Some("id")),
        (4, Reason::BadValue, Some("at")),
    ];
    assert_eq!(outcome.refused(), expected);
    assert_eq!(&outcome.rejects[3].bytes[..], br#"{"id":5.0,"at":"later"}"#);
    assert_eq!(outcome.rejects[0].message, "not a value of type Int32: 2.5 (Float64)");
    assert_eq!(outcome.notes.unknown_columns, ["extra"]);
    assert_eq!(outcome.notes.missing_columns, ["gone"]);
}

#[test]
fn types_drift() {
    let nanos = TimestampNanosecondArray::from(vec![1_577_836_800_123_456_789]);
    let file = batch(vec![
        ("at", Arc::new(nanos)),
        ("null", arrow::array::new_null_array(&DataType::Null, 1)),
        ("narrow", Arc::new(Int32Array::from(vec![7]))),
        ("money", Arc::new(Float64Array::from(vec![8.9]))),
        ("time", Arc::new(Int64Array::from(vec![Some(1)]))),
        ("instant", Arc::new(TimestampNanosecondArray::from(vec![0]).with_timezone("UTC"))),
    ]);
    let types = [
        ("at", naive()),
        ("null", DataType::Float64),
        ("narrow", DataType::Int64),
        ("money", DataType::Decimal128(9, 2)),
    ];
    let outcome = decode(&spec(Format::Parquet, &types), parquet(&file, 100));
    assert_eq!(outcome.json(), [r#"{"at":"2020-01-01T00:00:00.123456","narrow":7,"money":8.90}"#]);
    // A number is no time: nothing says in which unit. An instant is no local time: nothing says in which zone.
    for column in ["time", "instant"] {
        let outcome = decode(&spec(Format::Parquet, &[(column, naive())]), parquet(&file, 100));
        assert_eq!(outcome.refused(), [(0, Reason::BadValue, Some(column))]);
    }
}

#[test]
fn nested_values_are_converted_whole_or_not_at_all() {
    let rows = [Some(vec![Some(1)]), Some(vec![Some(2), Some(i64::MAX)]), None];
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(rows);
    let file = batch(vec![("list", Arc::new(lists))]);
    let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
    for (format, bytes) in [(Format::Parquet, parquet(&file, 100)), (Format::Avro, avro(std::slice::from_ref(&file)))] {
        let outcome = decode(&spec(format, &[("list", list.clone())]), bytes);
        assert_eq!(outcome.json(), [r#"{"list":[1]}"#, "{}"]);
        assert_eq!(outcome.refused(), [(1, Reason::BadValue, Some("list"))]);
    }
}

#[test]
fn big_row_groups_are_decoded_in_pieces() {
    let rows = 600_000;
    let outcome = decode(&spec(Format::Parquet, &TYPES[..1]), parquet(&ids(0..rows), 1 << 20));
    assert_eq!(outcome.rows.len(), 600_000);
    assert!(outcome.rows.iter().enumerate().all(|(row, (offset, _))| row as u64 == *offset));
    assert_eq!(outcome.json()[599_999], r#"{"id":599999}"#);
}

#[test]
fn an_avro_file_that_breaks_off_keeps_its_whole_blocks() {
    let bytes = avro(&[ids(0..10), ids(10..20)]);
    for cut in [bytes.len() - 1, bytes.len() - 17, bytes.len() - 60] {
        let outcome = decode(&spec(Format::Avro, &TYPES), &bytes[..cut]);
        assert_eq!(outcome.rows.len(), 10, "{cut}");
        assert_eq!(outcome.refused(), [(10, Reason::BrokenStream, None)]);
    }
}

#[test]
fn what_is_no_such_file_is_refused_as_a_whole() {
    let bytes = parquet(&ids(0..10), 5);
    for format in [Format::Parquet, Format::Orc, Format::Avro] {
        let spec = spec(format.clone(), &TYPES);
        for content in [&b""[..], b"id,name\n1,a\n", b"PAR1", b"ORC", b"Obj\x01\x7f\xff", &bytes[..bytes.len() - 9]] {
            assert_eq!(refused_file(&spec, content).reason, Reason::BadFile, "{format:?} {content:?}");
        }
    }
    let missing = spec(Format::Parquet, &[("other!", DataType::Int64)]);
    let reject = refused_file(&missing, &bytes);
    assert_eq!((reject.reason, reject.column.as_deref()), (Reason::BadFile, Some("other")));
}
