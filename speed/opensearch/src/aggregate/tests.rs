//! What is asked of a cluster, what of its answers counts, and when rows are read instead, without a server.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, col, lit};
use serde_json::{Value, json};
use tidemark_shared::live::{AggregateRequest, LiveState};
use tidemark_shared::rows::table_schema;

use super::answer::{NoPage, Page, exact_sum, exact_whole};
use super::asked::{Asked, asked};
use super::exact::{Exact, conditions, known};
use super::{ends_in_time, rows_are_nearer};
use crate::mapping::Mapping;

const TEXT: usize = 0;
const N: usize = 1;
const X: usize = 2;
const AT: usize = 3;
const PRICE: usize = 4;
const WIDE: usize = 5;
const OK: usize = 6;

fn schema() -> SchemaRef {
    let columns = [
        ("text", DataType::Utf8),
        ("n", DataType::Int64),
        ("x", DataType::Float64),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("price", DataType::Decimal128(10, 2)),
        ("wide", DataType::Decimal128(30, 2)),
        ("ok", DataType::Boolean),
        ("a.b", DataType::Int64),
        ("far", DataType::Timestamp(TimeUnit::Nanosecond, None)),
        ("big", DataType::UInt64),
    ];
    table_schema(&Schema::new(columns.map(|(name, of)| Field::new(name, of, true)).to_vec()))
}

fn request(filters: &[Expr], groups: &[usize], states: &[LiveState]) -> AggregateRequest {
    let (filters, groups, states) = (filters.to_vec(), groups.to_vec(), states.to_vec());
    AggregateRequest { ranges: BTreeMap::new(), filters, groups, states }
}

/// A decimal of more digits than a 64-bit number has.
fn wide() -> Expr {
    lit(ScalarValue::Decimal128(Some(1), 30, 2))
}

#[test]
fn columns_are_known_exactly_or_not() {
    let mapping = Mapping::of(&schema());
    let wanted = [
        ("text", Some(Exact::Text)),
        ("n", Some(Exact::Whole)),
        ("x", Some(Exact::Float)),
        ("at", Some(Exact::Whole)),
        ("price", Some(Exact::Whole)),
        ("wide", None),
        ("ok", Some(Exact::Boolean)),
        ("far", None),
        ("big", None),
    ];
    for (name, wanted) in wanted {
        assert_eq!(known(mapping.column(name).expect(name)), wanted, "{name}");
    }
}

#[test]
fn what_may_be_asked_for_is_decided_by_the_columns() {
    use LiveState::{FloatSum, Greatest, Least, Rows, Sum, Values};
    let mapping = Mapping::of(&schema());
    let cases: [(&[usize], &[LiveState], bool); 17] = [
        (&[], &[Rows], true),
        (&[TEXT, N, AT, PRICE, OK], &[Rows], true),
        (&[X], &[Rows], false),
        (&[WIDE], &[Rows], false),
        // a name with a dot, and the position
        (&[7], &[Rows], false),
        (&[11], &[Rows], false),
        (&[TEXT], &[Values(TEXT), Values(OK), Values(X), Values(AT)], true),
        (&[], &[Values(WIDE)], false),
        (&[], &[Sum(N), Sum(PRICE), FloatSum(X), FloatSum(N)], true),
        (&[], &[Sum(X)], false),
        (&[], &[Sum(AT)], false),
        (&[], &[FloatSum(PRICE)], false),
        (&[], &[Sum(WIDE)], false),
        (&[], &[Least(N), Greatest(X), Least(AT), Greatest(PRICE)], true),
        (&[], &[Least(TEXT)], false),
        (&[], &[Greatest(OK)], false),
        (&[N; 17], &[Rows], false),
    ];
    for (groups, states, wanted) in cases {
        let found = asked(&request(&[], groups, states), &mapping, &schema());
        assert_eq!(found.is_some(), wanted, "{groups:?} {states:?}");
    }
    assert!(asked(&request(&[col("wide").gt(wide())], &[], &[Rows]), &mapping, &schema()).is_none(), "a condition");
}

#[test]
fn a_request_counts_rows_in_which_a_column_is_not_indexed() {
    let mapping = Mapping::of(&schema());
    let found = asked(
        &request(
            &[col("n").gt(lit(5_i64))],
            &[TEXT, AT],
            &[LiveState::Rows, LiveState::Sum(PRICE), LiveState::Least(PRICE)],
        ),
        &mapping,
        &schema(),
    );
    let body = found.unwrap().body(json!({"match_all": {}}), 7, Some(&json!({"group_0": null, "group_1": 3})));
    let wanted = json!({
        "size": 0,
        "track_total_hits": true,
        "query": {"bool": {"filter": [{"term": {"kind": "row"}}, {"match_all": {}}, {"bool": {
            "should": [{"range": {"row.n": {"gt": 5}}}, {"terms": {"unindexed": ["n", "*"]}}],
            "minimum_should_match": 1,
        }}]}},
        "aggs": {
            "groups": {
                "composite": {
                    "size": 7,
                    "sources": [
                        {"group_0": {"terms": {"field": "row.text", "missing_bucket": true}}},
                        {"group_1": {"terms": {"field": "whole.at", "missing_bucket": true}}},
                    ],
                    "after": {"group_0": null, "group_1": 3},
                },
                "aggs": {"column_4": {"stats": {"field": "whole.price"}}},
            },
            "unindexed": {"filter": {"terms": {"unindexed": ["at", "n", "price", "text", "*"]}}},
        },
    });
    assert_eq!(body, wanted);
    let rows = asked(&request(&[], &[], &[LiveState::Rows]), &mapping, &schema()).unwrap();
    assert_eq!(rows.body(json!({}), 7, None).get("aggs"), None, "a count alone needs no column");
}

