//! Text compared with numbers, and pruned answers against scanned ones.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::datasource::MemTable;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

/// Months that are numbers in several spellings, no numbers, empty (null in a Delta table) and null.
const MONTHS: [Option<&str>; 12] = [
    Some("07"),
    Some("7"),
    Some("08"),
    Some("10"),
    Some("7.5"),
    Some("-3"),
    Some("1e1"),
    Some("9007199254740993"),
    Some("unknown"),
    Some("x=/ %"),
    Some(""),
    None,
];
const CASES: usize = 300;

/// Four rows per month of [`MONTHS`], from `4 * index` on, and the same rows as a table without partitions.
async fn tables() -> (Fixture, SessionContext) {
    let fixture = Fixture::new();
    let batches = MONTHS.iter().enumerate().map(|(i, month)| trips(i as i64 * 4, Some(["2019", "old"][i % 2]), *month));
    fixture.append(batches.collect(), &[("files", 1)]).await;
    publish(&fixture.store, "trips", 0, &CurrentGeneration::new(GENERATION, "d1", 1)).await.expect("publishes");
    let context = fixture.session().await;
    let rows = context.sql("SELECT * FROM trips").await.expect("plans").collect().await.expect("runs");
    let scanned = MemTable::try_new(rows[0].schema(), vec![rows]).expect("a table");
    context.register_table("scanned", Arc::new(scanned)).expect("registers");
    (fixture, context)
}

