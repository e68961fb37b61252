use arrow::array::Int64Array;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;

use super::*;
use crate::decode::RecordDecoder;

fn run(spec: &InputSpec, values: &[&[u8]]) -> Outcome {
    let records: Vec<(u64, Bytes)> = values
        .iter()
        .enumerate()
        .map(|(index, value)| (10 + index as u64 * 2, Bytes::copy_from_slice(value)))
        .collect();
    let decoder = RecordDecoder::new(spec).unwrap();
    let mut outcome = Outcome::default();
    let mut total = 0;
    for decoded in decoder.decode(&records).unwrap() {
        total += decoded.records();
        outcome.add(&decoded);
    }
    assert_eq!(total, records.len() as u64, "every value is a record");
    outcome.notes = decoder.notes();
    outcome
}

#[test]
fn every_value_is_one_record_with_its_offset() {
    let spec = json_spec(&[("id!", DataType::Int64)]);
    let outcome = run(&spec, &[b"{\"id\":1}", b"", b"{\"id\":2,\"x\":0}\n", b"{\"id\":\"a\"}", b"\xff"]);
    assert_eq!(outcome.rows, [(10, r#"{"id":1}"#.to_owned()), (14, r#"{"id":2}"#.to_owned())]);
    assert_eq!(outcome.raw[0], "{\"id\":1}");
    let expected = [(12, Reason::BadJson, None), (16, Reason::BadValue, Some("id")), (18, Reason::BadUtf8, None)];
    assert_eq!(outcome.refused(), expected);
    assert_eq!(outcome.notes.unknown_columns, ["x"]);
}

#[test]
fn delimited_values_have_no_header() {
    let spec = csv_spec(&[("id!", DataType::Int64), ("name", DataType::Utf8)]);
    let outcome = run(&spec, &[b"id,name", b"1,\"a,b\"\r\n", b"2,x\n3,y\n", b"4", b"5,z,"]);
    assert_eq!(outcome.rows, [(12, r#"{"id":1,"name":"a,b"}"#.to_owned()), (18, r#"{"id":5,"name":"z"}"#.to_owned())]);
    let expected = [(10, Reason::BadValue, Some("id")), (14, Reason::Width, None), (16, Reason::Width, None)];
    assert_eq!(outcome.refused(), expected);
    assert_eq!(outcome.notes.surplus_empty_records, 1);
}

#[test]
fn an_avro_value_is_a_container_of_one_row() {
    let value = |ids: Vec<Option<i64>>| {
        let batch =
            RecordBatch::try_from_iter_with_nullable([("id", Arc::new(Int64Array::from(ids)) as _, true)]).unwrap();
        let mut writer = arrow_avro::writer::AvroWriter::new(Vec::new(), batch.schema().as_ref().clone()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        writer.into_inner()
    };
    let spec = InputSpec { columns: columns(&[("id!", DataType::Int64)]), format: Format::Avro };
    let values = [value(vec![Some(7)]), value(vec![None]), value(vec![Some(1), Some(2)]), b"{}".to_vec()];
    let outcome = run(&spec, &values.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert_eq!(outcome.rows, [(10, r#"{"id":7}"#.to_owned())]);
    let expected = [(12, Reason::Missing, Some("id")), (14, Reason::BadFile, None), (16, Reason::BadFile, None)];
    assert_eq!(outcome.refused(), expected);
}

#[test]
fn formats_of_files_are_refused() {
    let spec = InputSpec { columns: columns(&[("id", DataType::Int64)]), format: Format::Parquet };
    assert!(matches!(RecordDecoder::new(&spec), Err(OpenError::FilesOnly { format: "parquet" })));
}
