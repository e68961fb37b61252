use arrow::datatypes::{DataType, Field, Fields};

use super::*;

/// A line, and its row or its fault.
type Case<'a> = (&'a str, Result<&'a str, (Reason, Option<&'a str>)>);

fn check(spec: &InputSpec, cases: &[Case<'_>]) {
    for (text, expected) in cases {
        let outcome = decode(spec, text);
        match expected {
            Ok(row) => assert_eq!((outcome.json(), outcome.refused()), (vec![*row], vec![]), "{text}"),
            Err((reason, column)) => {
                assert_eq!((outcome.json(), outcome.refused()), (vec![], vec![(0, reason.clone(), *column)]), "{text}");
            }
        }
    }
}

#[test]
fn objects_and_their_faults() {
    let spec = json_spec(&[("id!", DataType::Int64), ("name", DataType::Utf8)]);
    check(
        &spec,
        &[
            (r#"{"id":1,"name":"a"}"#, Ok(r#"{"id":1,"name":"a"}"#)),
            (" {\"ID\" : 1 , \"n ame\":null}\r\n", Ok(r#"{"id":1}"#)),
            (r#"{"id":9007199254740993}"#, Ok(r#"{"id":9007199254740993}"#)),
            (r#"{"id":"7","name":1.50}"#, Ok(r#"{"id":7,"name":"1.50"}"#)),
            (r#"{"id":1,"id":2}"#, Err((Reason::BadJson, Some("id")))),
            (r#"{"id":1,"I D":null}"#, Err((Reason::BadJson, Some("id")))),
            (r#"{"id":1,"other":1,"other":2}"#, Ok(r#"{"id":1}"#)),
            (r#"{"id":1,"name":"é\n\u00e9"}"#, Ok(r#"{"id":1,"name":"é\né"}"#)),
            (r#"{"id":1,"name":{"x":[1, 2]}}"#, Ok(r#"{"id":1,"name":"{\"x\":[1, 2]}"}"#)),
            (r#"{"id":1,"name":""}"#, Ok(r#"{"id":1,"name":""}"#)),
            (r#"{"id":1,"name":true,"other":[{}]}"#, Ok(r#"{"id":1,"name":"true"}"#)),
            (r#"{"name":"a"}"#, Err((Reason::Missing, Some("id")))),
            (r#"{"id":""}"#, Err((Reason::Missing, Some("id")))),
            (r#"{"id":true}"#, Err((Reason::BadValue, Some("id")))),
            (r#"{"id":[1]}"#, Err((Reason::BadValue, Some("id")))),
            (r#"{"id":9223372036854775808}"#, Err((Reason::BadValue, Some("id")))),
            (r#"{"id":1,"name":"\ud800"}"#, Err((Reason::BadValue, Some("name")))),
            ("[1]\n", Err((Reason::BadJson, None))),
            ("1\n", Err((Reason::BadJson, None))),
            ("{\"id\":1} x\n", Err((Reason::BadJson, None))),
            ("{\"id\":1\n", Err((Reason::BadJson, None))),
            ("{\"id\":1", Err((Reason::Truncated, None))),
        ],
    );
}

#[test]
fn text_in_other_columns_is_read_as_delimited_text_would_be() {
    let spec = json_spec(&[
        ("at", naive()),
        ("instant", instant()),
        ("day", DataType::Date32),
        ("money", DataType::Decimal128(20, 2)),
        ("flag", DataType::Boolean),
    ]);
    check(
        &spec,
        &[
            (
                r#"{"at":"2020-01-01 00:00","instant":"2020-01-01T01:00:00+01:00","day":"2020-01-01"}"#,
                Ok(r#"{"at":"2020-01-01T00:00:00","instant":"2020-01-01T00:00:00Z","day":"2020-01-01"}"#),
            ),
            (r#"{"money":123456789012345678.050,"flag":"yes"}"#, Ok(r#"{"money":123456789012345678.05,"flag":true}"#)),
            (r#"{"money":1.005}"#, Err((Reason::BadValue, Some("money")))),
            (r#"{"money":1e2,"flag":false}"#, Ok(r#"{"money":100.00,"flag":false}"#)),
            (r#"{"at":1577836800}"#, Err((Reason::BadValue, Some("at")))),
        ],
    );
}

#[test]
fn nested_columns() {
    let fields = Fields::from(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, false)]);
    let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
    let spec = json_spec(&[("list", list(DataType::Int64)), ("deep", list(DataType::Struct(fields)))]);
    check(
        &spec,
        &[
            (r#"{"list":[1,null,"3"]}"#, Ok(r#"{"list":[1,null,3]}"#)),
            (r#"{"list":[]}"#, Ok(r#"{"list":[]}"#)),
            (r#"{"deep":[{"A":1,"b":"x","c":0},null]}"#, Ok(r#"{"deep":[{"a":1,"b":"x"},null]}"#)),
            (r#"{"deep":[{"a":1,"A":2,"b":"x"}]}"#, Err((Reason::BadValue, Some("deep")))),
            (r#"{"list":[1,"x"]}"#, Err((Reason::BadValue, Some("list")))),
            (r#"{"list":1}"#, Err((Reason::BadValue, Some("list")))),
            (r#"{"list":[1],"deep":[{"a":1}]}"#, Err((Reason::BadValue, Some("deep")))),
        ],
    );
    // What the refused records left half-read must not show in their neighbours.
    let outcome =
        decode(&spec, "{\"list\":[1]}\n{\"list\":[2,\"x\"]}\n{\"list\":[3],\"deep\":[{\"a\":1}]}\n{\"list\":[4]}\n");
    assert_eq!(outcome.json(), [r#"{"list":[1]}"#, r#"{"list":[4]}"#]);
}

#[test]
fn unknown_keys_are_reported_and_bounded() {
    let spec = json_spec(&[("id", DataType::Int64)]);
    let outcome = decode(&spec, "{\"id\":1,\"b\":1,\"a\":2}\n{\"B\":1}\n");
    assert_eq!(outcome.notes.unknown_columns, ["a", "b"]);
    let many: String = (0..1000).map(|key| format!("{{\"k{key}\":1}}\n")).collect();
    assert_eq!(decode(&spec, many).notes.unknown_columns.len(), 100);
}

#[test]
fn deep_nesting_is_no_stack_overflow() {
    let spec = json_spec(&[("id", DataType::Int64)]);
    let text = format!("{{\"id\":{}\n{{\"id\":1}}\n", "[".repeat(500_000));
    let outcome = decode(&spec, text);
    assert_eq!(outcome.rows.len(), 1);
    assert_eq!(outcome.rejects.len(), 1);
}