async fn numbers(context: &SessionContext, sql: &str) -> Vec<i64> {
    let rows = context.sql(sql).await.expect(sql).collect().await.expect(sql);
    rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// The indices in [`MONTHS`] of the rows that satisfy `condition`.
async fn months(context: &SessionContext, condition: &str) -> Vec<usize> {
    let ids = numbers(context, &format!("SELECT id FROM trips WHERE {condition} ORDER BY id")).await;
    assert_eq!(ids.len() % 4, 0, "{condition}");
    ids.iter().step_by(4).map(|id| usize::try_from(id / 4).expect("small")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_is_no_number_comes_after_every_number() {
    let (_fixture, context) = tables().await;
    let cases: [(&str, &[usize]); 22] = [
        ("pickup_month = 7", &[0, 1]),
        ("7 = pickup_month", &[0, 1]),
        ("pickup_month <> 7", &[2, 3, 4, 5, 6, 7, 8, 9]),
        ("NOT (pickup_month = 7)", &[2, 3, 4, 5, 6, 7, 8, 9]),
        ("pickup_month NOT IN (7)", &[2, 3, 4, 5, 6, 7, 8, 9]),
        ("pickup_month IN (7, 8)", &[0, 1, 2]),
        ("pickup_month IN (7, 'unknown')", &[0, 1, 8]),
        ("pickup_month NOT IN (7, 'unknown')", &[2, 3, 4, 5, 6, 7, 9]),
        ("pickup_month < 7", &[5]),
        ("NOT (pickup_month < 7)", &[0, 1, 2, 3, 4, 6, 7, 8, 9]),
        ("pickup_month >= 7", &[0, 1, 2, 3, 4, 6, 7, 8, 9]),
        ("pickup_month BETWEEN 7 AND 8", &[0, 1, 2, 4]),
        ("pickup_month NOT BETWEEN 7 AND 8", &[3, 5, 6, 7, 8, 9]),
        ("pickup_month = 7.5", &[4]),
        ("pickup_month = CAST(7.5 AS DOUBLE)", &[4]),
        ("pickup_month > CAST(1e300 AS DOUBLE)", &[8, 9]),
        // Exact beyond what a double holds.
        ("pickup_month = 9007199254740993", &[7]),
        ("pickup_month = 9007199254740992", &[]),
        ("pickup_month IS DISTINCT FROM 7", &[2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ("CASE pickup_month WHEN 7 THEN true WHEN 'unknown' THEN true END", &[0, 1, 8]),
        ("pickup_month IN (SELECT 3 + 4)", &[0, 1]),
        ("pickup_month = '07'", &[0]),
    ];
    for (condition, expected) in cases {
        assert_eq!(months(&context, condition).await, expected, "{condition}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_partition_text_is_null_and_no_row_is_lost() {
    let (_fixture, context) = tables().await;
    assert_eq!(months(&context, "pickup_month IS NULL").await, [10, 11]);
    assert_eq!(months(&context, "pickup_month = ''").await, Vec::<usize>::new());
    assert_eq!(numbers(&context, "SELECT count(*) FROM trips").await, [48]);
    let parts = "SELECT sum(n) FROM (SELECT pickup_month, count(*) AS n FROM trips GROUP BY 1)";
    assert_eq!(numbers(&context, parts).await, [48]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cast_that_somebody_wrote_fails_where_a_scan_would() {
    let (_fixture, context) = tables().await;
    let run = async |condition: &str| {
        let frame = context.sql(&format!("SELECT id FROM trips WHERE {condition}")).await.expect(condition);
        frame.collect().await.map(|rows| rows.iter().map(RecordBatch::num_rows).sum::<usize>())
    };
    let refused = run("CAST(pickup_month AS INT) > 7").await.expect_err("`unknown` is no number");
    assert!(refused.to_string().contains("Cannot cast string"), "{refused}");
    assert_eq!(run("TRY_CAST(pickup_month AS INT) > 7").await.expect("no failure"), 8);
    // Kept out by another condition, before or behind.
    assert_eq!(run("pickup_month LIKE '0%' AND CAST(pickup_month AS INT) > 7").await.expect("kept out"), 4);
    assert_eq!(run("CAST(pickup_month AS INT) > 7 AND pickup_month LIKE '0%'").await.expect("kept out"), 4);
}

/// Conditions on the partition columns, and on one in the files.
fn condition() -> impl Strategy<Value = String> {
    let column = prop::sample::select(vec!["pickup_month", "pickup_year"]);
    let number = prop::sample::select(vec!["7", "8", "10", "-3", "7.5", "2019", "9007199254740992", "NULL"]);
    let text = prop::sample::select(vec!["'07'", "'7'", "'unknown'", "''", "'2019'", "NULL"]);
    let operator = prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM"]);
    let value = prop_oneof![number.clone(), text.clone()];
    let not = prop::sample::select(vec!["", "NOT "]);
    let atom = prop_oneof![
        (column.clone(), operator.clone(), value.clone()).prop_map(|(c, o, v)| format!("{c} {o} {v}")),
        (column.clone(), operator, value.clone()).prop_map(|(c, o, v)| format!("{v} {o} {c}")),
        (column.clone(), not.clone(), prop::collection::vec(value.clone(), 1..4))
            .prop_map(|(c, n, list)| format!("{c} {n}IN ({})", list.join(", "))),
        (column.clone(), not.clone(), number, value).prop_map(|(c, n, a, b)| format!("{c} {n}BETWEEN {a} AND {b}")),
        (column.clone(), not).prop_map(|(c, n)| format!("{c} IS {n}NULL")),
        column.clone().prop_map(|c| format!("{c} LIKE '%0%'")),
        column.clone().prop_map(|c| format!("TRY_CAST({c} AS INT) > 7")),
        column.prop_map(|c| format!("CASE {c} WHEN 7 THEN true WHEN 'old' THEN false END")),
        Just("pickup_month = pickup_year".to_owned()),
        (0..48_i64).prop_map(|id| format!("id < {id}")),
    ];
    atom.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) AND ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) OR ({b})")),
            inner.prop_map(|a| format!("NOT ({a})")),
        ]
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pruned_answer_is_that_of_a_scan() {
    let (_fixture, context) = tables().await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..CASES {
        let condition = condition().new_tree(&mut runner).expect("a condition").current();
        let ids = |table: &str| format!("SELECT id FROM {table} WHERE {condition} ORDER BY id");
        let pruned = numbers(&context, &ids("trips")).await;
        assert_eq!(pruned, numbers(&context, &ids("scanned")).await, "{condition}");
        let counted = numbers(&context, &format!("SELECT count(*) FROM trips WHERE {condition}")).await;
        assert_eq!(counted, [pruned.len() as i64], "{condition}");
        let negated = format!("SELECT count(*) FROM trips WHERE NOT ({condition}) OR ({condition}) IS NULL");
        assert_eq!(numbers(&context, &negated).await, [48 - pruned.len() as i64], "{condition}");
    }
}
