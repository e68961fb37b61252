//! What a real-time view must do that makes aggregates by itself: what it answers is what its rows give, and where that can
//! be so, it does answer. Views that never do have nothing to show here.
//!
//! Rows follow from a seed, which is printed.

mod states;

pub use states::{Groups, Known, compare, of_answer, of_rows};

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, col, lit};

use tidemark_shared::live::{AggregateRequest, LiveBatch, LivePin, LiveState, LiveView, ViewId};
use tidemark_shared::rows::table_schema;

use super::live::{coverage, partition, view};

/// Places of the suite's columns.
pub const COUNTRY: usize = 0;
/// See [`COUNTRY`].
pub const PAID: usize = 1;
/// See [`COUNTRY`].
pub const CENTS: usize = 2;
/// See [`COUNTRY`].
pub const SMALL: usize = 3;
/// See [`COUNTRY`].
pub const X: usize = 4;
/// See [`COUNTRY`].
pub const F: usize = 5;
/// See [`COUNTRY`].
pub const PRICE: usize = 6;
/// See [`COUNTRY`].
pub const WIDE: usize = 7;
/// See [`COUNTRY`].
pub const AT: usize = 8;
/// See [`COUNTRY`].
pub const DAY: usize = 9;

/// The schema of the suite's tables.
#[must_use]
pub fn schema() -> SchemaRef {
    let columns = [
        ("country", DataType::Utf8),
        ("paid", DataType::Boolean),
        ("cents", DataType::Int64),
        ("small", DataType::Int16),
        ("x", DataType::Float64),
        ("f", DataType::Float32),
        ("price", DataType::Decimal128(10, 2)),
        ("wide", DataType::Decimal128(30, 2)),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("day", DataType::Date32),
    ];
    table_schema(&Schema::new(columns.map(|(name, of)| Field::new(name, of, true)).to_vec()))
}

/// Which values there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Those that every search engine holds.
    Plain,
    /// Also numbers that are none, whole numbers beyond 2^53 and long texts.
    Beyond,
}

/// Numbers that follow from a seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn between(&mut self, least: i64, greatest: i64) -> i64 {
        least + i64::try_from(self.below((greatest - least + 1).unsigned_abs())).expect("a small range")
    }

    /// Null every sixth time.
    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(6) > 0).then(|| make(self))
    }

    fn many<T>(&mut self, count: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<Option<T>> {
        (0..count).map(|_| self.maybe(&mut make)).collect()
    }
}

/// Rows of partition `number` at the offsets of `range`.
#[must_use]
pub fn rows(number: u32, range: Range<u64>, values: Values, seed: u64) -> RecordBatch {
    let count = usize::try_from(range.end - range.start).expect("few");
    let is_beyond = values == Values::Beyond;
    let mut chance = Chance(seed ^ (u64::from(number) << 32) ^ range.start);
    let countries = ["de", "fr", "", "DE", "a \"quoted\" one\n", "\0", "ä\u{10ffff}"];
    let country = chance.many(count, |chance| match chance.below(20) {
        0 if is_beyond => "x".repeat(2_000),
        _ => countries[usize::try_from(chance.below(7)).expect("few")].to_owned(),
    });
    let cents = chance.many(count, |chance| match chance.below(10) {
        0 if is_beyond => (1 << 53) + 1 + chance.between(0, 4),
        1 if is_beyond => i64::MIN + chance.between(0, 4),
        _ => chance.between(-100_000, 100_000),
    });
    let x = chance.many(count, |chance| match chance.below(10) {
        0 if is_beyond => f64::NAN,
        1 if is_beyond => f64::NEG_INFINITY,
        2 => -0.0,
        3 => 0.0,
        _ => chance.between(-1_000_000, 1_000_000) as f64 / 977.0,
    });
    let prices: Decimal128Array = chance.many(count, |chance| i128::from(chance.between(-99_999, 99_999))).into();
    let wide: Decimal128Array = chance.many(count, |chance| i128::from(chance.between(-9, 9)) << 70).into();
    let at: TimestampMicrosecondArray = chance.many(count, |chance| chance.between(-5_000, 5_000) * 333_333).into();
    let offsets = range.clone().map(|offset| i64::try_from(offset).expect("small"));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(country)),
        Arc::new(BooleanArray::from(chance.many(count, |chance| chance.below(2) == 0))),
        Arc::new(Int64Array::from(cents)),
        Arc::new(Int16Array::from(chance.many(count, |chance| i16::try_from(chance.between(-3, 3)).expect("small")))),
        Arc::new(Float64Array::from(x)),
        Arc::new(Float32Array::from(chance.many(count, |chance| chance.between(-500, 500) as f32 / 7.0))),
        Arc::new(prices.with_precision_and_scale(10, 2).expect("ten digits")),
        Arc::new(wide.with_precision_and_scale(30, 2).expect("thirty digits")),
        Arc::new(at.with_timezone("UTC")),
        Arc::new(Date32Array::from(
            chance.many(count, |chance| i32::try_from(chance.between(-400, 400)).expect("small")),
        )),
        Arc::new(StringArray::from(vec![partition(number).source.as_str().to_owned(); count])),
        Arc::new(Int64Array::from_value(i64::from(number), count)),
        Arc::new(Int64Array::from_iter_values(offsets)),
    ];
    RecordBatch::try_new(schema(), columns).expect("the schema's columns")
}

