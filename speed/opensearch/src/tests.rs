//! Documents and queries as they are sent, without a server.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
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

/// How many queries for fields a query consists of.
fn leaves(query: &Value) -> usize {
    let Some(of) = query["bool"].as_object() else { return 1 };
    of.values().filter_map(Value::as_array).flatten().map(leaves).sum()
}

/// All of them, joined by OR without much nesting.
fn one_of(mut parts: Vec<Expr>) -> Expr {
    while parts.len() > 1 {
        parts = parts.chunks(2).map(|two| two.iter().cloned().reduce(Expr::or).unwrap()).collect();
    }
    parts.remove(0)
}

#[test]
fn a_list_is_one_clause_however_long_it_is() {
    let mapping = Mapping::of(&schema());
    let ask = |filter: Expr| queries(&[filter], &mapping);
    let terms = |name: &str, terms: Value| {
        let unindexed = json!({"terms": {"unindexed": [name, "*"]}});
        let field = format!("row.{name}");
        vec![json!({"bool": {"should": [{"terms": {(field): terms}}, unindexed], "minimum_should_match": 1}})]
    };
    let numbers: Vec<i64> = (0..512).collect();
    let texts: Vec<String> = (0..512).map(|n| format!("t{n}")).collect();
    let in_numbers = col("n").in_list(numbers.iter().copied().map(lit).collect(), false);
    let in_texts = col("text").in_list(texts.iter().cloned().map(lit).collect(), false);
    assert_eq!(ask(in_numbers.clone()), terms("n", json!(numbers)));
    assert_eq!(ask(in_texts.clone()), terms("text", json!(texts)));
    assert_eq!(queries(&[in_numbers, in_texts], &mapping).iter().map(leaves).sum::<usize>(), 4);
    // Rows with either zero, and numbers that JSON may have rounded.
    let beside = [0.0_f64.next_down(), 0.0, 0.0_f64.next_up(), -0.0, 1.5_f64.next_down(), 1.5, 1.5_f64.next_up()];
    assert_eq!(ask(col("x").in_list(vec![lit(0.0), lit(1.5)], false)), terms("x", json!(beside)));
    for everything in [
        col("x").in_list(vec![lit(1.5), lit(f64::NAN)], false),
        col("x").in_list(vec![lit(f64::MAX), lit(1.5)], false),
        col("n").in_list(vec![lit(1_i64), Expr::Literal(ScalarValue::Int64(None), None)], false),
        col("n").in_list(vec![lit(1_i64), lit(1_i32)], false),
        col("n").in_list(vec![lit(1_i64), col("a.b")], false),
        col("n").in_list((0..513_i64).map(lit).collect(), false),
    ] {
        assert_eq!(ask(everything.clone()), Vec::<Value>::new(), "{everything}");
    }
}

#[test]
fn a_list_of_times_is_few_ranges_with_all_of_them() {
    let column = Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true);
    let mapping = Mapping::of(&table_schema(&Schema::new(vec![column])));
    let asked = |times: &[i64]| {
        let literal = |micros: &i64| Expr::Literal(ScalarValue::TimestampMicrosecond(Some(*micros), None), None);
        let found = queries(&[col("at").in_list(times.iter().map(literal).collect(), false)], &mapping);
        let ranges = found[0]["bool"]["should"][0]["bool"]["should"].as_array().unwrap().clone();
        let bounds = |range: &Value| {
            let range = &range["range"]["row.at"];
            (range["gte"].as_i64().unwrap(), range["lte"].as_i64().unwrap())
        };
        ranges.iter().map(bounds).collect::<Vec<_>>()
    };
    assert_eq!(asked(&[7_000, -2_500]), [(-4, -2), (6, 8)], "rounded down, and a millisecond more on both sides");
    let times: Vec<i64> = (0..512).map(|n| (n * 7919 % 512) * 1_000_000).collect();
    let ranges = asked(&times);
    assert!(ranges.len() <= 16, "{} ranges", ranges.len());
    let is_in = |micros: &i64| ranges.iter().any(|(low, high)| (*low..=*high).contains(&(micros / 1_000)));
    assert!(times.iter().all(is_in), "a time is in no range");
}

/// A cluster takes 1,024 clauses, of which each query for a field may be three.
#[test]
fn conditions_that_do_not_fit_into_a_request_are_left_to_the_engine() {
    let mapping = Mapping::of(&schema());
    let small = || col("n").gt(lit(5_i64));
    let fits = queries(&[small()], &mapping);
    let equal = |count: i64| one_of((0..count).map(|n| col("n").eq(lit(n))).collect());
    assert_eq!(queries(&[equal(500), small()], &mapping), fits, "one that is too large keeps no other one back");
    assert_eq!(queries(&[equal(500).and(small())], &mapping), fits, "nor one that it is joined with");
    assert_eq!(queries(&[equal(100), small()], &mapping).len(), 2);
    let many: Vec<Expr> =
        (0..400_i32).map(|n| col("n").gt(lit(i64::from(n))).or(col("x").lt(lit(f64::from(n))))).collect();
    let asked = queries(&many, &mapping);
    let clauses = 3 * asked.iter().map(leaves).sum::<usize>();
    assert!((700..=768).contains(&clauses), "{clauses} clauses of {} conditions", asked.len());
}
