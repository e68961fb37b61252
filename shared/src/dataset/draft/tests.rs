use std::io::Write;

use super::*;
use crate::dataset::{Definition, EventTime};

fn drafted(file: &str, bytes: &[u8]) -> Definition {
    let sources = draft("sample", file, bytes).unwrap_or_else(|error| panic!("{error}"));
    parse(&sources).unwrap_or_else(|error| panic!("{error}"))
}

fn columns(definition: &Definition) -> Vec<(String, String)> {
    definition.columns.iter().map(|c| (c.name.clone(), super::super::types::type_text(&c.data_type))).collect()
}

const CSV: &str = "VendorID;tpep_pickup_datetime;Fare Amt;zip;from;paid;empty\n\
    1;2019-01-01 00:46:40;7.5;01234;\"a;b\";true;\n\
    \n\
    2;2019-01-01 00:59:47;8;99999;c;false;\n\
    cut";

#[test]
fn delimited_text_is_recognised() {
    let definition = drafted("x/trips.csv", CSV.as_bytes());
    let wanted = [
        ("vendor_id", "int64"),
        ("tpep_pickup_datetime", "timestamp"),
        ("fare_amt", "float64"),
        ("zip", "string"),
        ("from", "string"),
        ("paid", "bool"),
        ("empty", "string"),
    ];
    assert_eq!(columns(&definition), wanted.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
    assert_eq!(definition.columns[0].aliases, ["VendorID"]);
    let Some(Format::Csv(options)) = &definition.files else { panic!("{:?}", definition.files) };
    assert_eq!((options.delimiter, options.header), (b';', true));
    let column = "tpep_pickup_datetime".to_owned();
    assert_eq!(definition.event_time, Some(EventTime { column, zone: chrono_tz::Tz::UTC }));
}

#[test]
fn packed_text_is_unpacked_even_if_it_breaks_off() {
    let plain = columns(&drafted("t.csv", CSV.as_bytes()));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(CSV.as_bytes()).expect("packed");
    let gzip = gzip.finish().expect("packed");
    assert_eq!(columns(&drafted("t.csv.gz", &gzip)), plain);
    assert_eq!(columns(&drafted("t.csv.gz", &gzip[..gzip.len() - 8])), plain);
    let zstd = zstd::encode_all(CSV.as_bytes(), 1).expect("packed");
    assert_eq!(columns(&drafted("t.csv.zst", &zstd)), plain);
}

#[test]
fn text_without_a_header_gets_numbered_columns() {
    let definition = drafted("t.csv", b"1,2019-01-01,a\n2,2019-01-02,b\n");
    let wanted = [("column_1", "int64"), ("column_2", "date"), ("column_3", "string")];
    assert_eq!(columns(&definition), wanted.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
    let Some(Format::Csv(options)) = &definition.files else { panic!("{:?}", definition.files) };
    assert!(!options.header);
}

#[test]
fn a_draft_takes_for_times_what_ingest_will() {
    let text =
        b"day,mixed,loose,zoned,lower\n2024-05-01,2024-05-01,2024-5-1,2024-05-01T10:00:00Z,2024-05-01t10:00:00z\n\
        2024-05-02,2024-05-02 10:00,2024-5-2,2024-05-01 10:00:00+02:00,2024-05-01t10:00:00z\n";
    let wanted =
        [("day", "date"), ("mixed", "timestamp"), ("loose", "string"), ("zoned", "timestamptz"), ("lower", "string")];
    assert_eq!(columns(&drafted("t.csv", text)), wanted.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
}

#[test]
fn json_lines_are_recognised() {
    let text = br#"{"orderId": 1, "at": "2024-05-01T10:00:00Z", "lines": [{"sku": "a", "n": 1}], "note": null}
{"orderId": 2.5, "at": "2024-05-01T10:00:01Z", "lines": [], "tags": {"a b": 1}}
{"cut": "#;
    let mut found = columns(&drafted("orders.jsonl", text));
    found.sort();
    let wanted = [
        ("at", "timestamptz"),
        ("lines", "list<struct<n: int64, sku: string>>"),
        ("note", "string"),
        ("order_id", "float64"),
        ("tags", "string"),
    ];
    assert_eq!(found, wanted.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
}

#[test]
fn a_parquet_schema_is_taken_over() {
    use arrow::array::{
        ArrayRef, Int32Array, NullArray, StringArray, TimestampMicrosecondArray, UInt16Array, UInt64Array,
    };
    use arrow::record_batch::RecordBatch;
    use std::sync::Arc;
    let batch = RecordBatch::try_from_iter([
        ("VendorID", Arc::new(Int32Array::from(vec![1])) as ArrayRef),
        ("lpep_pickup_datetime", Arc::new(TimestampMicrosecondArray::from(vec![0]))),
        ("flag", Arc::new(StringArray::from(vec!["Y"]))),
        ("zone", Arc::new(UInt16Array::from(vec![7]))),
        ("ehail_fee", Arc::new(NullArray::new(1))),
        ("hash", Arc::new(UInt64Array::from(vec![u64::MAX]))),
    ])
    .expect("equal lengths");
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).expect("a schema");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    let definition = drafted("green.parquet", &bytes);
    let wanted = [
        ("vendor_id", "int32"),
        ("lpep_pickup_datetime", "timestamp"),
        ("flag", "string"),
        ("zone", "int32"),
        ("ehail_fee", "string"),
        ("hash", "decimal(20,0)"),
    ];
    assert_eq!(columns(&definition), wanted.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
    assert_eq!(definition.files, Some(Format::Parquet));
}

#[test]
fn what_can_not_be_drafted_says_why() {
    for (name, file, bytes, wanted) in [
        ("Bad Name", "x.csv", b"a\n1\n".as_slice(), "`Bad Name` can't name a dataset"),
        ("ok", "x.csv", b"", "`x.csv` holds no record"),
        ("ok", "x.parquet", b"PAR1 not really", "`x.parquet` can't be read as parquet"),
        ("ok", "x.orc", b"ORC", "`x.orc` can't be read as orc"),
        ("ok", "x.avro", b"Obj\x01", "`x.avro` can't be read as avro"),
    ] {
        let error = draft(name, file, bytes).expect_err(file);
        assert!(error.to_string().starts_with(wanted), "{error}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(100))]

    #[test]
    fn a_draft_of_any_text_is_valid_or_refused(text in "([a-zA-Z \"_0-9{}:.-]{0,6}[,;\t\n]){0,40}") {
        if let Err(error) = draft("sample", "x.txt", text.as_bytes()) {
            proptest::prop_assert!(!matches!(error, DraftError::Invalid(_)), "{error}");
        }
    }
}

#[test]
fn a_json_array_is_no_csv_and_a_keyword_is_a_key() {
    let error = draft("d", "a.json", b"[ {\"id\":1},{\"id\":2}]\n").expect_err("one array");
    assert!(error.to_string().contains("JSON lines"), "{error}");
    let definition = drafted("a.jsonl", b"{\"id\":1,\"ts\":\"a\",\"order\":\"b\"}\n");
    assert!(definition.columns.iter().any(|column| column.name == "order"));
}