/// A view with rows in two partitions, and a pin of it.
///
/// # Panics
/// If the view does not take them.
pub async fn written(live: &Arc<dyn LiveView>, values: Values, seed: u64) -> (ViewId, Arc<dyn LivePin>) {
    let view = view("aggregates");
    live.open(&view, &schema(), &coverage(&[0, 0])).await.expect("open");
    for (number, range) in [(0, 0..90), (1, 0..40), (0, 90..150)] {
        let rows = vec![rows(number, range.clone(), values, seed)];
        let (rejects, filtered, lost) = (Vec::new(), Vec::new(), Vec::new());
        let batch = LiveBatch { partition: partition(number), range, rows, rejects, filtered, lost };
        live.apply(&view, batch).await.expect("apply");
    }
    let pin = live.pin(&view).await.expect("pin").expect("it is open");
    (view, pin)
}

/// Whether a view that makes aggregates must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    Answer,
    Refuse,
}

struct Case {
    filters: Vec<Expr>,
    groups: Vec<usize>,
    states: Vec<LiveState>,
    /// Of [`Values::Plain`], and of [`Values::Beyond`].
    must: [Must; 2],
}

fn case(filters: &[Expr], groups: &[usize], states: &[LiveState], must: [Must; 2]) -> Case {
    Case { filters: filters.to_vec(), groups: groups.to_vec(), states: states.to_vec(), must }
}

fn time(micros: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())))
}

fn decimal(units: i128) -> Expr {
    lit(ScalarValue::Decimal128(Some(units), 10, 2))
}

/// Groups and states without conditions.
fn plain_cases() -> Vec<Case> {
    use LiveState::{FloatSum, Greatest, Least, Rows, Sum, Values};
    use Must::{Answer, Refuse};
    let (always, plain_only, never) = ([Answer, Answer], [Answer, Refuse], [Refuse, Refuse]);
    vec![
        case(&[], &[], &[Rows], always),
        case(&[], &[SMALL], &[Rows, Values(PAID), Sum(SMALL), Least(SMALL), Greatest(SMALL)], always),
        case(&[], &[COUNTRY], &[Rows], plain_only),
        case(&[], &[COUNTRY, PAID], &[Rows, Sum(CENTS), Least(CENTS), Greatest(CENTS)], plain_only),
        case(&[], &[PAID], &[Values(COUNTRY)], plain_only),
        case(&[], &[CENTS], &[Rows, Values(CENTS)], always),
        case(&[], &[PAID, DAY], &[Least(DAY), Greatest(DAY), Rows], always),
        case(&[], &[AT], &[Rows], always),
        case(&[], &[PRICE, PAID], &[Rows], always),
        case(&[], &[PAID], &[Sum(PRICE), Least(PRICE), Greatest(PRICE), Least(AT), Greatest(AT)], always),
        case(&[], &[], &[Sum(CENTS)], plain_only),
        case(&[], &[], &[FloatSum(CENTS), Values(CENTS)], always),
        case(&[], &[PAID], &[FloatSum(X), Values(X), Least(X), Greatest(X)], plain_only),
        case(&[], &[PAID], &[FloatSum(F), FloatSum(SMALL), Least(F), Greatest(F)], always),
        case(&[], &[COUNTRY, PAID, SMALL], &[], plain_only),
        case(&[], &[X], &[Rows], never),
        case(&[], &[PAID], &[Sum(WIDE)], never),
        case(&[], &[PAID], &[Least(COUNTRY)], never),
        case(&[], &[PAID], &[Sum(AT)], never),
    ]
}

