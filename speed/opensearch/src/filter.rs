//! Conditions of a statement as queries. A query may let rows through that the condition excludes, and never keeps one back
//! that it does not (H8): the engine looks at every row again. Conditions on positions are none of them: what they exclude is
//! not asked for ([`crate::scan`]). So a cluster that takes no such query, as its settings may have it, is asked without.

use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use serde_json::{Value, json};
use tidemark_shared::error::chain;

use crate::document::ALL_COLUMNS;
use crate::failure::Failure;
use crate::mapping::{Mapping, Searched, SearchedColumn};

/// Most values of a list that are asked for.
pub(crate) const LIST_MAX: usize = 512;
/// Deepest nesting that is looked at.
pub(crate) const DEPTH_MAX: usize = 20;
/// Most clauses of all conditions together. A cluster takes 1,024 in a request, unless it was told otherwise; the others are for the
/// offsets that are wanted ([`crate::blocks`]).
const CLAUSES_MAX: usize = 768;
/// Clauses of a query for a field, at most: in the index, in its columns, and as it is sooner found.
const CLAUSES_EACH: usize = 3;
/// Ranges that a list of times is asked for by.
const LIST_RANGES: usize = 16;

/// The queries of a scan's conditions, for as long as the cluster takes them.
#[derive(Debug)]
pub(crate) struct Prefilter {
    queries: Vec<Value>,
    is_refused: AtomicBool,
}

impl Prefilter {
    pub(crate) fn new(filters: &[Expr], mapping: &Mapping) -> Self {
        Self { queries: queries(filters, mapping), is_refused: AtomicBool::new(false) }
    }

    /// The queries, and another that narrows down what is read as well; none once the cluster has refused some.
    pub(crate) fn with(&self, another: Option<Value>) -> Vec<Value> {
        if self.is_refused.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.queries.iter().cloned().chain(another).collect()
    }

    /// Looks at the failure of a request that was made with the queries. True if it may be due to them: then none of them is sent
    /// from here on, and the same is to be asked for without them.
    pub(crate) fn is_refused_by(&self, failure: &Failure) -> bool {
        if !is_of_queries(failure) {
            return false;
        }
        if !self.is_refused.swap(true, Ordering::Relaxed) {
            tracing::debug!(error = %chain(failure), "conditions are refused, and all rows are read");
        }
        true
    }
}

/// True if a request may have failed for the queries in it, and not for want of room, rights or an index: 400, and 500 where the
/// cluster has met its bound of clauses after it took them. Any other 500 says nothing of them.
fn is_of_queries(failure: &Failure) -> bool {
    let Failure::Refused { status, kind, .. } = failure else { return false };
    let is_of_them = match status {
        400 => true,
        500 => matches!(kind.as_str(), "too_many_clauses" | "too_many_nested_clauses"),
        _ => false,
    };
    is_of_them && !failure.is_missing() && !failure.is_too_much()
}

/// Queries that all rows pass which pass `filters`; empty if nothing of them can be asked for. What is one too many for a request is
/// left to the engine.
pub(crate) fn queries(filters: &[Expr], mapping: &Mapping) -> Vec<Value> {
    let mut left = CLAUSES_MAX;
    let parts = filters.iter().flat_map(split_conjunction).filter_map(|part| query(part, mapping, 0));
    let fitting = parts.filter(|query| match left.checked_sub(clauses(query)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    });
    fitting.collect()
}

/// How many clauses a query has at most, as a cluster counts them.
fn clauses(query: &Value) -> usize {
    let Some(of) = query["bool"].as_object() else { return CLAUSES_EACH };
    of.values().filter_map(Value::as_array).flatten().map(clauses).sum()
}

