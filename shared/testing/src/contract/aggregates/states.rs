//! States by group, merged from answers and computed from rows, and how they compare.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use tidemark_shared::live::{AggregateRequest, LivePin, LiveState};

/// What is known of a group, by the values that it is grouped by.
pub type Groups = BTreeMap<String, Vec<Known>>;

/// The value of a state.
#[derive(Debug, Clone)]
pub enum Known {
    /// A count.
    Count(i128),
    /// An exact sum.
    Sum(Option<i128>),
    /// A sum of floats, with the sum of what they are without signs, and their number; of answers only the first is known.
    Float(Option<(f64, f64, usize)>),
    /// The least value.
    Least(Option<ScalarValue>),
    /// The greatest value.
    Greatest(Option<ScalarValue>),
}

impl Known {
    /// True for what is known where there is no row.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        match self {
            Self::Count(count) => *count == 0,
            Self::Sum(sum) => sum.is_none(),
            Self::Float(sum) => sum.is_none(),
            Self::Least(bound) | Self::Greatest(bound) => bound.is_none(),
        }
    }
}

/// The states of a request as the rows give them that the pin reads.
///
/// # Panics
/// If rows can't be read.
pub async fn of_rows(pin: &Arc<dyn LivePin>, request: &AggregateRequest) -> Groups {
    let plan = pin.scan(&request.ranges, None, &[], None).expect("scan");
    let batches = collect(plan, Arc::new(TaskContext::default())).await.expect("rows");
    let mut groups = Groups::new();
    if batches.is_empty() {
        return groups;
    }
    let mut rows = SessionContext::new().read_batches(batches).expect("a frame");
    for filter in &request.filters {
        rows = rows.filter(filter.clone()).expect("a condition");
    }
    for batch in rows.collect().await.expect("rows") {
        for row in 0..batch.num_rows() {
            let value = |column: usize| ScalarValue::try_from_array(batch.column(column), row).expect("a value");
            let key = key(request.groups.iter().map(|column| value(*column)));
            let of = request.states.iter().map(|state| of_row(*state, state.column().map(value)));
            merge(&mut groups, key, of.collect());
        }
    }
    groups
}

/// The states of an answer, those of a group in several rows merged.
///
/// # Panics
/// If the answer has another schema than was asked for.
#[must_use]
pub fn of_answer(pin: &Arc<dyn LivePin>, request: &AggregateRequest, answer: &[RecordBatch]) -> Groups {
    let schema = request.schema(&pin.schema());
    let mut groups = Groups::new();
    for batch in answer {
        assert_eq!(batch.schema(), schema, "an answer has another schema than was asked for");
        for row in 0..batch.num_rows() {
            let value = |column: usize| ScalarValue::try_from_array(batch.column(column), row).expect("a value");
            let key = key((0..request.groups.len()).map(value));
            let states = request.states.iter().enumerate();
            let of = states.map(|(n, state)| of_state(*state, value(request.groups.len() + n)));
            merge(&mut groups, key, of.collect());
        }
    }
    groups
}

fn key(values: impl Iterator<Item = ScalarValue>) -> String {
    values.map(|value| format!("{value:?}|")).collect()
}

fn whole(value: &ScalarValue) -> Option<i128> {
    match value {
        ScalarValue::Int8(value) => value.map(i128::from),
        ScalarValue::Int16(value) => value.map(i128::from),
        ScalarValue::Int32(value) => value.map(i128::from),
        ScalarValue::Int64(value) => value.map(i128::from),
        ScalarValue::Decimal128(value, ..) => *value,
        other => panic!("{other:?} is no whole number"),
    }
}

fn float(value: &ScalarValue) -> Option<f64> {
    match value {
        ScalarValue::Float64(value) => *value,
        ScalarValue::Float32(value) => value.map(f64::from),
        other => whole(other).map(|value| value as f64),
    }
}

/// What a row adds to a state.
fn of_row(state: LiveState, value: Option<ScalarValue>) -> Known {
    let value = value.unwrap_or(ScalarValue::Null);
    match state {
        LiveState::Rows => Known::Count(1),
        LiveState::Values(_) => Known::Count(i128::from(!value.is_null())),
        LiveState::Sum(_) => Known::Sum(whole(&value)),
        LiveState::FloatSum(_) => Known::Float(float(&value).map(|value| (value, value.abs(), 1))),
        LiveState::Least(_) => Known::Least(Some(value).filter(|value| !value.is_null())),
        LiveState::Greatest(_) => Known::Greatest(Some(value).filter(|value| !value.is_null())),
    }
}

fn of_state(state: LiveState, value: ScalarValue) -> Known {
    match state {
        LiveState::Rows | LiveState::Values(_) => Known::Count(whole(&value).expect("counts are never null")),
        LiveState::FloatSum(_) => Known::Float(float(&value).map(|value| (value, 0.0, 0))),
        LiveState::Sum(_) => Known::Sum(whole(&value)),
        LiveState::Least(_) | LiveState::Greatest(_) => of_row(state, Some(value)),
    }
}

fn merge(groups: &mut Groups, key: String, more: Vec<Known>) {
    let Some(known) = groups.get_mut(&key) else {
        groups.insert(key, more);
        return;
    };
    for (known, more) in known.iter_mut().zip(more) {
        match (known, more) {
            (Known::Count(known), Known::Count(more)) => *known += more,
            (Known::Sum(known), Known::Sum(Some(more))) => *known = Some(known.unwrap_or(0) + more),
            (Known::Float(known), Known::Float(Some((sum, without_signs, count)))) => {
                let (a, b, c) = known.unwrap_or((0.0, 0.0, 0));
                *known = Some((a + sum, b + without_signs, c + count));
            }
            (Known::Least(known), Known::Least(Some(more))) if known.as_ref().is_none_or(|known| more < *known) => {
                *known = Some(more);
            }
            (Known::Greatest(known), Known::Greatest(Some(more)))
                if known.as_ref().is_none_or(|known| more > *known) =>
            {
                *known = Some(more);
            }
            _ => {}
        }
    }
}

/// Checks that an answer has what the rows have.
///
/// # Panics
/// If it does not.
pub fn compare(found: &Groups, rows: &Groups, what: &str) {
    let keys = |groups: &Groups| groups.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(found), keys(rows), "{what}: other groups than the rows have");
    for ((group, found), rows) in found.iter().zip(rows.values()) {
        for (n, (found, rows)) in found.iter().zip(rows).enumerate() {
            assert!(is_same(found, rows), "{what}: state {n} of {group} is {found:?}, and {rows:?} by the rows");
        }
    }
}

fn is_same(found: &Known, rows: &Known) -> bool {
    match (found, rows) {
        (Known::Count(found), Known::Count(rows)) => found == rows,
        (Known::Sum(found), Known::Sum(rows)) => found == rows,
        (Known::Float(None), Known::Float(None)) => true,
        (Known::Float(Some((found, ..))), Known::Float(Some((rows, without_signs, count)))) => {
            (found - rows).abs() <= *count as f64 * f64::EPSILON * without_signs
        }
        (Known::Least(found), Known::Least(rows)) | (Known::Greatest(found), Known::Greatest(rows)) => {
            // Either zero may be the bound.
            let is_zero = |bound: &Option<ScalarValue>| bound.as_ref().and_then(as_float) == Some(0.0);
            found == rows || (is_zero(found) && is_zero(rows))
        }
        _ => false,
    }
}

fn as_float(value: &ScalarValue) -> Option<f64> {
    match value {
        ScalarValue::Float64(value) => *value,
        ScalarValue::Float32(value) => value.map(f64::from),
        _ => None,
    }
}
