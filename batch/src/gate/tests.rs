use std::collections::BTreeMap;

use arrow::array::Int64Array;
use arrow::datatypes::{DataType, Field, Schema};

use super::*;

fn counts(accepted: u64, filtered: u64, rejected: u64) -> Counts {
    let rejected_by = if rejected > 0 { BTreeMap::from([("width".to_owned(), rejected)]) } else { BTreeMap::new() };
    Counts { records: accepted + filtered + rejected, accepted, filtered, rejected: rejected_by }
}

fn rules(verdict: &Verdict) -> Vec<&str> {
    match verdict {
        Verdict::Passed => Vec::new(),
        Verdict::Held { breaches } => breaches.iter().map(|b| b.rule.as_str()).collect(),
    }
}

#[test]
fn the_gate_decides_by_counts() {
    let gate = Gate { max_reject_ratio: Some(0.1), ..Gate::default() };
    let cases: [(Counts, bool, &[&str]); 7] = [
        (counts(0, 0, 0), false, &[]),
        (counts(90, 0, 10), false, &[]),
        (counts(89, 0, 11), false, &["max_reject_ratio"]),
        (counts(0, 5, 0), false, &["min_rows"]),
        (counts(0, 0, 5), false, &["max_reject_ratio", "min_rows"]),
        (counts(0, 0, 1), true, &[]),
        (counts(1, 9, 0), false, &[]),
    ];
    for (counts, bad_file, wanted) in cases {
        assert_eq!(rules(&judge(&gate, &counts, bad_file, Vec::new())), wanted, "{counts:?} {bad_file}");
    }
}

#[test]
fn a_breach_tells_by_how_much() {
    let gate = Gate { max_reject_ratio: Some(0.05), ..Gate::default() };
    let Verdict::Held { breaches } = judge(&gate, &counts(6, 0, 1), false, Vec::new()) else { panic!("not held") };
    assert_eq!(breaches[0].found, "14.29 % (1 of 7)");
}

#[tokio::test]
async fn expectations_see_all_batches_and_report_figures() {
    let schema = Arc::new(Schema::new(vec![Field::new("fare", DataType::Int64, true)]));
    let batch = |values: Vec<i64>| {
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(values))]).expect("one column")
    };
    let expect = |name: &str, that: &str| Expectation { name: name.to_owned(), that: that.to_owned() };
    let all = [expect("mean", "avg(fare) > 10"), expect("sum", "sum(fare) = 12"), expect("max", "max(fare) < 3")];
    let run = Expectations::start(&all, &schema).expect("there are expectations");
    run.feed(&batch(vec![1, 2])).await;
    run.feed(&batch(vec![9])).await;
    let failed = run.finish().await.expect("evaluates");
    let found: Vec<(&str, &str)> = failed.iter().map(|b| (b.rule.as_str(), b.found.as_str())).collect();
    assert_eq!(found, [("mean", "avg(fare) = 4.0"), ("max", "max(fare) = 9")]);
}

#[tokio::test]
async fn an_expectation_over_no_rows_does_not_hold() {
    let schema = Arc::new(Schema::new(vec![Field::new("fare", DataType::Int64, true)]));
    let all = [Expectation { name: "mean".to_owned(), that: "avg(fare) > 0".to_owned() }];
    let failed = Expectations::start(&all, &schema).expect("one").finish().await.expect("evaluates");
    assert_eq!(failed[0].found, "avg(fare) = null");
}

#[tokio::test]
async fn an_expectation_that_fails_on_the_rows_holds_the_file() {
    let schema = Arc::new(Schema::new(vec![Field::new("fare", DataType::Int64, true)]));
    let all = [Expectation { name: "share".to_owned(), that: "sum(1 / fare) > 0".to_owned() }];
    let run = Expectations::start(&all, &schema).expect("one");
    let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(vec![1, 0]))]);
    run.feed(&rows.expect("one column")).await;
    let failed = run.finish().await.expect("a verdict, not an error");
    assert_eq!(failed[0].rule, "share");
    assert!(failed[0].found.contains("Divide by zero"), "{}", failed[0].found);
}

#[tokio::test]
async fn an_expectation_has_the_functions_of_a_definition() {
    let at = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
    let schema = Arc::new(Schema::new(vec![Field::new("at", at, true)]));
    let that = "max(event_instant(at, 'America/New_York')) > TIMESTAMP '2019-01-01T00:00:00Z'".to_owned();
    let run = Expectations::start(&[Expectation { name: "recent".to_owned(), that }], &schema).expect("one");
    let micros = arrow::array::TimestampMicrosecondArray::from(vec![1_562_000_000_000_000]);
    let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(micros)]);
    run.feed(&rows.expect("one column")).await;
    assert_eq!(run.finish().await.expect("evaluates"), []);
}