/// `None` where every row must be let through.
fn query(expr: &Expr, mapping: &Mapping, depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    let inner = |expr: &Expr| query(expr, mapping, depth + 1);
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => match (inner(left), inner(right)) {
            (Some(left), Some(right)) => Some(json!({"bool": {"filter": [left, right]}})),
            (one, other) => one.or(other),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => Some(any(&[inner(left)?, inner(right)?])),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) => compared(mapping.column(&column.name)?, *op, value),
            (Expr::Literal(value, _), Expr::Column(column)) => {
                compared(mapping.column(&column.name)?, op.swap()?, value)
            }
            _ => None,
        },
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) =
                (expr.as_ref(), low.as_ref(), high.as_ref())
            else {
                return None;
            };
            let column = mapping.column(&column.name)?;
            let (low, high) = (compared(column, Operator::GtEq, low)?, compared(column, Operator::LtEq, high)?);
            Some(json!({"bool": {"filter": [low, high]}}))
        }
        Expr::InList(InList { expr, list, negated: false }) if list.len() <= LIST_MAX => {
            let Expr::Column(column) = expr.as_ref() else { return None };
            let one = |value: &Expr| match value {
                Expr::Literal(value, _) => Some(value.clone()),
                _ => None,
            };
            let values: Vec<ScalarValue> = list.iter().map(one).collect::<Option<_>>()?;
            listed(mapping.column(&column.name)?, &values)
        }
        Expr::IsNotNull(expr) => {
            let Expr::Column(column) = expr.as_ref() else { return None };
            let column = mapping.column(&column.name)?;
            Some(is_not_null(column))
        }
        Expr::IsNull(expr) => {
            let Expr::Column(column) = expr.as_ref() else { return None };
            let column = mapping.column(&column.name)?;
            Some(is_null(column))
        }
        Expr::Column(column) => is(mapping.column(&column.name)?, true),
        Expr::Not(expr) => match expr.as_ref() {
            Expr::Column(column) => is(mapping.column(&column.name)?, false),
            _ => None,
        },
        _ => None,
    }
}

pub(crate) fn field(column: &SearchedColumn) -> String {
    format!("row.{}", column.name)
}

/// Also documents in which the column's value is not searched.
pub(crate) fn or_unindexed(column: &SearchedColumn, query: Value) -> Value {
    let unindexed = json!({"terms": {"unindexed": [column.name, ALL_COLUMNS]}});
    any(&[query, unindexed])
}

/// Documents that one of the queries lets through.
pub(crate) fn any(queries: &[Value]) -> Value {
    json!({"bool": {"should": queries, "minimum_should_match": 1}})
}

/// Rows whose column has a value, searched or not.
pub(crate) fn is_not_null(column: &SearchedColumn) -> Value {
    or_unindexed(column, json!({"exists": {"field": field(column)}}))
}

/// Rows whose column has no value that is searched.
pub(crate) fn is_null(column: &SearchedColumn) -> Value {
    json!({"bool": {"must_not": [{"exists": {"field": field(column)}}]}})
}

/// Rows whose column is this; `None` if it is none of booleans.
pub(crate) fn is(column: &SearchedColumn, value: bool) -> Option<Value> {
    (column.searched == Searched::Boolean).then(|| or_unindexed(column, json!({"term": {(field(column)): value}})))
}

/// Rows whose column may have one of the values: few clauses, however many they are.
fn listed(column: &SearchedColumn, values: &[ScalarValue]) -> Option<Value> {
    if !values.iter().all(|value| same_type(&value.data_type(), &column.data_type)) {
        return None;
    }
    let values = column.searched.values(&ScalarValue::iter_to_array(values.iter().cloned()).ok()?).ok()?;
    if values.is_empty() || values.null_count() > 0 {
        return None;
    }
    let terms: Vec<Value> = match column.searched {
        Searched::Long => values.as_primitive::<Int64Type>().values().iter().map(|value| json!(value)).collect(),
        Searched::Keyword => values.as_string::<i32>().iter().map(|value| json!(value)).collect(),
        // With those beside each, as if ranges were asked for.
        Searched::Double => {
            let around = |value: &f64| {
                let other_zero = (*value == 0.0).then_some(-*value);
                [value.next_down(), *value, value.next_up()].into_iter().chain(other_zero)
            };
            let all: Vec<f64> = values.as_primitive::<Float64Type>().values().iter().flat_map(around).collect();
            if !all.iter().all(|value| value.is_finite()) {
                return None;
            }
            all.into_iter().map(|value| json!(value)).collect()
        }
        // The cluster would make a clause of each value. From the first to the last of some that lie beside one another there
        // may be more rows than are wanted.
        Searched::Date => {
            let mut millis = values.as_primitive::<Int64Type>().values().to_vec();
            millis.sort_unstable();
            let range = |of: &[i64]| {
                let (low, high) = (of[0].saturating_sub(1), of[of.len() - 1].saturating_add(1));
                json!({"range": {(field(column)): {"gte": low, "lte": high, "format": "epoch_millis"}}})
            };
            let ranges: Vec<Value> = millis.chunks(millis.len().div_ceil(LIST_RANGES)).map(range).collect();
            return Some(or_unindexed(column, any(&ranges)));
        }
        Searched::Boolean => {
            let each = values.as_boolean().iter().flatten().map(|value| is(column, value));
            return Some(any(&each.collect::<Option<Vec<_>>>()?));
        }
    };
    Some(or_unindexed(column, json!({"terms": {(field(column)): terms}})))
}

