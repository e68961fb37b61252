//! Documents and queries as they are sent, without a server.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::{Expr, col, lit};
use serde_json::{Value, json};
use tidemark_shared::live::LiveBatch;
use tidemark_shared::position::LogPartition;
use tidemark_shared::reject::{Reason, Reject};
use tidemark_shared::rows::table_schema;

use crate::document::{Document, document_id, documents};
use crate::exact::ExactRows;
use crate::filter::queries;
use crate::mapping::{Mapping, schema_of_text, schema_text};

fn schema() -> SchemaRef {
    let element = Arc::new(Field::new("element", DataType::Int64, true));
    let columns = [
        Field::new("n", DataType::Int64, true),
        Field::new("x", DataType::Float64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("list", DataType::List(element), true),
        Field::new("a.b", DataType::Int64, true),
    ];
    table_schema(&Schema::new(columns.to_vec()))
}

fn partition() -> LogPartition {
    "t/3".parse().unwrap()
}

/// Rows at offsets 4, 5 and 6.
fn rows() -> RecordBatch {
    let numbers = |values: [Option<i64>; 3]| -> ArrayRef { Arc::new(Int64Array::from(values.to_vec())) };
    let list = arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([
        Some(vec![Some(i64::MAX), None]),
        None,
        Some(vec![]),
    ]);
    let list = arrow::compute::cast(&list, schema().field(3).data_type()).unwrap();
    let columns: Vec<ArrayRef> = vec![
        numbers([Some((1 << 53) + 1), None, Some(i64::MIN)]),
        Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(-0.0), Some(f64::INFINITY)])),
        Arc::new(StringArray::from(vec![Some("a \"quoted\" text\n"), None, Some(&"x".repeat(2_000))])),
        list,
        numbers([Some(1), Some(2), None]),
        Arc::new(StringArray::from(vec!["t"; 3])),
        numbers([Some(3); 3]),
        numbers([Some(4), Some(5), Some(6)]),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn batch() -> LiveBatch {
    let reject = Reject {
        offset: 8,
        reason: Reason::Rule("no".to_owned()),
        column: Some("n".to_owned()),
        message: "it is \"bad\"".to_owned(),
        bytes: bytes::Bytes::from_static(b"\xff\x00"),
    };
    let (rows, rejects, filtered) = (vec![rows()], vec![reject], vec![3, 7]);
    LiveBatch { partition: partition(), range: 3..9, rows, rejects, filtered, lost: Vec::new() }
}

fn parsed(document: &Document) -> Value {
    serde_json::from_slice(&document.text).unwrap()
}

#[test]
fn a_record_is_a_document_that_says_what_became_of_it() {
    let made = documents(&batch(), 4, &ExactRows::new(&schema()).unwrap(), &Mapping::of(&schema())).unwrap();
    let offsets: Vec<u64> = made.iter().map(|document| document.offset).collect();
    assert_eq!(offsets, [4, 5, 6, 7, 8], "what was visible before is not written again");
    let first = parsed(&made[0]);
    assert_eq!(first["row"], json!({"n": 9_007_199_254_740_993_i64, "text": "a \"quoted\" text\n"}));
    assert_eq!(first["unindexed"], json!(["x"]), "a number that is none can't be searched");
    assert_eq!(parsed(&made[1])["row"], json!({"x": -0.0}));
    assert_eq!(parsed(&made[2])["unindexed"], json!(["x", "text"]));
    let bare: Value = serde_json::from_slice(&made[2].bare().unwrap().text).unwrap();
    assert_eq!(
        (&bare["unindexed"], &bare["row"], &bare["exact"]),
        (&json!(["*"]), &Value::Null, &parsed(&made[2])["exact"])
    );
    assert_eq!(parsed(&made[3]), json!({"offset": 7, "kind": "filtered"}));
    assert!(made[3].bare().is_none());
    assert_eq!(parsed(&made[4])["reason"], "rule:no");
    assert!(made.iter().all(|document| !document.text.contains(&b'\n')), "a document is one line");
    assert_eq!(document_id(&partition(), 4), "t/3/4");
}

#[test]
fn an_exact_row_is_what_it_was() {
    let exact = ExactRows::new(&schema()).unwrap();
    let encoded = exact.encode(&rows()).unwrap();
    let bytes: Vec<Vec<u8>> = encoded.iter().map(|row| row.as_ref().to_vec()).collect();
    let decoded = exact.decode(&partition(), vec![4, 5, 6], &bytes).unwrap();
    assert_eq!(&decoded.schema(), exact.read());
    let back = exact.as_held(&decoded).unwrap();
    for (index, (found, wanted)) in back.columns().iter().zip(rows().columns()).enumerate() {
        assert_eq!(found.to_data(), wanted.to_data(), "column {index}");
    }
    assert_eq!(schema_of_text(&schema_text(&schema()).unwrap()).unwrap(), schema());
}

#[test]
fn a_query_lets_through_what_it_can_not_judge() {
    let mapping = Mapping::of(&schema());
    let ask = |filter: Expr| queries(&[filter], &mapping);
    let unindexed = |name: &str| json!({"terms": {"unindexed": [name, "*"]}});
    let wanted = json!({"bool": {
        "should": [{"range": {"row.n": {"gte": 5}}}, unindexed("n")],
        "minimum_should_match": 1,
    }});
    assert_eq!(ask(col("n").gt(lit(5_i64))), std::slice::from_ref(&wanted));
    assert_eq!(ask(lit(5_i64).lt(col("n"))), std::slice::from_ref(&wanted));
    let unknown = || col("n").not_eq(lit(1_i64));
    assert_eq!(ask(col("n").gt(lit(5_i64)).and(unknown())), [wanted], "one side of both");
    for everything in [
        unknown(),
        col("n").gt(lit(5_i64)).or(unknown()),
        col("n").gt(lit(5_i32)),
        col("a.b").eq(lit(1_i64)),
        col("list").is_not_null(),
        col("x").gt(lit(f64::NAN)),
        Expr::Not(Box::new(col("n").gt(lit(5_i64)))),
        col("n").in_list(vec![lit(1_i64)], true),
    ] {
        assert_eq!(ask(everything.clone()), Vec::<Value>::new(), "{everything}");
    }
}
