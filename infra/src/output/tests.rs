//! Golden output of every format.

use std::io;
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, BooleanArray, Date32Array, Decimal128Array, FixedSizeListArray, Float64Array, Int64Array,
    Int64Builder, ListArray, MapBuilder, RecordBatch, StringArray, StringBuilder, StringViewArray,
    TimestampMicrosecondArray, UInt64Array, UnionArray,
};
use arrow::datatypes::{DataType, Date32Type, Field, Int32Type, Schema, SchemaRef, UnionFields};
use arrow::ipc::reader::StreamReader;
use tidemark_batch::sql::{AsOf, DatasetAsOf, Stats};
use tidemark_shared::position::LogPartition;

use super::*;

fn sample() -> RecordBatch {
    let decimals = Decimal128Array::from(vec![Some(1250), None, Some(-5)]).with_precision_and_scale(10, 2);
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![Some(1), Some(9_007_199_254_740_993), None]))),
        ("big", Arc::new(UInt64Array::from(vec![0, 1 << 53, u64::MAX]))),
        ("fare", Arc::new(decimals.expect("fits"))),
        ("tip", Arc::new(Float64Array::from(vec![0.5, f64::NAN, -3.0]))),
        ("paid", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("zone", Arc::new(StringViewArray::from(vec![Some("Newark, \"NJ\""), Some("two\nlines"), None]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(0), Some(1_500_000), None]))),
        ("codes", Arc::new(lists)),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("columns of one length")
}

fn as_of() -> AsOf {
    let coverage: tidemark_shared::position::Coverage = [(LogPartition::files(), 3)].into_iter().collect();
    let trips = DatasetAsOf {
        definition: "d1".to_owned(),
        generation: "g1".to_owned(),
        table_version: 17,
        positions: coverage.clone(),
        coverage,
        ..DatasetAsOf::default()
    };
    AsOf { datasets: [("trips".to_owned(), trips)].into(), ..AsOf::default() }
}

fn stats() -> Stats {
    Stats {
        elapsed_ms: 8,
        rows: 3,
        bytes_read: 10,
        bytes_total: 100,
        files_read: 1,
        files_pruned: 2,
        files_total: 3,
        ..Stats::default()
    }
}

fn written(format: Format, limits: TableLimits, batches: &[RecordBatch]) -> Vec<u8> {
    let mut out = Vec::new();
    {
        let mut rows = writer(format, &mut out, limits);
        rows.begin(&sample().schema(), &as_of()).expect("begins");
        for batch in batches {
            rows.rows(batch).expect("writes");
        }
        rows.end(&stats()).expect("ends");
    }
    out
}

fn text(format: Format, limits: TableLimits, batches: &[RecordBatch]) -> String {
    String::from_utf8(written(format, limits, batches)).expect("is text")
}

#[test]
fn ndjson_is_one_object_a_line_and_exact() {
    let expected = r#"{"id":1,"big":0,"fare":"12.50","tip":0.5,"paid":true,"zone":"Newark, \"NJ\"","at":"1970-01-01T00:00:00","codes":[1,null]}
{"id":"9007199254740993","big":9007199254740992,"fare":null,"tip":"NaN","paid":false,"zone":"two\nlines","at":"1970-01-01T00:00:01.500","codes":null}
{"id":null,"big":"18446744073709551615","fare":"-0.05","tip":-3.0,"paid":null,"zone":null,"at":null,"codes":[]}
"#;
    assert_eq!(text(Format::Ndjson, TableLimits::default(), &[sample()]), expected);
    assert_eq!(text(Format::Ndjson, TableLimits::default(), &[]), "");
}

