//! Every value comes back as it was, and no prefilter keeps a row back.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::*;
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::*;
use datafusion::common::ScalarValue;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tidemark_shared::live::{LiveBatch, LivePin, LiveView, ViewId};
use tidemark_shared::rows::table_schema;
use tidemark_testing::contract::live::{self as contract, coverage, partition};

use crate::views;

/// The values of a row.
#[derive(Debug, Clone)]
struct Row {
    boolean: Option<bool>,
    long: Option<i64>,
    small: Option<i16>,
    double: Option<u64>,
    float: Option<u32>,
    decimal: Option<i128>,
    text: Option<String>,
    date: Option<i32>,
    micros: Option<i64>,
    binary: Option<Vec<u8>>,
    list: Option<Vec<Option<i64>>>,
    nested: Option<(Option<i64>, Option<Vec<Option<String>>>)>,
}

fn long() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), -3..4_i64, Just(i64::MIN), Just(i64::MAX), Just((1 << 53) + 1), Just(-(1 << 53) - 1)]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]{0,3}",
        any::<String>(),
        Just("\0\u{1f}\"\\/\u{2028}\u{10ffff}".to_owned()),
        (1_000..1_050_usize).prop_map(|length| "x".repeat(length)),
        Just("ä".repeat(20_000)),
    ]
}

fn maybe<S: Strategy>(of: S) -> impl Strategy<Value = Option<S::Value>>
where
    S::Value: Clone,
{
    proptest::option::weighted(0.85, of)
}

fn row() -> impl Strategy<Value = Row> {
    let double = prop_oneof![
        any::<u64>(),
        prop::sample::select(vec![
            0.0,
            -0.0,
            1.5,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE,
            f64::MAX
        ])
        .prop_map(f64::to_bits),
    ];
    let float = prop_oneof![
        any::<u32>(),
        prop::sample::select(vec![0.0, -0.0, 0.1, f32::NAN, f32::MAX]).prop_map(f32::to_bits)
    ];
    let ten_to_38 = 10_i128.pow(38);
    let decimal = prop_oneof![-500..500_i128, (1 - ten_to_38)..ten_to_38];
    let nested = (maybe(long()), maybe(prop::collection::vec(maybe("[a-z]{0,4}"), 0..3)));
    let plain = (maybe(any::<bool>()), maybe(long()), maybe(any::<i16>()), maybe(double), maybe(float), maybe(decimal));
    let rest = (
        maybe(text()),
        maybe(any::<i32>()),
        maybe(long()),
        maybe(prop::collection::vec(any::<u8>(), 0..20)),
        maybe(prop::collection::vec(maybe(long()), 0..4)),
        maybe(nested),
    );
    (plain, rest).prop_map(|((boolean, long, small, double, float, decimal), rest)| {
        let (text, date, micros, binary, list, nested) = rest;
        Row { boolean, long, small, double, float, decimal, text, date, micros, binary, list, nested }
    })
}

fn texts() -> DataType {
    DataType::List(Arc::new(Field::new("element", DataType::Utf8, true)))
}

fn nested_fields() -> Fields {
    vec![Field::new("n", DataType::Int64, true), Field::new("texts", texts(), true)].into()
}