/// Rows whose column may compare so with the value.
pub(crate) fn compared(column: &SearchedColumn, op: Operator, value: &ScalarValue) -> Option<Value> {
    if value.is_null() || !same_type(&value.data_type(), &column.data_type) {
        return None;
    }
    let values = column.searched.values(&value.to_array().ok()?).ok()?;
    if values.is_null(0) {
        return None;
    }
    // Rows and value were rounded alike and in order, so what is less is not more then: bounds are always inclusive.
    let (low, high) = match column.searched {
        Searched::Long => {
            let value = values.as_primitive::<Int64Type>().value(0);
            (json!(value), json!(value))
        }
        Searched::Date => {
            // OpenSearch 3.8 takes a time before 1970 as an upper bound for a millisecond less than it says.
            let value = values.as_primitive::<Int64Type>().value(0);
            (json!(value.saturating_sub(1)), json!(value.saturating_add(1)))
        }
        Searched::Double => {
            let value = values.as_primitive::<Float64Type>().value(0);
            let (low, high) = (value.next_down(), value.next_up());
            if !low.is_finite() || !high.is_finite() {
                return None;
            }
            (json!(low), json!(high))
        }
        Searched::Keyword => {
            let value = values.as_string::<i32>().value(0);
            (json!(value), json!(value))
        }
        Searched::Boolean => {
            let value = values.as_boolean().value(0);
            return if op == Operator::Eq { is(column, value) } else { None };
        }
    };
    let mut range = match op {
        Operator::Eq => json!({"gte": low, "lte": high}),
        Operator::Gt | Operator::GtEq => json!({"gte": low}),
        Operator::Lt | Operator::LtEq => json!({"lte": high}),
        _ => return None,
    };
    if column.searched == Searched::Date {
        range["format"] = json!("epoch_millis");
    }
    let query = if column.searched == Searched::Keyword && op == Operator::Eq {
        json!({"term": {(field(column)): low}})
    } else {
        json!({"range": {(field(column)): range}})
    };
    Some(or_unindexed(column, query))
}

/// True if values of the types compare without a conversion.
pub(crate) fn same_type(value: &DataType, column: &DataType) -> bool {
    let is_text = |of: &DataType| matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    value == column || (is_text(value) && is_text(column))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::{col, lit};
    use tidemark_shared::rows::table_schema;

    use super::*;

    #[test]
    fn what_may_be_due_to_conditions_is_asked_for_without_them() {
        let schema = table_schema(&Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let mapping = Mapping::of(&schema);
        let search = |kind: &str| {
            let cause = format!(r#"{{"type": "{kind}", "reason": "no"}}"#);
            format!(r#"{{"error": {{"root_cause": [{cause}], "type": "search_phase_execution_exception"}}}}"#)
        };
        let offsets = || Some(json!({"terms": {"offset": [1, 5]}}));
        for (status, kind, wanted) in [
            // `search.allow_expensive_queries`, `index.max_terms_count`
            (400, "query_shard_exception", true),
            // `indices.query.bool.max_clause_count`
            (400, "too_many_nested_clauses", true),
            (500, "too_many_clauses", true),
            (500, "too_many_nested_clauses", true),
            // A defect, or a disk: nothing of them.
            (500, "null_pointer_exception", false),
            (500, "query_phase_execution_exception", false),
            (500, "i_o_exception", false),
            (500, "", false),
            (429, "rejected_execution_exception", false),
            (429, "circuit_breaking_exception", false),
            (500, "circuit_breaking_exception", false),
            (413, "", false),
            (503, "no_shard_available_action_exception", false),
            (401, "security_exception", false),
            (403, "security_exception", false),
            (404, "index_not_found_exception", false),
            (404, "search_context_missing_exception", false),
        ] {
            let prefilter = Prefilter::new(&[col("n").gt(lit(5_i64))], &mapping);
            assert_eq!((prefilter.with(None).len(), prefilter.with(offsets()).len()), (1, 2));
            let failure = Failure::refused("POST /i.1/_search", status, &search(kind));
            assert_eq!(prefilter.is_refused_by(&failure), wanted, "{status} {kind}");
            let left = if wanted { 0 } else { 2 };
            assert_eq!(prefilter.with(offsets()).len(), left, "{status} {kind}");
        }
    }
}