#[test]
fn conditions_are_exact_or_there_are_none() {
    let mapping = Mapping::of(&schema());
    let time = |micros| lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())));
    let exact = [
        col("n").gt(lit(i64::MAX)),
        col("n").not_eq(lit(1_i64)).and(col("text").eq(lit("a"))),
        col("n").in_list(vec![lit(1_i64), lit(2_i64)], true),
        col("at").lt(time(-1)).or(col("at").is_null()),
        col("x").gt_eq(lit(1.5)),
        col("ok"),
        Expr::Not(Box::new(col("ok"))),
        col("ok").eq(lit(false)),
        col("wide").is_not_null(),
        lit(3_i64).lt_eq(col("n")),
    ];
    for filter in exact {
        assert!(conditions(std::slice::from_ref(&filter), &mapping, &mut Default::default()).is_some(), "{filter}");
    }
    let inexact = [
        col("n").gt(lit(5_i32)),
        col("n").gt(lit(ScalarValue::Int64(None))),
        col("x").gt(lit(0.0)),
        col("x").eq(lit(f64::NAN)),
        col("x").lt(lit(f64::INFINITY)),
        col("text").gt(lit("x".repeat(2_000))),
        col("text").like(lit("a%")),
        col("wide").lt(wide()),
        col("n").gt(lit(5_i64)).and(col("a.b").eq(lit(1_i64))),
        col("n").gt(lit(5_i64)).or(col("wide").eq(wide())),
        col("n").in_list(vec![lit(1_i64), lit(ScalarValue::Int64(None))], true),
        Expr::Not(Box::new(col("n").gt(lit(5_i64)))),
        col("ok").gt(lit(false)),
        (col("n") + lit(1_i64)).gt(lit(1_i64)),
    ];
    for filter in inexact {
        assert!(conditions(std::slice::from_ref(&filter), &mapping, &mut Default::default()).is_none(), "{filter}");
    }
    let mut columns = Default::default();
    let filter = col("at").gt(time(1_001)).and(col("n").is_null());
    let found = conditions(&[filter], &mapping, &mut columns).unwrap();
    assert_eq!(columns.into_iter().collect::<Vec<_>>(), ["at", "n"], "what must be indexed");
    assert!(found[0].to_string().contains(r#"{"whole.at":{"gt":1001}}"#), "{found:?}");
}

#[test]
fn sums_and_bounds_are_exact_or_not_known() {
    let edge = (1_u64 << 53) as f64;
    let whole = [
        (0.0, Some(0)),
        (-0.0, Some(0)),
        (edge - 1.0, Some((1 << 53) - 1)),
        (1.0 - edge, Some(1 - (1 << 53))),
        // 2^53 + 1 comes as this, too
        (edge, None),
        (-edge, None),
        (1.5, None),
        (f64::NAN, None),
        (f64::INFINITY, None),
    ];
    for (value, wanted) in whole {
        assert_eq!(exact_whole(value), wanted, "{value}");
    }
    let half = (1_i64 << 52) as f64;
    let sums = [
        ((3, -1.0, 5.0, 9.0), Some(9)),
        ((2, half, half, edge), Some(1 << 53)),
        ((3, half, half, edge + half), None),
        ((3, -half, 1.0, 0.0), None),
        ((1, edge, edge, edge), None),
        ((u64::MAX, 0.0, 0.0, 0.0), Some(0)),
        ((u64::MAX, 0.0, 1.0, 0.0), None),
        ((2, 1.0, 1.0, 2.5), None),
    ];
    for ((count, min, max, sum), wanted) in sums {
        assert_eq!(exact_sum(count, min, max, sum), wanted, "{count} of {min} to {max}");
    }
}

fn page(asked: &Asked, answer: &Value, size: usize) -> Result<Page, NoPage> {
    super::answer::page(asked, &answer.to_string(), size)
}

/// An answer with the groups "a" and null.
fn answered(unindexed: u64, stats: [Value; 2]) -> Value {
    let [a, none] = stats;
    json!({
        "hits": {"total": {"value": 5}},
        "aggregations": {
            "unindexed": {"doc_count": unindexed},
            "groups": {
                "after_key": {"group_0": "a"},
                "buckets": [
                    {"key": {"group_0": null}, "doc_count": 3, "column_4": none},
                    {"key": {"group_0": "a"}, "doc_count": 2, "column_4": a},
                ],
            },
        },
    })
}

#[test]
fn an_answer_is_read_to_the_last_value() {
    let states = [LiveState::Rows, LiveState::Values(PRICE), LiveState::Sum(PRICE), LiveState::Least(PRICE)];
    let asked = asked(&request(&[], &[TEXT], &states), &Mapping::of(&schema()), &schema()).unwrap();
    let some = json!({"count": 2, "min": -7.0, "max": 3.0, "avg": -2.0, "sum": -4.0});
    let none = json!({"count": 0, "min": null, "max": null, "avg": null, "sum": 0.0});
    let found = page(&asked, &answered(0, [some.clone(), none.clone()]), 2).unwrap();
    assert_eq!((found.rows, found.rows_of_groups(), &found.after), (5, 5, &Some(json!({"group_0": "a"}))));
    let batch = found.batch(&asked).unwrap().unwrap();
    assert_eq!(batch.schema(), asked.schema);
    let texts = batch.column(0).as_string::<i32>();
    assert_eq!(texts.iter().collect::<Vec<_>>(), [None, Some("a")]);
    assert_eq!(batch.column(1).as_primitive::<Int64Type>().values(), &[3, 2]);
    assert_eq!(batch.column(2).as_primitive::<Int64Type>().values(), &[0, 2]);
    for (column, wanted) in [(3, -4), (4, -7)] {
        let units = batch.column(column).as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>();
        assert_eq!(units, [None, Some(wanted)], "a sum of no value is null");
    }
    assert_eq!(page(&asked, &answered(0, [some.clone(), none.clone()]), 3).unwrap().after, None, "the last page");
    let refused = |answer: &Value| page(&asked, answer, 2).map(|_| ()).unwrap_err();
    assert_eq!(refused(&answered(1, [some.clone(), none.clone()])), NoPage::Unindexed);
    for lacking in ["hits", "aggregations"] {
        let mut answer = answered(0, [some.clone(), none.clone()]);
        answer.as_object_mut().unwrap().remove(lacking);
        assert!(matches!(refused(&answer), NoPage::Incomplete(_)), "{lacking}");
    }
    let beyond = json!({"count": 2, "min": -7.0, "max": 9.1e18, "avg": 0.0, "sum": 9.1e18});
    let inexact = page(&asked, &answered(0, [beyond, none]), 2).unwrap();
    assert_eq!(inexact.batch(&asked).unwrap(), None, "a sum that may be rounded");
    let mut foreign = answered(0, [some, json!({"count": 0})]);
    foreign["aggregations"]["groups"]["buckets"][0]["key"]["group_0"] = json!(7);
    assert!(page(&asked, &foreign, 2).unwrap().batch(&asked).is_err(), "a key that is no text");
}

#[test]
fn all_rows_are_one_group_without_a_key() {
    let asked =
        asked(&request(&[], &[], &[LiveState::Rows, LiveState::FloatSum(X)]), &Mapping::of(&schema()), &schema());
    let asked = asked.unwrap();
    let answer = |sum: Value| {
        json!({"hits": {"total": {"value": 2}}, "aggregations": {
            "unindexed": {"doc_count": 0}, "column_2": {"count": 2, "min": 1.0, "max": 1.0, "sum": sum},
        }})
    };
    let batch = page(&asked, &answer(json!(0.5)), 9).unwrap().batch(&asked).unwrap().unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[2]);
    assert_eq!(batch.column(1).as_primitive::<Float64Type>().values(), &[0.5]);
    // serde_json reads this as its neighbour
    let written = answer(json!(0.25)).to_string().replace("0.25", "986.8700102354145");
    let batch = super::answer::page(&asked, &written, 9).unwrap().batch(&asked).unwrap().unwrap();
    assert_eq!(batch.column(1).as_primitive::<Float64Type>().values(), &[986.870_010_235_414_5]);
    let overflown = page(&asked, &answer(json!("Infinity")), 9).unwrap().batch(&asked).unwrap();
    assert_eq!(overflown, None, "a sum that is no number");
}

#[test]
fn rows_at_hand_are_taken_and_too_many_groups_are_not_begun_with() {
    let cases = [(0, 0, false), (0, 1, true), (1, 1, false), (1, 64, true), (1, 63, false)];
    for (missing, total, wanted) in cases {
        assert_eq!(rows_are_nearer(missing, total), wanted, "{missing} of {total}");
    }
    let asked = asked(&request(&[], &[TEXT], &[]), &Mapping::of(&schema()), &schema()).unwrap();
    for (rows, wanted) in [(5, true), (60, true), (61, false)] {
        let mut answer = answered(0, [json!({"count": 3}), json!({"count": 2})]);
        answer["hits"]["total"]["value"] = json!(rows);
        assert_eq!(ends_in_time(&page(&asked, &answer, 2).unwrap()), wanted, "{rows} rows, 5 of them on a page");
    }
}