fn schema() -> SchemaRef {
    let columns = [
        ("boolean", DataType::Boolean),
        ("long", DataType::Int64),
        ("small", DataType::Int16),
        ("double", DataType::Float64),
        ("float", DataType::Float32),
        ("decimal", DataType::Decimal128(38, 6)),
        ("text", DataType::Utf8),
        ("date", DataType::Date32),
        ("micros", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("utc", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("binary", DataType::Binary),
        ("a name.with dots", DataType::Int64),
        ("list", DataType::List(Arc::new(Field::new("element", DataType::Int64, true)))),
        ("nested", DataType::Struct(nested_fields())),
    ];
    table_schema(&Schema::new(columns.map(|(name, of)| Field::new(name, of, true)).to_vec()))
}

fn lists<T: Clone>(values: &[Option<Vec<T>>]) -> (Vec<T>, OffsetBuffer<i32>, datafusion::arrow::buffer::NullBuffer) {
    let flat: Vec<T> = values.iter().flatten().flatten().cloned().collect();
    let lengths = values.iter().map(|list| list.as_ref().map_or(0, Vec::len));
    (flat, OffsetBuffer::from_lengths(lengths), values.iter().map(Option::is_some).collect())
}

fn text_lists(values: &[Option<Vec<Option<String>>>]) -> ArrayRef {
    let (flat, offsets, nulls) = lists(values);
    let field = Arc::new(Field::new("element", DataType::Utf8, true));
    Arc::new(ListArray::new(field, offsets, Arc::new(StringArray::from(flat)), Some(nulls)))
}

fn batch(rows: &[Row], first: u64) -> RecordBatch {
    let all = |of: fn(&Row) -> Option<i64>| rows.iter().map(of).collect::<Int64Array>();
    let micros: TimestampMicrosecondArray = rows.iter().map(|row| row.micros).collect();
    let decimals: Decimal128Array = rows.iter().map(|row| row.decimal).collect();
    let numbers: Vec<_> = rows.iter().map(|row| row.list.clone()).collect();
    let (flat, offsets, nulls) = lists(&numbers);
    let element = Arc::new(Field::new("element", DataType::Int64, true));
    let inner_texts: Vec<_> = rows.iter().map(|row| row.nested.clone().and_then(|nested| nested.1)).collect();
    let nested = StructArray::new(
        nested_fields(),
        vec![Arc::new(all(|row| row.nested.as_ref()?.0)), text_lists(&inner_texts)],
        Some(rows.iter().map(|row| row.nested.is_some()).collect()),
    );
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.boolean).collect::<BooleanArray>()),
        Arc::new(all(|row| row.long)),
        Arc::new(rows.iter().map(|row| row.small).collect::<Int16Array>()),
        Arc::new(rows.iter().map(|row| row.double.map(f64::from_bits)).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.float.map(f32::from_bits)).collect::<Float32Array>()),
        Arc::new(decimals.with_precision_and_scale(38, 6).unwrap()),
        Arc::new(rows.iter().map(|row| row.text.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.date).collect::<Date32Array>()),
        Arc::new(micros.clone()),
        Arc::new(micros.with_timezone("UTC")),
        Arc::new(BinaryArray::from_iter(rows.iter().map(|row| row.binary.clone()))),
        Arc::new(all(|row| row.long)),
        Arc::new(ListArray::new(element, offsets, Arc::new(Int64Array::from(flat)), Some(nulls))),
        Arc::new(nested),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|_| "contract"))),
        Arc::new(Int64Array::from_value(0, rows.len())),
        Arc::new(Int64Array::from_iter_values((first..).take(rows.len()).map(|offset| offset as i64))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

async fn scanned(pin: &Arc<dyn LivePin>, range: Range<u64>, filters: &[Expr]) -> Vec<RecordBatch> {
    let plan = pin.scan(&[(partition(0), range)].into(), None, filters, None).unwrap();
    collect(plan, Arc::new(TaskContext::default())).await.unwrap()
}

/// A view with the rows from offset 0 on.
async fn written(views: &Arc<dyn LiveView>, rows: &[Row]) -> (ViewId, Arc<dyn LivePin>) {
    let view = contract::view("exact");
    views.open(&view, &schema(), &coverage(&[0])).await.unwrap();
    let batch = LiveBatch {
        partition: partition(0),
        range: 0..rows.len() as u64,
        rows: vec![batch(rows, 0)],
        rejects: Vec::new(),
        filtered: Vec::new(),
        lost: Vec::new(),
    };
    views.apply(&view, batch).await.unwrap();
    let pin = views.pin(&view).await.unwrap().unwrap();
    (view, pin)
}

/// Sorted by offset, as a text in which every bit shows.
async fn shown(batches: Vec<RecordBatch>, filter: Option<&Expr>) -> String {
    if batches.is_empty() {
        return String::new();
    }
    let mut frame = SessionContext::new().read_batches(batches).unwrap();
    if let Some(filter) = filter {
        frame = frame.filter(filter.clone()).unwrap();
    }
    let sorted = frame.sort(vec![col("_offset").sort(true, true)]).unwrap().collect().await.unwrap();
    let mut text = String::new();
    for batch in sorted {
        for row in 0..batch.num_rows() {
            for column in batch.columns() {
                let value = match column.data_type() {
                    _ if column.is_null(row) => "null".to_owned(),
                    DataType::Float64 => format!("{:x}", column.as_primitive::<Float64Type>().value(row).to_bits()),
                    DataType::Float32 => format!("{:x}", column.as_primitive::<Float32Type>().value(row).to_bits()),
                    DataType::Timestamp(..) => column.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
                    DataType::Date32 => column.as_primitive::<Date32Type>().value(row).to_string(),
                    _ => format!("{:?}", column.slice(row, 1)),
                };
                text.push_str(&value);
                text.push('|');
            }
            text.push('\n');
        }
    }
    text
}

/// Conditions with the values of a row, and with others.
fn filters(row: &Row) -> Vec<Expr> {
    let mut all = vec![
        col("long").is_null(),
        col("micros").is_not_null(),
        col("boolean"),
        Expr::Not(Box::new(col("boolean"))),
        col("text").gt_eq(lit("b")).and(col("text").lt(lit("c"))),
        col("long").in_list(vec![lit(0_i64), lit(i64::MAX)], false),
        col("long").between(lit(-1_i64), lit(i64::MAX)),
        col("double").gt(lit(0.0)).or(col("text").eq(lit("a"))),
        col("double").eq(lit(-0.0)),
    ];
    let values = [
        ("long", ScalarValue::Int64(row.long)),
        ("small", ScalarValue::Int16(row.small)),
        ("double", ScalarValue::Float64(row.double.map(f64::from_bits))),
        ("float", ScalarValue::Float32(row.float.map(f32::from_bits))),
        ("decimal", ScalarValue::Decimal128(row.decimal, 38, 6)),
        ("text", ScalarValue::Utf8(row.text.clone())),
        ("date", ScalarValue::Date32(row.date)),
        ("micros", ScalarValue::TimestampMicrosecond(row.micros, None)),
        ("utc", ScalarValue::TimestampMicrosecond(row.micros, Some("UTC".into()))),
    ];
    for (name, value) in values {
        let (column, value) = (col(name), Expr::Literal(value, None));
        all.extend([
            column.clone().eq(value.clone()),
            column.clone().lt(value.clone()),
            column.clone().lt_eq(value.clone()),
            column.clone().gt(value.clone()),
            value.gt_eq(column),
        ]);
    }
    all
}

/// H8, and that every value comes back bit for bit.
#[test]
fn real_opensearch_gives_every_value_back_and_keeps_none() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let views = runtime.block_on(async { views(40) });
    let mut runner = TestRunner::new(Config { cases: 8, max_shrink_iters: 30, ..Config::default() });
    let outcome = runner.run(&prop::collection::vec(row(), 1..60), |rows| {
        runtime.block_on(async {
            let (view, pin) = written(&views, &rows).await;
            let wanted = vec![batch(&rows, 0)];
            // Each value with its type: strings are read as views.
            let read = pin.schema();
            let cast = |batch: &RecordBatch| {
                let columns = batch.columns().iter().zip(read.fields());
                let columns =
                    columns.map(|(column, field)| datafusion::arrow::compute::cast(column, field.data_type()).unwrap());
                RecordBatch::try_new(Arc::clone(&read), columns.collect()).unwrap()
            };
            let wanted: Vec<_> = wanted.iter().map(cast).collect();
            let end = rows.len() as u64;
            // With conditions first: nothing is kept in memory yet.
            for filter in filters(&rows[0]) {
                let found = scanned(&pin, 0..end, std::slice::from_ref(&filter)).await;
                let (found, wanted) = (shown(found, Some(&filter)).await, shown(wanted.clone(), Some(&filter)).await);
                assert_eq!(found, wanted, "{filter}");
            }
            for _ in 0..2 {
                assert_eq!(shown(scanned(&pin, 0..end, &[]).await, None).await, shown(wanted.clone(), None).await);
            }
            views.close(&view).await.unwrap();
        });
        Ok(())
    });
    outcome.unwrap();
}