/// Conditions that decide exactly which rows count, and some that can't.
fn filtered_cases() -> Vec<Case> {
    use LiveState::{FloatSum, Greatest, Least, Rows, Sum, Values};
    use Must::{Answer, Refuse};
    let (always, plain_only, never) = ([Answer, Answer], [Answer, Refuse], [Refuse, Refuse]);
    let filters = [
        (col("small").gt(lit(1_i16)), always),
        (col("small").gt_eq(lit(1_i16)).and(col("small").lt(lit(3_i16))), always),
        (col("small").not_eq(lit(2_i16)), always),
        (col("small").in_list(vec![lit(-1_i16), lit(2_i16)], false), always),
        (col("small").in_list(vec![lit(-1_i16), lit(2_i16)], true), always),
        (lit(0_i16).gt_eq(col("small")), always),
        (col("cents").gt(lit(100_i64)).or(col("paid").is_null()), always),
        (col("cents").eq(lit((1_i64 << 53) + 1)), always),
        (col("paid"), always),
        (Expr::Not(Box::new(col("paid"))), always),
        (col("paid").not_eq(lit(true)), always),
        (col("country").eq(lit("de")), plain_only),
        (col("country").gt(lit("DE")), plain_only),
        (col("country").not_eq(lit("")), plain_only),
        (col("country").is_null(), plain_only),
        (col("country").is_not_null(), plain_only),
        (col("at").gt(time(-333_333)).and(col("at").lt_eq(time(333_333 * 900))), always),
        (col("at").eq(time(333_333 * 5)), always),
        (col("at").not_eq(time(-333_333)), always),
        (col("day").lt(lit(ScalarValue::Date32(Some(-7)))), always),
        (col("price").gt(decimal(777)).and(col("price").not_eq(decimal(800))), always),
        (col("x").gt(lit(1.5)), plain_only),
        (col("f").lt_eq(lit(-1.5_f32)), always),
        (col("x").gt(lit(0.0)), never),
        (col("x").gt(lit(f64::NAN)), never),
        (col("wide").gt(lit(ScalarValue::Decimal128(Some(1), 30, 2))), never),
        (col("_offset").gt(lit(3_i64)), never),
        (Expr::Not(Box::new(col("small").gt(lit(1_i16)))), never),
        ((col("small") + lit(1_i16)).gt(lit(1_i16)), never),
    ];
    let cases = filters.into_iter();
    let mut cases: Vec<_> = cases.map(|(filter, must)| case(&[filter], &[SMALL], &[Rows, Sum(SMALL)], must)).collect();
    let nowhere = [col("small").gt(lit(1_000_i16))];
    cases.push(case(&nowhere, &[SMALL], &[Rows, Sum(SMALL)], always));
    cases.push(case(&nowhere, &[], &[Rows, Sum(SMALL), FloatSum(F), Least(AT), Greatest(PRICE), Values(PAID)], always));
    cases
}

/// Runs every check. All is asked for before any row is read, for a view may keep rows at hand that it has read.
///
/// # Panics
/// If one fails.
pub async fn check_all(live: &Arc<dyn LiveView>, seed: u64) {
    println!("seed {seed}");
    for (at, values) in [Values::Plain, Values::Beyond].into_iter().enumerate() {
        let (view, pin) = written(live, values, seed).await;
        let whole: Vec<_> = pin.ranges().iter().map(|(partition, live)| (partition.clone(), 0..live.visible)).collect();
        let part = [(partition(0), 17..113)];
        let mut answers = Vec::new();
        for (n, case) in plain_cases().into_iter().chain(filtered_cases()).enumerate() {
            for ranges in [&whole[..], &part, &[]] {
                let (filters, groups, states) = (case.filters.clone(), case.groups.clone(), case.states.clone());
                let request = AggregateRequest { ranges: ranges.iter().cloned().collect(), filters, groups, states };
                let what = format!("seed {seed}, {values:?}, case {n}: {request:?}");
                let must = case.must[at];
                let Some(answer) = asked(&pin, &request, &what).await else {
                    assert!(must == Must::Refuse, "{what}: no answer");
                    continue;
                };
                // In a part, or in none, there may be no value that can't be exact.
                assert!(must == Must::Answer || ranges.len() < whole.len(), "{what}: an answer that can't be exact");
                answers.push((request, what, answer));
            }
        }
        for (request, what, answer) in answers {
            let found = with_rows(of_answer(&pin, &request, &answer), &request, &what);
            compare(&found, &of_rows(&pin, &request).await, &what);
        }
        live.close(&view).await.expect("close");
    }
}

/// What a view answers.
///
/// # Panics
/// If it fails.
pub async fn asked(pin: &Arc<dyn LivePin>, request: &AggregateRequest, what: &str) -> Option<Vec<RecordBatch>> {
    let aggregation = pin.aggregation(request)?;
    aggregation.answer().await.unwrap_or_else(|error| panic!("{what}: {error:?}"))
}

/// The groups that have rows. One without any is there only where all rows are one group, and nothing is known of it.
fn with_rows(mut found: Groups, request: &AggregateRequest, what: &str) -> Groups {
    let counted = request.states.iter().position(|state| *state == LiveState::Rows);
    if let Some(counted) = counted.filter(|_| request.groups.is_empty()) {
        found.retain(|_, states| {
            let is_there = !matches!(states[counted], Known::Count(0));
            assert!(is_there || states.iter().all(Known::is_nothing), "{what}: {states:?} of no row");
            is_there
        });
    }
    found
}