#[test]
fn the_document_has_columns_as_of_rows_and_stats_in_this_order() {
    let batches = [sample().slice(0, 1), sample().slice(2, 1)];
    let document = text(Format::Json, TableLimits::default(), &batches);
    let expected = r#"{"columns":[{"name":"id","type":"Int64"},{"name":"big","type":"UInt64"},{"name":"fare","type":"Decimal128(10, 2)"},{"name":"tip","type":"Float64"},{"name":"paid","type":"Boolean"},{"name":"zone","type":"Utf8"},{"name":"at","type":"Timestamp(µs)"},{"name":"codes","type":"List(Int32)"}],
"as_of":{"trips":{"definition":"d1","generation":"g1","table_version":17,"positions":{"files":3},"coverage":{"files":3}}},
"rows":[
[1,0,"12.50",0.5,true,"Newark, \"NJ\"","1970-01-01T00:00:00",[1,null]],
[null,"18446744073709551615","-0.05",-3.0,null,null,null,[]]],
"stats":{"elapsed_ms":8,"rows":3,"bytes_read":10,"bytes_total":100,"files_read":1,"files_pruned":2,"files_total":3}}
"#;
    assert_eq!(document, expected);
    assert!(serde_json::from_str::<serde_json::Value>(&document).is_ok());
    let empty = text(Format::Json, TableLimits::default(), &[]);
    assert!(serde_json::from_str::<serde_json::Value>(&empty).is_ok(), "{empty}");
}

#[test]
fn csv_has_a_header_even_without_rows() {
    let expected = "id,big,fare,tip,paid,zone,at,codes\n\
                    1,0,12.50,0.5,true,\"Newark, \"\"NJ\"\"\",1970-01-01T00:00:00,\"[1,null]\"\n\
                    9007199254740993,9007199254740992,,NaN,false,\"two\nlines\",1970-01-01T00:00:01.500,\n\
                    ,18446744073709551615,-0.05,-3.0,,,,[]\n";
    assert_eq!(text(Format::Csv, TableLimits::default(), &[sample()]), expected);
    assert_eq!(text(Format::Csv, TableLimits::default(), &[]), "id,big,fare,tip,paid,zone,at,codes\n");
}

#[test]
fn arrow_streams_read_back_with_plain_strings() {
    let bytes = written(Format::Arrow, TableLimits::default(), &[sample(), sample()]);
    let batches: Vec<RecordBatch> =
        StreamReader::try_new(bytes.as_slice(), None).expect("opens").map(|batch| batch.expect("reads")).collect();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 6);
    assert_eq!(batches[0].schema().field(5).data_type(), &DataType::Utf8);
    assert_eq!(batches[0].column(2), sample().column(2));
}

#[test]
fn maps_and_lists_of_fixed_length_are_json_in_every_text_format() {
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    maps.keys().append_value("a \"b\"");
    maps.values().append_value(1);
    maps.keys().append_value("c");
    maps.values().append_null();
    maps.append(true).expect("one value a key");
    maps.append(false).expect("none");
    let pairs = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None], 2);
    let columns: [(&str, ArrayRef); 2] = [("m", Arc::new(maps.finish())), ("p", Arc::new(pairs))];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let write = |format| {
        let mut out = Vec::new();
        {
            let mut rows = writer(format, &mut out, TableLimits::default());
            rows.begin(&batch.schema(), &as_of()).expect("begins");
            rows.rows(&batch).expect("writes");
            rows.end(&stats()).expect("ends");
        }
        String::from_utf8(out).expect("is text")
    };
    let object = "{\"m\":{\"a \\\"b\\\"\":1,\"c\":null},\"p\":[1,null]}\n{\"m\":null,\"p\":null}\n";
    assert_eq!(write(Format::Ndjson), object);
    assert!(write(Format::Json).contains("[{\"a \\\"b\\\"\":1,\"c\":null},[1,null]],\n[null,null]]"));
    assert!(write(Format::Csv).starts_with("m,p\n\"{\"\"a"));
    assert_eq!(write(Format::Table).lines().count(), 5);
}

#[test]
fn two_columns_of_one_name_are_no_object() {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("id", ids.data_type().clone(), true),
        Field::new("id", ids.data_type().clone(), true),
    ]));
    for (format, refused) in [(Format::Ndjson, true), (Format::Json, false), (Format::Csv, false)] {
        let mut out = Vec::new();
        let begun = writer(format, &mut out, TableLimits::default()).begin(&schema, &as_of());
        assert_eq!(matches!(begun, Err(OutputError::SameName { .. })), refused, "{format:?}");
    }
}

