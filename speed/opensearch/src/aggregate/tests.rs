//! What is asked of a cluster, what of its answers counts, and when rows are read instead, without a server.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, col, lit};
use serde_json::{Value, json};
use tidemark_shared::live::{AggregateRequest, LiveState};
use tidemark_shared::rows::table_schema;

use super::answer::{NoPage, Page, RowCounts, each_row_is_in_a_group, unrounded, unrounded_sum};
use super::asked::{Asked, asked};
use super::conditions::{Kept, conditions, kept};
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
fn columns_are_kept_as_they_are_or_not() {
    let mapping = Mapping::of(&schema());
    let wanted = [
        ("text", Some(Kept::Text)),
        ("n", Some(Kept::Whole)),
        ("x", Some(Kept::Float)),
        ("at", Some(Kept::Whole)),
        ("price", Some(Kept::Whole)),
        ("wide", None),
        ("ok", Some(Kept::Boolean)),
        ("far", None),
        ("big", None),
    ];
    for (name, wanted) in wanted {
        assert_eq!(kept(mapping.column(name).expect(name)), wanted, "{name}");
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
        assert_eq!(unrounded(value), wanted, "{value}");
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
        assert_eq!(unrounded_sum(count, min, max, sum), wanted, "{count} of {min} to {max}");
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
    assert_eq!((found.counts(), &found.after), (RowCounts { all: 5, of_groups: 5 }, &Some(json!({"group_0": "a"}))));
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
fn a_group_has_each_key_that_was_asked_for() {
    let mapping = Mapping::of(&schema());
    let asked = asked(&request(&[], &[TEXT, N], &[LiveState::Rows]), &mapping, &schema()).unwrap();
    let keys = [
        (Some(json!({"group_0": "a", "group_1": 1})), Ok(())),
        (Some(json!({"group_1": null, "group_0": null})), Ok(())),
        (Some(json!({"group_0": "a", "group_1": 1, "group_2": 1})), Ok(())),
        (Some(json!({"group_0": "a"})), Err(NoPage::Nameless)),
        (Some(json!({"group_1": 1})), Err(NoPage::Nameless)),
        (Some(json!({})), Err(NoPage::Nameless)),
        (Some(json!("a")), Err(NoPage::Nameless)),
        (Some(Value::Null), Err(NoPage::Nameless)),
        (None, Err(NoPage::Nameless)),
    ];
    for (key, wanted) in keys {
        let mut group = json!({"doc_count": 2});
        if let Some(key) = &key {
            group["key"] = key.clone();
        }
        let answer = json!({"hits": {"total": {"value": 2}}, "aggregations": {
            "unindexed": {"doc_count": 0}, "groups": {"buckets": [group]},
        }});
        assert_eq!(page(&asked, &answer, 9).map(|_| ()), wanted, "{key:?}");
    }
    let uncounted = json!({"hits": {"total": {"value": 2}}, "aggregations": {
        "unindexed": {"doc_count": 0}, "groups": {"buckets": [{"key": {"group_0": "a", "group_1": 1}}]},
    }});
    assert!(matches!(page(&asked, &uncounted, 9), Err(NoPage::Incomplete(_))));
}

#[test]
fn groups_that_do_not_have_each_row_once_are_not_used() {
    let asked = asked(&request(&[], &[TEXT], &[LiveState::Rows]), &Mapping::of(&schema()), &schema()).unwrap();
    let counted = |total: u64, groups: &[u64]| {
        let group = |rows: &u64| json!({"key": {"group_0": null}, "doc_count": rows});
        let buckets: Vec<Value> = groups.iter().map(group).collect();
        let answer = json!({"hits": {"total": {"value": total}}, "aggregations": {
            "unindexed": {"doc_count": 0}, "groups": {"buckets": buckets},
        }});
        page(&asked, &answer, 9).unwrap().counts()
    };
    let cases = [
        (vec![counted(5, &[3, 2])], true),
        (vec![counted(0, &[])], true),
        (vec![counted(5, &[3]), counted(5, &[2])], true),
        (vec![counted(5, &[3, 2]), counted(5, &[])], true),
        // a group is skipped, is shown twice, or has rows of its own
        (vec![counted(5, &[3]), counted(5, &[1])], false),
        (vec![counted(5, &[3])], false),
        (vec![counted(5, &[3, 2]), counted(5, &[2])], false),
        (vec![counted(5, &[3, 3])], false),
        (vec![counted(5, &[])], false),
        (vec![counted(0, &[1])], false),
        // the pages are of different rows
        (vec![counted(5, &[3]), counted(6, &[3])], false),
        (vec![counted(6, &[3]), counted(5, &[2])], false),
        (vec![counted(u64::MAX, &[u64::MAX]), counted(u64::MAX, &[1])], false),
        (vec![counted(1, &[u64::MAX, 2])], false),
        (Vec::new(), false),
    ];
    for (pages, wanted) in cases {
        assert_eq!(each_row_is_in_a_group(&pages), wanted, "{pages:?}");
    }
    let all = super::asked::asked(&request(&[], &[], &[LiveState::Rows]), &Mapping::of(&schema()), &schema()).unwrap();
    let page = page(&all, &json!({"hits": {"total": {"value": 5}}}), 9).unwrap();
    assert!(each_row_is_in_a_group(&[page.counts()]), "all rows are one group");
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
