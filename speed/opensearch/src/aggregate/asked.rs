//! A request for partial states as one of a cluster, if that can answer it exactly: decided over the mapping alone.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, SchemaRef};
use serde_json::{Map, Value, json};
use tidemark_shared::live::{AggregateRequest, LiveState};

use super::conditions::{Kept, conditions, kept, kept_field};
use crate::document::ALL_COLUMNS;
use crate::filter::field;
use crate::mapping::{Mapping, SearchedColumn};

/// Most columns that are grouped by.
const GROUPS_MAX: usize = 16;
/// Most columns of which states are made.
const COLUMNS_MAX: usize = 64;

/// What a cluster is asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Schema of the answer.
    pub(crate) schema: SchemaRef,
    /// How the keys of groups are read.
    pub(crate) groups: Vec<Kept>,
    pub(crate) states: Vec<StateOf>,
    /// The conditions on rows.
    pub(crate) filters: Vec<Value>,
    /// What is asked about each column: a name in the answer, and the aggregation.
    metrics: Vec<(String, Value)>,
    /// Fields of the groups.
    fields: Vec<String>,
    /// Columns that must be indexed in every row.
    columns: Vec<String>,
}

/// Where a state is in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateOf {
    pub(crate) state: LiveState,
    /// The name of what was asked about the column; empty for what is about rows.
    pub(crate) metric: String,
    /// True if the column's values are whole numbers.
    pub(crate) is_whole: bool,
}

/// `None` if the cluster can't be asked.
pub(crate) fn asked(request: &AggregateRequest, mapping: &Mapping, rows: &SchemaRef) -> Option<Asked> {
    if request.groups.len() > GROUPS_MAX {
        return None;
    }
    let mut columns = BTreeSet::new();
    let filters = conditions(&request.filters, mapping, &mut columns)?;
    let (mut groups, mut fields) = (Vec::new(), Vec::new());
    for index in &request.groups {
        let column = at(mapping, *index)?;
        // Engines differ on whether the two zeros are one group.
        groups.push(kept(column).filter(|kept| *kept != Kept::Float)?);
        fields.push(kept_field(column));
        columns.insert(&column.name);
    }
    let (mut states, mut metrics) = (Vec::new(), Vec::<(String, Value)>::new());
    for state in &request.states {
        let Some(index) = state.column() else {
            states.push(StateOf { state: *state, metric: String::new(), is_whole: true });
            continue;
        };
        let column = at(mapping, index)?;
        let kept = made_of(*state, column)?;
        let metric = format!("column_{index}");
        if !metrics.iter().any(|(known, _)| *known == metric) {
            metrics.push((metric.clone(), aggregation(column, kept)));
        }
        states.push(StateOf { state: *state, metric, is_whole: kept == Kept::Whole });
        columns.insert(&column.name);
    }
    if metrics.len() > COLUMNS_MAX {
        return None;
    }
    let columns = columns.into_iter().map(str::to_owned).collect();
    Some(Asked { schema: request.schema(rows), groups, states, filters, metrics, fields, columns })
}

fn at(mapping: &Mapping, index: usize) -> Option<&SearchedColumn> {
    mapping.columns.iter().find(|column| column.index == index)
}

/// How the column's values are kept, if the state can be made of them.
fn made_of(state: LiveState, column: &SearchedColumn) -> Option<Kept> {
    let kept = kept(column)?;
    let is_number = column.data_type.is_signed_integer();
    let can = match (state, kept) {
        (LiveState::Rows | LiveState::Values(_), _) => true,
        (LiveState::Sum(_), Kept::Whole) => is_number || matches!(column.data_type, DataType::Decimal128(..)),
        (LiveState::FloatSum(_), Kept::Whole) => is_number,
        (LiveState::FloatSum(_), Kept::Float) => true,
        (LiveState::Least(_) | LiveState::Greatest(_), Kept::Whole | Kept::Float) => true,
        _ => false,
    };
    can.then_some(kept)
}

fn aggregation(column: &SearchedColumn, kept: Kept) -> Value {
    match kept {
        // Count, bounds and sum in one.
        Kept::Whole | Kept::Float => json!({"stats": {"field": kept_field(column)}}),
        Kept::Text | Kept::Boolean => json!({"value_count": {"field": field(column)}}),
    }
}

impl Asked {
    /// The body of a search for the groups after `after`, at most `size`, over rows that `rows` is a query for.
    pub(crate) fn body(&self, rows: Value, size: usize, after: Option<&Value>) -> Value {
        let mut filters = vec![json!({"term": {"kind": "row"}}), rows];
        filters.extend(self.filters.iter().cloned());
        let metrics: Map<String, Value> = self.metrics.iter().cloned().collect();
        let mut all = Map::new();
        if self.fields.is_empty() {
            all.extend(metrics);
        } else {
            let source = |(n, field): (usize, &String)| json!({(group_name(n)): {"terms": {"field": field, "missing_bucket": true}}});
            let sources: Vec<Value> = self.fields.iter().enumerate().map(source).collect();
            let mut composite = json!({"size": size, "sources": sources});
            if let Some(after) = after {
                composite["after"] = after.clone();
            }
            all.insert("groups".to_owned(), json!({"composite": composite, "aggs": metrics}));
        }
        if !self.columns.is_empty() {
            let mut unindexed = self.columns.clone();
            unindexed.push(ALL_COLUMNS.to_owned());
            all.insert("unindexed".to_owned(), json!({"filter": {"terms": {"unindexed": unindexed}}}));
        }
        let mut body = json!({"size": 0, "track_total_hits": true, "query": {"bool": {"filter": filters}}});
        if !all.is_empty() {
            body["aggs"] = Value::Object(all);
        }
        body
    }

    /// True if an answer says in how many rows a column is not indexed.
    pub(crate) fn counts_unindexed(&self) -> bool {
        !self.columns.is_empty()
    }
}

/// Name of the group column `n` in requests and answers.
pub(crate) fn group_name(n: usize) -> String {
    format!("group_{n}")
}
