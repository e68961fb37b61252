//! What a cluster answered, as states: exactly, or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tidemark_shared::live::LiveState;

use super::asked::{Asked, StateOf, group_name};
use super::conditions::Kept;
use crate::whole;

/// Clusters add up in floats, which hold whole numbers up to here.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Groups of an answer.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) states: Vec<GroupStates>,
    /// Where the next page begins; `None`: there is none.
    pub(crate) after: Option<Value>,
    /// Rows that meet the conditions, on all pages.
    pub(crate) rows: u64,
}

/// A group's key and what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct GroupStates {
    /// A value for each column that was grouped by, null or not.
    key: Vec<Value>,
    rows: u64,
    metrics: BTreeMap<String, Metric>,
}

/// What was asked about a column.
#[derive(Debug, Clone, Copy)]
struct Metric {
    count: u64,
    min: Option<f64>,
    max: Option<f64>,
    sum: Option<f64>,
}

/// Why there is no page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoPage {
    /// A value is not indexed as it is.
    Unindexed,
    /// A group lacks a key that was asked for: whose rows it has, nobody knows. One that is null is there.
    Nameless,
    /// The answer lacks something else that every complete one has.
    Incomplete(&'static str),
}

/// Parts of an answer as they are written: `serde_json` reads some floats as their neighbours.
type Written = BTreeMap<String, Box<RawValue>>;

#[derive(Debug, Deserialize)]
struct Body {
    hits: Hits,
    #[serde(default)]
    aggregations: Written,
}

#[derive(Debug, Deserialize)]
struct Hits {
    total: Total,
}

#[derive(Debug, Deserialize)]
struct Total {
    value: u64,
}

#[derive(Debug, Deserialize)]
struct Unindexed {
    doc_count: u64,
}

#[derive(Debug, Deserialize)]
struct Composite {
    buckets: Vec<Written>,
    after_key: Option<Value>,
}

/// A `stats` or a `value_count`.
#[derive(Debug, Deserialize)]
struct WrittenMetric {
    #[serde(alias = "value")]
    count: u64,
    min: Option<Box<RawValue>>,
    max: Option<Box<RawValue>>,
    sum: Option<Box<RawValue>>,
}

/// Reads an answer to what `asked` asks for.
pub(crate) fn page(asked: &Asked, answer: &str, size: usize) -> Result<Page, NoPage> {
    let body: Body = serde_json::from_str(answer).map_err(|_| NoPage::Incomplete("there is no count"))?;
    let (rows, mut all) = (body.hits.total.value, body.aggregations);
    if asked.counts_unindexed() {
        let unindexed: Option<Unindexed> = read(all.remove("unindexed").as_deref());
        let unindexed = unindexed.ok_or(NoPage::Incomplete("there is no count of what is not indexed"))?;
        if unindexed.doc_count > 0 {
            return Err(NoPage::Unindexed);
        }
    }
    if asked.groups.is_empty() {
        let states = vec![GroupStates { key: Vec::new(), rows, metrics: metrics(&all)? }];
        return Ok(Page { states, after: None, rows });
    }
    let groups: Option<Composite> = read(all.get("groups").map(AsRef::as_ref));
    let groups = groups.ok_or(NoPage::Incomplete("there are no groups"))?;
    let is_last = groups.buckets.len() < size;
    let states = groups.buckets.into_iter().map(|mut group| -> Result<GroupStates, NoPage> {
        let rows: Option<u64> = read(group.remove("doc_count").as_deref());
        let rows = rows.ok_or(NoPage::Incomplete("a group has no count"))?;
        let key = key(group.remove("key").as_deref(), asked.groups.len()).ok_or(NoPage::Nameless)?;
        Ok(GroupStates { key, rows, metrics: metrics(&group)? })
    });
    let states = states.collect::<Result<Vec<_>, _>>()?;
    if !is_last && groups.after_key.is_none() {
        return Err(NoPage::Incomplete("the next groups have no beginning"));
    }
    Ok(Page { states, after: groups.after_key.filter(|_| !is_last), rows })
}

/// A group's key: the values of so many columns. `None` if one of them is missing.
fn key(written: Option<&RawValue>, columns: usize) -> Option<Vec<Value>> {
    let mut key: Map<String, Value> = read(written)?;
    (0..columns).map(|n| key.remove(&group_name(n))).collect()
}

fn read<'a, T: Deserialize<'a>>(written: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(written?.get()).ok()
}

fn metrics(written: &Written) -> Result<BTreeMap<String, Metric>, NoPage> {
    written.iter().map(|(name, written)| metric(written).map(|metric| (name.clone(), metric))).collect()
}

fn metric(written: &RawValue) -> Result<Metric, NoPage> {
    let number = |written: Option<Box<RawValue>>| written?.get().parse().ok().filter(|number: &f64| number.is_finite());
    let metric: Option<WrittenMetric> = read(Some(written));
    let WrittenMetric { count, min, max, sum } = metric.ok_or(NoPage::Incomplete("a column has no count"))?;
    Ok(Metric { count, min: number(min), max: number(max), sum: number(sum) })
}

/// Rows as a page counts them, twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowCounts {
    /// Those that meet the conditions, on all pages.
    pub(crate) all: u64,
    /// Those of the groups on this page.
    pub(crate) of_groups: u64,
}

