//! Conditions whose casts do or don't keep order: pruned answers against scanned ones.

use arrow::array::{AsArray, Date32Array, Float64Array};
use arrow::datatypes::Int64Type;
use datafusion::common::{Column, DFSchema};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::{Expr, lit};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_adapter::PhysicalExprAdapterFactory as _;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use super::*;

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// Three rows of a file, from the id `first` on; `day` follows from `times`, `m` and `f` from `numbers`.
fn rows(first: i64, month: &str, times: [i64; 3], numbers: [i64; 3]) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("pickup_year", DataType::Utf8, true),
        Field::new("pickup_month", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("n", DataType::Int64, true),
        Field::new("day", DataType::Date32, true),
        Field::new("m", DataType::Decimal128(12, 2), true),
        Field::new("f", DataType::Float64, true),
    ]);
    let small = numbers.map(|number| number.clamp(-1_000_000, 1_000_000));
    let days = times.map(|time| i32::try_from(time.div_euclid(DAY)).expect("a day of our time"));
    let decimals = Decimal128Array::from_iter_values(small.map(|number| i128::from(number) * 100 + 75));
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(Int64Array::from_iter_values(first..first + 3)),
            Arc::new(StringArray::from(vec!["2024"; 3])),
            Arc::new(StringArray::from(vec![month; 3])),
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
            Arc::new(Int64Array::from_iter_values(numbers)),
            Arc::new(Date32Array::from_iter_values(days)),
            Arc::new(decimals.with_precision_and_scale(12, 2).expect("fits")),
            Arc::new(Float64Array::from_iter_values(small.map(|number| number as f64 + 0.75))),
        ],
    )
    .expect("columns of one length")
}

/// Four files, and their rows as a table without bounds.
async fn tables(pushdown: bool) -> (Fixture, SessionContext) {
    let fixture = Fixture::new();
    let noon = DAY + 12 * HOUR + HOUR / 2;
    let batches = vec![
        rows(0, "01", [23 * HOUR, noon, 2 * DAY + HOUR], [-5, 0, 7]),
        rows(3, "02", [10 * DAY, 10 * DAY + 1, 10 * DAY + 2], [i64::MIN, -4, -3]),
        rows(6, "03", [20 * DAY + HOUR, 20 * DAY + 2 * HOUR, 20 * DAY + 3 * HOUR], [1, 1 << 32, (1 << 32) + 9]),
        rows(9, "04", [30 * DAY, 31 * DAY, 32 * DAY], [100, 200, 300]),
    ];
    fixture.append(batches, &[("files", 1)]).await;
    publish(&fixture.store, "trips", 0, &CurrentGeneration::new(GENERATION, "d1", 1)).await.expect("publishes");
    let mut config = SessionConfig::new().with_target_partitions(2);
    config.options_mut().execution.parquet.pushdown_filters = pushdown;
    let state = crate::sql::mended(SessionStateBuilder::new().with_config(config).with_default_features());
    let context = SessionContext::new_with_state(state.expect("a session"));
    let table = CuratedTable::try_new(Arc::new(fixture.open().await)).expect("a table");
    context.register_table("trips", Arc::new(table)).expect("registers");
    let all = context.sql("SELECT * FROM trips").await.expect("plans").collect().await.expect("runs");
    let scanned = MemTable::try_new(all[0].schema(), vec![all]).expect("a table");
    context.register_table("scanned", Arc::new(scanned)).expect("registers");
    (fixture, context)
}