#[test]
fn a_table_aligns_cuts_and_counts_what_it_leaves_out() {
    let limits = TableLimits { rows_max: Some(2), cell_chars_max: Some(8) };
    let narrow = sample().project(&[1, 5]).expect("two columns");
    let mut out = Vec::new();
    {
        let mut rows = writer(Format::Table, &mut out, limits);
        rows.begin(&narrow.schema(), &as_of()).expect("begins");
        rows.rows(&narrow).expect("writes");
        rows.end(&stats()).expect("ends");
    }
    let expected = [
        " big      | zone",
        "----------+----------",
        "        0 | Newark,…",
        " 9007199… | two\\nli…",
        "(3 rows, 1 not shown; --max-rows all shows them)",
        "",
    ];
    assert_eq!(String::from_utf8(out).expect("is text"), expected.join("\n"));
}

#[test]
fn a_table_longer_than_its_sample_streams_on() {
    let rows = 2500;
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let batch = RecordBatch::try_from_iter([("id", ids)]).expect("one column");
    let mut out = Vec::new();
    {
        let mut table = writer(Format::Table, &mut out, TableLimits::default());
        table.begin(&batch.schema(), &as_of()).expect("begins");
        table.rows(&batch).expect("writes");
        table.end(&stats()).expect("ends");
    }
    let text = String::from_utf8(out).expect("is text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2 + 2500 + 1);
    assert_eq!((lines[2], lines[2501], lines[2502]), ("   0", " 2499", "(2,500 rows)"));
}

#[test]
fn a_closed_pipe_is_told_from_other_failures() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for format in [Format::Ndjson, Format::Json, Format::Csv, Format::Arrow] {
        let mut rows = writer(format, Closed, TableLimits::default());
        let begun = rows.begin(&sample().schema(), &as_of());
        let error = begun.and_then(|()| rows.rows(&sample())).and_then(|()| rows.end(&stats())).expect_err("fails");
        assert!(error.is_closed_pipe(), "{format:?}: {error:?}");
    }
}

#[test]
fn values_that_the_libraries_hold_no_text_for_have_one() {
    let kinds =
        UnionFields::try_new([3, 7], [Field::new("n", DataType::Int64, true), Field::new("t", DataType::Utf8, true)]);
    let children: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(StringArray::from(vec!["x"]))];
    let union =
        UnionArray::try_new(kinds.expect("two kinds"), vec![3, 7, 3].into(), Some(vec![0, 0, 1].into()), children);
    let days = Date32Array::from(vec![Some(i32::MAX), None, Some(0)]);
    let lists = ListArray::from_iter_primitive::<Date32Type, _, _>([Some(vec![Some(i32::MIN)]), None, None]);
    let columns: Vec<(&str, ArrayRef)> =
        vec![("either", Arc::new(union.expect("of one length"))), ("day", Arc::new(days)), ("days", Arc::new(lists))];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
    let batch = batch.expect("columns of one length");
    let of = |format| {
        let mut out = Vec::new();
        let mut rows = writer(format, &mut out, TableLimits::default());
        rows.begin(&batch.schema(), &as_of()).expect("begins");
        rows.rows(&batch).expect("every value is written");
        rows.end(&stats()).expect("ends");
        drop(rows);
        String::from_utf8(out).expect("is text")
    };
    let json = r#"{"either":1,"day":"+5881580-07-11","days":["-5877641-06-23"]}
{"either":"x","day":null,"days":null}
{"either":2,"day":"1970-01-01","days":null}
"#;
    assert_eq!(of(Format::Ndjson), json);
    let csv = "either,day,days\n1,+5881580-07-11,\"[\"\"-5877641-06-23\"\"]\"\n\"\"\"x\"\"\",,\n2,1970-01-01,\n";
    assert_eq!(of(Format::Csv), csv);
    let table = of(Format::Table);
    assert!(table.contains("+5881580-07-11") && table.contains("-5877641-06-23"), "{table}");
}