/// True if, by the counts of all pages of an answer, each row is in one group: pages that skip groups, show some twice, or
/// are of different rows don't add up.
pub(crate) fn each_row_is_in_a_group(pages: &[RowCounts]) -> bool {
    let of_groups: u128 = pages.iter().map(|page| u128::from(page.of_groups)).sum();
    !pages.is_empty() && pages.iter().all(|page| u128::from(page.all) == of_groups)
}

impl Page {
    /// The page's counts of rows.
    pub(crate) fn counts(&self) -> RowCounts {
        let of_groups = self.states.iter().fold(0, |rows: u64, group| rows.saturating_add(group.rows));
        RowCounts { all: self.rows, of_groups }
    }

    /// The groups' states with the schema that was asked for; `None` if one of them is not exact.
    ///
    /// # Errors
    /// [`ArrowError`] for a key that is no value of its column.
    pub(crate) fn batch(&self, asked: &Asked) -> Result<Option<RecordBatch>, ArrowError> {
        let mut columns = Vec::with_capacity(asked.schema.fields().len());
        let fields = asked.schema.fields();
        for ((n, kept), field) in asked.groups.iter().enumerate().zip(fields) {
            let keys: Vec<&Value> = self.states.iter().map(|group| &group.key[n]).collect();
            columns.push(keys_of(&keys, *kept, field.data_type())?);
        }
        for (of, field) in asked.states.iter().zip(fields.iter().skip(asked.groups.len())) {
            let states = self.states.iter().map(|group| state(group, of)).collect::<Option<Vec<_>>>();
            let Some(states) = states else { return Ok(None) };
            columns.push(states_of(&states, field.data_type())?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.states.len()));
        RecordBatch::try_new_with_options(Arc::clone(&asked.schema), columns, &options).map(Some)
    }
}

fn keys_of(keys: &[&Value], kept: Kept, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let no_key = |key: &Value| ArrowError::CastError(format!("a group's key is {key}"));
    let each = keys.iter().filter(|key| !key.is_null());
    let of = |is: fn(&Value) -> bool| each.clone().find(|key| !is(key)).map_or(Ok(()), |key| Err(no_key(key)));
    match kept {
        Kept::Whole => {
            of(Value::is_i64)?;
            whole::column(keys.iter().map(|key| key.as_i64()).collect(), data_type)
        }
        Kept::Text => {
            of(Value::is_string)?;
            cast(&StringArray::from_iter(keys.iter().map(|key| key.as_str())), data_type)
        }
        Kept::Boolean => {
            of(Value::is_boolean)?;
            Ok(Arc::new(keys.iter().map(|key| key.as_bool()).collect::<BooleanArray>()))
        }
        Kept::Float => Err(ArrowError::CastError("floats are no keys".to_owned())),
    }
}

/// A state's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Known {
    Null,
    Whole(i64),
    Float(f64),
}

fn states_of(states: &[Known], data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    if data_type.is_floating() {
        let value = |known: &Known| if let Known::Float(value) = known { Some(*value) } else { None };
        return cast(&states.iter().map(value).collect::<Float64Array>(), data_type);
    }
    let value = |known: &Known| match known {
        Known::Null => Ok(None),
        Known::Whole(value) => Ok(Some(*value)),
        Known::Float(value) => Err(ArrowError::CastError(format!("{value} is no whole number"))),
    };
    let values = states.iter().map(value).collect::<Result<Int64Array, _>>()?;
    whole::column(values.iter().collect(), data_type)
}

/// A group's state; `None` if it is not known exactly.
fn state(group: &GroupStates, of: &StateOf) -> Option<Known> {
    let whole = |count: u64| i64::try_from(count).ok().map(Known::Whole);
    if of.state == LiveState::Rows {
        return whole(group.rows);
    }
    let Metric { count, min, max, sum } = *group.metrics.get(&of.metric)?;
    match of.state {
        LiveState::Values(_) => whole(count),
        _ if count == 0 => Some(Known::Null),
        LiveState::FloatSum(_) => sum.map(Known::Float),
        LiveState::Sum(_) => unrounded_sum(count, min?, max?, sum?).map(Known::Whole),
        LiveState::Least(_) if of.is_whole => unrounded(min?).map(Known::Whole),
        LiveState::Greatest(_) if of.is_whole => unrounded(max?).map(Known::Whole),
        LiveState::Least(_) => min.map(Known::Float),
        LiveState::Greatest(_) => max.map(Known::Float),
        LiveState::Rows => None,
    }
}

/// A whole number that came as a float, if no other could have come as the same.
pub(crate) fn unrounded(value: f64) -> Option<i64> {
    // From here on a float stands for more than one of them.
    (value.abs() < WHOLE_MAX && value.fract() == 0.0).then_some(value as i64)
}

/// The sum of `count` whole numbers between `min` and `max` that were added up as floats, if no step of it was rounded.
pub(crate) fn unrounded_sum(count: u64, min: f64, max: f64, sum: f64) -> Option<i64> {
    let (min, max) = (unrounded(min)?, unrounded(max)?);
    let largest = u128::from(min.unsigned_abs().max(max.unsigned_abs()));
    let bound = largest * u128::from(count);
    (bound <= 1 << 53 && sum.fract() == 0.0).then_some(sum as i64)
}