/// The ids that satisfy `condition` in a scan.
async fn scanned(context: &SessionContext, condition: &str) -> Vec<i64> {
    let sql = format!("SELECT id FROM scanned WHERE {condition} ORDER BY id");
    let batches = context.sql(&sql).await.expect(condition).collect().await.expect(condition);
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cast_that_does_not_keep_order_leaves_out_no_row() {
    let conditions = [
        "at::time = TIME '12:30:00'",
        "at::time BETWEEN TIME '12:00:00' AND TIME '13:00:00'",
        "at::time IN (TIME '12:30:00', TIME '12:31:00')",
        "TRY_CAST(at AS TIME) = TIME '12:30:00'",
        "arrow_cast(at, 'Time64(Nanosecond)') = TIME '12:30:00'",
        "arrow_cast(at, 'Timestamp(Microsecond, Some(\"Europe/Berlin\"))')::date = DATE '1970-01-02'",
        "n::boolean IS FALSE",
        "NOT n::boolean",
        "n::boolean = false",
        "-n < 0",
        "-n <= -9223372036854775807",
        "TRY_CAST(n AS INT) = 1",
        "TRY_CAST(n AS INT) IS NULL",
        "TRY_CAST(n AS INT) IS NOT DISTINCT FROM NULL",
        "TRY_CAST(n AS INT) IS DISTINCT FROM 1",
        "n::varchar = '0'",
        "n::varchar LIKE '2%'",
        "m::int = 7",
        "m::int = 8",
        "m::decimal(12, 1) = 7.8",
        "f::int = 7",
        "f::float = 7.75",
        "day::varchar = '1970-01-02'",
        "at::time = TIME '12:30:00' OR n = 300",
        "at::time = TIME '12:30:00' AND n < 5",
        // These keep it.
        "at::date = DATE '1970-01-02'",
        "at::date <> DATE '1970-01-11'",
        "arrow_cast(at, 'Timestamp(Second, Some(\"UTC\"))') = TIMESTAMP '1970-01-11T00:00:00Z'",
        "day::timestamp >= TIMESTAMP '1970-02-01'",
        "n::double > 4294967300",
        "m::double = 7.75",
        "m::decimal(20, 4) = 7.75",
    ];
    for pushdown in [false, true] {
        let (_fixture, context) = tables(pushdown).await;
        for condition in conditions {
            let (pruned, _) = matching(&context, condition).await;
            assert_eq!(pruned, scanned(&context, condition).await, "{condition}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_order_still_prunes_beside_what_does_not() {
    let (_fixture, context) = tables(false).await;
    let cases: [(&str, &[i64], usize); 7] = [
        ("at::date = DATE '1970-01-02'", &[1], 1),
        ("n > 200", &[7, 8, 11], 2),
        ("n >= 200 AND NOT n::boolean", &[], 2),
        ("at::time = TIME '12:30:00' AND day < DATE '1970-01-09'", &[1], 1),
        ("at::time = TIME '12:30:00'", &[1], 4),
        ("n::boolean IS FALSE", &[1], 4),
        ("-n < -100", &[3, 7, 8, 10, 11], 4),
    ];
    for (condition, ids, files) in cases {
        assert_eq!(matching(&context, condition).await, (ids.to_vec(), files), "{condition}");
    }
}

#[test]
fn a_file_of_other_types_is_judged_by_the_cast_that_reads_it() {
    let schema = |data_type: &DataType| Arc::new(Schema::new(vec![Field::new("n", data_type.clone(), true)]));
    let cases = [
        (DataType::Boolean, DataType::Int64, lit(false), false),
        (DataType::Int32, DataType::Int64, lit(1_i32), false),
        (DataType::Int64, DataType::Int32, lit(1_i64), true),
        (DataType::Int64, DataType::Int64, lit(1_i64), true),
    ];
    for (table, file, value, prunes) in cases {
        let (table, file) = (schema(&table), schema(&file));
        let known = DFSchema::try_from(Arc::clone(&table)).expect("a schema");
        let condition = Expr::Column(Column::from_name("n")).eq(value);
        let condition: Arc<dyn PhysicalExpr> =
            SessionContext::new().create_physical_expr(condition, &known).expect("an expression");
        let adapter = JudgedFiles.create(table, Arc::clone(&file)).expect("an adapter");
        let fitted = adapter.rewrite(condition).expect("fits");
        let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&file)).try_build(fitted);
        assert_eq!(!predicate.expect("a predicate").always_true(), prunes, "{file:?}");
    }
}
