use arrow::datatypes::DataType;

use super::*;
use crate::decode::RECORD_BYTES_MAX;
use crate::reject::REJECT_BYTES_MAX;

fn two() -> InputSpec {
    csv_spec(&[("id!", DataType::Int64), ("name", DataType::Utf8)])
}

fn with(options: CsvOptions) -> InputSpec {
    InputSpec { format: Format::Csv(options), ..two() }
}

fn headless() -> CsvOptions {
    CsvOptions { header: false, ..CsvOptions::default() }
}

/// Text, rows, and rejects as (offset, reason, column).
type Case<'a> = (&'a str, &'a [&'a str], &'a [(u64, Reason, Option<&'a str>)]);

fn check(spec: &InputSpec, cases: &[Case<'_>]) {
    for (text, rows, rejects) in cases {
        let outcome = decode(spec, text);
        assert_eq!(outcome.json(), *rows, "rows of {text:?}");
        assert_eq!(outcome.refused(), *rejects, "rejects of {text:?}");
    }
}

#[test]
fn records_and_their_faults() {
    check(
        &two(),
        &[
            ("id,name\n1,a\n2,b\n", &[r#"{"id":1,"name":"a"}"#, r#"{"id":2,"name":"b"}"#], &[]),
            ("id,name\n1,a", &[r#"{"id":1,"name":"a"}"#], &[]),
            ("\u{feff}id,name\r\n1,a\r\n", &[r#"{"id":1,"name":"a"}"#], &[]),
            ("id,name\n1,a\r", &[r#"{"id":1,"name":"a"}"#], &[]),
            ("\n\r\nid,name\n\n\r\n1,a\n\n", &[r#"{"id":1,"name":"a"}"#], &[]),
            ("id,name\n", &[], &[]),
            ("id,name", &[], &[]),
            ("id,name\n1,\n", &[r#"{"id":1}"#], &[]),
            ("id,name\n1,\"\"\n", &[r#"{"id":1,"name":""}"#], &[]),
            ("id,name\n 1 , a \n", &[r#"{"id":1,"name":" a "}"#], &[]),
            ("id,name\n\"1\",\"a \"\"b\"\", c\"\n", &[r#"{"id":1,"name":"a \"b\", c"}"#], &[]),
            ("id,name\n1,a\"b\n", &[r#"{"id":1,"name":"a\"b"}"#], &[]),
            ("id,name\n1.0,a\n", &[r#"{"id":1,"name":"a"}"#], &[]),
            ("id,name\n1,a,,\n", &[r#"{"id":1,"name":"a"}"#], &[]),
            ("id,name\n1,a,x\n", &[], &[(8, Reason::Width, None)]),
            ("id,name\n1\n2,b\n", &[r#"{"id":2,"name":"b"}"#], &[(8, Reason::Width, None)]),
            ("id,name\n1,a\n2", &[r#"{"id":1,"name":"a"}"#], &[(12, Reason::Truncated, None)]),
            ("id,name\nx\n", &[], &[(8, Reason::Width, None)]),
            ("id,name\nx", &[], &[(8, Reason::Truncated, None)]),
            ("id,name\nx,a\n", &[], &[(8, Reason::BadValue, Some("id"))]),
            ("id,name\n,a\n", &[], &[(8, Reason::Missing, Some("id"))]),
            ("id,name\n\"\",a\n", &[], &[(8, Reason::Missing, Some("id"))]),
            ("id,name\n1,\"a\n2,b\n", &[r#"{"id":2,"name":"b"}"#], &[(8, Reason::BadQuote, None)]),
            ("id,name\n1,\"a\"b\n", &[], &[(8, Reason::BadQuote, None)]),
            ("id,name\n1,\"a", &[], &[(8, Reason::Truncated, None)]),
        ],
    );
}

#[test]
fn positions_are_byte_offsets_and_bytes_are_kept() {
    let outcome = decode(&two(), "id,name\r\n1,a\r\nx,é\r\n\r\n3,c");
    assert_eq!(outcome.rows.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [9, 22]);
    assert_eq!(outcome.raw, ["1,a", "3,c"]);
    assert_eq!(outcome.rejects[0].offset, 14);
    assert_eq!(&outcome.rejects[0].bytes[..], "x,é".as_bytes());
    assert_eq!(outcome.rejects[0].message, "not a value of type Int64: x");
}

#[test]
fn bad_utf8_refuses_only_its_record() {
    let outcome = decode(&two(), b"id,name\n1,a\n2,\xff\n3,c\n");
    assert_eq!(outcome.json(), [r#"{"id":1,"name":"a"}"#, r#"{"id":3,"name":"c"}"#]);
    assert_eq!(outcome.refused(), [(12, Reason::BadUtf8, None)]);
    assert_eq!(&outcome.rejects[0].bytes[..], b"2,\xff");
}

#[test]
fn headers_match_by_name_and_alias_in_any_case_and_spacing() {
    let mut spec = two();
    spec.columns[1].aliases = vec!["Full Name".to_owned()];
    let outcome = decode(&spec, "other, FULLNAME ,\" I D \",other\nx,a,1,y\n");
    assert_eq!(outcome.json(), [r#"{"id":1,"name":"a"}"#]);
    assert_eq!(outcome.notes.unknown_columns, ["other", "other"]);
    assert_eq!(outcome.notes.header.as_deref(), Some("other, FULLNAME ,\" I D \",other"));
    let outcome = decode(&spec, "id\n1\n");
    assert_eq!(outcome.json(), [r#"{"id":1}"#]);
    assert_eq!(outcome.notes.missing_columns, ["name"]);
    // An underscore is part of the name.
    let outcome = decode(&spec, "id,full_name\n1,a\n");
    assert_eq!(outcome.notes.unknown_columns, ["full_name"]);
}

#[test]
fn two_headers_for_one_column_refuse_the_file() {
    let mut spec = two();
    spec.columns[1].aliases = vec!["Full Name".to_owned()];
    let alias = "take the alias of one of them out of the definition, or rename it in the file";
    let same = "rename one of them in the file, or leave the column out of the definition";
    for (header, first, second, way_out) in [
        ("id,name,NAME", "name", "NAME", same),
        ("id,name, full name", "name", "full name", alias),
        ("id, fullname,name", "fullname", "name", alias),
    ] {
        let reject = refused_file(&spec, format!("{header}\n1,a,b\n").as_bytes());
        let message = format!("columns 2 and 3 of the file, `{first}` and `{second}`, are both column name: {way_out}");
        assert_eq!((reject.reason, reject.column.as_deref(), reject.message), (Reason::BadFile, Some("name"), message));
    }
}

#[test]
fn a_hundred_thousand_columns_are_no_trouble() {
    let unknown: String = (0..100_000).map(|column| format!("c{column},")).collect();
    let values = "x,".repeat(100_000);
    let outcome = decode(&two(), format!("{unknown}id\n{values}1\n{values}y\n"));
    assert_eq!(outcome.json(), [r#"{"id":1}"#]);
    assert_eq!(outcome.rejects.len(), 1);
    assert_eq!(outcome.notes.unknown_columns.len(), 101);
    assert_eq!(outcome.notes.unknown_columns[100], "and 99900 more");
}

#[test]
fn a_zero_byte_concerns_its_record_alone() {
    // In text it is a character like any other, as it is for DuckDB, Polars and Arrow; a number has none.
    let outcome = decode(&two(), "id,name\n1,a\n2,b\0c\n3\0,d\n4,e\n");
    let rows = [r#"{"id":1,"name":"a"}"#, r#"{"id":2,"name":"b\u0000c"}"#, r#"{"id":4,"name":"e"}"#];
    assert_eq!(outcome.json(), rows);
    assert_eq!(outcome.refused(), [(18, Reason::BadValue, Some("id"))]);
    assert_eq!(outcome.rejects[0].message, "not a value of type Int64: 3\\u{0}");
    assert_eq!(&outcome.rejects[0].bytes[..], b"3\0,d");
    let json = json_spec(&[("id", DataType::Int64), ("name", DataType::Utf8)]);
    let outcome = decode(&json, "{\"id\":1}\n{\"id\":2,\"name\":\"\0\"}\n{\"id\":3,\"name\":\"\\u0000\"}\n");
    assert_eq!(outcome.json(), [r#"{"id":1}"#, r#"{"id":3,"name":"\u0000"}"#]);
    assert_eq!(outcome.refused(), [(9, Reason::BadJson, None)]);
}

#[test]
fn lines_of_blanks_are_no_records() {
    check(
        &two(),
        &[
            (" \n\t\r\nid,name\n  \n1,a\n \t \r\n   ", &[r#"{"id":1,"name":"a"}"#], &[]),
            ("id,name\n \u{a0}\n", &[], &[(8, Reason::Width, None)]),
        ],
    );
    let tabs = CsvOptions { delimiter: b'\t', ..CsvOptions::default() };
    check(
        &InputSpec { format: Format::Csv(tabs), ..csv_spec(&[("a", DataType::Utf8), ("b", DataType::Utf8)]) },
        &[("a\tb\n\t\n  \n \t\n", &["{}", r#"{"a":" "}"#], &[])],
    );
    // Where a record is one field, blanks are its value, whatever the definition has beside it.
    let one = InputSpec { format: Format::Csv(headless()), ..csv_spec(&[("name", DataType::Utf8)]) };
    check(&one, &[("a\n \t\n\nb\n", &[r#"{"name":"a"}"#, r#"{"name":" \t"}"#, r#"{"name":"b"}"#], &[])]);
    check(&two(), &[("id\n1\n  \n", &[r#"{"id":1}"#], &[(5, Reason::Missing, Some("id"))])]);
    check(&json_spec(&[("id", DataType::Int64)]), &[("  \n{\"id\":1}\n\t\r\n", &[r#"{"id":1}"#], &[])]);
}

#[test]
fn surplus_empty_fields_are_counted() {
    let outcome = decode(&two(), "id,name\n1,a,\n2,b\n3,c,,,\nx,d,\n");
    assert_eq!(outcome.rows.len(), 3);
    assert_eq!(outcome.notes.surplus_empty_records, 2);
}

#[test]
fn options() {
    let tabs = CsvOptions { delimiter: b'\t', ..headless() };
    check(&with(tabs), &[("1\ta,b\n", &[r#"{"id":1,"name":"a,b"}"#], &[])]);
    let plain = CsvOptions { quote: None, ..headless() };
    check(&with(plain), &[("1,\"a\n", &[r#"{"id":1,"name":"\"a"}"#], &[])]);
    let nulls = CsvOptions { null_values: vec!["NA".to_owned()], ..headless() };
    check(
        &with(nulls),
        &[(
            "1,NA\n2,\"NA\"\nNA,x\n",
            &[r#"{"id":1}"#, r#"{"id":2,"name":"NA"}"#],
            &[(12, Reason::Missing, Some("id"))],
        )],
    );
    // A blank line is no record, even where one empty field would be.
    let one = InputSpec { format: Format::Csv(headless()), ..csv_spec(&[("name", DataType::Utf8)]) };
    check(&one, &[("a\n\nb\n", &[r#"{"name":"a"}"#, r#"{"name":"b"}"#], &[])]);
}

#[test]
fn multiline_fields() {
    let spec = with(CsvOptions { multiline: true, ..CsvOptions::default() });
    check(
        &spec,
        &[
            ("id,name\n1,\"a\nb\"\n2,c\n", &[r#"{"id":1,"name":"a\nb"}"#, r#"{"id":2,"name":"c"}"#], &[]),
            ("id,name\n1,\"a\"\"\r\n\"\r\n2,c\n", &[r#"{"id":1,"name":"a\"\r\n"}"#, r#"{"id":2,"name":"c"}"#], &[]),
            ("id,name\n1,a\"\n2,c\n", &[r#"{"id":1,"name":"a\""}"#, r#"{"id":2,"name":"c"}"#], &[]),
            ("id,name\n1,\"a\n2,c\n", &[], &[(8, Reason::Truncated, None)]),
            ("\"i\nd\",name\n1,a\n", &[r#"{"id":1,"name":"a"}"#], &[]),
        ],
    );
}

#[test]
fn a_failed_record_leaves_no_trace() {
    let types = [
        ("a", DataType::Utf8),
        ("b", DataType::Boolean),
        ("c", naive()),
        ("d", DataType::Decimal128(5, 1)),
        ("e", DataType::Float32),
        ("f", DataType::Int8),
    ];
    let text = "a,b,c,d,e,f\nx,t,,1,1,200\n,y,2020-01-01 00:00,2.30,1,1\nlong text,n,,,,x\n,,,,,\n";
    let outcome = decode(&csv_spec(&types), text);
    assert_eq!(outcome.json(), [r#"{"b":true,"c":"2020-01-01T00:00:00","d":2.3,"e":1.0,"f":1}"#, "{}"]);
    let bad = |offset| (offset, Reason::BadValue, Some("f"));
    assert_eq!(outcome.refused(), [bad(12), bad(54)]);
}

#[test]
fn a_record_beyond_the_limit_is_refused_wherever_chunks_end() {
    let long = "y".repeat(RECORD_BYTES_MAX + 1);
    let text = format!("id,name\n1,a\n{long}\n2,{}\n3,c\n", "z".repeat(RECORD_BYTES_MAX - 2));
    let whole = try_decode(&two(), text.as_bytes(), text.len() + 1).unwrap();
    assert_eq!(whole.refused(), [(12, Reason::TooLong, None)]);
    assert_eq!(whole.rejects[0].bytes.len(), REJECT_BYTES_MAX);
    assert_eq!(whole.rows.len(), 3);
    for chunk_bytes in [1000, 1 << 16, RECORD_BYTES_MAX + 100] {
        assert_eq!(try_decode(&two(), text.as_bytes(), chunk_bytes).unwrap(), whole, "chunks of {chunk_bytes}");
    }
}

#[test]
fn files_that_are_refused_as_a_whole() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "the file is empty"),
        (b"\n\r\n", "the file has no header line"),
        (b"name,other\nx,y\n", "required column id is not in the file, which has: name, other"),
        (b"PAR1\x15\x00", "not readable as csv: it looks like Parquet"),
        (b"Obj\x01\x02", "not readable as csv: it looks like Avro"),
        (b"PK\x03\x04\x14\0\0\0", "not readable as csv: it looks like a zip archive"),
        (b"\xff\xfei\0d\0,\0n\0", "not readable as csv: it looks like UTF-16, and must be UTF-8"),
        (&[b"id,name\n", &[0; 20][..]].concat(), "not readable as csv: it is full of control characters"),
        (b"id,name\x00\n1,a\n", "the header holds a zero byte"),
        (b"id,\xff\n1,a\n", "the header is not valid UTF-8"),
        (b"id,\"name\n1,a\n", "header: a quote is not closed"),
    ];
    for (bytes, message) in cases {
        let reject = refused_file(&two(), bytes);
        assert_eq!((reject.offset, reject.reason, reject.message.as_str()), (0, Reason::BadFile, *message));
    }
    let optional = csv_spec(&[("a", DataType::Utf8)]);
    assert_eq!(refused_file(&optional, b"x,y\n1,2\n").message, "no column of the file is known: x, y");
}

#[test]
fn text_can_not_fill_nested_columns() {
    let list = DataType::List(Arc::new(arrow::datatypes::Field::new_list_field(DataType::Int64, true)));
    let error = try_decode(&csv_spec(&[("a", list)]), b"a\n1\n", 100).unwrap_err();
    assert!(matches!(error, OpenError::Unsupported { .. }), "{error}");
}

#[test]
fn big_chunks_are_split_into_batches() {
    let mut text = String::from("id,name\n");
    (0..150_000).for_each(|id| text.push_str(&format!("{id},n\n")));
    let file = FileDecoder::open_with(&two(), Arc::new(Bytes::from(text)), 1 << 24).unwrap();
    let mut chunks = file.chunks().unwrap();
    let decoded = file.chunk_decoder().decode(chunks.next_chunk().unwrap().unwrap()).unwrap();
    assert_eq!(decoded.iter().map(|d| d.batch.num_rows()).collect::<Vec<_>>(), [65_536, 65_536, 18_928]);
    assert!(chunks.next_chunk().unwrap().is_none());
}
